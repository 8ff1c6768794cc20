"""One batch of readings, one transaction: judged, rated, charged, stored, and supply decided.

The order of the locks is the order of every writer: ``account_state`` rows by account, then the rest.
Inside, everything is columns: PostgreSQL sees one statement per table and a binary COPY, numpy sees
int64 arrays, and Python sees a row only when a reading is irregular. The caller acknowledges after
the transaction has committed and not before (invariant 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction

from prewatt.billing.backfill import Replacement, replace_intervals
from prewatt.billing.tariffs import TariffBook
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.rating import charge_segments, split_intervals
from prewatt.core.readings import ACTIVE_IMPORT, REVERSED_SEGMENT, Quality, ReadingBatch
from prewatt.core.vee import (
    HELD_VERDICTS,
    VERDICT_NAMES,
    MeterWatermarks,
    Validated,
    VeeLimits,
    Verdict,
    validate_readings,
)
from prewatt.runtime.copying import copy_rows
from prewatt.supply.operations import decide_for_crossings

#: A balance that falls on readings older than this is history: what would have been done is
#: stored, nothing is sent.
FRESH_FOR = timedelta(hours=2)
LIMITS = VeeLimits()

#: ``timestamptz 'infinity'`` of an open assignment, as µs (year 9999).
_OPEN_ENDED_US = 253_402_300_799_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """What became of a batch: one verdict per reading in the order given (``core.vee.Verdict``)."""

    verdict: npt.NDArray[np.int8]
    account_ids: tuple[int, ...]
    crossed_account_ids: tuple[int, ...]

    @property
    def accepted(self) -> int:
        """How many readings moved a watermark or filled a gap."""
        return int(np.isin(self.verdict, [Verdict.ACCEPTED, Verdict.BACKFILL]).sum())


@dataclass(frozen=True, slots=True, eq=False)
class _States:
    """``meter_state`` rows of the batch's meters in (account, meter, register) order, as columns."""

    account_id: Int64
    meter_id: Int64
    register_code: Int64
    property_id: Int64
    watermarks: MeterWatermarks


def apply_readings(
    *, batch: ReadingBatch, now: datetime, book: TariffBook | None = None
) -> Applied:
    """Apply a batch in one transaction (a savepoint inside an outer one).

    Every meter of the batch must have a ``meter_state`` row; the head-end refuses unknown meters
    before. ``now`` judges future timestamps and freshness. A long-lived caller passes its own
    ``book``; the default is read afresh, which is right inside an operation that may roll back.
    """
    if len(batch) == 0:
        return Applied(np.zeros(0, dtype=np.int8), (), ())
    with transaction.atomic():
        states = _lock_states(np.unique(batch.meter_id).tolist())
        row = _state_of_each(batch, states)
        order = np.lexsort((batch.read_at_us, row))
        arranged = _arranged(batch, order)
        validated = validate_readings(
            meter_index=row[order],
            read_at_us=arranged.read_at_us,
            value=arranged.value_wh,
            watermarks=states.watermarks,
            now_us=instant_us(now),
            limits=LIMITS,
        )
        verdict = validated.verdict.copy()
        replacement = replace_intervals(
            batch=arranged,
            row=row[order],
            account_id=states.account_id,
            multiplier=states.watermarks.wh_per_count,
            verdict=verdict,
        )
        crossed = _write(arranged, row[order], states, validated, verdict, replacement, now, book)
        in_given_order = np.empty_like(verdict)
        in_given_order[order] = verdict
    accounts = tuple(np.unique(states.account_id[row]).tolist())
    return Applied(in_given_order, accounts, crossed)


def _lock_states(meter_ids: list[int]) -> _States:
    """Lock the accounts of the meters, then read their watermarks under that lock.

    A move may hand a meter to another account while we wait for the lock; then we lock once more.
    """
    locked: set[int] = set()
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT account_id FROM account_state WHERE account_id IN
                       (SELECT account_id FROM meter_state WHERE meter_id = ANY(%s))
                   ORDER BY account_id FOR NO KEY UPDATE""",
                [meter_ids],
            )
            locked.update(int(each[0]) for each in cursor.fetchall())
            cursor.execute(_WATERMARKS, [meter_ids])
            rows = cursor.fetchall()
        if {each[0] for each in rows} <= locked:
            return _states(rows)


_WATERMARKS = """
SELECT account_id, meter_id, register_code, property_id, multiplier, modulus_wh, max_power_w,
       expected_period_s, (date_part('epoch', opened_at) * 1000000)::bigint, opened_value_wh,
       CASE WHEN closed_at = 'infinity' THEN 253402300799000000
            ELSE (date_part('epoch', closed_at) * 1000000)::bigint END,
       (date_part('epoch', last_at) * 1000000)::bigint, last_value_wh
