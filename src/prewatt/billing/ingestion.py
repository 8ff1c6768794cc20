"""One batch of readings, one transaction: judged, rated, charged, stored, and supply decided.

The order of the locks is the order of every writer: ``account_state`` rows by account, then the rest.
Inside, everything is columns: PostgreSQL sees one statement per table and a binary COPY, numpy sees
int64 arrays, and Python sees a row only when a reading is irregular. The caller acknowledges after
the transaction has committed and not before (invariant 9).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from django.db import connection, transaction

from prewatt.billing.accounts import Outdated, all_of, equal_to
from prewatt.billing.backfill import Replacement, no_replacement, replace_intervals
from prewatt.billing.by_hand import is_by_hand
from prewatt.billing.charging import Lines, charge_lines
from prewatt.billing.memory import Memory
from prewatt.billing.states import States, lock_states, state_of_each
from prewatt.billing.tariffs import TariffBook, UnpricedAccount
from prewatt.billing.unpriced import close_cases, held_readings, hold_unpriced
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import instant_us
from prewatt.core.readings import ACTIVE_IMPORT, Quality, ReadingBatch, ReadingSource
from prewatt.core.sorting import distinct
from prewatt.core.vee import (
    HELD_VERDICTS,
    MAX_POWER_W,
    Validated,
    VeeLimits,
    Verdict,
    validate_readings,
)
from prewatt.mdm.cases import Cases, open_cases
from prewatt.runtime.copying import ArrayOf, column_cursor, copy_rows
from prewatt.runtime.prepared import execute

LIMITS = VeeLimits()
BELIEVED = VeeLimits(least_gap_us=1)
"""For what a person has read or vouches for."""


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


def apply_readings(
    *,
    batch: ReadingBatch,
    now: datetime,
    book: TariffBook | None = None,
    believed: bool = False,
    memory: Memory | None = None,
    open_cases_max: int | None = None,
    on_beyond: Callable[[Int64], None] | None = None,
) -> Applied:
    """Apply a batch in one transaction (a savepoint inside an outer one).

    Every meter of the batch must have a ``meter_state`` row; the head-end refuses unknown meters
    before. ``now`` judges future timestamps and freshness. A long-lived caller passes its own
    ``book``; the default is read afresh, which is right inside an operation that may roll back.
    ``believed``: a person vouches that the meters can have counted so much and were read so soon;
    all other rules stay. ``open_cases_max`` bounds the open VEE cases of a meter (``mdm.cases``):
    ``on_beyond`` is given the places of held readings that were not kept for it, in the same
    transaction, so that the caller can count them.

    With a ``memory`` of its own it may also leave out the reading of what it wrote itself: a batch
    in which every reading simply follows the one before is rated from memory, and PostgreSQL proves
    under the locks that memory was right. Any other batch, and one for which it was not, is read.
    """
    if len(batch) == 0:
        return Applied(np.zeros(0, dtype=np.int8), (), ())
    if memory is not None and book is not None:
        try:
            applied = _apply_recalled(batch, now, book, memory)
        except (Outdated, UnpricedAccount, psycopg.errors.UniqueViolation):
            # The last: others wrote what memory was about to, and it shows before a watermark does.
            applied = None
        if applied is not None:
            return applied
    limits = BELIEVED if believed or (batch.source == ReadingSource.MANUAL).all() else LIMITS
    with transaction.atomic():
        states = lock_states(np.unique(batch.meter_id))
        row = state_of_each(batch, states)
        order = np.lexsort((batch.read_at_us, row))
        if believed:
            states = without_power_bound(states, row, batch.value_wh)
        arranged = batch.take(order)
        validated = validate_readings(
            meter_index=row[order],
            read_at_us=arranged.read_at_us,
            value=arranged.value_wh,
            watermarks=states.watermarks,
            now_us=instant_us(now),
            limits=limits,
        )
        verdict = validated.verdict.copy()
        book = book or TariffBook()
        unpriced = book.unpriced(np.unique(states.account_id[row]))
        if unpriced:
            hold_unpriced(
                verdict, batch=arranged, account_id=states.account_id[row[order]],
                unpriced=unpriced, now=now,
            )  # fmt: skip
        replacement = replace_intervals(
            batch=arranged,
            row=row[order],
            account_id=states.account_id,
            multiplier=states.watermarks.wh_per_count,
            verdict=verdict,
            least_gap_us=limits.least_gap_us,
        )
        write = _Write(
            arranged, row[order], states, validated, verdict, replacement, now, open_cases_max
        )
        crossed, beyond = write.all(book, memory)
        if on_beyond is not None and beyond.size:
            on_beyond(order[beyond])
    in_given_order = np.empty_like(verdict)
    in_given_order[order] = verdict
    accounts = tuple(np.unique(states.account_id[row]).tolist())
    return Applied(in_given_order, accounts, crossed)


def apply_held(*, property_id: int, now: datetime) -> int:
    """Rate the readings of a property that were held for want of a tariff where there is one now;
    how many.

    They are judged as if they came now: their order in time is kept, and what has been rated
    beyond them meanwhile is divided by them and not charged again.
    """
    with transaction.atomic():
        cases, batch = held_readings(property_id)
        if cases:
            apply_readings(batch=batch, now=now)
            close_cases(cases, now=now)
    return len(cases)


def without_power_bound(states: States, row: Int64, value: Int64) -> States:
    """Lift the bound where registers only go forward: without it, every fall would be a rollover."""
    marks = states.watermarks
    bound = np.full_like(marks.max_power_w, MAX_POWER_W)
    falls = np.unique(row[value < marks.last_value[row]])
    bound[falls] = marks.max_power_w[falls]
    return replace(states, watermarks=replace(marks, max_power_w=bound))


def _apply_recalled(
    batch: ReadingBatch, now: datetime, book: TariffBook, memory: Memory
) -> Applied | None:
    """Apply a batch from memory; None if a reading is irregular or unknown. Raises Outdated."""
    states = memory.recall(distinct(batch.meter_id))
    if states is None or (batch.register_code != ACTIVE_IMPORT).any():
        return None
    row = state_of_each(batch, states)
    order = np.lexsort((batch.read_at_us, row))
    arranged, row = batch.take(order), row[order]
    validated = validate_readings(
        meter_index=row,
        read_at_us=arranged.read_at_us,
        value=arranged.value_wh,
        watermarks=states.watermarks,
        now_us=instant_us(now),
        limits=LIMITS,
    )
    if not validated.accepted.all():
        return None
    write = _Write(arranged, row, states, validated, validated.verdict, no_replacement(), now)
    with transaction.atomic():
        crossed, _ = write.all(book, memory, is_recalled=True)
    return Applied(validated.verdict, tuple(distinct(states.account_id).tolist()), crossed)


class _Proof:
    """What a batch from memory took for granted beside its accounts (`accounts.Proof`): where its meters
    stood, the prices, and that its rows go in by COPY.
    """

    def __init__(self, write: _Write, book: TariffBook) -> None:
        self._marking = _Marking(write, is_recalled=True)
        self._book = book
        self._properties = distinct(write.states.property_id).tolist()
        self._epochs: psycopg.Cursor[Any] | None = None

    def ask(self) -> None:
        """Move the watermarks, read the epochs, and see whether row-level security holds for us."""
        self._marking.execute()
        self._epochs = execute(_EPOCHS, [self._properties])

    def hold(self) -> None:
        """Raise Outdated where any of it is otherwise."""
        assert self._epochs is not None
        self._marking.hold()
        found = self._epochs.fetchall()
        if any(is_held for *_, is_held in found):
            raise Outdated("rights")
        if not self._book.is_as_of({each: epoch for each, epoch, _ in found}):
            raise Outdated("prices")


#: In the transaction of the batch, under its accounts' locks.
_EPOCHS = """
SELECT e.property_id, e.epoch,
       row_security_active('interval') OR row_security_active('register_reading')
