"""A process that stands still is not alive; one that waits for another is alive and not ready."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from prewatt.telemetry.metrics import timed_task
from prewatt.telemetry.probes import BadAddress, Check, Probes, parse_address, serve
from prewatt.telemetry.pulse import Pulse


class Seconds:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def probes(
    checks: dict[str, Check], pulse: Pulse
) -> Iterator[Callable[[str], tuple[int, dict[str, object]]]]:
    server = serve("127.0.0.1:0", Probes(checks, pulse=pulse))

    def ask(path: str) -> tuple[int, dict[str, object]]:
        address = f"http://127.0.0.1:{server.server_port}{path}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read())

    try:
        yield ask
    finally:
        server.shutdown()
        server.server_close()


def test_a_loop_that_stands_still_ends_life() -> None:
    seconds = Seconds()
    pulse = Pulse(seconds)
    pulse.beat("ingest", longest_s=60)
    pulse.beat("chores", longest_s=3600)
    with probes({}, pulse) as ask:
        seconds.now_s = 60
        assert ask("/livez") == (200, {"ok": True, "troubles": {}})
        seconds.now_s = 61
        assert ask("/livez") == (
            503,
            {"ok": False, "troubles": {"ingest": "stands still for 61 s"}},
        )
        pulse.beat("ingest", longest_s=60)
        assert ask("/livez")[0] == 200
        seconds.now_s = 130
        pulse.forget("ingest")
        assert ask("/livez")[0] == 200


def test_what_is_away_ends_readiness_and_not_life() -> None:
    troubles = {"database": "", "broker": ""}

    def broken() -> str:
        if troubles["broker"]:
            raise OSError("secret of the inside")
        return ""

    with probes({"database": lambda: troubles["database"], "broker": broken}, Pulse()) as ask:
        assert ask("/readyz")[0] == 200
        troubles["database"] = "does not answer"
        troubles["broker"] = "raise"
        assert ask("/readyz") == (
            503,
            {"ok": False, "troubles": {"database": "does not answer", "broker": "OSError"}},
        )
        assert ask("/livez")[0] == 200


def test_metrics_are_prometheus_text() -> None:
    with pytest.raises(ZeroDivisionError), timed_task("a test's"):
        _ = 1 // 0
    server = serve("127.0.0.1:0", Probes({}))
    try:
        address = f"http://127.0.0.1:{server.server_port}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            text = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
    assert 'prewatt_task_failures_total{task="a test\'s"} 1.0' in text
    assert "# HELP prewatt_ingest_readings_total" in text


@pytest.mark.parametrize(
    "address", ["0.0.0.0:9000", "10.0.0.1:9000", "example.org:9000", "127.0.0.1", "127.0.0.1:x"]
)
def test_probes_listen_on_loopback_only(address: str) -> None:
    with pytest.raises(BadAddress):
        parse_address(address)


def test_loopback_has_two_families() -> None:
    assert parse_address("[::1]:9000") == ("::1", 9000)
    assert parse_address("127.0.0.1:0") == ("127.0.0.1", 0)
