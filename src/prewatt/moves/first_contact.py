"""What a device that was fitted has said since: whether it was heard, counts, keeps time, and can be ordered.

Everything is read from what it said by itself; nothing is asked of it and nothing is switched. All
functions run inside the caller's scope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from django.db import connection

from prewatt.core.readings import ACTIVE_IMPORT, ReadingSource
from prewatt.core.vocabulary import RelayState

#: A clock that is farther off than this puts usage into another hour's price.
CLOCK_OFF_S: Final = 60


class Mark(StrEnum):
    """What is known of one question: ``none`` where the device has nothing that could answer it."""

    GOOD = "good"
    BAD = "bad"
    WAITS = "waits"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Contact:
    """A fitted device and what it has said since. Registers in Wh as the display shows them.

    ``certificate`` is `holds`, `revoked`, `expired`, `code` (a code waits for it) or empty; ``has_key``
    says that it signs its answers, or seals them under a session. ``concentrator`` is empty for one that speaks for itself.
    """

    meter_id: int
    serial: str
    driver: str
    fitted_at: datetime
    fitted_by: str
    hear_by: datetime
    heard_at: datetime | None
    checked_at: datetime | None
    checked_by: str
    note: str
    has_relay: bool
    relay: RelayState
    relay_read_at: datetime | None
    clock_drift_s: int | None
    firmware: str
    readings: int
    first_wh: int | None
    last_wh: int | None
    last_at: datetime | None
    held: int
    certificate: str
    has_key: bool
    answered_at: datetime | None
    concentrator: str
    concentrator_seen_at: datetime | None

    @property
    def heard(self) -> Mark:
        """Whether the head-end has heard it at all."""
        return Mark.WAITS if self.heard_at is None else Mark.GOOD

    @property
    def counts(self) -> Mark:
        """Whether its register has gone forward; held readings say that something is wrong with it."""
        if self.held:
            return Mark.BAD
        moved = self.readings > 1 and self.first_wh != self.last_wh
        return Mark.GOOD if moved else Mark.WAITS

    @property
    def clock(self) -> Mark:
        """Whether its clock is right."""
        if self.clock_drift_s is None or self.heard_at is None:
            return Mark.WAITS
        return Mark.GOOD if abs(self.clock_drift_s) <= CLOCK_OFF_S else Mark.BAD

    @property
    def switch(self) -> Mark:
        """Whether its relay was read back since it was fitted."""
        if not self.has_relay:
            return Mark.NONE
        if self.relay_read_at is None or self.relay_read_at < self.fitted_at:
            return Mark.WAITS
        return Mark.WAITS if self.relay is RelayState.UNKNOWN else Mark.GOOD

    @property
    def key(self) -> Mark:
        """Whether it has answered by its own key since; without one, whether its certificate holds."""
        if self.certificate in ("revoked", "expired"):
            return Mark.BAD
        if self.has_key:
            answered = self.answered_at is not None and self.answered_at >= self.fitted_at
            return Mark.GOOD if answered else Mark.WAITS
        if self.certificate == "holds":
            return self.heard
        return Mark.WAITS if self.certificate == "code" else Mark.NONE

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All that is looked at."""
        return (self.heard, self.counts, self.clock, self.switch, self.key)

    @property
    def is_good(self) -> bool:
        """Whether nothing is left to wait for, and nothing is wrong."""
        return all(each in (Mark.GOOD, Mark.NONE) for each in self.marks)

    @property
    def state(self) -> str:
        """`fitted`, `heard` or `checked`."""
        if self.checked_at is not None:
            return "checked"
        return "fitted" if self.heard_at is None else "heard"


def contacts(
    *, property_id: int, now: datetime, meter_ids: Sequence[int] | None = None
) -> list[Contact]:
    """These devices, or all that nobody has ended looking at: those first that have the least time left."""
    wanted = None if meter_ids is None else list(meter_ids)
    with connection.cursor() as cursor:
        cursor.execute(
            _CONTACTS,
            {
                "property": property_id, "now": now, "meters": wanted, "register": int(ACTIVE_IMPORT),
                "own": int(ReadingSource.METER),
            },
        )  # fmt: skip
        found = (Contact(*row) for row in cursor.fetchall())
        return [replace(each, relay=RelayState(each.relay or 0)) for each in found]


#: A device is heard once it has spoken later than it was fitted, also before the worker has written that down.
_HEARD: Final = (
    "coalesce(c.heard_at, CASE WHEN l.last_seen_at > c.fitted_at THEN l.last_seen_at END)"
)
_CONTACTS: Final = f"""
SELECT m.id, m.serial, m.driver, c.fitted_at, c.fitted_by, c.hear_by, {_HEARD}, c.checked_at,
       c.checked_by, c.note, m.has_relay, l.relay, nullif(l.relay_read_at, '-infinity'), l.clock_drift_s,
       coalesce(l.firmware, ''), r.readings, r.first_wh, r.last_wh, r.last_at,
       (SELECT count(*) FROM vee_case v WHERE v.meter_id = m.id AND v.state = 'held')::integer,
       coalesce(d.state, CASE WHEN w.serial IS NOT NULL THEN 'code' END, ''),
       EXISTS (SELECT FROM meter_key k WHERE k.meter_id = m.id AND k.revoked_at IS NULL
               AND k.valid_from <= %(now)s AND (k.valid_until IS NULL OR k.valid_until > %(now)s))
       OR z.begun_at IS NOT NULL,
       -- By the keys of the session that it has, if it has one.
       (SELECT s.verified_at FROM instruction_state s
        WHERE s.meter_id = m.id AND s.verified_at >= coalesce(z.begun_at, s.verified_at)),
       coalesce(g.serial, ''), g.last_seen_at
FROM commissioning c
JOIN meter m ON m.id = c.meter_id
LEFT JOIN meter_link l ON l.meter_id = m.id
LEFT JOIN instruction_session z ON z.meter_id = m.id AND z.ended_at IS NULL
LEFT JOIN LATERAL (
    SELECT count(*)::integer AS readings, (array_agg(value_wh ORDER BY read_at))[1] AS first_wh,
           (array_agg(value_wh ORDER BY read_at DESC))[1] AS last_wh, max(read_at) AS last_at
    FROM (SELECT value_wh, read_at FROM register_reading
          WHERE meter_id = m.id AND register_code = %(register)s AND source = %(own)s AND revision = 0
            AND read_at >= c.fitted_at
          ORDER BY read_at DESC LIMIT 100) AS lately
) r ON true
LEFT JOIN LATERAL (
    SELECT CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN not_after <= %(now)s THEN 'expired'
           ELSE 'holds' END AS state
    FROM device_certificate WHERE serial = m.serial AND replaced_at IS NULL
) d ON true
LEFT JOIN LATERAL (
    SELECT serial FROM device_code
    WHERE serial = m.serial AND used_at IS NULL AND expires_at > %(now)s LIMIT 1
) w ON true
LEFT JOIN concentrator_meter b ON b.meter_id = m.id AND b.period @> %(now)s::timestamptz
LEFT JOIN concentrator g ON g.id = b.concentrator_id
WHERE c.property_id = %(property)s
  AND CASE WHEN %(meters)s::bigint[] IS NULL THEN c.checked_at IS NULL
           ELSE m.id = ANY(%(meters)s::bigint[]) END
ORDER BY {_HEARD} NULLS FIRST, c.hear_by, m.serial LIMIT 500
"""  # noqa: S608 - a piece of ours
