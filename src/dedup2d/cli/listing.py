"""Groups as rows, as CSV for a spreadsheet and as JSON for a program."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import asdict

from dedup2d.cli.groups import Group, Member
from dedup2d.cli.indexing import Tally
from dedup2d.cli.text import below, visible
from dedup2d.types import Drawing

__all__ = ["as_json", "table_rows", "write_csv"]

_CSV_COLUMNS = (
    "group",
    "kind",
    "file",
    "page",
    "sheet",
    "relation",
    "similarity",
    "compared_with",
    "drawing_id",
    "file_hash",
)


def table_rows(groups: Sequence[Group], folder: str) -> Iterator[tuple[str, ...]]:
    """Give a row for each drawing of each group, first what the others are compared with."""
    for number, group in enumerate(groups, 1):
        yield _row(number, "first", "", group.reference, folder)
        for member in group.members:
            yield _row(number, member.relation, f"{member.similarity:.3f}", member.drawing, folder)


def _row(number: int, relation: str, similarity: str, drawing: Drawing, folder: str) -> tuple[str, ...]:
    name = below(folder, drawing)
    return str(number), relation, similarity, name, str(drawing.page), drawing.drawing_id


def write_csv(path: Path, groups: Sequence[Group], folder: str) -> None:
    """
    Write the groups to *path*, one row for each drawing, in UTF-8 with a mark that Excel wants.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as out:
        table = csv.writer(out)
        table.writerow(_CSV_COLUMNS)
        for number, group in enumerate(groups, 1):
            table.writerow(_csv_row(number, group, group.reference, None, folder))
            for member in group.members:
                table.writerow(_csv_row(number, group, member.drawing, member, folder))


def _csv_row(
    number: int, group: Group, drawing: Drawing, member: Member | None, folder: str
) -> tuple[object, ...]:
    return (
        number,
        group.kind.value,
        _cell(below(folder, drawing)),
        drawing.page,
        _cell(drawing.sheet),
        member.relation.value if member else "",
        f"{member.similarity:.3f}" if member else "",
        _cell(below(folder, member.other)) if member else "",
        drawing.drawing_id,
        drawing.file_hash,
    )


def _cell(text: str) -> str:
    """Keep a spreadsheet from taking a file name for a formula (OWASP, "CSV Injection")."""
    shown = visible(text)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown


def as_json(groups: Sequence[Group], folder: str, tally: Tally, drawings: int) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        "folder": folder,
        "files": tally.files,
        "drawings": drawings,
        "groups": [_json_group(number, group, folder) for number, group in enumerate(groups, 1)],
        "failed": tally.failed,
        "failures": [asdict(failure) for failure in tally.failures],
    }


def _json_group(number: int, group: Group, folder: str) -> dict[str, Any]:
    return {
        "group": number,
        "kind": group.kind,
        "reference": _json_drawing(group.reference, folder),
        "members": [
            {
                **_json_drawing(member.drawing, folder),
                "relation": member.relation,
                "similarity": member.similarity,
                "compared_with": member.other.drawing_id,
            }
            for member in group.members
        ],
    }


def _json_drawing(drawing: Drawing, folder: str) -> dict[str, Any]:
    return {
        "drawing_id": drawing.drawing_id,
        "file": below(folder, drawing),
        "page": drawing.page,
        "sheet": drawing.sheet,
        "format": drawing.format,
        "file_hash": drawing.file_hash,
    }
