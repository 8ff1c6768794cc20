"""Which meters a concentrator may speak for, and for which time: looked up once, then remembered.

Every change of a concentrator's list raises its edition (`moves/concentrators.py`), so a list is read again when its
edition is not the one that was remembered, and a right that was taken away counts no more from the next batch on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction

from prewatt.core.bounds import Int64
from prewatt.core.civil_time import utc_datetime
from prewatt.core.vee import OPEN_ENDED_US
from prewatt.hes.links import Device, drift_s

#: What was written of a concentrator is written again after this time, whatever it says.
_SIGHT_EVERY_US: Final = 60 * 1_000_000

Period = tuple[int, int]
"""From and until, µs UTC, half-open."""


@dataclass(frozen=True, slots=True, eq=False)
class Roster:
    """The meters of one concentrator: the row of each serial number, and by rows who they are and k periods.

    ``starts`` and ``ends`` have the shape (k, meters); a meter with fewer periods has empty ones.
    """

    concentrator_id: int
    property_id: int
    edition: int
    row_of: dict[bytes, int]
    serials: list[str]
    devices: list[Device]
    starts: Int64
    ends: Int64


class RosterBook:
    """The rosters that a loop has needed so far; not shared between threads."""

    def __init__(self) -> None:
        self._known: dict[str, Roster] = {}
        self._written_us: dict[int, int] = {}

    def rosters(self, serials: Collection[str]) -> dict[str, Roster]:
        """The rosters as they stand now; concentrators that nobody has registered are left out."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT serial, id, property_id, edition FROM concentrator WHERE serial = ANY(%s)",
                [sorted(serials)],
            )
            found = cursor.fetchall()
        for serial, concentrator_id, property_id, edition in found:
            known = self._known.get(serial)
            if known is None or known.edition != edition:
                self._known[serial] = _roster(concentrator_id, property_id, edition)
        return {row[0]: self._known[row[0]] for row in found}

    def heard(self, heard: Sequence[tuple[Roster, int, int]]) -> None:
        """Write down when concentrators were heard and how far their clocks are ahead, now and then.

        Each with the time of receipt and of sending in µs.
        """
        last = {roster.concentrator_id: (at_us, sent_us) for roster, at_us, sent_us in heard}
        due = {
            key: said
            for key, said in last.items()
            if said[0] - self._written_us.get(key, -_SIGHT_EVERY_US) >= _SIGHT_EVERY_US
        }
        if not due:
            return
        ordered = sorted(due)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                """UPDATE concentrator c
                   SET last_seen_at = greatest(c.last_seen_at, h.at), clock_drift_s = h.drift_s
                   FROM unnest(%s::bigint[], %s::timestamptz[], %s::integer[])
                       AS h(id, at, drift_s)
                   WHERE c.id = h.id""",
                [
                    ordered,
                    [utc_datetime(due[key][0]) for key in ordered],
                    [drift_s(sent_us, at_us) for at_us, sent_us in map(due.__getitem__, ordered)],
                ],
            )
        self._written_us |= {key: said[0] for key, said in due.items()}


def _roster(concentrator_id: int, property_id: int, edition: int) -> Roster:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT m.serial, m.id, m.property_id,
                      (extract(epoch FROM lower(c.period)) * 1000000)::bigint,
                      coalesce((extract(epoch FROM upper(c.period)) * 1000000)::bigint, %s)
               FROM concentrator_meter c JOIN meter m ON m.id = c.meter_id
               WHERE c.concentrator_id = %s ORDER BY m.id, lower(c.period)""",
            [OPEN_ENDED_US, concentrator_id],
        )
        found = cursor.fetchall()
    devices: dict[bytes, Device] = {}
    periods: dict[bytes, list[Period]] = defaultdict(list)
    for serial, meter_id, meter_property_id, start_us, end_us in found:
        name = serial.encode()
        devices[name] = Device(meter_id, meter_property_id)
        periods[name].append((start_us, end_us))
    most = max(map(len, periods.values()), default=1)
    starts = np.zeros((most, len(devices)), dtype=np.int64)
    ends = np.zeros((most, len(devices)), dtype=np.int64)
    for row, name in enumerate(devices):
        for number, (start_us, end_us) in enumerate(periods[name]):
            starts[number, row], ends[number, row] = start_us, end_us
    return Roster(
        concentrator_id=concentrator_id,
        property_id=property_id,
        edition=edition,
        row_of={name: row for row, name in enumerate(devices)},
        serials=[name.decode() for name in devices],
        devices=list(devices.values()),
        starts=starts,
        ends=ends,
    )


def padded(periods: Int64, most: int) -> Int64:
    """Periods of shape (k, meters) as (most, meters); those added are empty."""
    return np.pad(periods, ((0, most - len(periods)), (0, 0)))


def are_within(
    at_us: Int64, column: npt.NDArray[np.integer], starts: Int64, ends: Int64
) -> npt.NDArray[np.bool_]:
    """Whether each instant lies in one of the periods of its column."""
    inside = (starts[:, column] <= at_us) & (at_us < ends[:, column])
    return np.asarray(inside.any(axis=0))
