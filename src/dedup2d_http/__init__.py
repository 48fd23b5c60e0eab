"""The HTTP API of dedup2d: a thin Starlette layer over `dedup2d.Dedup2D`."""
