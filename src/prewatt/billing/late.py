"""Usage that is rated behind the present: counted in its own window as of its own instant.

Such are the parts of an interval that was rated before, and usage of a window that has ended. The
count of a window as of an instant is worked out from the intervals that are stored: from what the
account has counted by now, less what is later, where the window is still the present one; otherwise
from the window's beginning, or from the count that came with the unit (``carried_steps``).

What was rated after it in the same window stays as it is. Where it would have had other steps, the
caller is told from when on the account has to be rated anew.

Within the present window usage counts in the order in which it arrives: of an account with several
meters, that is as they report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from django.db import connection

from prewatt.billing.purchases import current_purchase, recharge_instants
from prewatt.billing.reversals import Reversals
from prewatt.billing.usage import STANDS
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import utc_datetime
from prewatt.core.rating import RatedUsage, Segments, rate_usage
from prewatt.core.readings import REVERSED_SEGMENT
from prewatt.core.steps import PURCHASE_KEY, CountKind, scaled_limits
from prewatt.core.timelines import TimelineSet
from prewatt.core.usage import AccountTerms, DatedTerms, UsageState
from prewatt.runtime.copying import read_columns

Bool = npt.NDArray[np.bool_]

_ALWAYS_US: Final = -(2**62)
_NEVER_US: Final = 2**62
_WHOLE: Final = (CountKind.WHOLE_ALL, CountKind.WHOLE_EACH)
_TOGETHER: Final = (CountKind.GRADUATED_ALL, CountKind.WHOLE_ALL)


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Segments and what they are counted in: ``account`` is a position in the state, ``line_start_us``
    the start of the whole interval, ``purchase`` the number of its purchase.
    """

    segments: Segments
    account: Int64
    line_start_us: Int64
    purchase: Int64

    def keys(self, windows: Int64) -> Int64:
        """The key of each segment's window: ``windows`` is a column of the countings."""
        return _keys(
            windows[self.segments.timelines.counting[self.segments.segment]], self.purchase
        )

    def take(self, rows: Int64) -> Counted:
        """Some of the segments."""
        return Counted(
            self.segments.take(rows),
            self.account[rows],
            self.line_start_us[rows],
            self.purchase[rows],
        )


def _keys(window: Int64, purchase: Int64) -> Int64:
    return np.where(window == PURCHASE_KEY, purchase, window)


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """Whom usage is rated for, one row per account: ids, timelines, contracts."""

    account_id: Int64
    timeline_of_account: Int64
    terms: AccountTerms


@dataclass(frozen=True, slots=True, eq=False)
class LateRated:
    """``parts`` of the segments given, ``state`` after them, and per account (its position) the
    instant from which later usage would have had other steps.
    """

    parts: tuple[tuple[Int64, RatedUsage], ...]
    state: UsageState
    rerate_from_us: Mapping[int, int]


def rate_late(
    *,
    bench: Bench,
    state: UsageState,
    usage: Counted,
    reversals: Reversals,
    reversed_purchase: Int64,
) -> LateRated:
    """Rate segments as of their own instants, given what is taken back along with them.

    ``usage`` in any order; the parts name its rows. The account locks are held.
    """
    timelines = usage.segments.timelines
    state = state.copied(timelines.columns)
    blocks = _blocks(bench, usage, state)
    books = _open_books(bench, blocks, timelines)
    _enter_reversals(books, reversals, reversed_purchase, timelines, state)
    blocks = [part for block in blocks for part in books[block.account].divided(block, usage)]
    parts: list[tuple[Int64, RatedUsage]] = []
    rerate_from: dict[int, int] = {}
    for turn in _turns(blocks):
        before = [books[block.account].counts(block, state) for block in turn]
        rows = np.concatenate([block.rows for block in turn])
        rated = rate_usage(
            segments=usage.segments.take(rows),
            account_index=np.repeat(np.arange(len(turn)), [block.rows.size for block in turn]),
            timelines=timelines,
            terms=_terms_of(bench.terms, turn),
            state=_state_of(state, turn, before),
            with_rests=True,
        )
        if rated.late.any():
            raise AssertionError("usage was late in its own window")
        parts.append((rows[rated.source_row], rated))
        _take_carries(state, turn, rated.state)
        for block, counts in zip(turn, before, strict=True):
            book = books[block.account]
            book.enter(_entries(usage.take(block.rows)))
            _count_on(block, counts, usage, state)
            if book.moves_later_steps(block, counts, _limits(block, bench.terms, timelines)):
                known = rerate_from.get(block.account, block.as_of_us)
                rerate_from[block.account] = min(known, block.as_of_us)
    return LateRated(tuple(parts), state, rerate_from)


