"""Indexes in one file, to be kept or taken to another machine."""
