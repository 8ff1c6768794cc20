"""Whose days are charged by what: the facts of accounts, and sheets of what each local day owes.

Accounts with the same history of tariff versions and exemptions at the same place share one plan,
so that a day is worked out once for all of them. Reads only, in the caller's transaction.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import numpy as np
from django.db import connection

from prewatt.billing.queries import tariffs, terms_of, version_chains
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import DAY_US, LocalCalendar, day_date
from prewatt.core.dated import DayParts, owed_days, parts_of_days
from prewatt.core.rating import Component
from prewatt.core.tariff import Tariff, parse_tariff
from prewatt.core.tariff.model import Collect, DatedKind, Taxable
from prewatt.core.taxes import EffectiveTax, effective_tax, tax_change_days
from prewatt.runtime.prepared import fetch, integers

#: An account that is not closed, a life without end: later than any instant there is.
NEVER_US: Final = 2**62

_OF_KIND: Final = {
    DatedKind.STANDING: (Component.STANDING, Taxable.STANDING),
    DatedKind.FEE: (Component.FEE, Taxable.FEE),
}

#: Contents of versions by their digest, which says all of them: immutable and never stale.
_contents: dict[bytes, Tariff] = {}


def charges_by_days(tariff: Tariff) -> bool:
    """Whether anything of the tariff falls due by days rather than by use."""
    return bool(tariff.dated or tariff.demand or tariff.minimum or tariff.maximum)


def tariffs_where(
    holds: Callable[[Tariff], bool], property_ids: Sequence[int] | None = None
) -> list[int]:
    """The tariffs in scope, or of these properties, of which some version satisfies a condition."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT tariff_id, digest FROM tariff_version
               WHERE %s::bigint[] IS NULL OR property_id = ANY(%s::bigint[])""",
            [None if property_ids is None else list(property_ids)] * 2,
        )
        versions = [(int(tariff_id), bytes(digest)) for tariff_id, digest in cursor.fetchall()]
        unknown = {digest for _, digest in versions} - _contents.keys()
        if unknown:
            cursor.execute(
                "SELECT digest, content FROM tariff_version WHERE digest = ANY(%s)", [list(unknown)]
            )
            for digest, content in cursor.fetchall():
                document = json.loads(content) if isinstance(content, str) else content
                _contents[bytes(digest)] = parse_tariff(document)
    return sorted({tariff_id for tariff_id, digest in versions if holds(_contents[digest])})


@dataclass(frozen=True, slots=True)
class Stretch:
    """Local days [first, end) of one tariff version, exemptions and set of taxes."""

    first: int
    end: int
    tariff: Tariff
    exempt: frozenset[str]

    def tax(self, on: Taxable) -> EffectiveTax:
        """The taxes on a part of the bill on these days."""
        return effective_tax(self.tariff.taxes, on, day_date(self.first), self.exempt)


@dataclass(frozen=True, eq=False)
class DayPlan:
    """One history of versions and exemptions at one place, as accounts share it.

    The first version and the first terms also hold before their own start.
    """

    time_zone: str
    versions: tuple[tuple[int, int], ...]
    exempt: tuple[tuple[int, frozenset[str]], ...]
    contents: Mapping[int, Tariff]

    @cached_property
    def calendar(self) -> LocalCalendar:
        """The place's civil time; holidays change no day's amount."""
        return LocalCalendar(self.time_zone)

    def starts_us(self, first: int, end: int) -> Int64:
        """The first instants of the local days [first, end); not to be written to."""
        if (first, end) not in self._starts:
            walls = np.arange(first, end, dtype=np.int64) * DAY_US
            self._starts[first, end] = self.calendar.first_instant_at_wall(walls)
        return self._starts[first, end]

    def day_at(self, at_us: int) -> int:
        """The local day that contains an instant."""
        if at_us not in self._days:
            day = self.calendar.local_day(np.array([at_us], dtype=np.int64))
            self._days[at_us] = int(day[0])
        return self._days[at_us]

    def stretches(self, first: int, end: int) -> list[Stretch]:
        """The days [first, end), cut where the version in force at a day's begin, the exemptions
        or the taxes change.
        """
        if first >= end:
            return []
        starts = self.starts_us(first, end)
        version = _position([at for at, _ in self.versions], starts)
        exempt = _position([at for at, _ in self.exempt], starts)
        cuts = {first, end}
        changed = np.flatnonzero((np.diff(version) != 0) | (np.diff(exempt) != 0)) + 1 + first
        cuts.update(changed.tolist())
        for at in np.unique(version).tolist():
            taxes = self.contents[self.versions[at][1]].taxes
            cuts.update(day for day in tax_change_days(taxes) if first < day < end)
        return [
            Stretch(
                begin,
                until,
                self.contents[self.versions[version[begin - first]][1]],
                self.exempt[exempt[begin - first]][1] if self.exempt else frozenset(),
            )
            for begin, until in pairwise(sorted(cuts))
        ]

    def stretch_at(self, day: int) -> Stretch:
        """What holds on one day."""
        if day not in self._of_day:
            self._of_day[day] = self.stretches(day, day + 1)[0]
        return self._of_day[day]

    def net_nano(self, on: Taxable, day: int, nano: int) -> int:
        """A price as written without the taxes that it contains on a day."""
        key = on, day
        if key not in self._taxes:
            self._taxes[key] = self.stretch_at(day).tax(on)
        return self._taxes[key].net_nano(nano)

    @cached_property
    def collects_at_recharge(self) -> bool:
        """Whether any version has charges that recharges collect."""
        return any(
            charge.collect is Collect.FIRST_RECHARGE
            for _, version in self.versions
            for charge in self.contents[version].dated
        )

    # Accounts of a plan ask for the same few days; the plan lives as long as one run's chunk.
    @cached_property
    def _of_day(self) -> dict[int, Stretch]:
        return {}

    @cached_property
    def _starts(self) -> dict[tuple[int, int], Int64]:
        return {}

    @cached_property
    def _days(self) -> dict[int, int]:
        return {}

    @cached_property
    def _taxes(self) -> dict[tuple[Taxable, int], EffectiveTax]:
        return {}


def _position(starts: Sequence[int], at_us: Int64) -> Int64:
    return np.maximum(np.searchsorted(np.array(starts, dtype=np.int64), at_us, side="right") - 1, 0)


@dataclass(frozen=True, slots=True)
class DatedEntry:
    """One dated charge on some days: what it is booked as, and the taxes on it."""

    component: Component
    code: str
    tax: EffectiveTax


@dataclass(frozen=True, slots=True, eq=False)
class DatedRows:
    """What the local days [first, end) owe of dated charges, net of inclusive taxes, as columns.

    Sorted by day; the rows of day d are [offset[d - first], offset[d - first + 1]). ``entry`` is a
    position in ``entries``.
    """

    first: int
    offset: Int64
    day: Int64
    entry: Int64
    parts: DayParts
    entries: tuple[DatedEntry, ...]

    def of_days(self, begin: Int64, end: Int64) -> tuple[Int64, Int64]:
        """(row, index of the range) of ranges of days, ranges one after another."""
        low, high = self.offset[begin - self.first], self.offset[end - self.first]
        length = high - low
        which = np.repeat(np.arange(length.size), length)
        row = low[which] + np.arange(which.size) - (np.cumsum(length) - length)[which]
        return row, which


def dated_rows(plan: DayPlan, first: int, end: int, collect: Collect | None) -> DatedRows:
    """The sheet of a plan's days for charges that are collected in one way, or for all (None)."""
    entries: list[DatedEntry] = []
    columns: list[tuple[Int64, Int64, Int64, Int64]] = []
    per_day = np.zeros(end - first, dtype=np.int64)
    for stretch in plan.stretches(first, end):
        charges = [each for each in stretch.tariff.dated if collect in (None, each.collect)]
        day = np.arange(stretch.first, stretch.end, dtype=np.int64)
        per_day[stretch.first - first : stretch.end - first] = len(charges)
        for charge in charges:
            component, taxable = _OF_KIND[charge.kind]
            tax = stretch.tax(taxable)
            parts = parts_of_days(
                per=charge.per, amount_nano=tax.net_nano(charge.amount_nano), day=day
            )
            number = np.full(day.size, len(entries), dtype=np.int64)
            columns.append((day, number, parts.micro, parts.rest))
            entries.append(DatedEntry(component, charge.code, tax))
    empty = np.zeros(0, dtype=np.int64)
    day, entry, micro, rest = (
        [np.concatenate(each) for each in zip(*columns, strict=True)] if columns else [empty] * 4
    )
    # Entries are numbered in the order of stretches and charges, which is their order in a day.
    order = np.lexsort((entry, day))
    return DatedRows(
        first=first,
        offset=np.append(0, np.cumsum(per_day)),
        day=day[order],
        entry=entry[order],
        parts=DayParts(micro[order], rest[order]),
        entries=tuple(entries),
    )