@dataclass(frozen=True, slots=True)
class _Window:
    """A window that a block is counted in, as instants; of a purchase it holds whole intervals by
    their start. ``is_present`` says that the account's own count is that of this window.
    """

    key: int
    by_start: bool
    from_us: int
    until_us: int
    is_present: bool

    def holds(self, entries: _Entries) -> Bool:
        """Which entries lie in the window."""
        at_us = entries.start_us if self.by_start else entries.from_us
        return (at_us >= self.from_us) & (at_us < self.until_us)


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Segments of one account in one step window and one allowance window, in the order of time.

    They are rated on from one count, so nothing else is used between them (``_Book.divided``).
    """

    account: int
    rows: Int64
    as_of_us: int
    purchase: int
    counting: int
    kind: CountKind
    free_wh: int
    step: _Window | None
    allowance: _Window | None

    @property
    def windows(self) -> list[_Window]:
        """Those that the block is counted in."""
        return [each for each in (self.step, self.allowance) if each is not None]


@dataclass(frozen=True, slots=True, eq=False)
class _Entries:
    """Energy and the count that it goes to. ``stands`` is false for what was or is taken back, and
    for what takes it back.
    """

    from_us: Int64
    start_us: Int64
    energy_wh: Int64
    column: Int64
    stands: Bool

    def take(self, rows: Int64 | Bool) -> _Entries:
        """Some of them."""
        return _Entries(
            self.from_us[rows],
            self.start_us[rows],
            self.energy_wh[rows],
            self.column[rows],
            self.stands[rows],
        )

    def by_column(self, columns: int) -> Int64:
        """The energy of each count."""
        total = np.zeros(columns, dtype=np.int64)
        np.add.at(total, self.column, self.energy_wh)
        return total


def _joined(parts: Sequence[_Entries]) -> _Entries:
    return _Entries(
        *(
            np.concatenate([getattr(each, name) for each in parts])
            for name in ("from_us", "start_us", "energy_wh", "column", "stands")
        )
    )


@dataclass(frozen=True, slots=True)
class _Counts:
    """What had been counted before a block: step counts, and Wh of the allowance."""

    steps: Int64
    allowance: int


@dataclass(slots=True, eq=False)
class _Book:
    """One account's usage around its blocks: as it is stored, and what this batch enters.

    ``identity`` has the columns ``_IDENTITY`` of the stored rows.
    """

    identity: Int64
    stored: _Entries
    entered: list[_Entries] = field(default_factory=list)
    #: (at, key of the step window, counts) that came with the unit.
    carried: list[tuple[int, int, list[int]]] = field(default_factory=list)

    def enter(self, entries: _Entries) -> None:
        """Add what this batch rates or takes back."""
        self.entered.append(entries)

    def strike(self, identity: Int64) -> None:
        """Let stored rows no longer stand."""
        self.stored.stands[_among(self.identity, identity)] = False

    def divided(self, block: _Block, usage: Counted) -> list[_Block]:
        """The block in parts between which nothing was used that is stored already."""
        start_us = usage.segments.start_at_us[block.rows]
        used = self.stored.take(self.stored.stands & (self.stored.energy_wh > 0))
        before = np.searchsorted(np.sort(used.from_us), start_us, side="left")
        breaks = np.flatnonzero(before[1:] != before[:-1]) + 1
        return [
            replace(block, rows=rows, as_of_us=int(usage.segments.start_at_us[rows[0]]))
            for rows in np.split(block.rows, breaks)
        ]

    def counts(self, block: _Block, state: UsageState) -> _Counts:
        """What had been counted before a block; ``state`` holds the present counts."""
        columns = state.step_wh.shape[1]
        everything = _joined([self.stored, *self.entered])
        steps, allowance = np.zeros(columns, dtype=np.int64), 0
        if block.step is not None:
            steps = self._counted(block, block.step, everything, state.step_wh[block.account])
        if block.allowance is not None:
            present = state.allowance_wh[block.account : block.account + 1]
            whole = replace(everything, column=np.zeros_like(everything.column))
            allowance = int(self._counted(block, block.allowance, whole, present)[0])
        return _Counts(np.maximum(steps, 0), max(allowance, 0))

    def _counted(
        self, block: _Block, window: _Window, everything: _Entries, present: Int64
    ) -> Int64:
        """The counts of a window before a block; ``present`` is the account's own."""
        inside = window.holds(everything)
        if window.is_present:
            later = everything.take(inside & (everything.from_us >= block.as_of_us))
            return present - later.by_column(present.size)
        begin, counts = _ALWAYS_US, np.zeros(present.size, dtype=np.int64)
        if window is block.step:
            for at_us, key, carried in self.carried:
                if key == window.key and begin < at_us <= block.as_of_us:
                    begin = at_us
                    counts[:] = 0
                    counts[: len(carried)] = carried[: present.size]
        earlier = (everything.from_us < block.as_of_us) & (everything.from_us >= begin)
        return counts + everything.take(inside & earlier).by_column(present.size)

    def moves_later_steps(self, block: _Block, before: _Counts, limits: Int64 | None) -> bool:
        """Whether stored usage after the block's begin would have had other steps, or have been
        free otherwise. ``limits[lane, step]`` are those of the block's window.
        """
        entered = _joined(self.entered)
        lanes: list[tuple[_Window, int | None, int, Int64]] = []
        if block.step is not None and limits is not None:
            if block.kind in _TOGETHER:
                lanes.append((block.step, None, int(before.steps.sum()), limits[0]))
            else:
                lanes += [
                    (block.step, column, int(before.steps[column]), limit)
                    for column, limit in enumerate(limits[: before.steps.size])
                ]
        if block.allowance is not None:
            free = np.array([block.free_wh], dtype=np.int64)
            lanes.append((block.allowance, None, before.allowance, free))
        return any(
            _lane_moves(
                self.stored.take(
                    window.holds(self.stored) & (self.stored.from_us >= block.as_of_us)
                ),
                entered.take(window.holds(entered) & (entered.from_us >= block.as_of_us)),
                column,
                count,
                own_limits,
                is_whole=window is block.step and block.kind in _WHOLE,
            )
            for window, column, count, own_limits in lanes
        )


