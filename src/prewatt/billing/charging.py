"""From intervals to charges in the database: rated in time, numbered, stored, and supply decided.

What is new is rated on from where each account stands. An interval that was rated before and comes
again in parts, or lies in a window that has ended, is counted as of its own instant (``late``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from django.db import connection

from prewatt.billing.accounts import (
    AccountStates,
    Movement,
    Outdated,
    Proof,
    contract_terms,
    load_accounts,
    move_accounts,
)
from prewatt.billing.backfill import Replacement
from prewatt.billing.by_hand import charge_by_hand, is_by_hand
from prewatt.billing.late import Bench, Counted, rate_late
from prewatt.billing.purchases import current_purchase, number_purchases
from prewatt.billing.rerate_requests import LATE_READING, request_rerating
from prewatt.billing.reversals import CHARGES, RESTS, Reversals, take_back
from prewatt.billing.states import States
from prewatt.billing.tariffs import Prices, TariffBook
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.rating import (
    AccountTerms,
    RatedUsage,
    TimelineSet,
    UsageState,
    rate_usage,
    split_intervals,
)
from prewatt.core.readings import REVERSED_SEGMENT, Quality
from prewatt.core.sorting import distinct
from prewatt.core.steps import PURCHASE_KEY, CountKind
from prewatt.runtime.copying import Column, copy_rows
from prewatt.supply.operations import decide_for_crossings

#: A balance that falls on readings older than this is history: what would have been done is
#: stored, nothing is sent.
FRESH_FOR: Final = timedelta(hours=2)


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Intervals to rate, as columns; ``row`` is their ``meter_state`` row in ``States``.

    ``is_again`` marks parts of intervals that were rated before, which ``replacement`` takes back.
    """

    row: Int64
    start_at_us: Int64
    end_at_us: Int64
    start_value: Int64
    end_value: Int64
    energy_wh: Int64
    revision: Int64
    quality: Int64
    source: Int64
    received_at_us: Int64
    is_again: npt.NDArray[np.bool_]
    replacement: Replacement


class Recollection(Protocol):
    """What rating needs of a memory (`memory.Memory`)."""

    def recall_accounts(self, account_id: Int64, counts: int) -> AccountStates | None:
        """The accounts as they are remembered."""

    def remember_accounts(self, accounts: AccountStates) -> None:
        """Remember how they stand now."""


def charge_lines(
    lines: Lines,
    states: States,
    *,
    now: datetime,
    book: TariffBook,
    memory: Recollection | None = None,
    proof: Proof | None = None,
) -> tuple[int, ...]:
    """Rate and store intervals and move their accounts by one row each, in the caller's transaction.

    The accounts are locked; or everything is taken from ``memory`` and the book, there is a ``proof``
    to bring, and Outdated is raised where it is not so. Returns those whose balance fell below their
    watched level; supply has decided about them.
    """
    batch = _Batch.of(lines, states, book, None if proof is None else memory)
    done = _rate(batch)
    columns = _with_reversals(_columns(batch, done.parts), batch, done.taken_back)
    order = np.lexsort((columns["from_at"], columns["row"]))
    columns = {name: values[order] for name, values in columns.items()}
    crossed = _store(columns, batch, done.state, now, memory, proof)
    request_rerating(
        from_at={
            int(batch.accounts.account_id[account]): utc_datetime(at_us)
            for account, at_us in done.rerate_from_us.items()
        },
        reason=LATE_READING,
        now=now,
    )
    return crossed


def charges_of(lines: Lines, states: States, *, book: TariffBook) -> tuple[Int64, Int64]:
    """What each line would charge, and what each superseded segment would give back, in micro-units
    over all components. Nothing is locked or written, so it is so only as long as nothing changes.
    """
    batch = _Batch.of(lines, states, book, None)
    done = _rate(batch)
    charged = np.zeros(lines.row.size, dtype=np.int64)
    for segment, part in done.parts:
        line = batch.counted.segments.source_row[segment]
        np.add.at(charged, line, _together({name: getattr(part, name) for name in CHARGES}))
    return charged, _together(done.taken_back)


