"""Keeps the readings of registers that nobody is charged by: export, reactive, maximum demand.

They are raw rows and nothing else: no watermark, no interval, no rating. A reading belongs to who
paid by the meter at its own instant, as the assignments of active import say it; like there, an
instant at which one payer ends and the next begins is the former's. No account is locked, because
nothing of one changes; rows go in in the order of their key, so that two batches never wait for
each other in a ring.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction

from prewatt.core.bounds import Int64
from prewatt.core.civil_time import instant_us
from prewatt.core.readings import Quality, ReadingBatch
from prewatt.core.vee import OPEN_ENDED_US, VeeLimits, Verdict
from prewatt.mdm.cases import Cases, open_cases

LIMITS: Final = VeeLimits()


NOBODY: Final = 0
"""The account of readings of feeders and sub-meters, by which nobody is charged."""


class NoPayer(ValueError):
    """A reading of a meter that no account has ever paid by, and that measures no feeder."""


@dataclass(frozen=True, slots=True, eq=False)
class _Payers:
    """The assignments of the batch's meters in (meter, begin) order, as columns."""

    meter_id: Int64
    account_id: Int64
    property_id: Int64
    from_us: Int64
    until_us: Int64


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """Readings to hold, as columns: where in the batch, why, and what each was held against."""

    row: Int64
    verdict: npt.NDArray[np.int8]
    against_us: Int64
    against_value: Int64


def keep_readings(
    *, batch: ReadingBatch, now: datetime, open_cases_max: int | None = None
) -> Int64:
    """Store a batch of readings that are not rated, in one transaction (a savepoint in an outer one).

    ``value_wh`` is in the register's own unit: Wh, varh or W. A repeat changes nothing. A reading
    of a known instant with another value, from the future, negative or of an instant at which
    nobody paid by the meter opens a VEE case, once. Raises NoPayer.

    Returns the places in the batch of readings that should be held and were not kept, because their
    meters had ``open_cases_max`` open ones.
    """
    if len(batch) == 0:
        return np.zeros(0, dtype=np.int64)
    # Readings of one key stay in the order of their arrival.
    order = np.lexsort((batch.read_at_us, batch.register_code, batch.meter_id))
    batch = batch.take(order)
    with transaction.atomic():
        payers = _payers(np.unique(batch.meter_id).tolist())
        payer = _payer_of_each(batch, payers)
        verdict = _judged(batch, payers, payer, instant_us(now))
        refused = np.flatnonzero(verdict != Verdict.ACCEPTED)
        held = _Held(
            refused, verdict[refused], payers.from_us[payer[refused]], np.zeros_like(refused)
        )
        beyond = _hold(batch, payers, payer, held, open_cases_max)
        kept = np.flatnonzero(verdict == Verdict.ACCEPTED)
        if _insert(batch, payers, payer, kept) < kept.size:
            others = _contradictions(batch, kept)
            more = _hold(batch, payers, payer, others, open_cases_max)
            beyond = np.concatenate([beyond, more])
    return order[beyond]


def judge_kept(*, batch: ReadingBatch, now: datetime) -> npt.NDArray[np.int8]:
    """The verdicts that `keep_readings` would come to of readings of different keys; writes nothing."""
    payers = _payers(np.unique(batch.meter_id).tolist())
    payer = _payer_of_each(batch, payers)
    verdict = _judged(batch, payers, payer, instant_us(now))
    others = _contradictions(batch, np.flatnonzero(verdict == Verdict.ACCEPTED))
    verdict[others.row] = others.verdict
    return verdict


def _payers(meter_ids: list[int]) -> _Payers:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT meter_id, account_id, property_id,
                      (extract(epoch FROM lower(period)) * 1000000)::bigint,
                      coalesce((extract(epoch FROM upper(period)) * 1000000)::bigint, %s)
               FROM meter_assignment WHERE meter_id = ANY(%s)
               UNION ALL
               SELECT i.meter_id, %s, i.property_id,
                      (extract(epoch FROM lower(i.period)) * 1000000)::bigint,
                      coalesce((extract(epoch FROM upper(i.period)) * 1000000)::bigint, %s)
               FROM installation i JOIN metering_point p ON p.id = i.metering_point_id
               WHERE i.meter_id = ANY(%s) AND p.role IN ('feeder', 'sub')
                 AND NOT EXISTS (SELECT FROM meter_assignment a WHERE a.meter_id = i.meter_id)
               ORDER BY 1, 4""",
            [OPEN_ENDED_US, meter_ids, NOBODY, OPEN_ENDED_US, meter_ids],
        )
        rows = cursor.fetchall()
    return _Payers(*np.array(rows, dtype=np.int64).reshape(len(rows), 5).T)


def _payer_of_each(batch: ReadingBatch, payers: _Payers) -> Int64:
    """The assignment of each reading: the last that began before it, or else its meter's first."""
    at = np.searchsorted(payers.meter_id, batch.meter_id, side="left")
    end = np.searchsorted(payers.meter_id, batch.meter_id, side="right")
    if (at == end).any():
        raise NoPayer("a reading's meter has never had an account")
    while True:
        following = np.minimum(at + 1, end - 1)
        began = (following > at) & (payers.from_us[following] < batch.read_at_us)
        if not began.any():
            return at
        at = np.where(began, following, at)