def _lane_moves(
    stored: _Entries,
    entered: _Entries,
    column: int | None,
    count: int,
    limits: Int64,
    *,
    is_whole: bool,
) -> bool:
    """Whether any stored row that stands had, or crosses into, other steps of one count."""
    later = stored.take(np.argsort(stored.from_us, kind="stable"))
    own = np.ones(later.column.size, dtype=np.bool_) if column is None else later.column == column
    energy = np.where(own, later.energy_wh, 0)
    was = count + np.cumsum(energy) - energy
    mine = entered if column is None else entered.take(entered.column == column)
    shift = _sum_before(mine, later.from_us)
    rows = np.flatnonzero(own & later.stands & (energy > 0))
    was, energy, shift = was[rows], energy[rows], shift[rows]
    first, last = _steps(limits, was, energy)
    first_now, last_now = _steps(limits, was + shift, energy)
    moved = (first != first_now) | (last != last_now)
    crosses = first != last
    if is_whole:
        # Reaching a step reprices every count, so what each of them holds matters there.
        for each in np.unique(entered.column).tolist():
            other = _sum_before(entered.take(entered.column == each), later.from_us[rows])
            moved |= crosses & (other != 0)
    return bool((moved | (crosses & (shift != 0))).any())


def _steps(limits: Int64, count: Int64, energy: Int64) -> tuple[Int64, Int64]:
    """The steps of the first and the last Wh of energy that follows on counts."""
    return (
        np.searchsorted(limits, count, side="right"),
        np.searchsorted(limits, count + energy, side="left"),
    )


def _sum_before(entries: _Entries, at_us: Int64) -> Int64:
    order = np.argsort(entries.from_us, kind="stable")
    upto = np.append(0, np.cumsum(entries.energy_wh[order]))
    return upto[np.searchsorted(entries.from_us[order], at_us, side="left")]


