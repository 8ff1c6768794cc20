"""When a meter that says it is back has its unfinished orders made due; pure, the clock is an argument.

A meter that was away shall have its order at once, whatever the back-off of its retries. One that says so
again and again (a radio that flaps, a device gone mad, somebody with its credentials) must not: each time
within a row it waits twice as long as before, and the retries keep their own pace.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

#: What a second return within a row waits; the third waits twice that, and so on.
FIRST_WAIT: Final = timedelta(seconds=2)
#: As long as the longest back-off of an order by default: a flood gains nothing on it.
LONGEST_WAIT: Final = timedelta(minutes=15)
METERS_MAX: Final = 100_000


class Comebacks:
    """Meters that came back, until their orders were woken. Not thread-safe.

    A return that has to wait is not forgotten: it is due when its wait is over, once, however many more
    there were meanwhile. A row ends when a meter was quiet for twice what it would have had to wait.
    """

    def __init__(self) -> None:
        # When a meter's orders were woken last, and how often in this row; the longest ago first.
        self._woken: OrderedDict[int, tuple[datetime, int]] = OrderedDict()
        self._due: dict[int, datetime] = {}

    def note(self, meter_ids: Iterable[int], now: datetime) -> None:
        """These meters gave a sign of having been away."""
        for meter_id in meter_ids:
            if meter_id not in self._due:
                self._due[meter_id] = self._due_at(meter_id, now)

    def due(self, now: datetime) -> list[int]:
        """The meters whose orders are to be woken now, in order of their ids."""
        return sorted(meter_id for meter_id, at in self._due.items() if at <= now)

    def woken(self, meter_ids: Iterable[int], now: datetime) -> None:
        """Their orders were woken, and that is committed."""
        for meter_id in meter_ids:
            self._due.pop(meter_id, None)
            self._woken[meter_id] = (now, self._times(meter_id, now) + 1)
            self._woken.move_to_end(meter_id)
        while len(self._woken) > METERS_MAX:
            self._woken.popitem(last=False)

    def _due_at(self, meter_id: int, now: datetime) -> datetime:
        times = self._times(meter_id, now)
        return now if times == 0 else max(now, self._woken[meter_id][0] + _wait(times))

    def _times(self, meter_id: int, now: datetime) -> int:
        """How often its orders were woken in the row that lasts; 0 where none does."""
        at, times = self._woken.get(meter_id, (now, 0))
        return times if now - at <= 2 * _wait(times) else 0


def _wait(times: int) -> timedelta:
    """How long the next return waits after so many (1 or more) in a row."""
    # Capped before it is made: a row may last for months.
    return min(FIRST_WAIT * (1 << min(max(times, 1) - 1, 16)), LONGEST_WAIT)
