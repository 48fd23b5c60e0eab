"""
dedup2d finds, for a 2D drawing, its duplicates, revisions, parts and variants.

Importing this package needs attrs and anyio alone. Everything heavier lies in modules
behind extras and is loaded when it is first used.
"""

from __future__ import annotations
