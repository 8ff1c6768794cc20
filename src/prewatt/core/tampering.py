"""What a meter's events say of tampering, and when what they tell of was.

A driver hands an event over as a short word. Some begin an incident, some tell that it has ended: the end of one
is evidence in a case that is open, and opens none. Pure; instants are int64 µs UTC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from prewatt.core.vocabulary import TamperKind


class EventMeaning(NamedTuple):
    """Which kind of case an event is about, and whether it begins the incident or ends it."""

    kind: TamperKind
    begins: bool


#: Every word of a meter that is about tampering or bad power, by the same names for every driver.
EVENTS: Final[Mapping[str, EventMeaning]] = {
    "cover_open": EventMeaning(TamperKind.COVER, True),
    "cover_closed": EventMeaning(TamperKind.COVER, False),
    "terminal_cover_open": EventMeaning(TamperKind.TERMINAL_COVER, True),
    "terminal_cover_closed": EventMeaning(TamperKind.TERMINAL_COVER, False),
    "magnetic_field": EventMeaning(TamperKind.MAGNETIC_FIELD, True),
    "magnetic_field_gone": EventMeaning(TamperKind.MAGNETIC_FIELD, False),
    "reverse_flow": EventMeaning(TamperKind.REVERSE_FLOW, True),
    "reverse_flow_gone": EventMeaning(TamperKind.REVERSE_FLOW, False),
    "phase_loss": EventMeaning(TamperKind.PHASE_LOSS, True),
    "phase_restored": EventMeaning(TamperKind.PHASE_LOSS, False),
    "clock_set_back": EventMeaning(TamperKind.CLOCK_SET_BACK, True),
}
#: Trouble of the net rather than of somebody at the meter: no window of the façade turns to tamper for it.
POWER_QUALITY: Final = frozenset({TamperKind.PHASE_LOSS})

#: A meter may be a few minutes ahead; an event from later than that was dated by a wrong clock.
AHEAD_US: Final = 300 * 1_000_000
#: What a meter says of longer ago than its log can hold was dated by a wrong clock as well.
BACK_US: Final = 400 * 86_400 * 1_000_000


def happened_us(told_us: int, received_us: int) -> int:
    """When something was: as the meter told, where its clock can be believed, else when it was received.

    Nothing that is told lies in the future: a clock that is ahead a little is taken back to the receipt.
    """
    if not received_us - BACK_US <= told_us <= received_us + AHEAD_US:
        return received_us
    return min(told_us, received_us)


def evidence_digest(*, meter_id: int, kind: TamperKind, code: str, told: str) -> bytes:
    """SHA-256 by which the same evidence is known when it comes again. ``told`` is what makes it one."""
    return hashlib.sha256(
        f"prewatt tamper 1\n{meter_id}\n{kind.word}\n{code}\n{told}".encode()
    ).digest()


class DayAtMeter(NamedTuple):
    """What a meter counted on one day, and on a usual day of the week before."""

    meter_id: int
    day_wh: int
    usual_wh: int


class Suspicion(NamedTuple):
    """A meter that may be passed by: what it fell by, and what its feeder misses beyond the usual."""

    meter_id: int
    day_wh: int
    usual_wh: int
    missing_wh: int


#: What a feeder has to miss beyond its usual losses before anybody is suspected: a share of it, and so much.
MISSING_PPM: Final = 50_000
MISSING_WH: Final = 2_000
#: A meter is silent that counts less than this share of its usual day.
SILENT_PPM: Final = 200_000


def bypass_suspicions(
    feeder_wh: int, usual_loss_wh: int, behind: Sequence[DayAtMeter]
) -> list[Suspicion]:
    """Which meters behind a feeder may be passed by on a day, the most likely first.

    The feeder counted ``feeder_wh``; on a usual day it counts ``usual_loss_wh`` more than the meters behind it
    together. What it misses beyond that has to be a twentieth of it and 2 kWh at least. A meter is suspected
    that counted less than a fifth of its usual day, and whose fall explains between half and twice of what is missing: one
    that is quiet because nobody is at home leaves nothing missing at its feeder.
    """
    missing_wh = feeder_wh - sum(each.day_wh for each in behind) - usual_loss_wh
    if missing_wh < max(MISSING_WH, feeder_wh * MISSING_PPM // 1_000_000):
        return []
    found = [
        Suspicion(each.meter_id, each.day_wh, each.usual_wh, missing_wh)
        for each in behind
        if each.day_wh * 1_000_000 < each.usual_wh * SILENT_PPM
        and missing_wh <= 2 * (each.usual_wh - each.day_wh) <= 4 * missing_wh
    ]
    return sorted(found, key=lambda each: abs(each.usual_wh - each.day_wh - missing_wh))