FROM tariff_epoch e WHERE e.property_id = ANY(%s::bigint[])
"""


@dataclass(frozen=True, slots=True, eq=False)
class _Write:
    """A judged batch, and what it changes."""

    batch: ReadingBatch
    row: Int64
    states: States
    validated: Validated
    verdict: npt.NDArray[np.int8]
    replacement: Replacement
    now: datetime
    open_max: int | None = None

    def all(
        self, book: TariffBook, memory: Memory | None, *, is_recalled: bool = False
    ) -> tuple[tuple[int, ...], Int64]:
        """Everything; returns the accounts whose balance crossed its watch level, and the rows that
        should be held and that there are too many open cases for.

        Accounts first where their locks are taken by moving them. Raises Outdated if what
        ``is_recalled`` is not so.
        """
        lines = lines_of(self.batch, self.row, self.verdict, self.validated, self.replacement)
        proof = _Proof(self, book) if is_recalled else None
        crossed: tuple[int, ...] = ()
        if lines.row.size:
            crossed = charge_lines(
                lines, self.states, now=self.now, book=book, memory=memory, proof=proof
            )
        if proof is None and not is_by_hand():
            # A proof has moved them beside the accounts; an operator's charges have, with them.
            marking = _Marking(self)
            marking.execute()
            marking.hold()
        kept = np.isin(self.verdict, [Verdict.ACCEPTED, Verdict.BACKFILL])
        _copy_readings(self.batch, self.row, self.states, kept, is_free=is_recalled)
        beyond = _hold(self)
        if memory is not None:
            memory.remember(self.states, self.validated)
        return crossed, beyond


def lines_of(
    batch: ReadingBatch,
    row: Int64,
    verdict: npt.NDArray[np.int8],
    validated: Validated,
    replacement: Replacement,
) -> Lines:
    """The new intervals of accepted active-import readings, then the re-split ones of backfills."""
    new = replacement.new
    fresh = (verdict == Verdict.ACCEPTED) & (batch.register_code == ACTIVE_IMPORT)
    jumps = validated.jumps_gap[fresh]
    quality = np.where(jumps, int(Quality.ESTIMATED), int(Quality.MEASURED))
    size = int(fresh.sum())

    def joined(of_batch: Int64, of_backfill: Int64) -> Int64:
        return np.concatenate([of_batch, of_backfill])

    return Lines(
        row=joined(row[fresh], new.row),
        start_at_us=joined(validated.start_at_us[fresh], new.start_at_us),
        end_at_us=joined(batch.read_at_us[fresh], new.end_at_us),
        start_value=joined(validated.start_value[fresh], new.start_value),
        end_value=joined(batch.value_wh[fresh], new.end_value),
        energy_wh=joined(validated.energy_wh[fresh], new.energy_wh),
        revision=joined(np.zeros(size, dtype=np.int64), new.revision),
        quality=joined(quality, np.full(new.row.size, int(Quality.MEASURED), dtype=np.int64)),
        source=joined(batch.source[fresh], new.source),
        received_at_us=joined(batch.received_at_us[fresh], new.received_at_us),
        is_again=np.arange(size + new.row.size) >= size,
        replacement=replacement,
    )


def _copy_readings(
    batch: ReadingBatch,
    row: Int64,
    states: States,
    kept: npt.NDArray[np.bool_],
    *,
    is_free: bool,
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
        is_free=is_free,
    )


def _hold(write: _Write) -> Int64:
    """Open a VEE case for each held reading; returns the rows that there are too many open ones for."""
    held = np.flatnonzero(np.isin(write.verdict, [int(each) for each in HELD_VERDICTS]))
    if held.size == 0:
        return held
    batch, states, at = write.batch, write.states, write.row[held]
    cases = Cases(
        property_id=states.property_id[at],
        meter_id=batch.meter_id[held],
        account_id=states.account_id[at],
        register_code=batch.register_code[held],
        read_at_us=batch.read_at_us[held],
        value=batch.value_wh[held],
        source=batch.source[held],
        received_at_us=batch.received_at_us[held],
        verdict=write.verdict[held],
        against_us=states.watermarks.last_at_us[at],
        against_value=states.watermarks.last_value[at],
    )
    return held[open_cases(cases, open_max=write.open_max)]


class _Marking:
    """Moves the watermarks of accepted readings in one UPDATE; recalled ones only where all of each is
    as it was.
    """

    def __init__(self, write: _Write, *, is_recalled: bool = False) -> None:
        self._write = write
        self._is_recalled = is_recalled
        self._moved = distinct(write.row[write.verdict == Verdict.ACCEPTED])
        self._cursor: psycopg.Cursor[Any] | None = None

    def execute(self) -> None:
        """Send the statement; in a pipeline nobody waits for what it says."""
        states, validated, moved = self._write.states, self._write.validated, self._moved
        if moved.size == 0:
            return
        columns: dict[str, tuple[str, Int64]] = {
            "account_id": ("int8", states.account_id[moved]),
            "meter_id": ("int8", states.meter_id[moved]),
            "last_at": ("timestamptz", validated.last_at_us[moved]),
            "value": ("int8", validated.last_value[moved]),
        }
        assignments = ["last_at = v.last_at", "last_value_wh = v.value", "received_at = %s"]
        if (validated.ahead_uj[moved] != states.watermarks.ahead_uj[moved]).any():
            columns["ahead_uj"] = ("int8", validated.ahead_uj[moved])
            assignments.append("ahead_uj = v.ahead_uj")
        conditions, constants = ["m.last_at < v.last_at"], [ACTIVE_IMPORT]
        if self._is_recalled:
            conditions = [all_of(_watermarks_as_before(states, moved, columns, constants))]
        elif (states.register_code[moved] != ACTIVE_IMPORT).any():
            raise AssertionError("only active import has a watermark")
        arrays = ", ".join(f"%s::{kind}[]" for kind, _ in columns.values())
        self._cursor = column_cursor(connection.connection)
        self._cursor.execute(
            # Names of our own columns, never of a caller's.
            f"""UPDATE meter_state m SET {", ".join(assignments)}
               FROM unnest({arrays}) AS v({", ".join(columns)})
               WHERE m.account_id = v.account_id AND m.meter_id = v.meter_id
                 AND m.register_code = %s AND {" AND ".join(conditions)}""",  # noqa: S608 - our own names
            [
                self._write.now,
                *(ArrayOf(*each) for each in columns.values()),
                *constants,
            ],
        )

    def hold(self) -> None:
        """Raise Outdated where a recalled watermark was not as it was; each of them has to move."""
        if self._cursor is None:
            return
        meant, count = self._moved.size, self._cursor.rowcount
        if self._is_recalled and count < meant:
            raise Outdated("watermarks")
        if count != meant:
            raise AssertionError(f"{meant} watermarks meant, {count} moved")


def _watermarks_as_before(
    states: States,
    moved: Int64,
    columns: dict[str, tuple[str, Int64]],
    constants: list[int],
) -> list[str]:
    """The conditions that everything validation began with is still so."""
    conditions, before = [], states.watermarks
    for name, values in (
        ("last_at", before.last_at_us),
        ("opened_at", before.opened_at_us),
        ("closed_at", before.closed_at_us),
    ):
        columns[f"old_{name}"] = ("timestamptz", values[moved])
        conditions.append(f"m.{name} = v.old_{name}")
    conditions += [
        equal_to(f"old_{name}", f"m.{name}", values[moved], columns, constants)
        for name, values in (
            ("property_id", states.property_id),
            ("last_value_wh", before.last_value),
            ("opened_value_wh", before.opened_value),
            ("multiplier", before.wh_per_count),
            ("modulus_wh", before.register_modulus),
            ("max_power_w", before.max_power_w),
            ("expected_period_s", before.period_us // 1_000_000),
            ("ahead_uj", before.ahead_uj),
        )
    ]
    return conditions
