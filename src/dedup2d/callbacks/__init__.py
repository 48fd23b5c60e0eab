"""Callbacks: the news that a job has ended, sent to the URL that was given with it."""
