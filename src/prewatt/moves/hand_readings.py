"""What a register read by a person is held to: what the meter itself said last, and usually counts.

Readings entered by hand within the last day are no ground to stand on: otherwise each of many small
ones would look plausible beside the one before, and together they would empty an account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from prewatt.core.hand_readings import HISTORY_S, plausible_wh
from prewatt.core.readings import ACTIVE_IMPORT, ReadingSource

_SETTLED = timedelta(days=1)

#: Instants by meter.
Heard = dict[int, datetime]


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a meter stands for the one who pays at an instant, before somebody enters a register.

    ``since_at`` is the reading that a new one is measured from, ``plausible_wh`` the most that may
    have been used from there to the instant; ``last_*`` is the watermark, ``available_micro`` what
    the payer has.
    """

    account_id: int
    meter_id: int
    since_at: datetime
    plausible_wh: int
    last_at: datetime
    last_wh: int
    available_micro: int

    def energy_wh(self) -> int:
        """What is charged since ``since_at``, as it stands now."""
        return _energy(self.account_id, self.meter_id, self.since_at, None)

    def figures(self) -> dict[str, object]:
        """The figures that an audit event keeps of before and after."""
        return {
            "last_at": self.last_at,
            "last_wh": self.last_wh,
            "available_micro": self.available_micro,
        }


def ground_of(meter_id: int, read_at: datetime) -> Ground | None:
    """The ground under a reading, inside the caller's scope; None where nobody pays at that instant."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT w.account_id, w.opened_at, w.max_power_w, w.last_at, w.last_value_wh, s.available
               FROM meter_assignment g
               JOIN meter_state w ON w.account_id = g.account_id AND w.meter_id = g.meter_id
                   AND w.register_code = %s
               JOIN account_state s ON s.account_id = g.account_id
               WHERE g.meter_id = %s AND g.period @> %s""",
            [ACTIVE_IMPORT, meter_id, read_at],
        )
        row = cursor.fetchone()
        if row is None:
            return None
        account_id, opened_at, max_power_w, last_at, last_wh, available = row
        # Intervals touch, so the one that begins last ends last; its source is that of its end.
        cursor.execute(
            """SELECT to_at FROM interval
               WHERE account_id = %s AND meter_id = %s AND register_code = %s AND start_at < %s
                 AND to_at <= %s AND (source <> %s OR to_at <= %s)
               ORDER BY start_at DESC, to_at DESC LIMIT 1""",
            [account_id, meter_id, ACTIVE_IMPORT, read_at, read_at, int(ReadingSource.MANUAL),
             read_at - _SETTLED],
        )  # fmt: skip
        found = cursor.fetchone()
    since_at = found[0] if found else opened_at
    begins_at = max(opened_at, since_at - timedelta(seconds=HISTORY_S))
    most = plausible_wh(
        elapsed_s=int((read_at - since_at).total_seconds()),
        history_wh=_energy(account_id, meter_id, begins_at, since_at),
        history_s=int((since_at - begins_at).total_seconds()),
        max_power_w=max_power_w,
    )
    return Ground(account_id, meter_id, since_at, most, last_at, last_wh, available)


def note_read_by_hand(meter_ids: Sequence[int], read_at: datetime, *, heard: Heard) -> None:
    """Write down that watermarks stand at ``read_at`` by a person's reading, which is no sign of life.

    ``heard`` is what `heard_by` said before: until when the meters themselves had told their registers.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE meter_link l SET last_seen_at = greatest(l.last_seen_at, r.heard_at),
                   read_by_hand_at = greatest(l.read_by_hand_at, %s)
               FROM (SELECT meter_id FROM meter_link WHERE meter_id = ANY(%s)
                     ORDER BY meter_id FOR NO KEY UPDATE) AS m
               LEFT JOIN unnest(%s::bigint[], %s::timestamptz[]) AS r(meter_id, heard_at)
                   USING (meter_id)
               WHERE l.meter_id = m.meter_id""",
            [read_at, sorted(meter_ids), list(heard), list(heard.values())],
        )


def heard_by(meter_ids: Sequence[int]) -> Heard:
    """The watermarks of those meters that moved them there themselves, before a person's reading."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT w.meter_id, w.last_at FROM meter_state w
               JOIN meter_link l ON l.meter_id = w.meter_id
               WHERE w.meter_id = ANY(%s) AND w.register_code = %s AND w.closed_at = 'infinity'
                 AND w.last_at > coalesce(l.read_by_hand_at, '-infinity')""",
            [list(meter_ids), ACTIVE_IMPORT],
        )
        return dict(cursor.fetchall())


def _energy(account_id: int, meter_id: int, from_at: datetime, until_at: datetime | None) -> int:
    """Charged energy of intervals that begin in [from, until), what was taken back subtracted."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT coalesce(sum(energy_wh), 0)::bigint FROM interval
               WHERE account_id = %s AND meter_id = %s AND register_code = %s AND start_at >= %s
                 AND start_at < coalesce(%s, 'infinity'::timestamptz)""",
            [account_id, meter_id, ACTIVE_IMPORT, from_at, until_at],
        )
        return int(cursor.fetchone()[0])