def _blocks(bench: Bench, usage: Counted, state: UsageState) -> list[_Block]:
    """The segments by account and windows, in the order of time within each account."""
    if len(usage.segments) == 0:
        return []
    timelines = usage.segments.timelines
    countings = timelines.countings
    step, allowance = usage.keys(countings.step_window), usage.keys(countings.allowance_window)
    order = np.lexsort((usage.segments.start_at_us, allowance, step, usage.account))
    marks = np.column_stack([usage.account, step, allowance])[order]
    heads = np.flatnonzero(np.append(True, (marks[1:] != marks[:-1]).any(axis=1)))
    recharges = _recharges(bench, usage)
    blocks = []
    for rows in np.split(order, heads[1:]):
        head, tail = int(rows[0]), int(rows[-1])
        account = int(usage.account[head])
        counting = int(timelines.counting[usage.segments.segment[head]])
        spans = _Spans(
            timelines=timelines,
            timeline=int(bench.timeline_of_account[account]),
            segment=int(usage.segments.segment[tail]),
            recharges_us=recharges.get(int(bench.account_id[account]), ()),
        )
        blocks.append(
            _Block(
                account=account,
                rows=rows,
                as_of_us=int(usage.segments.start_at_us[rows].min()),
                purchase=int(usage.purchase[head]),
                counting=counting,
                kind=CountKind(int(countings.kind[counting])),
                free_wh=int(countings.free_wh[counting]),
                step=spans.window(
                    countings.step_window, int(step[head]), int(state.step_window[account])
                ),
                allowance=spans.window(
                    countings.allowance_window,
                    int(allowance[head]),
                    int(state.allowance_window[account]),
                ),
            )
        )
    return blocks


def _recharges(bench: Bench, usage: Counted) -> Mapping[int, Sequence[int]]:
    countings = usage.segments.timelines.countings
    counting = usage.segments.timelines.counting[usage.segments.segment]
    accounts = np.unique(usage.account[countings.step_window[counting] == PURCHASE_KEY])
    return recharge_instants(bench.account_id[accounts].tolist()) if accounts.size else {}


@dataclass(frozen=True, slots=True, eq=False)
class _Spans:
    """What is needed to say from when until when a block's windows last; ``segment`` is its last."""

    timelines: TimelineSet
    timeline: int
    segment: int
    recharges_us: Sequence[int]

    def window(self, windows: Int64, key: int, present: int) -> _Window | None:
        """The window of a key; ``windows`` is its column of the countings."""
        if windows[self.timelines.counting[self.segment]] == PURCHASE_KEY:
            is_present = int(current_purchase(np.array([present]))[0]) == key
            starts = [_ALWAYS_US, *self.recharges_us, _NEVER_US]
            return _Window(key, True, starts[key], starts[key + 1], is_present)
        if key == 0:
            return None
        return _Window(key, False, key, self._end(windows, key), key == present)

    def _end(self, windows: Int64, key: int) -> int:
        """When the next window of the calendar begins."""
        until = self.timelines.until_us[self.timeline] - 1
        last = int(self.timelines.segment_at(np.array([until]), np.array([self.timeline]))[0])
        following = windows[self.timelines.counting[self.segment : last + 1]]
        other = np.flatnonzero(following != key)
        if other.size == 0:
            return _NEVER_US
        return int(self.timelines.segment_start_us[self.segment + int(other[0])])


def _entries(usage: Counted) -> _Entries:
    """Usage that this batch rates."""
    timelines = usage.segments.timelines
    return _Entries(
        from_us=usage.segments.start_at_us,
        start_us=usage.line_start_us,
        energy_wh=usage.segments.energy_wh,
        column=timelines.rules.count_column[timelines.rule[usage.segments.segment]],
        stands=np.ones(len(usage.segments), dtype=np.bool_),
    )


def _count_on(block: _Block, before: _Counts, usage: Counted, state: UsageState) -> None:
    """Add a block's energy to its account's own counts, where they are of its windows.

    An interval that began before a recharge may come again in parts of which the last begin after it:
    with them the account's count is that of the new purchase.
    """
    entries, account = _entries(usage.take(block.rows)), block.account
    if block.step is not None and block.step.is_present:
        state.step_wh[account] += entries.by_column(state.step_wh.shape[1])
    elif block.step is not None and _is_ahead(block.step, int(state.step_window[account])):
        state.step_window[account] = block.step.key
        state.step_wh[account] = before.steps + entries.by_column(before.steps.size)
    if block.allowance is not None and block.allowance.is_present:
        state.allowance_wh[block.account] += int(entries.energy_wh.sum())


def _is_ahead(window: _Window, present: int) -> bool:
    """Whether a window is of a purchase after that of the present count, or of this one still."""
    purchase = int(current_purchase(np.array([present]))[0])
    return window.by_start and 0 <= purchase <= window.key


