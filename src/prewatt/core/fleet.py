"""Asking many meters: who can be asked what, how fast, when again, and when to stop by itself.

Pure: numbers in, numbers out; instants are int64 µs UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prewatt.core.drivers import Driver
from prewatt.core.vocabulary import RequestKind

SECOND_US: Final = 1_000_000

#: What meters of a driver can be asked. Behind LoRaWAN a device answers nothing in time and keeps no history that
#: can be asked for: whoever asked would be told what is known already, as if it were of now.
CAN: Final[Mapping[Driver, frozenset[RequestKind]]] = {
    Driver.MQTT_SENML: frozenset(RequestKind),
    Driver.LWM2M: frozenset(
        {RequestKind.READ, RequestKind.CLOCK, RequestKind.VERSION, RequestKind.RECONNECT}
    ),
    Driver.LORAWAN: frozenset({RequestKind.RECONNECT}),
}

#: So often a request is sent, and so long after each time it is sent again; then it is given up.
TRIES_MAX: Final = 3
RETRY_US: Final = 60 * SECOND_US

#: A gap is asked for so often, ten minutes after it was found at first: a meter that comes back brings by itself
#: what it kept. Each time the wait doubles, up to six hours.
GAP_ASKS_MAX: Final = 6
GAP_FIRST_ASK_US: Final = 600 * SECOND_US
_GAP_WAIT_US: Final = 300 * SECOND_US
_GAP_WAIT_US_MAX: Final = 6 * 3600 * SECOND_US

#: A bulk's brake looks at nothing before so many have answered or failed.
BRAKE_LOOKS_FROM: Final = 20
PER_S_MAX: Final = 200
PER_GATEWAY_MIN_MAX: Final = 6_000
#: A pause saves up so much of the pace, or one command, and no more.
_SAVED_UP_US: Final = SECOND_US // 4


def drivers_that_can(kind: RequestKind) -> tuple[Driver, ...]:
    """Whose meters can be asked this."""
    return tuple(each for each, kinds in CAN.items() if kind in kinds)


def gap_wait_us(asked: int) -> int:
    """How long to wait after a gap was asked for the n-th time (from 1)."""
    # int() as mypy takes a power of integers for anything.
    return min(_GAP_WAIT_US * int(2 ** (asked - 1)), _GAP_WAIT_US_MAX)


@dataclass(frozen=True, slots=True)
class Allowance:
    """``count`` commands may leave now; after `taken` of them the pace has been used up to that instant."""

    count: int
    begins_us: int
    each_us: int

    def used_to_us(self, taken: int) -> int:
        """What is kept of the pace until the next look."""
        return self.begins_us + taken * self.each_us


def allowance(*, used_to_us: int, now_us: int, per_s: int) -> Allowance:
    """How many commands a pace of ``per_s`` lets go now, which has been used up to an instant.

    Over any span of T seconds at most ``per_s`` × (T + ¼) + 1 leave, however often and irregularly one asks,
    and across a restart, because the instant is kept where the commands are.
    """
    each_us = SECOND_US // per_s
    begins_us = max(used_to_us, now_us - max(_SAVED_UP_US, each_us))
    return Allowance(max(0, (now_us - begins_us) // each_us), begins_us, each_us)


def gateway_window(per_min: int) -> tuple[int, int]:
    """A gateway's pace as (window in seconds, most within it): one command at least, one second at least."""
    window_s = max(1, -(-60 // per_min))
    return window_s, max(1, per_min * window_s // 60)


def brakes(*, ended: int, failed: int, bound_percent: int) -> bool:
    """Whether a bulk stops by itself: of those that answered or failed, more than the bound have failed."""
    return ended >= BRAKE_LOOKS_FROM and failed * 100 > bound_percent * ended
