"""`prewatt drill clock`: meters' clocks creep and leap, and the head-end's clock leaps over restarts.

Every second meter lies; the others are the proof that nobody else suffers by it. What lies is held with its reason or
divides what was charged already, and is never charged twice. In the end the clocks are right again, and then
every Wh that was counted must have been charged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Final

from prewatt.drills.comparison import check_under_load
from prewatt.drills.field import FieldMeter
from prewatt.drills.model import QUARTER_US
from prewatt.drills.report import Report
from prewatt.drills.world import HEAD_END, World
from prewatt.sim.meter import Outgoing
from prewatt.wiring import OFFSET_VARIABLE

_CHECK_EVERY: Final = 10
_LEAP_S_MAX: Final = 2 * 3600
_CREEP_S_MAX: Final = 5
#: Leaps of meters of now: within what is allowed, beyond it, and into the past.
_LIVE_LEAPS_S: Final = (0, 20, -20, 3_600, -3_600, 86_400)
_HEAD_END_LEAPS_S: Final = (0, 0, 90, -90, 7_200, -7_200)


class Clocks:
    """The clocks of the field. Turned by the field's own thread, before each turn of a meter."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.are_right = False
        self.leaps = 0
        #: The latest instant that each lying clock has shown.
        self.latest_us: dict[str, int] = {}

    def turn(self, each: FieldMeter) -> list[Outgoing]:
        """Let a lying meter's clock creep, or leap; returns what the meter has to say."""
        if each.meter.faults["clock_drift"]:
            serial, shown_us = each.place.serial, each.meter.clock_us(each.time_us)
            self.latest_us[serial] = max(shown_us, self.latest_us.get(serial, 0))
        drift_s = self._next_drift(each)
        if drift_s == each.meter.faults["clock_drift"]:
            return []
        return each.meter.set_fault("clock_drift", drift_s, each.time_us)

    def is_past_all_leaps(self, each: FieldMeter) -> bool:
        """Whether the meter's time, right again, has gone beyond everything that it ever claimed."""
        return each.time_us > self.latest_us.get(each.place.serial, 0) + 2 * QUARTER_US

    def _next_drift(self, each: FieldMeter) -> int:
        drift_s = each.meter.faults["clock_drift"]
        if self.are_right or not lies(each.place.serial):
            return 0
        chance = self._random.random()
        if chance < 0.03:
            self.leaps += 1
            if each.place.is_live:
                return self._random.choice(_LIVE_LEAPS_S)
            return self._random.choice((0, self._random.randint(-_LEAP_S_MAX, _LEAP_S_MAX)))
        if chance < 0.2:
            return drift_s + self._random.randint(-_CREEP_S_MAX, _CREEP_S_MAX)
        return drift_s


def lies(serial: str) -> bool:
    """Whether this meter's clock is one of those that go wrong."""
    return int(serial.removeprefix("DRILL")) % 2 == 1


def wrong_clocks(
    made: World,
    clocks: Clocks,
    report: Report,
    *,
    rounds: int,
    random: Random,
    tell: Callable[[str], None],
) -> None:
    """So many restarts of the head-end, each with another clock, killed or stopped in order."""
    made.field.before_turn = clocks.turn
    for number in range(1, rounds + 1):
        made.run_for(random.uniform(0.5, 1.5))
        _restart_head_end(made, random.choice(_HEAD_END_LEAPS_S), in_order=random.random() < 0.5)
        report.rounds += 1
        if number % _CHECK_EVERY == 0:
            check_under_load(made, report, held_is_right=True)
            tell(f"round {number} of {rounds}: {len(report.broken)} broken")
    _restart_head_end(made, 0, in_order=True)
    clocks.are_right = True
    behind = [each for each in made.field.meters if not each.place.is_live]
    made.wait_until(
        "the clocks are past all their leaps",
        lambda: all(clocks.is_past_all_leaps(each) for each in behind),
    )
    report.done["leaps of meters' clocks"] = clocks.leaps


def _restart_head_end(made: World, ahead_s: int, *, in_order: bool) -> None:
    made.wanted.discard(HEAD_END)
    if in_order:
        made.supervisor.stop_one(HEAD_END)
    else:
        made.supervisor.kill(HEAD_END)
        time.sleep(0.1)
    clock = {OFFSET_VARIABLE: str(ahead_s * 1_000_000)}
    made.supervisor.start_again(HEAD_END, clock)
    made.wanted.add(HEAD_END)
    made.wait_ready(HEAD_END)
