"""Measurements of the product, to be run from a checkout."""
