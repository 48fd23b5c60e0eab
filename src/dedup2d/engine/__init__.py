"""The embedded engine: cleaning, fingerprints, candidates, verification, and the index on disk."""
