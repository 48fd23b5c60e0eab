"""Queues, one module per technology."""