def _together(charges: Mapping[str, Int64]) -> Int64:
    return np.asarray(sum(charges[name].astype(np.int64, copy=False) for name in CHARGES))


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Intervals cut into segments, and the accounts that they are charged to."""

    lines: Lines
    states: States
    prices: Prices
    accounts: AccountStates
    terms: AccountTerms
    counted: Counted
    reversals: Reversals
    reversed_purchase: Int64

    @classmethod
    def of(
        cls, lines: Lines, states: States, book: TariffBook, memory: Recollection | None
    ) -> _Batch:
        old = lines.replacement.old
        # What is taken back may be all there is, or reach beyond what takes its place.
        account_id = distinct(states.account_id[np.concatenate([lines.row, old["row"]])])
        prices = book.prices_for(
            account_id,
            from_us=int(np.concatenate([lines.start_at_us, old["start_at"]]).min()),
            until_us=int(np.concatenate([lines.end_at_us, old["to_at"]]).max()) + 1,
            as_known=memory is not None,
        )
        if memory is None:
            accounts = load_accounts(account_id, prices.timelines.columns)
        else:
            recalled = memory.recall_accounts(account_id, prices.timelines.columns)
            if recalled is None:
                raise Outdated("not remembered")
            accounts = recalled
        account = np.searchsorted(account_id, states.account_id[lines.row])
        segments = split_intervals(
            start_at_us=lines.start_at_us,
            end_at_us=lines.end_at_us,
            energy_wh=lines.energy_wh,
            timeline_index=prices.timeline_of_account[account],
            timelines=prices.timelines,
        )
        reversals = _reversals(lines.replacement, states, account_id, prices)
        purchase, reversed_purchase = _purchases(
            accounts, prices, account, lines.start_at_us, reversals
        )
        counted = Counted(
            segments=segments,
            account=account[segments.source_row],
            line_start_us=lines.start_at_us[segments.source_row],
            purchase=purchase[segments.source_row],
        )
        terms = contract_terms(accounts, prices.terms)
        return cls(lines, states, prices, accounts, terms, counted, reversals, reversed_purchase)


def _reversals(
    replacement: Replacement, states: States, account_id: Int64, prices: Prices
) -> Reversals:
    old = replacement.old
    account = np.searchsorted(account_id, states.account_id[old["row"]])
    segment = old["row"]
    if account.size:
        timeline = prices.timeline_of_account[account]
        segment = prices.timelines.segment_at(old["from_at"], timeline)
    return Reversals(old | {"meter_id": states.meter_id[old["row"]]}, account, segment)


def _purchases(
    accounts: AccountStates,
    prices: Prices,
    account: Int64,
    start_at_us: Int64,
    reversals: Reversals,
) -> tuple[Int64, Int64]:
    """The purchases of the intervals and of the reversals, where a timeline counts by purchase."""
    by_purchase = prices.timelines.countings.step_window == PURCHASE_KEY
    if not by_purchase.any():
        return accounts.purchase_no[account], accounts.purchase_no[reversals.account]
    everyone = np.concatenate([account, reversals.account])
    starts = np.concatenate([start_at_us, reversals.old["start_at"]])
    counting = prices.timelines.counting
    at_start = prices.timelines.segment_at(starts, prices.timeline_of_account[everyone])
    asked = np.flatnonzero(by_purchase[counting[at_start]])
    number = number_purchases(accounts, everyone, starts, asked=asked)
    return number[: account.size], number[account.size :]


@dataclass(frozen=True, slots=True, eq=False)
class _Done:
    """Rated parts as (segment of each part, columns), what the reversals take back, the new state."""

    parts: list[tuple[Int64, RatedUsage]]
    taken_back: dict[str, Int64]
    state: UsageState
    rerate_from_us: dict[int, int]


def _rate(batch: _Batch) -> _Done:
    """Take back what is superseded, rate it again as of then, and go on with what is new."""
    timelines = batch.prices.timelines
    state = batch.accounts.usage.copied(timelines.columns)
    taken_back = take_back(batch.reversals, state)
    size = len(batch.counted.segments)
    if not _counts_anything(timelines):
        rated = _rate_present(batch, np.arange(size, dtype=np.int64), state)
        return _Done(rated.parts, taken_back, rated.state, {})
    behind = _is_behind(batch, state)
    done = _Done([], taken_back, state, {})
    done = _rate_behind(batch, np.flatnonzero(behind), batch.reversals, done)
    present = np.flatnonzero(~behind)
    rated = _rate_present(batch, present, done.state)
    done = _Done([*done.parts, *rated.parts], taken_back, rated.state, done.rerate_from_us)
    return _rate_behind(batch, rated.late, batch.reversals.none(), done)


def _counts_anything(timelines: TimelineSet) -> bool:
    countings = timelines.countings
    return bool((countings.kind != CountKind.NONE).any() or countings.free_wh.any())


def _is_behind(batch: _Batch, state: UsageState) -> npt.NDArray[np.bool_]:
    """Counted segments that come again, and those of a purchase before the present count's."""
    countings, counted = batch.prices.timelines.countings, batch.counted
    counting = batch.prices.timelines.counting[counted.segments.segment]
    is_counted = (countings.kind[counting] != CountKind.NONE) | (countings.free_wh[counting] > 0)
    behind: npt.NDArray[np.bool_] = is_counted & batch.lines.is_again[counted.segments.source_row]
    bought = countings.step_window[counting] == PURCHASE_KEY
    if bought.any():
        present = current_purchase(state.step_window)
        behind |= bought & (counted.purchase < present[counted.account])
    return behind


