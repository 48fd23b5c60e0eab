"""
The report of a scan: one HTML file that needs nothing else.

It makes no request (a content security policy forbids it), so it can be opened offline, sent
by mail and kept. Names of files are text to it, never markup. Its size is bounded: pictures stop at
a budget, groups at a number.
"""

from __future__ import annotations

from dedup2d.cli.report.page import Budget, Pictures, Report, write_report

__all__ = ["Budget", "Pictures", "Report", "write_report"]
