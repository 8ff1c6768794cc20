"""Which accounts come to another plan together: chosen by building, kind, group, present plan or a list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prewatt.access.scope import Actor, require, scope
from prewatt.billing.queries import HOLDS
from prewatt.reports.holders import HOLDER_JOINS
from prewatt.reports.place import place_of, rows
from prewatt.reports.price_pages import PlanLine, groups_of, plans_in_force
from prewatt.reports.today import Place

#: A list is of so many words at most.
WORDS_MAX: Final = 4_000


@dataclass(frozen=True, slots=True)
class PlanChoice:
    """What there is to choose accounts by, and the plans that they can come to."""

    place: Place
    now: datetime
    buildings: tuple[str, ...]
    kinds: tuple[str, ...]
    plans: tuple[PlanLine, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that some plan has prices announced for."""
        return groups_of(self.plans)


@dataclass(frozen=True, slots=True)
class Chosen:
    """By what accounts are chosen; all of it holds, and what is empty asks for nothing."""

    building: str = ""
    kind: str = ""
    group: str = ""
    plan: str = ""
    #: Account numbers and units, apart by spaces, commas or lines.
    only: str = ""

    @property
    def words(self) -> list[str]:
        """The words of the list, each once."""
        found = re.split(r"[\s,;]+", self.only.strip().casefold())
        return [word for word in dict.fromkeys(found) if word][:WORDS_MAX]


def plan_choice(*, actor: Actor, now: datetime) -> PlanChoice:
    """What there is to choose of at the actor's property."""
    require(actor, "approvals.propose")
    with scope(actor):
        place = place_of(actor)
        buildings = rows(
            "SELECT code FROM building WHERE property_id = %s ORDER BY position, code",
            [place.property_id],
        )
        kinds = rows(
            "SELECT DISTINCT kind FROM unit WHERE property_id = %s ORDER BY kind",
            [place.property_id],
        )
        plans = plans_in_force(place, now)
    return PlanChoice(
        place, now, tuple(row[0] for row in buildings), tuple(row[0] for row in kinds), plans
    )


#: An account by its number and by its unit, as a list may name it.
_NAMES: Final = """ARRAY[lower(a.number), lower(b.code || '-' || u.code),
    CASE WHEN u.code ~ '^[[:alpha:]]' THEN lower(u.code) END]"""
_CHOSEN: Final = f"""
SELECT a.id FROM account a {HOLDER_JOINS}
LEFT JOIN LATERAL (SELECT overlay_groups FROM (
    SELECT DISTINCT ON (valid_from) * FROM account_terms
    WHERE account_id = a.id AND valid_from <= %(now)s ORDER BY valid_from DESC, id DESC) n
    WHERE NOT withdraws ORDER BY valid_from DESC LIMIT 1) g ON %(group)s <> ''
LEFT JOIN LATERAL (SELECT t.code FROM tariff_assignment s JOIN tariff t ON t.id = s.tariff_id
    WHERE s.account_id = a.id AND s.valid_from <= %(now)s AND {HOLDS}
    ORDER BY s.valid_from DESC LIMIT 1) p ON %(plan)s <> ''
WHERE a.property_id = %(place)s AND a.closed_at IS NULL
  AND (%(building)s = '' OR b.code = %(building)s)
  AND (%(kind)s = '' OR u.kind = %(kind)s)
  AND (%(group)s = '' OR g.overlay_groups @> ARRAY[%(group)s]::varchar[])
  AND (%(plan)s = '' OR p.code = %(plan)s)
  AND (%(words)s::text[] = '{{}}' OR {_NAMES} && %(words)s::text[])
ORDER BY a.id LIMIT %(most)s
"""  # noqa: S608 - our own constants
_STRANGERS: Final = f"""
SELECT w FROM unnest(%(words)s::text[]) AS w
WHERE w NOT IN (SELECT n FROM account a {HOLDER_JOINS}, unnest({_NAMES}) AS n
                WHERE a.property_id = %(place)s AND a.closed_at IS NULL AND n IS NOT NULL) ORDER BY w
"""  # noqa: S608 - our own constants


def accounts_chosen(
    *, actor: Actor, chosen: Chosen, most: int, now: datetime
) -> tuple[list[int], Sequence[str]]:
    """(open accounts for which all that is chosen holds, at most so many; words that are no account here)."""
    require(actor, "approvals.propose")
    with scope(actor):
        named = {
            "place": place_of(actor).property_id, "now": now, "building": chosen.building,
            "kind": chosen.kind, "group": chosen.group, "plan": chosen.plan,
            "words": chosen.words, "most": most,
        }  # fmt: skip
        strangers = rows(_STRANGERS, named) if chosen.words else []
        found = rows(_CHOSEN, named)
    return [int(row[0]) for row in found], [row[0] for row in strangers]
