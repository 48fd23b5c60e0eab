"""Precision: what the geometry that comes with a drawing changes in the answer of a search."""
