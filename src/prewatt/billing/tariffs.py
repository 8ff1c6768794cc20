"""Which price holds for which account when: tariff chains, compiled once per epoch.

Accounts with the same history of tariff versions share one compiled timeline, so a city with five
tariffs has five timelines, not a million. The book is read anew whenever a batch finds, in its own
transaction, that the tariff epoch of a property has moved.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from django.db import connection

from prewatt.core.bounds import Int64
from prewatt.core.civil_time import utc_year
from prewatt.core.rating import PriceTimeline, TimelineSet, compile_timeline, splice
from prewatt.core.tariff import Tariff, parse_tariff
from prewatt.estate.calendars import local_calendar

#: Timelines are compiled this far around the instants of a batch, so that few batches recompile.
_MARGIN_US = 400 * 86_400_000_000

#: (valid from in µs, tariff version id), oldest first: an account's whole price history.
Chain = tuple[tuple[int, int], ...]


class UnpricedAccount(ValueError):
    """An account has no tariff at all, so nothing it uses can be rated."""


@dataclass(slots=True)
class TariffBook:
    """A process's compiled prices; not shared between threads. Empty at first, filled on use."""

    _epochs: dict[int, int] = field(default_factory=dict)
    _chains: dict[int, tuple[int, Chain]] = field(default_factory=dict)
    _tariffs: dict[int, Tariff] = field(default_factory=dict)
    _compiled: dict[tuple[int, Chain], int] = field(default_factory=dict)
    _timelines: list[PriceTimeline] = field(default_factory=list)
    _set: TimelineSet | None = None
    _from_us: int = 0
    _until_us: int = 0

    def timelines_for(
        self, account_ids: Sequence[int], *, from_us: int, until_us: int
    ) -> tuple[TimelineSet, Int64]:
        """(all timelines, index of each account's) covering [from, until) under the present epoch.

        Reads the epoch in the caller's transaction. Raises UnpricedAccount.
        """
        self._follow_epochs()
        if self._set is None or from_us < self._from_us or until_us > self._until_us:
            self._forget_timelines(from_us, until_us)
        self._load_chains([each for each in account_ids if each not in self._chains])
        index = np.fromiter(
            (self._timeline(*self._chains[each]) for each in account_ids), dtype=np.int64
        )
        if self._set is None:
            self._set = TimelineSet.of(self._timelines)
        return self._set, index

    def _follow_epochs(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT property_id, epoch FROM tariff_epoch")
            epochs = {int(row[0]): int(row[1]) for row in cursor.fetchall()}
        if epochs != self._epochs:
            self._epochs = epochs
            self._chains.clear()

    def _forget_timelines(self, from_us: int, until_us: int) -> None:
        self._compiled.clear()
        self._timelines.clear()
        self._set = None
        self._from_us, self._until_us = from_us - _MARGIN_US, until_us + _MARGIN_US

    def _load_chains(self, account_ids: list[int]) -> None:
        if not account_ids:
            return
        with connection.cursor() as cursor:
            cursor.execute(_CHAINS, [account_ids])
            rows = cursor.fetchall()
        steps: dict[int, list[tuple[int, int]]] = {each: [] for each in account_ids}
        places: dict[int, int] = {}
        for account_id, property_id, from_us, version_id in rows:
            steps[account_id].append((from_us, version_id))
            places[account_id] = property_id
        for account_id, chain in steps.items():
            if not chain:
                raise UnpricedAccount(f"account {account_id} has no tariff; assign one first")
            self._chains[account_id] = (places[account_id], tuple(chain))

    def _timeline(self, property_id: int, chain: Chain) -> int:
        """The position of a chain's timeline, compiled on first use."""
        known = self._compiled.get((property_id, chain))
        if known is not None:
            return known
        self._compiled[property_id, chain] = len(self._timelines)
        self._timelines.append(self._compile(property_id, chain))
        self._set = None
        return len(self._timelines) - 1

    def _compile(self, property_id: int, chain: Chain) -> PriceTimeline:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT time_zone, holiday_calendar FROM property WHERE id = %s", [property_id]
            )
            zone, holidays = cursor.fetchone()
            missing = [version for _, version in chain if version not in self._tariffs]
            cursor.execute("SELECT id, content FROM tariff_version WHERE id = ANY(%s)", [missing])
            for version_id, content in cursor.fetchall():
                document = json.loads(content) if isinstance(content, str) else content
                self._tariffs[version_id] = parse_tariff(document)
        calendar = local_calendar(
            zone, holidays, utc_year(self._from_us) - 1, utc_year(self._until_us) + 1
        )
        # The first version also holds before its own start: an account is priced from its opening.
        starts = [self._from_us, *(max(at, self._from_us) for at, _ in chain[1:]), self._until_us]
        parts = [
            (
                begin,
                compile_timeline(
                    self._tariffs[version_id],
                    calendar,
                    self._from_us,
                    self._until_us,
                    version_id=version_id,
                ),
            )
            for begin, end, (_, version_id) in zip(starts, starts[1:], chain, strict=False)
            if begin < min(end, self._until_us)
        ]
        return splice(parts)


#: Each account's versions in force, oldest first: an assignment lasts until the next one, and
#: within it each version until the next.
_CHAINS = """
WITH assigned AS (
    SELECT account_id, property_id, tariff_id, valid_from,
           lead(valid_from, 1, 'infinity') OVER (PARTITION BY account_id ORDER BY valid_from) AS until
    FROM tariff_assignment WHERE account_id = ANY(%s)
), versioned AS (
    SELECT tariff_id, id, valid_from,
           lead(valid_from, 1, 'infinity') OVER (PARTITION BY tariff_id ORDER BY valid_from) AS until
    FROM tariff_version
)
SELECT a.account_id, a.property_id,
       (extract(epoch FROM greatest(a.valid_from, v.valid_from)) * 1000000)::bigint, v.id
FROM assigned a JOIN versioned v ON v.tariff_id = a.tariff_id
WHERE v.valid_from < a.until AND v.until > a.valid_from
ORDER BY 1, 3
"""