def _judged(
    batch: ReadingBatch, payers: _Payers, payer: Int64, now_us: int
) -> npt.NDArray[np.int8]:
    """What can be said of a register without a watermark; the weakest reason first."""
    verdict = np.zeros(len(batch), dtype=np.int8)
    verdict[batch.read_at_us > payers.until_us[payer]] = Verdict.AFTER_CLOSING
    verdict[batch.read_at_us < payers.from_us[payer]] = Verdict.BEFORE_OPENING
    verdict[batch.read_at_us > now_us + LIMITS.clock_tolerance_us] = Verdict.FUTURE
    verdict[batch.value_wh < 0] = Verdict.NEGATIVE
    return verdict


def _insert(batch: ReadingBatch, payers: _Payers, payer: Int64, kept: Int64) -> int:
    """Insert what is not there yet, of two readings of one key the first; returns how many.

    µs become instants in PostgreSQL, exactly up to the year 2255; nothing of the future is kept.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO register_reading (meter_id, register_code, read_at, revision,
                   property_id, account_id, value_wh, quality, source, received_at)
               SELECT meter_id, register_code,
                   timestamptz 'epoch' + read_us * interval '1 microsecond', 0,
                   property_id, account_id, value, %s, source,
                   timestamptz 'epoch' + received_us * interval '1 microsecond'
               FROM unnest(%s::bigint[], %s::smallint[], %s::bigint[], %s::bigint[], %s::bigint[],
                   %s::bigint[], %s::smallint[], %s::bigint[])
                   AS g(meter_id, register_code, read_us, value, property_id, account_id, source,
                        received_us)
               ON CONFLICT DO NOTHING""",
            [
                int(Quality.MEASURED),
                *_key_and_value(batch, kept),
                _array(payers.property_id[payer[kept]]),
                _array(payers.account_id[payer[kept]]),
                _array(batch.source[kept]),
                _array(batch.received_at_us[kept]),
            ],
        )
        return int(cursor.rowcount)


def _contradictions(batch: ReadingBatch, kept: Int64) -> _Held:
    """Those of the kept readings whose instant is stored with another value.

    LIMIT keeps the planner on the key of ``register_reading`` even when statistics are old.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT g.at, r.value_wh
               FROM unnest(%s::bigint[], %s::smallint[], %s::bigint[], %s::bigint[], %s::bigint[])
                   AS g(meter_id, register_code, read_us, value, at)
               CROSS JOIN LATERAL (
                   SELECT value_wh FROM register_reading r
                   WHERE r.meter_id = g.meter_id AND r.register_code = g.register_code
                     AND r.read_at = timestamptz 'epoch' + g.read_us * interval '1 microsecond'
                   ORDER BY revision DESC LIMIT 1
               ) r
               WHERE r.value_wh <> g.value""",
            [*_key_and_value(batch, kept), _array(kept)],
        )
        found = np.array(cursor.fetchall(), dtype=np.int64).reshape(-1, 2)
    row = found[:, 0]
    verdict = np.full(row.size, Verdict.CONFLICT, dtype=np.int8)
    return _Held(row, verdict, batch.read_at_us[row], found[:, 1])


def _key_and_value(batch: ReadingBatch, row: Int64) -> list[str]:
    columns = (batch.meter_id, batch.register_code, batch.read_at_us, batch.value_wh)
    return [_array(column[row]) for column in columns]


def _array(column: npt.NDArray[np.integer[Any]]) -> str:
    """A column of integers as PostgreSQL writes an array: a batch takes a third of a list's time."""
    return "{" + ",".join(map(str, column.tolist())) + "}"


def _hold(
    batch: ReadingBatch, payers: _Payers, payer: Int64, held: _Held, open_max: int | None
) -> Int64:
    """Open a VEE case for each; returns the rows that there are too many open ones for."""
    row = held.row
    if row.size == 0:
        return row
    cases = Cases(
        property_id=payers.property_id[payer[row]],
        meter_id=batch.meter_id[row],
        account_id=payers.account_id[payer[row]],
        register_code=batch.register_code[row],
        read_at_us=batch.read_at_us[row],
        value=batch.value_wh[row],
        source=batch.source[row],
        received_at_us=batch.received_at_us[row],
        verdict=held.verdict,
        against_us=held.against_us,
        against_value=held.against_value,
    )
    return row[open_cases(cases, open_max=open_max)]
