"""
How the files of a store are called in the bucket.

The object of a key is the key and a `!`, after the prefix. Servers that keep objects as files
cannot have both `a` and `a/b`; with the mark they have `a!` and `a/b!`. It sorts before all that a
key is made of, so that objects are in the order of their keys.
"""

from __future__ import annotations

from attrs import frozen

from dedup2d.files.keys import is_key

__all__ = ["Names"]

_MARK = "!"


@frozen
class Names:
    """The names of objects under a *prefix*, which is empty or has no slash at its ends."""

    prefix: str

    @property
    def base(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def name(self, key: str) -> str:
        return f"{self.base}{key}{_MARK}"

    def key(self, name: str) -> str | None:
        """Return the key whose object is called *name*; None if it is of no key of this store."""
        if not (name.startswith(self.base) and name.endswith(_MARK)):
            return None
        key = name[len(self.base) : -len(_MARK)]
        return key if is_key(key) else None


def may_begin_a_key(prefix: str) -> bool:
    """Say whether some key begins with *prefix*; servers read others, as `..`, in their own ways."""
    return not prefix or is_key(prefix) or is_key(prefix + "x")