def _enter_reversals(
    books: Mapping[int, _Book],
    reversals: Reversals,
    purchase: Int64,
    timelines: TimelineSet,
    state: UsageState,
) -> None:
    """Take superseded energy out of the accounts' books and present counts."""
    if len(reversals) == 0:
        return
    countings, counting = timelines.countings, timelines.counting[reversals.segment]
    step = _keys(countings.step_window[counting], purchase)
    allowance = _keys(countings.allowance_window[counting], purchase)
    counted = countings.kind[counting] != CountKind.NONE
    free = countings.free_wh[counting] > 0
    entries = _Entries(
        from_us=reversals.old["from_at"],
        start_us=reversals.old["start_at"],
        energy_wh=-reversals.old["energy_wh"],
        column=timelines.rules.count_column[timelines.rule[reversals.segment]],
        stands=np.zeros(len(reversals), dtype=np.bool_),
    )
    account = reversals.account
    chosen = np.flatnonzero(counted & (step == state.step_window[account]))
    np.add.at(state.step_wh, (account[chosen], entries.column[chosen]), entries.energy_wh[chosen])
    chosen = np.flatnonzero(free & (allowance == state.allowance_window[account]))
    np.add.at(state.allowance_wh, account[chosen], entries.energy_wh[chosen])
    # A count that had been set from elsewhere may hold less than what is taken out of it.
    np.maximum(state.step_wh, 0, out=state.step_wh)
    np.maximum(state.allowance_wh, 0, out=state.allowance_wh)
    for at in np.unique(account).tolist():
        if at in books:
            books[at].enter(entries.take(account == at))
            books[at].strike(_identities(reversals.old)[account == at])


def _open_books(bench: Bench, blocks: Sequence[_Block], timelines: TimelineSet) -> dict[int, _Book]:
    """The stored usage around the blocks, by account."""
    since: dict[int, int] = {}
    for block in blocks:
        for window in block.windows:
            begin = block.as_of_us if window.is_present else max(window.from_us, 0)
            since[block.account] = min(since.get(block.account, begin), begin)
    accounts = sorted({block.account for block in blocks})
    stored = _stored(bench, [each for each in accounts if each in since], since)
    carried = _carried(bench, blocks)
    timeline = bench.timeline_of_account[stored["account"]]
    inside = np.clip(
        stored["from_at"], timelines.from_us[timeline], timelines.until_us[timeline] - 1
    )
    segment = timelines.segment_at(inside, timeline)
    column = timelines.rules.count_column[timelines.rule[segment]]
    identity = _identities(stored)
    stands = _standing(stored, identity)
    books = {}
    for account in accounts:
        rows = np.flatnonzero(stored["account"] == account)
        books[account] = _Book(
            identity=identity[rows],
            stored=_Entries(
                stored["from_at"][rows],
                stored["start_at"][rows],
                stored["energy_wh"][rows],
                column[rows],
                stands[rows],
            ),
            carried=carried.get(account, []),
        )
    return books


_IDENTITY: Final = ("meter_id", "start_at", "revision", "segment")
_KINDS: Final = {
    "account": "int4",
    "meter_id": "int8",
    "start_at": "timestamptz",
    "revision": "int2",
    "segment": "int2",
    "from_at": "timestamptz",
    "energy_wh": "int8",
}

#: The segments that begin at or after an instant. The interval that is then under way began before
#: it, and its begin bounds the partitions and keys that are looked at.
_STORED: Final = f"""
SELECT q.n::integer AS account, i.meter_id, i.start_at, i.revision, i.segment, i.from_at, i.energy_wh
FROM unnest(%s::integer[], %s::bigint[], %s::timestamptz[]) AS q(n, account_id, since)
CROSS JOIN LATERAL (
    SELECT least(q.since, min(u.start_at)) AS begin
    FROM meter_state m CROSS JOIN LATERAL (
        SELECT c.start_at FROM interval c
        WHERE c.account_id = m.account_id AND c.meter_id = m.meter_id
          AND c.register_code = m.register_code AND c.start_at < q.since AND {STANDS}
        ORDER BY c.start_at DESC LIMIT 1
    ) u
    WHERE m.account_id = q.account_id AND m.register_code = 1
) b
JOIN interval i ON i.account_id = q.account_id AND i.register_code = 1
    AND i.start_at >= b.begin AND i.from_at >= q.since
"""  # noqa: S608 - only our own constants are put in


