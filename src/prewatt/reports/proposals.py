"""Reads proposals: what waits for a second person, what came of it, and what it would change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prewatt.access.scope import Actor, scope
from prewatt.core.tariff import Tariff, parse_tariff
from prewatt.reports.lists import Listing
from prewatt.reports.lists_query import PAGE, actor_names
from prewatt.reports.place import NoSuchThing, json_of, place_of, rows
from prewatt.reports.tariff_changes import Change, changes_between
from prewatt.reports.tariff_trial import Tried
from prewatt.reports.tariff_trial_query import tried_on
from prewatt.reports.today import Place

SHOWS: Final = ("open", "ended", "all")
SORTS: Final = ("made", "begins")


@dataclass(frozen=True, slots=True)
class ProposalRow:
    """A proposal of a tariff version. ``state`` says `expired` as soon as its time is over."""

    proposal_id: int
    code: str
    name: str
    number: int
    begins_at: datetime
    reason: str
    made_by: str
    made_by_code: str
    made_at: datetime
    expires_at: datetime
    state: str
    ended_by: str
    ended_at: datetime | None
    answer: str

    @property
    def is_open(self) -> bool:
        """Whether somebody can still approve it."""
        return self.state == "open"


ProposalList = Listing[ProposalRow]


@dataclass(frozen=True, slots=True)
class ProposalPage:
    """One proposal with the plan it brings, what that changes, and how its trial ended, if it was tried.

    ``before`` is the version that was the latest when it was proposed, None for a new plan.
    """

    place: Place
    now: datetime
    proposal: ProposalRow
    tariff: Tariff
    before: int | None
    changes: tuple[Change, ...]
    tried: Tried | None
    digest: str


_ROWS: Final = """
SELECT p.id, p.effect->>'code', p.effect->>'name', (p.effect->>'number')::integer,
       (p.effect->>'valid_from')::timestamptz, p.reason, p.made_by, p.made_at, p.expires_at,
       CASE WHEN p.state = 'open' AND p.expires_at <= %(now)s THEN 'expired' ELSE p.state END,
       p.ended_by, p.ended_at, p.answer
FROM proposal p
WHERE p.property_id = %(property)s AND p.kind = 'billing.tariff'
  AND (%(id)s::bigint IS NULL OR p.id = %(id)s)
ORDER BY p.made_at DESC, p.id DESC
"""


def proposals(
    *, actor: Actor, now: datetime, show: str = "open", query: str = "", sort: str = "made",
    limit: int = PAGE,
) -> ProposalList:  # fmt: skip
    """Proposals that wait, have ended, or all, found by plan, maker or reason."""
    with scope(actor):
        place = place_of(actor)
        found = _found(place, now)
    words = query.casefold().split()
    found = [
        row
        for row in found
        if (show == "all" or row.is_open == (show == "open"))
        and all(
            word in f"{row.code} {row.name} {row.made_by} {row.reason}".casefold() for word in words
        )
    ]
    if sort == "begins":
        found.sort(key=lambda row: row.begins_at)
    return ProposalList(place, now, tuple(found[:limit]), len(found))


def proposal_page(*, actor: Actor, proposal_id: int, now: datetime) -> ProposalPage:
    """One proposal. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        found = _found(place, now, proposal_id)
        if not found:
            raise NoSuchThing(f"no proposal {proposal_id} in scope")
        row = found[0]
        ((effect, digest),) = rows(
            "SELECT effect, encode(digest, 'hex') FROM proposal WHERE id = %s", [proposal_id]
        )
        effect = json_of(effect)
        before = _version(place, row.code, row.number - 1)
        tried = tried_on(effect["draft"], effect["edition"], row.code, now)
    tariff = parse_tariff(effect["document"])
    return ProposalPage(
        place=place, now=now, proposal=row, tariff=tariff,
        before=None if before is None else row.number - 1,
        changes=() if before is None else changes_between(before, tariff), tried=tried,
        digest=digest,
    )  # fmt: skip


def _found(place: Place, now: datetime, proposal_id: int | None = None) -> list[ProposalRow]:
    found = rows(_ROWS, {"property": place.property_id, "now": now, "id": proposal_id})
    names = actor_names(by for row in found for by in (row[6], row[10]))
    return [
        ProposalRow(
            proposal_id, code, name, number, begins_at, reason, names.get(made_by, made_by), made_by,
            made_at, expires_at, state, names.get(ended_by, ended_by), ended_at, answer,
        )
        for (
            proposal_id, code, name, number, begins_at, reason, made_by, made_at, expires_at, state,
            ended_by, ended_at, answer,
        ) in found
    ]  # fmt: skip


def _version(place: Place, code: str, number: int) -> Tariff | None:
    found = rows(
        """SELECT v.content FROM tariff_version v JOIN tariff t ON t.id = v.tariff_id
           WHERE t.property_id = %s AND t.code = %s AND v.number = %s""",
        [place.property_id, code, number],
    )
    return parse_tariff(json_of(found[0][0])) if found else None
