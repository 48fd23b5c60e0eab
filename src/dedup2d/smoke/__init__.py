"""
Smoke tests: whether a running service does what its runbook says.

They walk it from outside, as a client does, with a drawing of their own that they remove again.
Needs the extra `client`.

    outcomes = await walk(SmokeOptions(url="https://drawings.example.com", api_key=key))
"""

from __future__ import annotations

from dedup2d.smoke.options import SmokeOptions
from dedup2d.smoke.outcomes import Outcome, State
from dedup2d.smoke.walking import STEP_NAMES, walk

__all__ = ["STEP_NAMES", "Outcome", "SmokeOptions", "State", "walk"]
