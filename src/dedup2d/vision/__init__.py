"""Vision clients: whatever answers a search."""
