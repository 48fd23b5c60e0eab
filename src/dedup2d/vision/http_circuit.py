"""
A circuit breaker: spares a server that fails, and callers the wait for it.

The machine is purgatory's. Two of its three states are replaced here: its half-open state lets every call
through and closes at the first success, its open state reads the wall clock and raises one shared exception,
and both take a cancelled call for a failed one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dedup2d.errors import MissingExtraError, VisionCircuitOpenError
from dedup2d.vision.http_options import VisionOptions

try:
    from purgatory.domain.messages.events import ContextChanged
    from purgatory.domain.model import ClosedState, Context, State
except ImportError:
    raise MissingExtraError("http", "a circuit breaker for the vision server (purgatory)") from None

__all__ = ["Circuit", "FailureError"]

_BUSY_SECONDS = 1.0


class FailureError(Exception):
    """
    A call that failed, with what follows from it.

    Args:
        error: what callers are told.
        server_failed: whether it counts against the server: it does not if the server refused in good order.
        again: whether the same call may be tried again at once.
        wait: how many seconds the server asked to wait before.
    """

    def __init__(
        self,
        error: Exception,
        *,
        server_failed: bool = False,
        again: bool = False,
        wait: float | None = None,
    ) -> None:
        super().__init__(error)
        self.error = error
        self.server_failed = server_failed
        self.again = again
        self.wait = wait


class Circuit:
    """
    The circuit of one endpoint.

    Args:
        endpoint: its name.
        options: the numbers.
        clock: gives seconds that only grow.
        changed: told the endpoint and the new state: `closed`, `half-opened` or `opened`.
    """

    def __init__(
        self,
        endpoint: str,
        options: VisionOptions,
        *,
        clock: Callable[[], float],
        changed: Callable[[str, str], None],
    ) -> None:
        self.endpoint = endpoint
        self.options = options
        self.clock = clock
        self._changed = changed
        self._context = Context(endpoint, options.circuit_failures, options.circuit_open_seconds)
        self.become(_Closed(self))
        self._tell()

    @property
    def state(self) -> str:
        return self._context.state

    @contextmanager
    def call(self) -> Iterator[None]:
        """
        Make one call inside; a FailureError that it raises counts if the server failed.

        A call that is cancelled says nothing about the server, nor does one that began in another state
        than it ends in.

        Raises:
            VisionCircuitOpenError: no call may be made now.
        """
        self._context.handle_new_request()
        entered, succeeded, failure = self._state, False, None
        try:
            yield
            succeeded = True
        except FailureError as error:
            succeeded, failure = not error.server_failed, error
            raise
        finally:
            if entered is self._state:
                if isinstance(entered, _HalfOpen):
                    entered.running -= 1
                if succeeded:
                    self._context.handle_end_request()
                elif failure is not None:
                    self._context.handle_exception(failure)
            self._tell()

    def become(self, state: State) -> None:
        """Take on a state; for the states themselves."""
        self._state = state
        self._context.set_state(state)

    def _tell(self) -> None:
        for message in self._context.messages:
            if isinstance(message, ContextChanged):
                self._changed(self.endpoint, message.state)
        self._context.messages.clear()


class _Closed(ClosedState):
    def __init__(self, circuit: Circuit) -> None:
        super().__init__()
        self._circuit = circuit

    def handle_exception(self, context: Context, _: BaseException) -> None:
        self.failure_count += 1
        if self.failure_count >= context.threshold:
            self._circuit.become(_Open(self._circuit))


class _Open(State):
    name = "opened"

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._until = circuit.clock() + circuit.options.circuit_open_seconds

    def handle_new_request(self, context: Context) -> None:
        left = self._until - self._circuit.clock()
        if left > 0:
            raise VisionCircuitOpenError(context.name, left)
        self._circuit.become(_HalfOpen(self._circuit))
        context.handle_new_request()

    def handle_exception(self, context: Context, exc: BaseException) -> None:
        """Never called: no call begins in this state."""

    def handle_end_request(self, context: Context) -> None:
        """Never called: no call begins in this state."""


class _HalfOpen(State):
    name = "half-opened"

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._successes = 0
        self.running = 0

    def handle_new_request(self, context: Context) -> None:
        if self.running >= self._circuit.options.circuit_half_open_calls:
            raise VisionCircuitOpenError(context.name, _BUSY_SECONDS)
        self.running += 1

    def handle_exception(self, _: Context, __: BaseException) -> None:
        self._circuit.become(_Open(self._circuit))

    def handle_end_request(self, _: Context) -> None:
        self._successes += 1
        if self._successes >= self._circuit.options.circuit_close_successes:
            self._circuit.become(_Closed(self._circuit))
