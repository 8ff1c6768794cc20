"""Opens and closes a meter's watermark for an account; the register at the boundary belongs to both.

One account's closing value is the next one's opening value, written in the same transaction, so
that every kilowatt-hour has exactly one payer. The rows of ``account_state`` are locked by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from prewatt.core.readings import ACTIVE_IMPORT, Quality, ReadingSource


@dataclass(frozen=True, slots=True)
class Opening:
    """From ``at`` on, with register ``value_wh``, the account pays for what the meter counts."""

    account_id: int
    meter_id: int
    at: datetime
    value_wh: int


def open_registers(*, openings: Sequence[Opening], now: datetime) -> None:
    """Give each meter a watermark at its opening register.

    An account that had the meter before (the vacancy account of a unit, between two tenants) starts
    afresh from the new opening; what it used earlier stands in its intervals and assignments.
    """
    with connection.cursor() as cursor:
        cursor.execute(_OPEN, [int(ACTIVE_IMPORT), now, *_columns(openings)])
        if cursor.rowcount != len(openings):
            raise AssertionError(f"{len(openings)} registers meant, {cursor.rowcount} opened")


_OPEN = """
INSERT INTO meter_state (account_id, meter_id, register_code, property_id, multiplier, modulus_wh,
    max_power_w, expected_period_s, opened_at, opened_value_wh, last_at, last_value_wh, received_at)
SELECT v.account_id, m.id, %s, m.property_id, m.multiplier, m.modulus_wh, m.max_power_w,
       m.expected_period_s, v.at, v.value_wh, v.at, v.value_wh, %s
FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[], %s::bigint[])
    AS v(account_id, meter_id, at, value_wh)
JOIN meter m ON m.id = v.meter_id
ON CONFLICT (account_id, meter_id, register_code) DO UPDATE
SET opened_at = excluded.opened_at, opened_value_wh = excluded.opened_value_wh,
    closed_at = 'infinity', last_at = excluded.last_at, last_value_wh = excluded.last_value_wh,
    multiplier = excluded.multiplier, modulus_wh = excluded.modulus_wh,
    max_power_w = excluded.max_power_w, expected_period_s = excluded.expected_period_s,
    received_at = excluded.received_at, ahead_uj = 0
WHERE meter_state.closed_at <= excluded.opened_at
"""


def close_registers(*, account_id: int, meter_ids: Sequence[int], at: datetime) -> None:
    """Let the account's watermarks end at ``at``; a later reading is not this account's."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE meter_state SET closed_at = %s
               WHERE account_id = %s AND meter_id = ANY(%s) AND register_code = %s
                 AND closed_at = 'infinity' AND last_at = %s""",
            [at, account_id, list(meter_ids), int(ACTIVE_IMPORT), at],
        )
        if cursor.rowcount != len(meter_ids):
            raise AssertionError(f"{len(meter_ids)} registers meant, {cursor.rowcount} closed")


def store_opening_readings(
    *, openings: Sequence[Opening], source: ReadingSource, now: datetime
) -> None:
    """Keep the raw reading behind an opening register that no closing reading has stored already."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO register_reading (meter_id, register_code, read_at, revision, property_id,
                   account_id, value_wh, quality, source, received_at)
               SELECT m.id, %s, v.at, 0, m.property_id, v.account_id, v.value_wh, %s, %s, %s
               FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[], %s::bigint[])
                   AS v(account_id, meter_id, at, value_wh)
               JOIN meter m ON m.id = v.meter_id""",
            [
                int(ACTIVE_IMPORT),
                int(Quality.MEASURED),
                int(source),
                now,
                *_columns(openings),
            ],
        )


def link_meters(*, meter_ids: Sequence[int], seen_at: Sequence[datetime]) -> None:
    """Expect the devices: nothing is known of a relay until it is read back."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO meter_link (meter_id, property_id, last_seen_at)
               SELECT m.id, m.property_id, v.at
               FROM unnest(%s::bigint[], %s::timestamptz[]) AS v(meter_id, at)
               JOIN meter m ON m.id = v.meter_id""",
            [list(meter_ids), list(seen_at)],
        )


def _columns(openings: Sequence[Opening]) -> list[list[object]]:
    return [
        [each.account_id for each in openings],
        [each.meter_id for each in openings],
        [each.at for each in openings],
        [each.value_wh for each in openings],
    ]