def _stored(bench: Bench, accounts: Sequence[int], since_us: Mapping[int, int]) -> dict[str, Int64]:
    if not accounts:
        return {name: np.zeros(0, dtype=np.int64) for name in _KINDS}
    return read_columns(
        connection.connection,
        _STORED,
        [
            list(accounts),
            bench.account_id[np.array(accounts)].tolist(),
            [utc_datetime(since_us[each]) for each in accounts],
        ],
        _KINDS,
    )


def _carried(bench: Bench, blocks: Sequence[_Block]) -> dict[int, list[tuple[int, int, list[int]]]]:
    """The counts that accounts were given when their units changed hands."""
    asked = {
        int(bench.account_id[block.account]): block.account
        for block in blocks
        if block.step is not None and not block.step.is_present
    }
    found: dict[int, list[tuple[int, int, list[int]]]] = {}
    if asked:
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT account_id, (extract(epoch FROM at) * 1000000)::bigint, step_window, step_wh
                   FROM carried_steps WHERE account_id = ANY(%s)""",
                [list(asked)],
            )
            for account_id, at_us, key, counts in cursor.fetchall():
                found.setdefault(asked[account_id], []).append((at_us, key, counts))
    return found


def _identities(columns: Mapping[str, Int64]) -> Int64:
    return np.column_stack([columns[name] for name in _IDENTITY])


def _standing(stored: Mapping[str, Int64], identity: Int64) -> Bool:
    """Which stored rows are neither taken back nor take back another."""
    reversal = stored["segment"] >= REVERSED_SEGMENT
    taken = identity[reversal] - np.array([0, 0, 1, REVERSED_SEGMENT])
    return ~reversal & ~_among(identity, taken)


def _among(rows: Int64, others: Int64) -> Bool:
    """Which rows of a matrix are rows of another."""
    if rows.shape[0] == 0 or others.shape[0] == 0:
        return np.zeros(rows.shape[0], dtype=np.bool_)
    return np.isin(np.rec.fromarrays(rows.T), np.rec.fromarrays(others.T))


def _turns(blocks: Sequence[_Block]) -> Iterator[list[_Block]]:
    """The first block of each account, then the second of those that have one, and so on."""
    number: dict[int, int] = {}
    turns: list[list[_Block]] = []
    for block in blocks:
        at = number.get(block.account, 0)
        number[block.account] = at + 1
        if at == len(turns):
            turns.append([])
        turns[at].append(block)
    yield from turns


def _limits(block: _Block, terms: AccountTerms, timelines: TimelineSet) -> Int64 | None:
    """The limits of a block's window under its account's terms, [lane, step]."""
    if block.step is None:
        return None
    at = np.array([block.account]), np.array([block.step.key])
    limits = scaled_limits(timelines.countings, np.array([block.counting]), *terms.at(*at))
    return np.asarray(limits[0])


def _terms_of(terms: AccountTerms, turn: Sequence[_Block]) -> AccountTerms:
    """The contracts of blocks, each with the number of its own purchase."""
    account = np.array([block.account for block in turn])
    dated = None
    if terms.dated is not None:
        whose, row = np.nonzero(terms.dated.account_index[None, :] == account[:, None])
        dated = DatedTerms(
            whose,
            terms.dated.from_us[row],
            terms.dated.members[row],
            terms.dated.contracted_w[row],
        )
        dated = dated if row.size else None
    return AccountTerms(
        terms.members[account],
        terms.contracted_w[account],
        np.array([block.purchase for block in turn], dtype=np.int64),
        dated,
    )


def _state_of(state: UsageState, turn: Sequence[_Block], before: Sequence[_Counts]) -> UsageState:
    """Where the accounts of blocks stood when these began, with what they carry now."""
    account = np.array([block.account for block in turn])

    def keys(windows: Sequence[_Window | None]) -> Int64:
        return np.array([each.key if each else 0 for each in windows], dtype=np.int64)

    return UsageState(
        carry_energy=state.carry_energy[account],
        carry_fee=state.carry_fee[account],
        carry_tax=state.carry_tax[account],
        carry_subsidy=state.carry_subsidy[account],
        step_window=keys([block.step for block in turn]),
        step_wh=np.array([each.steps for each in before], dtype=np.int64),
        allowance_window=keys([block.allowance for block in turn]),
        allowance_wh=np.array([each.allowance for each in before], dtype=np.int64),
    )


def _take_carries(state: UsageState, turn: Sequence[_Block], after: UsageState) -> None:
    account = np.array([block.account for block in turn])
    for name in ("carry_energy", "carry_fee", "carry_tax", "carry_subsidy"):
        getattr(state, name)[account] = getattr(after, name)