FROM meter_state WHERE meter_id = ANY(%s)
ORDER BY account_id, meter_id, register_code
"""


def _states(rows: Sequence[tuple[Any, ...]]) -> _States:
    columns = np.array(rows, dtype=np.int64).reshape(len(rows), 13).T
    return _States(
        account_id=columns[0],
        meter_id=columns[1],
        register_code=columns[2],
        property_id=columns[3],
        watermarks=MeterWatermarks(
            last_at_us=columns[11],
            last_value=columns[12],
            opened_at_us=columns[8],
            opened_value=columns[9],
            closed_at_us=columns[10],
            register_modulus=columns[5],
            wh_per_count=columns[4],
            max_power_w=columns[6],
            period_us=columns[7] * 1_000_000,
        ),
    )


class NoWatermark(ValueError):
    """A reading of a meter or register that nobody is assigned to."""


def _state_of_each(batch: ReadingBatch, states: _States) -> Int64:
    """The ``states`` row each reading belongs to by its own instant.

    Usually a register has one row. After a change of tenant it has several, each for the half-open
    period (opened, closed]: the closing reading belongs to the one who used the energy before it.
    A reading before the first opening goes to the first row, where VEE holds it.
    """
    by_register = np.lexsort(
        (states.watermarks.opened_at_us, states.register_code, states.meter_id)
    )
    meter = states.meter_id[by_register]
    register = states.register_code[by_register]
    opened = states.watermarks.opened_at_us[by_register]
    # One sort of both kinds of rows finds, for each reading, the last opening before its instant.
    meters = np.concatenate([meter, batch.meter_id])
    registers = np.concatenate([register, batch.register_code])
    instants = np.concatenate([opened, batch.read_at_us])
    is_reading = np.concatenate([np.ones(meter.size), np.zeros(len(batch))])
    merged = np.lexsort((is_reading, instants, registers, meters))
    position = np.maximum.accumulate(np.where(merged < meter.size, merged, -1))
    found = np.empty(meters.size, dtype=np.int64)
    found[merged] = position
    at = found[meter.size :]
    # Readings before the first opening of their register were given the register before: move on.
    wrong = (at < 0) | (meter[at] != batch.meter_id) | (register[at] != batch.register_code)
    at = np.where(wrong, at + 1, at)
    at = np.minimum(at, meter.size - 1)
    if ((meter[at] != batch.meter_id) | (register[at] != batch.register_code)).any():
        raise NoWatermark("a reading's meter and register have no account")
    return by_register[at]


def _arranged(batch: ReadingBatch, order: Int64) -> ReadingBatch:
    return ReadingBatch(
        meter_id=batch.meter_id[order],
        register_code=batch.register_code[order],
        read_at_us=batch.read_at_us[order],
        value_wh=batch.value_wh[order],
        source=batch.source[order],
        received_at_us=batch.received_at_us[order],
    )


def _write(
    batch: ReadingBatch,
    row: Int64,
    states: _States,
    validated: Validated,
    verdict: npt.NDArray[np.int8],
    replacement: Replacement,
    now: datetime,
    book: TariffBook | None,
) -> tuple[int, ...]:
    """Everything a judged batch changes; returns the accounts whose balance crossed its watch level."""
    kept = np.isin(verdict, [Verdict.ACCEPTED, Verdict.BACKFILL])
    _copy_readings(batch, row, states, kept)
    _hold(batch, row, states, verdict)
    _advance_watermarks(batch, row, states, validated, verdict, now)
    lines = _lines(batch, row, states, validated, verdict, replacement)
    if lines.account_row.size == 0:
        return ()
    return _charge(lines, states, now, book or TariffBook())


def _copy_readings(
    batch: ReadingBatch, row: Int64, states: _States, kept: npt.NDArray[np.bool_]
) -> None:
    """Raw readings that count. A repeated one is already there; a held one is in its VEE case."""
    size = int(kept.sum())
    copy_rows(
        connection.connection,
        "register_reading",
        {
            "meter_id": ("int8", batch.meter_id[kept]),
            "register_code": ("int2", batch.register_code[kept]),
            "read_at": ("timestamptz", batch.read_at_us[kept]),
            "revision": ("int2", np.zeros(size, dtype=np.int64)),
            "property_id": ("int8", states.property_id[row][kept]),
            "account_id": ("int8", states.account_id[row][kept]),
            "value_wh": ("int8", batch.value_wh[kept]),
            "quality": ("int2", np.full(size, int(Quality.MEASURED), dtype=np.int64)),
            "source": ("int2", batch.source[kept]),
            "received_at": ("timestamptz", batch.received_at_us[kept]),
        },
    )


def _hold(batch: ReadingBatch, row: Int64, states: _States, verdict: npt.NDArray[np.int8]) -> None:
    """Open a VEE case for each held reading; the same reading sent again is the same case."""
    held = np.flatnonzero(np.isin(verdict, [int(each) for each in HELD_VERDICTS]))
    if held.size == 0:
        return
    at = row[held]
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO vee_case (property_id, meter_id, account_id, register_code, read_at,
                   value_wh, source, received_at, verdict, reason, watermark_at, watermark_wh)
               SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[],
                   %s::timestamptz[], %s::bigint[], %s::smallint[], %s::timestamptz[],
                   %s::smallint[], %s::text[], %s::timestamptz[], %s::bigint[])
               ON CONFLICT DO NOTHING""",
            [
                states.property_id[at].tolist(),
                batch.meter_id[held].tolist(),
                states.account_id[at].tolist(),
                batch.register_code[held].tolist(),
                [utc_datetime(each) for each in batch.read_at_us[held].tolist()],
                batch.value_wh[held].tolist(),
                batch.source[held].tolist(),
                [utc_datetime(each) for each in batch.received_at_us[held].tolist()],
                verdict[held].tolist(),
                [VERDICT_NAMES[Verdict(each)] for each in verdict[held].tolist()],
                [utc_datetime(each) for each in states.watermarks.last_at_us[at].tolist()],
                states.watermarks.last_value[at].tolist(),
            ],
        )


