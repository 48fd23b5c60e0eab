"""The circuit breaker and the options of the vision client, without any server."""

from __future__ import annotations

from typing import Any

import pytest

from dedup2d.errors import ConfigurationError, VisionCircuitOpenError, VisionUnavailableError
from dedup2d.testing import ManualClock
from dedup2d.vision.http_circuit import Circuit, FailureError
from dedup2d.vision.http_options import VisionOptions, check_vision_url


class Bench:
    """A circuit of 3 failures, 30 s, 2 calls, 2 successes, with a clock to move."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.states: list[str] = []
        self.circuit = Circuit(
            "search",
            VisionOptions(
                url="http://127.0.0.1:1",
                circuit_failures=3,
                circuit_open_seconds=30,
                circuit_half_open_calls=2,
                circuit_close_successes=2,
            ),
            clock=self.clock,
            changed=lambda _, state: self.states.append(state),
        )

    def succeed(self) -> None:
        with self.circuit.call():
            pass

    def fail(self, *, server_failed: bool = True) -> None:
        with pytest.raises(FailureError), self.circuit.call():
            raise FailureError(VisionUnavailableError("down"), server_failed=server_failed)

    def refuse(self) -> float:
        """Make a call that is refused, and return when it may be made again."""
        with pytest.raises(VisionCircuitOpenError, match="search") as refused, self.circuit.call():
            raise AssertionError("the call was made")
        assert refused.value.transient
        return refused.value.retry_after

    def half_open(self) -> None:
        for _ in range(3):
            self.fail()
        self.clock.advance(30)


def test_it_opens_after_failures_in_a_row() -> None:
    """If this fails, a dead server is asked for ever, or a few scattered failures cut it off."""
    bench = Bench()
    bench.fail()
    bench.fail()
    bench.succeed()
    bench.fail()
    bench.fail()
    assert bench.circuit.state == "closed"
    bench.fail()
    bench.clock.advance(10)

    assert bench.refuse() == pytest.approx(20)
    assert bench.states == ["closed", "opened"]


def test_what_the_server_refuses_in_good_order_does_not_count() -> None:
    """If this fails, one tenant's bad file or a full queue cuts all others off."""
    bench = Bench()
    for _ in range(20):
        bench.fail(server_failed=False)

    assert bench.circuit.state == "closed"


def test_it_closes_after_enough_successes() -> None:
    """If this fails, a server that is back stays cut off, or one lucky answer lets all calls through."""
    bench = Bench()
    bench.half_open()
    bench.succeed()
    assert bench.circuit.state == "half-opened"
    bench.succeed()

    assert bench.states == ["closed", "opened", "half-opened", "closed"]


def test_one_failure_opens_it_again() -> None:
    """If this fails, a server that is still down gets all calls after 30 s."""
    bench = Bench()
    bench.half_open()
    bench.succeed()
    bench.fail()
    bench.clock.advance(29)

    assert bench.refuse() == pytest.approx(1)


def test_few_calls_at_once_try_a_half_open_circuit() -> None:
    """If this fails, a server that just came back is hit by all who waited for it."""
    bench = Bench()
    bench.half_open()
    with bench.circuit.call(), bench.circuit.call():
        assert bench.refuse() > 0

    assert bench.circuit.state == "closed"


def test_a_cancelled_call_says_nothing() -> None:
    """If this fails, clients that go away open a circuit, close it, or take its places for ever."""
    bench = Bench()
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt), bench.circuit.call():
            raise KeyboardInterrupt
    assert bench.circuit.state == "closed"
    bench.half_open()
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt), bench.circuit.call():
            raise KeyboardInterrupt

    assert bench.circuit.state == "half-opened"
    bench.succeed()
    bench.succeed()
    assert bench.circuit.state == "closed"


def test_a_late_answer_does_not_count_for_another_state() -> None:
    """If this fails, calls from before an outage open or close the circuit after it."""
    bench = Bench()
    late = bench.circuit.call()
    late.__enter__()
    bench.half_open()
    bench.succeed()
    failure = FailureError(VisionUnavailableError("late"), server_failed=True)
    late.__exit__(FailureError, failure, None)

    assert bench.circuit.state == "half-opened"
    bench.succeed()
    assert bench.circuit.state == "closed"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://vision:58001", "http://vision:58001"),
        ("https://vision.example/", "https://vision.example"),
        ("http://[::1]:58001/behind/a/proxy/", "http://[::1]:58001/behind/a/proxy"),
    ],
)
def test_urls_that_may_be_set(given: str, kept: str) -> None:
    """If this fails, a server in a usual place cannot be named."""
    assert VisionOptions(url=given).url == kept


@pytest.mark.parametrize(
    "url",
    [
        "vision:58001",
        "//vision:58001",
        "ftp://vision",
        "http://",
        "http:///search",
        "http://user:hunter2@vision",
        "http://hunter2@vision",
        "http://vision?token=hunter2",
        "http://vision/#x",
        "http://vision:port",
        "http://vision:99999",
        "http://vis ion",
        "http://vision\r\nX-Evil: 1",
        "http://[::1",
        "",
    ],
)
def test_urls_that_may_not_be_set(url: str) -> None:
    """If this fails, the start goes on with a URL that cannot work, or shows a password."""
    with pytest.raises(ConfigurationError, match=r"DEDUPCAD_VISION_URL.*http://HOST:PORT") as refused:
        check_vision_url(url)

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "variable"),
    [
        ("timeout_seconds", 0, "DEDUPCAD_VISION_TIMEOUT_SECONDS"),
        ("timeout_seconds", float("nan"), "DEDUPCAD_VISION_TIMEOUT_SECONDS"),
        ("retry_attempts", 0, "DEDUPCAD_VISION_RETRY_ATTEMPTS"),
        ("retry_base_delay_seconds", -1, "DEDUPCAD_VISION_RETRY_BASE_DELAY_SECONDS"),
        ("retry_max_delay_seconds", -1, "DEDUPCAD_VISION_RETRY_MAX_DELAY_SECONDS"),
        ("circuit_failures", 0, "DEDUPCAD_VISION_CIRCUIT_FAILURES"),
        ("circuit_open_seconds", -1, "DEDUPCAD_VISION_CIRCUIT_OPEN_SECONDS"),
        ("circuit_half_open_calls", 0, "DEDUPCAD_VISION_CIRCUIT_HALF_OPEN_CALLS"),
        ("circuit_close_successes", 0, "DEDUPCAD_VISION_CIRCUIT_CLOSE_SUCCESSES"),
        ("api_key", "hunter2\r\nX-Evil: 1", "DEDUPCAD_VISION_API_KEY"),
        ("api_key", "", "DEDUPCAD_VISION_API_KEY"),
    ],
)
def test_options_that_may_not_be_set(name: str, value: Any, variable: str) -> None:
    """If this fails, a wrong number shows when the first search fails, not at the start."""
    with pytest.raises(ConfigurationError, match=variable) as refused:
        VisionOptions(**{"url": "http://vision", name: value})

    assert "hunter2" not in str(refused.value)


def test_the_key_is_not_shown() -> None:
    """If this fails, the key ends up in a log."""
    assert "hunter2" not in repr(VisionOptions(url="http://vision", api_key="hunter2"))
