"""Reads of what prices are made of: chains of versions, terms, announced prices, tariff contents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from django.db import connection

from prewatt.core.bounds import Int64
from prewatt.core.tariff import Tariff, parse_tariff
from prewatt.core.tariff.model import OverlayKind
from prewatt.core.timelines import PriceEvent
from prewatt.runtime.copying import ArrayOf, read_columns
from prewatt.runtime.prepared import fetch, integers


@dataclass(frozen=True, slots=True)
class Terms:
    """An account's terms from ``from_us`` on (µs); see ``models.AccountTerms``."""

    from_us: int
    members: int
    contracted_w: int
    exempt: frozenset[str]
    groups: frozenset[str]


#: An account that nobody wrote terms for: one person, no contracted power.
PLAIN = Terms(0, 1, 0, frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class VersionChain:
    """The tariff versions of an account, oldest first, as (from µs, version id)."""

    property_id: int
    versions: tuple[tuple[int, int], ...]


def version_chains(account_ids: Sequence[int]) -> dict[int, VersionChain]:
    """The whole price history of accounts; one without a tariff is missing from the answer."""
    found: dict[int, tuple[int, list[tuple[int, int]]]] = {}
    for account_id, property_id, from_us, version_id in fetch(_CHAINS, [integers(account_ids)]):
        found.setdefault(account_id, (property_id, []))[1].append((from_us, version_id))
    return {each: VersionChain(place, tuple(steps)) for each, (place, steps) in found.items()}


#: What a row ``s`` of ``tariff_assignment`` has to be to hold: the latest of its instant, and no withdrawal.
HOLDS = """NOT s.withdraws AND NOT EXISTS (
    SELECT FROM tariff_assignment w WHERE w.account_id = s.account_id
      AND w.valid_from = s.valid_from AND w.id > s.id)"""

#: Each account's versions in force, oldest first: an assignment lasts until the next one, and
#: within it each version until the next. Of assignments from one instant the latest written holds.
_CHAINS = """
WITH latest AS (
    SELECT DISTINCT ON (account_id, valid_from) account_id, property_id, tariff_id, valid_from,
           withdraws
    FROM tariff_assignment WHERE account_id = ANY(%s::bigint[])
    ORDER BY account_id, valid_from, id DESC
), assigned AS (
    SELECT account_id, property_id, tariff_id, valid_from,
           lead(valid_from, 1, 'infinity') OVER (PARTITION BY account_id ORDER BY valid_from) AS until
    FROM latest WHERE NOT withdraws
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


def tariff_code_at(account_id: int, at: datetime) -> str | None:
    """The code of the tariff that an account is on at an instant, None before its first one."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT t.code FROM tariff_assignment s JOIN tariff t ON t.id = s.tariff_id
               WHERE s.account_id = %s AND s.valid_from <= %s AND {HOLDS}
               ORDER BY s.valid_from DESC LIMIT 1""",  # noqa: S608 - our own constants
            [account_id, at],
        )
        found = cursor.fetchone()
    return None if found is None else str(found[0])


@dataclass(frozen=True, slots=True)
class OnPlan:
    """The tariff that an account is on."""

    tariff_id: int
    code: str
    name: str


def plans_at(account_ids: Sequence[int], at: datetime) -> dict[int, OnPlan]:
    """The tariffs that accounts are on at an instant; one before its first tariff is missing."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT DISTINCT ON (s.account_id) s.account_id, t.id, t.code, t.name
               FROM tariff_assignment s JOIN tariff t ON t.id = s.tariff_id
               WHERE s.account_id = ANY(%s) AND s.valid_from <= %s AND {HOLDS}
               ORDER BY s.account_id, s.valid_from DESC""",  # noqa: S608 - our own constants
            [list(account_ids), at],
        )
        return {row[0]: OnPlan(*row[1:]) for row in cursor.fetchall()}


def same_histories(account_id: Int64) -> dict[str, Int64]:
    """Accounts that have a tariff, by id, each with an example of those priced as it is: one of the
    same property with the same assignments. An account with terms of its own is its own example.

    Columns ``account_id``, ``property_id``, ``example``.
    """
    return read_columns(
        connection.connection,
        _SAME_HISTORIES,
        [ArrayOf("int8", account_id)],
        {"account_id": "int8", "property_id": "int8", "example": "int8"},
    )


_SAME_HISTORIES = """
SELECT h.account_id, h.property_id, CASE WHEN h.has_terms THEN h.account_id
       ELSE min(h.account_id) OVER (PARTITION BY h.property_id, h.has_terms, h.history) END AS example
FROM (SELECT a.account_id, a.property_id, string_agg(
                 a.tariff_id || CASE WHEN a.withdraws THEN '!' ELSE '@' END
                 || extract(epoch FROM a.valid_from), ',' ORDER BY a.id) AS history,
             EXISTS (SELECT FROM account_terms t WHERE t.account_id = a.account_id) AS has_terms
      FROM tariff_assignment a WHERE a.account_id = ANY(%s::bigint[])
      GROUP BY a.account_id, a.property_id) h
ORDER BY h.account_id
"""


def terms_of(account_ids: Sequence[int]) -> dict[int, tuple[Terms, ...]]:
    """The terms of accounts that have any, oldest first, one for each instant: the latest row's."""
    found: dict[int, list[Terms]] = {}
    for account_id, from_us, members, contracted_w, exempt, groups, gone in fetch(
        _TERMS, [integers(account_ids)]
    ):
        if not gone:
            found.setdefault(account_id, []).append(
                Terms(from_us, members, contracted_w, frozenset(exempt), frozenset(groups))
            )
    return {account_id: tuple(rows) for account_id, rows in found.items()}


_TERMS = """
SELECT DISTINCT ON (account_id, valid_from) account_id,
       (extract(epoch FROM valid_from) * 1000000)::bigint, members, contracted_w, exempt,
       overlay_groups, withdraws
FROM account_terms WHERE account_id = ANY(%s::bigint[])
ORDER BY account_id, valid_from, id DESC
"""


def terms_at(terms: Sequence[Terms], at_us: int) -> Terms:
    """Those in force at an instant; the first also hold before their start."""
    if not terms:
        return PLAIN
    return max((each for each in terms if each.from_us <= at_us), default=terms[0], key=_begin)


def _begin(terms: Terms) -> int:
    return terms.from_us


def tariffs(version_ids: Iterable[int]) -> dict[int, Tariff]:
    """The checked contents of versions."""
    rows = fetch(_CONTENTS, [integers(version_ids)])
    return {version_id: _parsed(content) for version_id, content in rows}


_CONTENTS = "SELECT id, content::text FROM tariff_version WHERE id = ANY(%s::bigint[])"


@lru_cache(maxsize=256)
def _parsed(content: str) -> Tariff:
    """A document checked once, however often it is asked for: a version never changes."""
    document: Mapping[str, object] = json.loads(content)
    return parse_tariff(document)


def announced(property_id: int, groups: Iterable[str]) -> tuple[PriceEvent, ...]:
    """All prices ever announced to groups of a property: events less what was withdrawn, series."""
    wanted = sorted(groups)
    if not wanted:
        return ()
    with connection.cursor() as cursor:
        cursor.execute(_ANNOUNCED, [property_id, wanted, property_id, wanted])
        return tuple(
            PriceEvent(OverlayKind(kind), group, from_us, until_us, price)
            for kind, group, from_us, until_us, price in cursor.fetchall()
        )


_ANNOUNCED = """
SELECT 'critical_peak', e.overlay_group, (extract(epoch FROM e.from_at) * 1000000)::bigint,
       (extract(epoch FROM coalesce(w.until_at, e.until_at)) * 1000000)::bigint AS until, 0::bigint
FROM price_event e LEFT JOIN price_event w ON w.withdraws_id = e.id
WHERE e.property_id = %s AND e.overlay_group = ANY(%s) AND e.withdraws_id IS NULL
  AND coalesce(w.until_at, e.until_at) > e.from_at
UNION ALL
SELECT 'real_time', overlay_group, (extract(epoch FROM from_at) * 1000000)::bigint,
       (extract(epoch FROM until_at) * 1000000)::bigint, price_nano
FROM price_series WHERE property_id = %s AND overlay_group = ANY(%s)
ORDER BY 1, 2, 3
"""