def _advance_watermarks(
    batch: ReadingBatch,
    row: Int64,
    states: _States,
    validated: Validated,
    verdict: npt.NDArray[np.int8],
    now: datetime,
) -> None:
    moved = np.unique(row[verdict == Verdict.ACCEPTED])
    if moved.size == 0:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE meter_state m SET last_at = v.last_at, last_value_wh = v.value, received_at = %s
               FROM unnest(%s::bigint[], %s::bigint[], %s::smallint[], %s::timestamptz[], %s::bigint[])
                   AS v(account_id, meter_id, register_code, last_at, value)
               WHERE m.account_id = v.account_id AND m.meter_id = v.meter_id
                 AND m.register_code = v.register_code AND m.last_at < v.last_at""",
            [
                now,
                states.account_id[moved].tolist(),
                states.meter_id[moved].tolist(),
                states.register_code[moved].tolist(),
                [utc_datetime(each) for each in validated.last_at_us[moved].tolist()],
                validated.last_value[moved].tolist(),
            ],
        )
        if cursor.rowcount != moved.size:
            raise AssertionError(f"{moved.size} watermarks meant, {cursor.rowcount} moved")


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """Intervals to rate (and superseded ones to take back), before they are cut into segments."""

    account_row: Int64
    start_at_us: Int64
    end_at_us: Int64
    start_value: Int64
    end_value: Int64
    energy_wh: Int64
    revision: Int64
    quality: Int64
    source: Int64
    received_at_us: Int64
    replacement: Replacement


def _lines(
    batch: ReadingBatch,
    row: Int64,
    states: _States,
    validated: Validated,
    verdict: npt.NDArray[np.int8],
    replacement: Replacement,
) -> _Lines:
    """The new intervals of accepted active-import readings and the re-split ones of backfills."""
    fresh = (verdict == Verdict.ACCEPTED) & (batch.register_code == ACTIVE_IMPORT)
    quality = np.where(validated.jumps_gap[fresh], int(Quality.ESTIMATED), int(Quality.MEASURED))
    new = replacement.new

    def joined(of_batch: Int64, of_backfill: Int64) -> Int64:
        return np.concatenate([of_batch, of_backfill])

    return _Lines(
        account_row=joined(row[fresh], new.row),
        start_at_us=joined(validated.start_at_us[fresh], new.start_at_us),
        end_at_us=joined(batch.read_at_us[fresh], new.end_at_us),
        start_value=joined(validated.start_value[fresh], new.start_value),
        end_value=joined(batch.value_wh[fresh], new.end_value),
        energy_wh=joined(validated.energy_wh[fresh], new.energy_wh),
        revision=joined(np.zeros(int(fresh.sum()), dtype=np.int64), new.revision),
        quality=joined(quality, np.full(new.row.size, int(Quality.MEASURED), dtype=np.int64)),
        source=joined(batch.source[fresh], new.source),
        received_at_us=joined(batch.received_at_us[fresh], new.received_at_us),
        replacement=replacement,
    )


def _charge(lines: _Lines, states: _States, now: datetime, book: TariffBook) -> tuple[int, ...]:
    """Split, rate and store the lines, and move the accounts by one row each."""
    accounts = np.unique(states.account_id[lines.account_row])
    earliest = int(lines.start_at_us.min()) if lines.start_at_us.size else instant_us(now)
    latest = int(lines.end_at_us.max()) if lines.end_at_us.size else instant_us(now)
    prices = book.prices_for(accounts.tolist(), from_us=earliest, until_us=latest + 1)
    account_index = np.searchsorted(accounts, states.account_id[lines.account_row])
    segments = split_intervals(
        start_at_us=lines.start_at_us,
        end_at_us=lines.end_at_us,
        energy_wh=lines.energy_wh,
        timeline_index=prices.timeline_of_account[account_index],
        timelines=prices.timelines,
    )
    source = segments.source_row
    columns: dict[str, Int64] = {
        "row": lines.account_row[source],
        "start_at": lines.start_at_us[source],
        "revision": lines.revision[source],
        "segment": segments.segment_no.astype(np.int64),
        "from_at": segments.start_at_us,
        "to_at": segments.end_at_us,
        "start_value_wh": lines.start_value[source],
        "end_value_wh": lines.end_value[source],
        "energy_wh": segments.energy_wh,
        "quality": lines.quality[source],
        "source": lines.source[source],
        "received_at": lines.received_at_us[source],
        "tariff_version_id": segments.version_id,
        "band": segments.band.astype(np.int64),
        "price_nano": segments.price_nano_per_kwh,
    }
    columns = _with_reversals(columns, lines.replacement)
    order = np.lexsort((columns["from_at"], columns["row"]))
    columns = {name: values[order] for name, values in columns.items()}
    return _store(columns, accounts, states, now)


def _with_reversals(columns: dict[str, Int64], replacement: Replacement) -> dict[str, Int64]:
    """Add the superseded segments with their energy taken back at the price it was charged at."""
    old = replacement.old
    if old["row"].size == 0:
        return columns
    taken_back = dict(old)
    taken_back["energy_wh"] = -old["energy_wh"]
    taken_back["segment"] = old["segment"] + REVERSED_SEGMENT
    taken_back["revision"] = old["revision"] + 1
    taken_back["quality"] = np.full(old["row"].size, int(Quality.REVERSED), dtype=np.int64)
    return {name: np.concatenate([values, taken_back[name]]) for name, values in columns.items()}


def _store(
    columns: dict[str, Int64], accounts: Int64, states: _States, now: datetime
) -> tuple[int, ...]:
    """Charge with each account's carry, number the intervals, and write both."""
    account_id = states.account_id[columns["row"]]
    index = np.searchsorted(accounts, account_id)
    carry, last_no = _counters(accounts)
    charge, new_carry = charge_segments(
        account_index=index,
        energy_wh=columns["energy_wh"],
        price_nano_per_kwh=columns["price_nano"],
        carry=carry,
    )
    count = np.bincount(index, minlength=accounts.size)
    total = np.zeros(accounts.size, dtype=np.int64)
    np.add.at(total, index, charge)
    first_of_account = np.cumsum(count) - count
    interval_no = last_no[index] + 1 + np.arange(index.size) - first_of_account[index]
    latest = np.full(accounts.size, np.iinfo(np.int64).min)
    np.maximum.at(latest, index, columns["to_at"])
    crossed = _move_accounts(accounts, total, new_carry, count, latest, now)
    _copy_intervals(columns, account_id, states, interval_no, charge)
    _decide(crossed, accounts, latest, now)
    return crossed