def _rate_behind(batch: _Batch, rows: Int64, reversals: Reversals, done: _Done) -> _Done:
    if rows.size == 0 and len(reversals) == 0:
        return done
    rated = rate_late(
        bench=Bench(batch.accounts.account_id, batch.prices.timeline_of_account, batch.terms),
        state=done.state,
        usage=batch.counted.take(rows),
        reversals=reversals,
        reversed_purchase=batch.reversed_purchase[: len(reversals)],
    )
    rerate = {
        account: min(at_us, done.rerate_from_us.get(account, at_us))
        for account, at_us in rated.rerate_from_us.items()
    }
    parts = [(rows[which], part) for which, part in rated.parts]
    return _Done([*done.parts, *parts], done.taken_back, rated.state, done.rerate_from_us | rerate)


@dataclass(frozen=True, slots=True, eq=False)
class _Present:
    parts: list[tuple[Int64, RatedUsage]]
    state: UsageState
    late: Int64


def _rate_present(batch: _Batch, rows: Int64, state: UsageState) -> _Present:
    """Rate segments on from where their accounts stand: in one round, or where purchases begin in
    the batch, in one for each purchase. Says which are late.
    """
    counted = batch.counted
    order = np.lexsort((counted.segments.start_at_us[rows], counted.account[rows]))
    rows = rows[order]
    account, purchase = counted.account[rows], counted.purchase[rows]
    turn = batch.accounts.purchase_no[account] - purchase
    parts: list[tuple[Int64, RatedUsage]] = []
    late: list[Int64] = []
    for each in np.unique(turn)[::-1].tolist():
        chosen = rows if not turn.any() else rows[turn == each]
        rated = rate_usage(
            segments=counted.segments.take(chosen),
            account_index=counted.account[chosen],
            timelines=batch.prices.timelines,
            terms=AccountTerms(
                batch.terms.members,
                batch.terms.contracted_w,
                batch.accounts.purchase_no - each,
                batch.terms.dated,
            ),
            state=state,
            with_rests=True,
        )
        state = rated.state
        parts.append((chosen[rated.source_row], rated))
        late.append(chosen[rated.late])
    return _Present(parts, state, np.concatenate([rows[:0], *late]))


def _columns(batch: _Batch, parts: list[tuple[Int64, RatedUsage]]) -> dict[str, Int64]:
    """The rated parts as columns of ``interval``, and ``row``."""
    segment = np.concatenate([np.zeros(0, dtype=np.int64), *(which for which, _ in parts)])
    lines, line = batch.lines, batch.counted.segments.source_row[segment]

    def rated(name: str) -> Int64:
        if not parts:
            return np.zeros(0, dtype=np.int64)
        return np.concatenate([getattr(each, name) for _, each in parts]).astype(
            np.int64, copy=False
        )

    from_at = rated("start_at_us")
    return {
        "row": lines.row[line],
        "start_at": lines.start_at_us[line],
        "revision": lines.revision[line],
        "segment": _numbered(line, from_at, len(lines.row)),
        "from_at": from_at,
        "to_at": rated("end_at_us"),
        "start_value_wh": lines.start_value[line],
        "end_value_wh": lines.end_value[line],
        "energy_wh": rated("energy_wh"),
        "quality": lines.quality[line],
        "source": lines.source[line],
        "received_at": lines.received_at_us[line],
        "tariff_version_id": batch.prices.timelines.version_id[
            batch.counted.segments.segment[segment]
        ],
        "band": rated("band"),
        "price_nano": rated("price_nano_per_kwh"),
        "step": rated("step"),
        **{name: rated(name) for name in CHARGES},
        **{name: _rest(name, parts) for name in RESTS},
    }


def _rest(name: str, parts: list[tuple[Int64, RatedUsage]]) -> Int64:
    """What the charges of a component leave; asked for by everybody who rates here."""
    if not parts:
        return np.zeros(0, dtype=np.int64)
    rests = [each.rests or {} for _, each in parts]
    return np.concatenate([each[name.removeprefix("rest_")] for each in rests])


