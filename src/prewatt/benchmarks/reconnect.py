"""`prewatt bench reconnect`: meters with certificates back at a broker that was restarted, over TLS 1.3.

A scenario of its own (`prewatt.scenarios`): real Mosquitto, head-end and database; each meter has a connection and a
certificate. What is measured is the time from the broker's return until 99 in 100 meters are let in again, with the meters'
own back-off, and the processor of the broker and of the simulated meters until then. At the end everything is accounted for, or this fails.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prewatt.scenarios.course import run_course
from prewatt.scenarios.scenario import Event, Group, Scenario
from prewatt.scenarios.world import world

_BEFORE_S: Final = 20
_AWAY_S: Final = 3


@dataclass(frozen=True, slots=True)
class ReconnectFigures:
    """Seconds until the meters are back, and of the broker's processor and theirs; ``readings`` are all that were taken."""

    meters: int
    seconds: float
    broker_s: float
    field_s: float
    readings: int
    load_average: tuple[float, ...]


def measure(*, meters: int, tell: Callable[[str], None]) -> ReconnectFigures:
    """Connect the meters, restart the broker, wait. Raises AssertionError if anything is lost."""
    scenario = Scenario(
        title="Reconnection",
        duration_s=_BEFORE_S + _AWAY_S + max(30, meters // 40),
        drain_s=60,
        tls=True,
        meters=(Group(name="4g", radio="mqtt", count=meters, period_s=15, processes=2),),
        events=(Event(what="broker_restart", at_s=_BEFORE_S, for_s=_AWAY_S),),
    )
    with (
        tempfile.TemporaryDirectory(prefix="prewatt-reconnect-") as folder,
        world(scenario, scenario.seed, Path(folder), tell=tell) as made,
    ):
        report = run_course(made, tell=tell, status=tell)
    if not report.holds:
        raise AssertionError("\n".join(report.account.broken))
    if not report.reconnected_s:
        raise AssertionError(f"not all were back within {scenario.duration_s - _BEFORE_S} s")
    return ReconnectFigures(
        meters,
        report.reconnected_s,
        report.reconnected_broker_s,
        report.reconnected_field_s,
        report.account.readings_taken,
        report.load_average,
    )


def as_text(figures: ReconnectFigures) -> str:
    """The figures in two lines."""
    load = ", ".join(map(str, figures.load_average))
    return (
        f"{figures.meters:,} meters with certificates back {figures.seconds:.1f} s after their broker "
        f"({figures.meters / figures.seconds:,.0f} a second); {figures.broker_s:.1f} s of the broker's processor, "
        f"{figures.field_s:.1f} s of the meters'\n"
        f"{figures.readings:,} readings taken, every one acknowledged and stored once; load average {load}"
    )
