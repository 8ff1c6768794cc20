"""What an auditor watches for and what was found, as pages show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from prewatt.access.scope import Actor, require, scope
from prewatt.oversight.kinds import BY_CODE, KINDS, Kind, defaults
from prewatt.reports.audit_trail import object_names
from prewatt.reports.lists_query import actor_names
from prewatt.reports.paging import Mark, Neighbours, Page
from prewatt.reports.place import NoSuchThing, json_of, place_of, rows
from prewatt.reports.today import Place

SHOWS: Final = ("new", "answered", "all")


@dataclass(frozen=True, slots=True)
class WatchRow:
    """One watch with its figures; ``unseen`` of its findings nobody has answered."""

    watch_id: int
    kind: Kind
    name: str
    figures: Mapping[str, int]
    is_on: bool
    made_by: str
    changed_at: datetime
    found: int
    unseen: int
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter to an auditor about a finding: `sent`, `given_up` or still `waits`, and since when it is so."""

    to: str
    state: str
    at: datetime


@dataclass(frozen=True, slots=True)
class FindingRow:
    """Something found. ``who`` is the person's name, else the actor's code or the login; ``letters``
    are told of one finding alone.
    """

    finding_id: int
    watch_id: int
    kind: str
    name: str
    actor: str
    who: str
    subject: str
    about: str
    event_id: int | None
    happened_at: datetime
    found_at: datetime
    detail: Mapping[str, Any]
    seen_by: str
    seen_at: datetime | None
    note: str
    letters: tuple[Letter, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """A page of findings; ``unseen`` is how many of all nobody has answered."""

    place: Place
    now: datetime
    rows: tuple[FindingRow, ...]
    beside: Neighbours
    unseen: int


def unseen_findings(actor: Actor) -> int:
    """How many findings wait for an auditor; a hundred and more are a hundred."""
    require(actor, "audit.read")
    with scope(actor):
        return int(
            rows(
                """SELECT count(*) FROM (SELECT FROM watch_finding WHERE property_id = ANY(%s)
                   AND seen_at IS NULL LIMIT 100) AS f""",
                [list(actor.property_ids)],
            )[0][0]
        )


def watches(*, actor: Actor, now: datetime) -> tuple[Place, tuple[WatchRow, ...]]:
    """Every watch of the property, in the order of their kinds. Raises PermissionRefused."""
    require(actor, "audit.read")
    with scope(actor):
        place = place_of(actor)
        return place, _watches(place, None)


def watch_page(*, actor: Actor, watch_id: int) -> tuple[Place, WatchRow]:
    """One watch. Raises NoSuchThing, PermissionRefused."""
    require(actor, "audit.read")
    with scope(actor):
        place = place_of(actor)
        found = _watches(place, watch_id)
    if not found:
        raise NoSuchThing(f"no watch {watch_id}")
    return place, found[0]


def _watches(place: Place, watch_id: int | None) -> tuple[WatchRow, ...]:
    found = rows(
        """SELECT w.id, w.kind, w.name, w.parameters, w.is_on, w.made_by, w.changed_at, count(f.id),
                  count(f.id) FILTER (WHERE f.seen_at IS NULL), max(f.happened_at)
           FROM audit_watch w LEFT JOIN watch_finding f ON f.watch_id = w.id
           WHERE w.property_id = %(place)s AND w.kind = ANY(%(kinds)s)
             AND (%(id)s::bigint IS NULL OR w.id = %(id)s)
           GROUP BY w.id ORDER BY array_position(%(kinds)s::text[], w.kind::text), w.id""",
        {"place": place.property_id, "kinds": [each.code for each in KINDS], "id": watch_id},
    )
    names = actor_names(row[5] for row in found)
    return tuple(
        WatchRow(
            row[0], BY_CODE[row[1]], row[2], {**defaults(BY_CODE[row[1]]), **json_of(row[3])},
            row[4], names.get(row[5], ""), *row[6:],
        )
        for row in found
    )  # fmt: skip


_FINDINGS: Final = """
SELECT f.id, f.watch_id, w.kind, w.name, f.actor, f.subject, f.event_id, f.happened_at, f.found_at,
       f.detail, f.seen_by, f.seen_at, f.note
FROM watch_finding f JOIN audit_watch w ON w.id = f.watch_id
WHERE f.property_id = %(place)s
"""


def findings(*, actor: Actor, now: datetime, show: str, kind: str = "", page: Page) -> Findings:
    """A page of findings, the latest first; ``kind`` empty for all. Raises PermissionRefused."""
    require(actor, "audit.read")
    with scope(actor):
        place = place_of(actor)
        edge = "(%(mark_at)s, %(mark_id)s)"
        found = rows(
            f"""{_FINDINGS} AND (%(show)s = 'all' OR (f.seen_at IS NULL) = (%(show)s = 'new'))
                AND (%(kind)s = '' OR w.kind = %(kind)s)
                AND {page.where(("f.happened_at", "f.id"), edge, falls=True)}""",
            {"place": place.property_id, "show": show, "kind": kind} | page.given(),
        )
        shown, is_before, is_after = page.cut(found)
        marks = [Mark.of_time(row[7], row[0]) for row in shown]
        return Findings(
            place, now, _rows(shown), Neighbours.of(marks, is_before=is_before, is_after=is_after),
            unseen_findings(actor),
        )  # fmt: skip


def finding_page(*, actor: Actor, finding_id: int) -> tuple[Place, FindingRow]:
    """One finding. Raises NoSuchThing, PermissionRefused."""
    require(actor, "audit.read")
    with scope(actor):
        place = place_of(actor)
        found = rows(
            f"{_FINDINGS} AND f.id = %(id)s", {"place": place.property_id, "id": finding_id}
        )
        if not found:
            raise NoSuchThing(f"no finding {finding_id}")
        written = rows(
            """SELECT u.name, CASE WHEN n.sent_at IS NOT NULL THEN 'sent'
                                   WHEN n.given_up_at IS NOT NULL THEN 'given_up' ELSE 'waits' END,
                      coalesce(n.sent_at, n.given_up_at, l.written_at)
               FROM finding_letter l JOIN notice n ON n.id = l.notice_id JOIN app_user u ON u.id = l.user_id
               WHERE l.property_id = %s AND l.finding_id = %s ORDER BY u.name, u.id""",
            [place.property_id, finding_id],
        )
        return place, replace(_rows(found)[0], letters=tuple(Letter(*each) for each in written))


def _rows(found: Any) -> tuple[FindingRow, ...]:
    listed = list(found)
    people = actor_names({each for row in listed for each in (row[4], row[10])})
    names = people | object_names({str(row[5]) for row in listed})
    return tuple(
        FindingRow(
            row[0], row[1], row[2], row[3], row[4], people.get(row[4], row[4]), row[5],
            names.get(row[5], ""), row[6], row[7], row[8], json_of(row[9]),
            people.get(row[10], row[10]), row[11], row[12],
        )
        for row in listed
    )  # fmt: skip
