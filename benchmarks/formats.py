"""
Measures the readers: every file of a folder through the product, in killable children.

    python -m benchmarks.formats FOLDER [--out DIR] [--processes N]

Writes `formats.md` (a table by format: read, failed and why, warned, median and p95 seconds) and
`formats.jsonl` (a line per file). Stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import anyio

from benchmarks.engine import each
from benchmarks.machine import conditions
from dedup2d.children import Children
from dedup2d.errors import Dedup2DError
from dedup2d.readers import ReadLimits, iterate, sniff

_HEAD = 65_536


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.formats")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/formats"))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = options.out / "formats.jsonl"
    done = {row["file"] for row in _rows(rows)}
    files = [path for path in sorted(options.folder.rglob("*")) if path.is_file()]
    waiting = [path for path in files if str(path.relative_to(options.folder)) not in done]
    anyio.run(_read_all, options.folder, waiting, rows, options.processes)
    report = _report(_rows(rows))
    (options.out / "formats.md").write_text(report)
    print(report)


async def _read_all(folder: Path, files: list[Path], rows: Path, processes: int) -> None:
    limits = ReadLimits()
    async with Children(processes=processes, memory_bytes=limits.max_memory_bytes) as children:

        async def one(path: Path) -> None:
            row: dict[str, Any] = {"file": str(path.relative_to(folder)), "format": _format(path)}
            started = time.perf_counter()
            try:
                row |= await children.call(
                    survey, str(path), path.name, limits, seconds=limits.max_seconds, name=path.name
                )
            except Dedup2DError as error:
                row |= {"error": str(error), "code": error.code}
            except Exception as error:  # noqa: BLE001 - what is not ours is what this looks for
                row |= {"error": f"{type(error).__name__}: {error}", "code": "UNFORESEEN"}
            row["seconds"] = round(time.perf_counter() - started, 3)
            with rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

        await each(one, files, workers=processes)


def survey(path: str, name: str, limits: ReadLimits) -> dict[str, Any]:
    """Read the file in this process; say how many sheets there are, how many blank, and the warnings."""
    sheets, blank, warnings = 0, 0, list[str]()
    for sheet in iterate(Path(path), name, limits):
        sheets += 1
        blank += bool(sheet.raster.min() > 128 or sheet.raster.max() < 128)
        warnings += sheet.warnings
    return {"sheets": sheets, "blank": blank, "warnings": sorted(set(warnings))}


def _format(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    try:
        return sniff(head, path.name)
    except Dedup2DError:
        return f"none ({path.suffix.lstrip('.').lower() or 'no suffix'})"


def _report(rows: list[dict[str, Any]]) -> str:
    by_format: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_format[row["format"]].append(row)
    lines = [f"- {name}: {value}" for name, value in conditions().items()]
    lines += [
        "",
        "| format | files | read | failed | with warnings | sheets | blank sheets | median s | p95 s |",
    ]
    lines += ["| --- " * 9 + "|"]
    lines += [_line(name, some) for name, some in sorted(by_format.items())]
    lines += ["", "| format | why not read | files |", "| --- | --- | --- |"]
    for name, some in sorted(by_format.items()):
        reasons = Counter(_reason(row) for row in some if "error" in row)
        lines += [f"| {name} | {reason} | {count} |" for reason, count in reasons.most_common()]
    lines += ["", "| format | warning | files |", "| --- | --- | --- |"]
    for name, some in sorted(by_format.items()):
        warned = Counter(_plain(text) for row in some for text in row.get("warnings", ()))
        lines += [f"| {name} | {text} | {count} |" for text, count in warned.most_common(12)]
    return "\n".join(lines) + "\n"


def _line(name: str, rows: list[dict[str, Any]]) -> str:
    read = [row for row in rows if "error" not in row]
    seconds = sorted(row["seconds"] for row in rows)
    cells = [
        name,
        len(rows),
        len(read),
        len(rows) - len(read),
        sum(bool(row["warnings"]) for row in read),
        sum(row["sheets"] for row in read),
        sum(row["blank"] for row in read),
        f"{seconds[len(seconds) // 2]:.2f}",
        f"{seconds[int(len(seconds) * 0.95)]:.2f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _reason(row: dict[str, Any]) -> str:
    """Give the error without the file's own name."""
    return _plain(row["error"].replace(Path(row["file"]).name, "FILE"))


def _plain(text: str) -> str:
    return re.sub(r"\d+", "N", text).replace("|", "/")[:160]


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as lines:
        try:
            return [json.loads(line) for line in lines if line.endswith("\n")]
        except ValueError as error:
            sys.exit(f"{path} is damaged ({error}): remove it")


if __name__ == "__main__":
    main()
