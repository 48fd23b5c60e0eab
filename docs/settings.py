"""Writes settings.md from the settings themselves: `python docs/settings.py`."""

from __future__ import annotations

from pathlib import Path

from dedup2d.settings import Settings

HEAD = """# Settings

Every setting is an environment variable, read once at the start. A value that is not allowed stops the
start with the name of the variable, the value and what is allowed. An empty variable counts as not set.

| variable | default | allowed | what for |
| --- | --- | --- | --- |
"""


def main() -> None:
    """Write the document beside this file."""
    rows = (f"| `{v.name}` | {v.default or '—'} | {v.allowed} | {v.help} |\n" for v in Settings.variables())
    Path(__file__).with_suffix(".md").write_text(HEAD + "".join(rows))


if __name__ == "__main__":
    main()