def _counters(accounts: Int64) -> tuple[Int64, Int64]:
    """(carry, last interval number) of each account, under the lock already held."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT carry_energy, interval_no FROM account_state WHERE account_id = ANY(%s)
               ORDER BY account_id""",
            [accounts.tolist()],
        )
        pairs = np.array(cursor.fetchall(), dtype=np.int64).reshape(accounts.size, 2)
    return pairs[:, 0], pairs[:, 1]


def _move_accounts(
    accounts: Int64, total: Int64, carry: Int64, count: Int64, latest_us: Int64, now: datetime
) -> tuple[int, ...]:
    """One row per account, or UPDATE FROM would drop all but one; returns who crossed the level."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE account_state s
               SET accrued_energy = s.accrued_energy + v.charge, carry_energy = v.carry,
                   interval_no = s.interval_no + v.intervals,
                   last_interval_at = greatest(s.last_interval_at, v.latest), updated_at = %s
               FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::timestamptz[])
                   AS v(account_id, charge, carry, intervals, latest)
               WHERE s.account_id = v.account_id
               RETURNING s.account_id, s.available < s.watch_below""",
            [
                now,
                accounts.tolist(),
                total.tolist(),
                carry.tolist(),
                count.tolist(),
                [utc_datetime(each) for each in latest_us.tolist()],
            ],
        )
        rows = cursor.fetchall()
    if len(rows) != accounts.size:
        raise AssertionError(f"{accounts.size} accounts meant, {len(rows)} moved")
    return tuple(sorted(int(each[0]) for each in rows if each[1]))


