"""Opens VEE cases: a reading that is held is kept whole with its reason, once, and within bounds.

A meter can say wrong things as often as it likes, and each would be a row that a person has to decide
about. So of readings that meters send a bounded number is open at a time; those beyond are for the
caller to count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from django.db import connection

from prewatt.core.bounds import Int64
from prewatt.core.civil_time import utc_datetime
from prewatt.core.vee import VERDICT_NAMES, Verdict

OPEN_CASES_MAX: Final = 1_000
"""So many readings of a meter wait for a decision at most: ten days of quarters of an hour."""


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """Readings to hold, as columns: whose each is, what it said, and what it was held against."""

    property_id: Int64
    meter_id: Int64
    account_id: Int64
    register_code: Int64
    read_at_us: Int64
    value: Int64
    source: Int64
    received_at_us: Int64
    verdict: npt.NDArray[np.int8]
    against_us: Int64
    against_value: Int64


def open_cases(cases: Cases, *, open_max: int | None = None) -> Int64:
    """Open a VEE case for each; the same reading sent again is the same case.

    With ``open_max`` no meter gets more open ones than so many; returns the rows of those that it was
    too much for. A reading that waits for a tariff is always kept, because it is charged later.
    """
    verdict = cases.verdict.tolist()
    with connection.cursor() as cursor:
        cursor.execute(
            _OPEN,
            [
                cases.property_id.tolist(),
                cases.meter_id.tolist(),
                cases.account_id.tolist(),
                cases.register_code.tolist(),
                [utc_datetime(each) for each in cases.read_at_us.tolist()],
                cases.value.tolist(),
                cases.source.tolist(),
                [utc_datetime(each) for each in cases.received_at_us.tolist()],
                verdict,
                [VERDICT_NAMES[Verdict(each)] for each in verdict],
                [utc_datetime(each) for each in cases.against_us.tolist()],
                cases.against_value.tolist(),
                int(Verdict.UNPRICED),
                open_max,
            ],
        )
        return np.array([row[0] - 1 for row in cursor.fetchall()], dtype=np.int64)


_COLUMNS: Final = """property_id, meter_id, account_id, register_code, read_at, value_wh, source,
    received_at, verdict, reason, watermark_at, watermark_wh"""
_OPEN: Final = f"""
WITH given AS (
    SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[],
        %s::timestamptz[], %s::bigint[], %s::smallint[], %s::timestamptz[],
        %s::smallint[], %s::text[], %s::timestamptz[], %s::bigint[])
        WITH ORDINALITY AS g({_COLUMNS}, place)
), fresh AS (
    SELECT g.*, g.verdict = k.unpriced AS is_kept, k.unpriced, k.most,
           row_number() OVER (PARTITION BY g.meter_id, g.verdict = k.unpriced ORDER BY g.place) AS nth
    FROM given g CROSS JOIN (SELECT %s::smallint AS unpriced, %s::bigint AS most) k
    WHERE NOT EXISTS (SELECT FROM vee_case c
        WHERE c.meter_id = g.meter_id AND c.register_code = g.register_code
          AND c.read_at = g.read_at AND c.value_wh = g.value_wh AND c.verdict = g.verdict)
), waiting AS (
    SELECT m.meter_id, count(*) AS size
    FROM (SELECT DISTINCT meter_id, unpriced FROM fresh WHERE most IS NOT NULL AND NOT is_kept) m
    JOIN vee_case c ON c.meter_id = m.meter_id AND c.state = 'held' AND c.verdict <> m.unpriced
    GROUP BY m.meter_id
), judged AS (
    SELECT f.*, f.is_kept OR f.most IS NULL OR f.nth + coalesce(w.size, 0) <= f.most AS fits
    FROM fresh f LEFT JOIN waiting w USING (meter_id)
), opened AS (
    INSERT INTO vee_case ({_COLUMNS})
    SELECT {_COLUMNS} FROM judged WHERE fits ORDER BY place ON CONFLICT DO NOTHING
)
SELECT place FROM judged WHERE NOT fits ORDER BY place
"""  # noqa: S608 - only our own column names are put in
