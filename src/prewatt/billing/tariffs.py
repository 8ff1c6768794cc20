"""Which price holds for which account when: tariff chains, compiled once per epoch.

Accounts with the same history of tariff versions, exemptions and groups share one compiled
timeline, so a city with five tariffs has five timelines, not a million. The book is read anew
whenever a batch finds, in its own transaction, that the tariff epoch of a property has moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from django.db import connection

from prewatt.billing.queries import (
    Terms,
    VersionChain,
    announced,
    same_histories,
    tariffs,
    terms_at,
    terms_of,
    version_chains,
)
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import LocalCalendar, utc_year
from prewatt.core.steps import counts_go_on
from prewatt.core.tariff import Tariff
from prewatt.core.timelines import (
    PriceEvent,
    PriceTimeline,
    TimelineSet,
    compile_timeline,
    splice,
)
from prewatt.estate.calendar_changes import property_calendar

#: Timelines are compiled this far around the instants of a batch, so that few batches recompile.
_MARGIN_US = 400 * 86_400_000_000


class UnpricedAccount(ValueError):
    """An account has no tariff at all, so nothing it uses can be rated."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """From ``from_us`` on (µs) an account is priced by this version, exemptions and groups."""

    from_us: int
    version_id: int
    exempt: frozenset[str]
    groups: frozenset[str]


#: Oldest first; the first also holds before its start, so its ``from_us`` is 0.
Chain = tuple[Stretch, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """All timelines of a book, the position of each asked account's, and its dated terms if any."""

    timelines: TimelineSet
    timeline_of_account: Int64
    terms: dict[int, tuple[Terms, ...]]


def _are_in(known: Int64, ids: Int64) -> npt.NDArray[np.bool_]:
    """Which ids are among sorted ones."""
    if known.size == 0:
        return np.zeros(ids.size, dtype=np.bool_)
    found: npt.NDArray[np.bool_] = (
        known[np.minimum(np.searchsorted(known, ids), known.size - 1)] == ids
    )
    return found


def _nobody() -> Int64:
    return np.zeros(0, dtype=np.int64)


