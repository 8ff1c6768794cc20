"""Which accounts come to another plan together: chosen by building, kind, group, present plan or a list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prewatt.access.scope import Actor, require, scope
from prewatt.billing.queries import plans_at
from prewatt.reports.holders import HOLDER_COLUMNS, HOLDER_JOINS, HOLDER_WIDTH, Who, who
from prewatt.reports.place import place_of, rows
from prewatt.reports.price_pages import PlanLine, groups_of, plans_in_force
from prewatt.reports.today import Place

#: A list is of so many words at most.
WORDS_MAX: Final = 4_000


@dataclass(frozen=True, slots=True)
class Choosable:
    """An open account, and what it can be chosen by."""

    who: Who
    building: str
    kind: str
    groups: tuple[str, ...]
    plan: str


@dataclass(frozen=True, slots=True)
class PlanChoice:
    """Every open account of a property, and what there is to choose by."""

    place: Place
    now: datetime
    accounts: tuple[Choosable, ...]
    plans: tuple[PlanLine, ...]

    @property
    def buildings(self) -> list[str]:
        """The codes of the buildings that have accounts."""
        return sorted({each.building for each in self.accounts if each.building})

    @property
    def kinds(self) -> list[str]:
        """The kinds of units that have accounts."""
        return sorted({each.kind for each in self.accounts if each.kind})

    @property
    def groups(self) -> list[str]:
        """The groups of announced prices that accounts follow, or plans know."""
        followed = {group for each in self.accounts for group in each.groups}
        return sorted(followed | set(groups_of(self.plans)))

    def chosen(
        self, *, building: str = "", kind: str = "", group: str = "", plan: str = "", only: str = ""
    ) -> tuple[list[int], Sequence[str]]:
        """(accounts for which all that is given holds, words of the list that are no account here)."""
        words = list(dict.fromkeys(re.split(r"[\s,;]+", only.strip().casefold())))[:WORDS_MAX]
        listed = {word for word in words if word}
        known = {name for each in self.accounts for name in _names(each.who)}
        found = [
            each.who.account_id
            for each in self.accounts
            if (not building or each.building == building)
            and (not kind or each.kind == kind)
            and (not group or group in each.groups)
            and (not plan or each.plan == plan)
            and (not listed or listed & _names(each.who))
        ]
        return found, sorted(listed - known)


def plan_choice(*, actor: Actor, now: datetime) -> PlanChoice:
    """What there is to choose of at the actor's property."""
    require(actor, "approvals.propose")
    with scope(actor):
        place = place_of(actor)
        found = rows(
            f"""SELECT {HOLDER_COLUMNS}, coalesce(u.kind, ''), coalesce(g.overlay_groups, '{{}}')
               FROM account a {HOLDER_JOINS}
               LEFT JOIN LATERAL (SELECT overlay_groups FROM (
                   SELECT DISTINCT ON (valid_from) * FROM account_terms
                   WHERE account_id = a.id AND valid_from <= %s ORDER BY valid_from DESC, id DESC) n
                   WHERE NOT withdraws ORDER BY valid_from DESC LIMIT 1) g ON true
               WHERE a.property_id = %s AND a.closed_at IS NULL
               ORDER BY b.position, u.position, u.code, a.number""",  # noqa: S608 - our own constants
            [now, place.property_id],
        )
        on = plans_at([row[0] for row in found], now)
        plans = plans_in_force(place, now)
    accounts = tuple(
        Choosable(
            who(row[:HOLDER_WIDTH]), row[2], row[HOLDER_WIDTH], tuple(row[HOLDER_WIDTH + 1]),
            on[row[0]].code if row[0] in on else "",
        )
        for row in found
    )  # fmt: skip
    return PlanChoice(place, now, accounts, plans)


def _names(holder: Who) -> set[str]:
    """What an account is called in a list."""
    return {holder.number.casefold(), *({holder.unit.casefold()} if holder.unit else ())}