def _numbered(line: Int64, from_at: Int64, lines: int) -> Int64:
    """The parts of each line counted from 0, in the order of time."""
    if line.size == lines:
        return np.zeros(line.size, dtype=np.int64)
    order = np.lexsort((from_at, line))
    count = np.bincount(line, minlength=lines)
    first = np.cumsum(count) - count
    number = np.empty(line.size, dtype=np.int64)
    number[order] = np.arange(line.size) - first[line[order]]
    return number


def _with_reversals(
    columns: dict[str, Int64], batch: _Batch, charges: dict[str, Int64]
) -> dict[str, Int64]:
    """Add the superseded segments with their energy and charges taken back."""
    old = batch.reversals.old
    size = len(batch.reversals)
    if size == 0:
        return columns
    taken_back = old | charges
    taken_back["energy_wh"] = -old["energy_wh"]
    taken_back["segment"] = old["segment"] + REVERSED_SEGMENT
    taken_back["revision"] = old["revision"] + 1
    taken_back["quality"] = np.full(size, int(Quality.REVERSED), dtype=np.int64)
    return {name: np.concatenate([values, taken_back[name]]) for name, values in columns.items()}


def _store(
    columns: dict[str, Int64],
    batch: _Batch,
    state: UsageState,
    now: datetime,
    memory: Recollection | None,
    proof: Proof | None,
) -> tuple[int, ...]:
    """Number the intervals, and write them and the accounts."""
    accounts, states = batch.accounts, batch.states
    account_id = states.account_id[columns["row"]]
    segments = _segments(columns, account_id, states)
    index = np.searchsorted(accounts.account_id, account_id)
    size = accounts.account_id.size
    count = np.bincount(index, minlength=size)
    first_of_account = np.cumsum(count) - count
    interval_no = accounts.interval_no[index] + 1 + np.arange(index.size) - first_of_account[index]
    latest = np.full(size, np.iinfo(np.int64).min)
    np.maximum.at(latest, index, columns["to_at"])
    if is_by_hand():
        crossed = charge_by_hand(segments, accounts, state, now)
        _decide(crossed, accounts.account_id, latest, now)
        return crossed
    moved = Movement(
        energy=_totals(columns["charge_energy"], index, size),
        fee=_totals(columns["charge_fee"], index, size),
        tax=_totals(columns["charge_tax"], index, size),
        subsidy=_totals(columns["charge_subsidy"], index, size),
        intervals=count,
        latest_us=latest,
        after=state,
    )
    crossed = move_accounts(accounts, moved, now, proof=proof)
    if memory is not None:
        memory.remember_accounts(
            AccountStates(
                accounts.account_id,
                state,
                accounts.purchase_no,
                accounts.interval_no + count,
                np.maximum(accounts.last_interval_at_us, latest),
            )
        )
    copy_rows(
        connection.connection,
        "interval",
        segments | {"interval_no": ("int8", interval_no)},
        is_free=proof is not None,
    )
    _decide(crossed, accounts.account_id, latest, now)
    return crossed


def _totals(values: Int64, index: Int64, size: int) -> Int64:
    total = np.zeros(size, dtype=np.int64)
    if values.any():
        np.add.at(total, index, values)
    return total


def _segments(columns: dict[str, Int64], account_id: Int64, states: States) -> dict[str, Column]:
    """The columns of ``interval``, all but the number."""
    row = columns["row"]
    zero = np.zeros(row.size, dtype=np.int64)
    return {
        "account_id": ("int8", account_id),
        "meter_id": ("int8", states.meter_id[row]),
        "register_code": ("int2", states.register_code[row]),
        "start_at": ("timestamptz", columns["start_at"]),
        "revision": ("int2", columns["revision"]),
        "segment": ("int2", columns["segment"]),
        "property_id": ("int8", states.property_id[row]),
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
        "step": ("int2", columns["step"]),
        "charge_energy": ("int8", columns["charge_energy"]),
        "charge_standing": ("int8", zero),
        "charge_tax": ("int8", columns["charge_tax"]),
        "charge_fee": ("int8", columns["charge_fee"]),
        "charge_demand": ("int8", zero),
        "charge_subsidy": ("int8", columns["charge_subsidy"]),
        # Nothing is left of what is not charged: the column's default says so at no cost.
        **{name: ("int4", columns[name]) for name in RESTS if columns[name].any()},
    }


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
