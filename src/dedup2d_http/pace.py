"""How slow the other end of a connection may be."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import gt

__all__ = ["Pace"]


@frozen(kw_only=True)
class Pace:
    """
    How long a client is waited for, while it sends or takes a body.

    Only waiting counts: a transfer that we hold up ourselves is never the client's fault. A limit on pauses
    alone would let a byte every few seconds hold a connection for days (slow loris, R.U.D.Y.).

    Args:
        idle_seconds: longest wait for one piece.
        grace_seconds: longest wait beyond the time that the bytes so far take at *bytes_per_second*.
        bytes_per_second: least rate.
        total_seconds: longest wait in all.
    """

    idle_seconds: float = field(default=30.0, validator=gt(0))
    grace_seconds: float = field(default=30.0, validator=gt(0))
    bytes_per_second: float = field(default=8192.0, validator=gt(0))
    total_seconds: float = field(default=900.0, validator=gt(0))

    def patience(self, *, waited: float, size: int) -> float:
        """Return how many more seconds to wait, after *waited* seconds in which *size* bytes passed."""
        earned = self.grace_seconds + size / self.bytes_per_second
        return max(0.0, min(self.idle_seconds, earned - waited, self.total_seconds - waited))

    def complaint(self, *, waited: float, size: int) -> str:
        """Return which limit is used up, after *waited* seconds in which *size* bytes passed."""
        if waited >= self.total_seconds:
            return f"was not through after {self.total_seconds:g} s"
        if waited >= self.grace_seconds + size / self.bytes_per_second:
            return f"came at less than {self.bytes_per_second:,.0f} bytes a second"
        return f"paused for {self.idle_seconds:g} s"