@dataclass(slots=True)
class TariffBook:
    """A process's compiled prices; not shared between threads. Empty at first, filled on use."""

    _epochs: dict[int, int] = field(default_factory=dict)
    _terms: dict[int, tuple[Terms, ...]] = field(default_factory=dict)
    _tariffs: dict[int, Tariff] = field(default_factory=dict)
    _announced: dict[tuple[int, frozenset[str]], tuple[PriceEvent, ...]] = field(
        default_factory=dict
    )
    _calendars: dict[int, LocalCalendar] = field(default_factory=dict)
    #: Accounts seen in this epoch, sorted, with their property and the number of their chain.
    _known: Int64 = field(default_factory=_nobody)
    _property: Int64 = field(default_factory=_nobody)
    _chain_no: Int64 = field(default_factory=_nobody)
    _chains: list[tuple[int, Chain]] = field(default_factory=list)
    _numbers: dict[tuple[int, Chain], int] = field(default_factory=dict)
    #: The position of each compiled chain's timeline.
    _compiled: dict[int, int] = field(default_factory=dict)
    _timelines: list[PriceTimeline] = field(default_factory=list)
    _set: TimelineSet | None = None
    _from_us: int = 0
    _until_us: int = 0

    def prices_for(
        self, account_id: Int64, *, from_us: int, until_us: int, as_known: bool = False
    ) -> Prices:
        """What accounts are priced by in [from, until), under the present epoch.

        Reads the epoch in the caller's transaction; or not, where the caller takes prices ``as_known``
        and asks afterwards whether they are still so (`is_as_of`). Accounts whose whole history of
        versions is the same are looked at once, so that of a million of them two numbers each are kept.
        Raises UnpricedAccount.
        """
        if not as_known:
            self._follow_epochs()
        if self._set is None or from_us < self._from_us or until_us > self._until_us:
            self._forget_timelines()
            self._from_us, self._until_us = from_us - _MARGIN_US, until_us + _MARGIN_US
        nobody = self._unknown(account_id)
        if nobody.size:
            raise UnpricedAccount(f"account {nobody[0]} has no tariff; assign one first")
        number = self._chain_no[np.searchsorted(self._known, account_id)]
        used, which = np.unique(number, return_inverse=True)
        position = np.array([self._timeline(each) for each in used.tolist()], dtype=np.int64)
        if self._set is None:
            self._set = TimelineSet.of(self._timelines)
        of_terms = self._terms.keys() & account_id.tolist() if self._terms else set()
        return Prices(
            timelines=self._set,
            timeline_of_account=position[which],
            terms={each: self._terms[each] for each in of_terms},
        )

    def unpriced(self, account_id: Int64) -> frozenset[int]:
        """Those of the accounts that have no tariff at all, under the present epoch."""
        self._follow_epochs()
        return frozenset(self._unknown(account_id).tolist())

    def _unknown(self, account_id: Int64) -> Int64:
        """Learn about the accounts; returns those that have no tariff."""
        unknown = ~_are_in(self._known, account_id)
        if not unknown.any():
            return _nobody()
        asked = np.unique(account_id[unknown])
        self._learn(asked)
        return asked[~_are_in(self._known, asked)]

    def tariff(self, version_id: int) -> Tariff:
        """The content of a version, read once."""
        if version_id not in self._tariffs:
            self._tariffs |= tariffs([version_id])
        return self._tariffs[version_id]

    def is_as_of(self, epochs: Mapping[int, int]) -> bool:
        """Whether prices of these properties are known as of these epochs."""
        return all(self._epochs.get(each) == epoch for each, epoch in epochs.items())

    def _follow_epochs(self) -> None:
        epochs = _epochs()
        if epochs == self._epochs:
            return
        moved = [each for each, epoch in epochs.items() if self._epochs.get(each) != epoch]
        self._epochs = epochs
        self._forget_accounts(moved)
        # What was announced, and what a day is, may have moved under chains that have not.
        known, self._announced = self._announced, {}
        calendars, self._calendars = self._calendars, {}
        if any(announced(*key) != events for key, events in known.items()) or any(
            self._calendar(property_id) != calendar for property_id, calendar in calendars.items()
        ):
            self._forget_timelines()

    def _forget_accounts(self, property_ids: Sequence[int]) -> None:
        """Look at the accounts of these properties anew."""
        kept = ~np.isin(self._property, np.array(property_ids, dtype=np.int64))
        for each in self._known[~kept].tolist() if self._terms else ():
            self._terms.pop(each, None)
        self._known, self._property, self._chain_no = (
            column[kept] for column in (self._known, self._property, self._chain_no)
        )

    def _forget_timelines(self) -> None:
        self._compiled.clear()
        self._timelines.clear()
        self._set = None

    def _learn(self, account_id: Int64) -> None:
        """Find the chains of accounts (sorted ids, none of them known); without a tariff one stays
        unknown.
        """
        like = same_histories(account_id)
        examples, which = np.unique(like["example"], return_inverse=True)
        asked = examples.tolist()
        chains, terms = version_chains(asked), terms_of(asked)
        number = np.array([self._number(each, chains, terms) for each in asked], dtype=np.int64)
        self._terms |= {each: own for each, own in terms.items() if each in chains}
        found = number[which] if asked else _nobody()
        priced = found >= 0
        known = np.concatenate([self._known, like["account_id"][priced]])
        order = np.argsort(known, kind="stable")
        self._known = known[order]
        self._property = np.concatenate([self._property, like["property_id"][priced]])[order]
        self._chain_no = np.concatenate([self._chain_no, found[priced]])[order]

    def _number(
        self,
        account_id: int,
        chains: Mapping[int, VersionChain],
        terms: Mapping[int, tuple[Terms, ...]],
    ) -> int:
        """The number of the account's chain, the same for all that have it; -1 without a tariff."""
        if account_id not in chains:
            return -1
        own = chains[account_id]
        chain = own.property_id, _chain(own, terms.get(account_id, ()))
        if chain not in self._numbers:
            self._numbers[chain] = len(self._chains)
            self._chains.append(chain)
        return self._numbers[chain]

    def _timeline(self, number: int) -> int:
        """The position of a chain's timeline, compiled on first use."""
        if number not in self._compiled:
            self._compiled[number] = len(self._timelines)
            self._timelines.append(self._compile(*self._chains[number]))
            self._set = None
        return self._compiled[number]

    def _compile(self, property_id: int, chain: Chain) -> PriceTimeline:
        calendar = self._calendar(property_id)
        self._tariffs |= tariffs({each.version_id for each in chain} - self._tariffs.keys())
        counts_from = self._counts_from(chain)
        starts = [self._from_us, *(max(each.from_us, self._from_us) for each in chain[1:])]
        return splice(
            [
                (
                    begin,
                    compile_timeline(
                        self._tariffs[each.version_id],
                        calendar,
                        self._from_us,
                        self._until_us,
                        version_id=each.version_id,
                        exempt=each.exempt,
                        events=self._events(property_id, each.groups),
                        counts_from_us=counts_from_us,
                    ),
                )
                for begin, end, each, counts_from_us in zip(
                    starts, [*starts[1:], self._until_us], chain, counts_from, strict=True
                )
                if begin < min(end, self._until_us)
            ]
        )

    def _counts_from(self, chain: Chain) -> list[int]:
        """For each stretch, from when on its steps are counted: where a version counts otherwise
        than the one before, from its own start.
        """
        counts_from = [0]
        for before, after in pairwise(chain):
            goes_on = before.version_id == after.version_id or counts_go_on(
                self._tariffs[before.version_id], self._tariffs[after.version_id]
            )
            counts_from.append(counts_from[-1] if goes_on else after.from_us)
        return counts_from

    def _events(self, property_id: int, groups: frozenset[str]) -> tuple[PriceEvent, ...]:
        if not groups:
            return ()
        if (property_id, groups) not in self._announced:
            self._announced[property_id, groups] = announced(property_id, groups)
        return self._announced[property_id, groups]

    def _calendar(self, property_id: int) -> LocalCalendar:
        first, last = utc_year(self._from_us) - 1, utc_year(self._until_us) + 1
        self._calendars[property_id] = property_calendar(property_id, first, last)
        return self._calendars[property_id]


def _epochs() -> dict[int, int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT property_id, epoch FROM tariff_epoch")
        return {int(row[0]): int(row[1]) for row in cursor.fetchall()}


def _chain(own: VersionChain, terms: Sequence[Terms]) -> Chain:
    """The versions of an account, cut where its exemptions or groups change."""
    starts = [at for at, _ in own.versions]
    edges = sorted({*starts, *(each.from_us for each in terms[1:])})
    chain: list[Stretch] = []
    for at in edges:
        version_id = own.versions[max(sum(start <= at for start in starts) - 1, 0)][1]
        then = terms_at(terms, at)
        stretch = Stretch(at if chain else 0, version_id, then.exempt, then.groups)
        if not chain or chain[-1] != Stretch(
            chain[-1].from_us, version_id, then.exempt, then.groups
        ):
            chain.append(stretch)
    return tuple(chain)
