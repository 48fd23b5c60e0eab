"""File stores, one module per technology."""