def _copy_intervals(
    columns: dict[str, Int64], account_id: Int64, states: _States, interval_no: Int64, charge: Int64
) -> None:
    row = columns["row"]
    zero = np.zeros(row.size, dtype=np.int64)
    copy_rows(
        connection.connection,
        "interval",
        {
            "account_id": ("int8", account_id),
            "meter_id": ("int8", states.meter_id[row]),
            "register_code": ("int2", states.register_code[row]),
            "start_at": ("timestamptz", columns["start_at"]),
            "revision": ("int2", columns["revision"]),
            "segment": ("int2", columns["segment"]),
            "property_id": ("int8", states.property_id[row]),
            "interval_no": ("int8", interval_no),
            "from_at": ("timestamptz", columns["from_at"]),
            "to_at": ("timestamptz", columns["to_at"]),
            "start_value_wh": ("int8", columns["start_value_wh"]),
            "end_value_wh": ("int8", columns["end_value_wh"]),
            "multiplier": ("int4", states.watermarks.wh_per_count[row]),
            "energy_wh": ("int8", columns["energy_wh"]),
            "quality": ("int2", columns["quality"]),
            "source": ("int2", columns["source"]),
            "received_at": ("timestamptz", columns["received_at"]),
            "tariff_version_id": ("int8", columns["tariff_version_id"]),
            "band": ("int2", columns["band"]),
            "price_nano": ("int8", columns["price_nano"]),
            "charge_energy": ("int8", charge),
            "charge_standing": ("int8", zero),
            "charge_tax": ("int8", zero),
            "charge_fee": ("int8", zero),
            "charge_demand": ("int8", zero),
        },
    )


def _decide(crossed: tuple[int, ...], accounts: Int64, latest_us: Int64, now: datetime) -> None:
    """Hand the crossings to supply, fresh ones and those of old readings apart."""
    if not crossed:
        return
    limit_us = instant_us(now - FRESH_FOR)
    latest = dict(zip(accounts.tolist(), latest_us.tolist(), strict=True))
    fresh = [each for each in crossed if latest[each] >= limit_us]
    stale = [each for each in crossed if latest[each] < limit_us]
    for account_ids, is_fresh in ((fresh, True), (stale, False)):
        if account_ids:
            decide_for_crossings(account_ids=account_ids, now=now, fresh=is_fresh)