@dataclass(slots=True)
class DayAccount:
    """An account as its days see it: what is posted, what is carried, when it owes, by which plan.

    ``lives`` are the half-open periods [from, until) in µs in which its days are its own: from its
    opening to its closing, and for a unit's vacancy account only while nobody lives there.
    ``books_us`` is the first instant that open books take. Instants that do not exist are
    ``NEVER_US``.
    """

    account_id: int
    property_id: int
    daily_through: int
    collected_through: int
    carry_standing: int
    carry_fee: int
    carry_tax: int
    opened_us: int
    closed_us: int
    books_us: int
    plan: DayPlan
    lives: tuple[tuple[int, int], ...]

    @property
    def opening_day(self) -> int:
        """The local day that the account was opened on, which may have begun without it."""
        return self.plan.day_at(self.opened_us)

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will be used."""
        return self.closed_us < NEVER_US

    def owed_ranges(self, first: int, end: int) -> list[tuple[int, int]]:
        """The days of [first, end) that the account owes, as half-open ranges."""
        if first >= end or not self.lives:
            return []
        starts = self.plan.starts_us(first, end)
        if any(begin <= starts[0] and starts[-1] < until for begin, until in self.lives):
            return [(first, end)]
        begins, ends = zip(*self.lives, strict=True)
        low, high = owed_days(
            starts_us=starts,
            from_us=np.array(begins, dtype=np.int64),
            until_us=np.array(ends, dtype=np.int64),
        )
        return [
            (first + a, first + b)
            for a, b in zip(low.tolist(), high.tolist(), strict=True)
            if a < b
        ]


def load_accounts(account_ids: Sequence[int], tariff_ids: Sequence[int]) -> list[DayAccount]:
    """Those of the accounts that were ever on one of the tariffs, in order of their id.

    One that was only on a tariff that had no version then owes nothing by days.
    """
    if not tariff_ids or not account_ids:
        return []
    facts = fetch(_FACTS, [integers(account_ids), integers(tariff_ids)])
    ids = [row[0] for row in facts]
    lives: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for account_id, from_us, until_us in fetch(LIVES, [integers(ids)]):
        lives[account_id].append((from_us, until_us))
    plan_of = _plans({row[0]: row[2] for row in facts})
    return [
        _account(row, plan_of[row[0]], tuple(lives[row[0]])) for row in facts if row[0] in plan_of
    ]


def _account(row: tuple[Any, ...], plan: DayPlan, lives: tuple[tuple[int, int], ...]) -> DayAccount:
    (account_id, property_id, _, through, collected, standing, fee, tax, opened, closed, books) = (
        row
    )
    return DayAccount(
        account_id=account_id,
        property_id=property_id,
        daily_through=through,
        collected_through=collected,
        carry_standing=standing,
        carry_fee=fee,
        carry_tax=tax,
        opened_us=opened,
        closed_us=closed,
        books_us=books,
        plan=plan,
        lives=lives,
    )


def _plans(zones: Mapping[int, str]) -> dict[int, DayPlan]:
    """The plan of each account that has one, one object for all accounts that share it."""
    chains, terms = version_chains(list(zones)), terms_of(list(zones))
    contents = tariffs({version for chain in chains.values() for _, version in chain.versions})
    shared: dict[tuple[object, ...], DayPlan] = {}
    plans = {}
    for account_id, zone in zones.items():
        if account_id not in chains:
            continue
        versions = chains[account_id].versions
        exempt = tuple((each.from_us, each.exempt) for each in terms.get(account_id, ()))
        key = (zone, versions, exempt)
        if key not in shared:
            shared[key] = DayPlan(zone, versions, exempt, contents)
        plans[account_id] = shared[key]
    return plans


def by_plan(accounts: Iterable[DayAccount]) -> list[tuple[DayPlan, list[DayAccount]]]:
    """Accounts that share a plan, together."""
    groups: dict[int, list[DayAccount]] = {}
    for account in accounts:
        groups.setdefault(id(account.plan), []).append(account)
    return [(group[0].plan, group) for group in groups.values()]


def microseconds(column: str, otherwise: int = NEVER_US) -> str:
    """SQL for an instant in µs; ``otherwise`` where there is none."""
    return f"coalesce((extract(epoch FROM {column}) * 1000000)::bigint, {otherwise})"


_FACTS = f"""
SELECT s.account_id, s.property_id, p.time_zone, s.daily_through, s.collected_through,
       s.carry_standing, s.daily_carry_fee, s.daily_carry_tax,
       {microseconds("a.opened_at")}, {microseconds("a.closed_at")},
       {microseconds("l.open_from::timestamp AT TIME ZONE p.time_zone", 0)}
FROM account_state s
JOIN account a ON a.id = s.account_id
JOIN property p ON p.id = s.property_id
LEFT JOIN ledger_period l ON l.property_id = s.property_id
WHERE s.account_id = ANY(%s::bigint[]) AND EXISTS (
    SELECT FROM tariff_assignment t
    WHERE t.account_id = s.account_id AND t.tariff_id = ANY(%s::bigint[]))
ORDER BY s.account_id
"""  # noqa: S608 - our own column names

#: The lives of accounts. A unit's vacancy account stands for it only while nobody lives there.
LIVES = f"""
SELECT a.id, {microseconds("lower(life)")}, {microseconds("upper(life)")}
FROM account a CROSS JOIN LATERAL unnest(
    tstzmultirange(tstzrange(a.opened_at, a.closed_at)) - coalesce(
        (SELECT range_agg(t.period) FROM tenancy t
         WHERE a.kind = 'vacancy' AND t.unit_id = a.unit_id), '{{}}'::tstzmultirange)
) AS life
WHERE a.id = ANY(%s::bigint[])
ORDER BY 1, 2
"""  # noqa: S608 - our own column names
