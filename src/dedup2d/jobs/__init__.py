"""Job stores, one module per technology."""
