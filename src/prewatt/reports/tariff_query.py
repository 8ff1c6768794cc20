"""Reads tariffs for pages: the list, one tariff's versions, drafts; each in a few statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from prewatt.access.scope import Actor, scope
from prewatt.billing.queries import HOLDS
from prewatt.core.tariff import Tariff, parse_tariff
from prewatt.reports.lists_query import actor_names
from prewatt.reports.place import NoSuchThing, json_of, place_of, rows
from prewatt.reports.tariff_changes import changes_between
from prewatt.reports.tariff_pages import (
    BuilderPage,
    DraftLine,
    DraftPage,
    TariffList,
    TariffPage,
    TariffRow,
    VersionLine,
)
from prewatt.reports.today import Place

SORTS = ("code", "name", "since", "accounts")

#: Tariffs and drafts that are none yet, by code, with the version in force (the first one holds
#: before its start too), the one after it, and how many open accounts are on it.
_LIST = f"""
WITH assigned AS (
    SELECT DISTINCT ON (s.account_id) s.account_id, s.tariff_id
    FROM tariff_assignment s JOIN account o ON o.id = s.account_id
    WHERE s.property_id = %(property)s AND s.valid_from <= %(now)s AND o.opened_at <= %(now)s
      AND (o.closed_at IS NULL OR o.closed_at > %(now)s) AND {HOLDS}
    ORDER BY s.account_id, s.valid_from DESC
), counted AS (
    SELECT tariff_id, count(*) AS accounts FROM assigned GROUP BY tariff_id
)
SELECT coalesce(t.code, d.code), coalesce(t.name, d.name), v.number, v.valid_from,
       coalesce(c.accounts, 0), n.number, n.valid_from,
       d.id, d.name, d.edition, d.reason, d.made_by, d.changed_at
FROM (SELECT * FROM tariff WHERE property_id = %(property)s) t
FULL JOIN (SELECT * FROM tariff_draft WHERE property_id = %(property)s AND became IS NULL) d
    ON d.code = t.code
LEFT JOIN counted c ON c.tariff_id = t.id
LEFT JOIN LATERAL (
    SELECT number, valid_from FROM tariff_version WHERE tariff_id = t.id AND valid_from <= %(now)s
    ORDER BY valid_from DESC LIMIT 1) v ON true
LEFT JOIN LATERAL (
    SELECT number, valid_from FROM tariff_version WHERE tariff_id = t.id AND valid_from > %(now)s
    ORDER BY valid_from LIMIT 1) n ON true
WHERE %(code)s::text IS NULL OR coalesce(t.code, d.code) = %(code)s
ORDER BY 1
"""  # noqa: S608 - our own constants


def tariff_list(
    *, actor: Actor, now: datetime, query: str = "", sort: str = "code", show: str = ""
) -> TariffList:
    """The property's tariffs, found by text; ``show`` is drafts, next or all."""
    with scope(actor):
        place = place_of(actor)
        found = _rows(place, now)
    words = query.casefold().split()
    found = [row for row in found if all(word in _text(row) for word in words)]
    if show == "drafts":
        found = [row for row in found if row.draft is not None]
    elif show == "next":
        found = [row for row in found if row.next_from is not None]
    if sort == "name":
        found.sort(key=lambda row: row.name.casefold())
    elif sort == "since":
        found.sort(key=lambda row: row.since.timestamp() if row.since else 0.0, reverse=True)
    elif sort == "accounts":
        found.sort(key=lambda row: -row.accounts)
    return TariffList(place, now, tuple(found), len(found))


def tariff_page(*, actor: Actor, code: str, now: datetime, number: int | None = None) -> TariffPage:
    """A tariff with the version in force, or the version of that number.

    Raises NoSuchThing for a code without any version.
    """
    with scope(actor):
        place = place_of(actor)
        row = _row(place, code, now)
        versions = _versions(place, code)
    if not versions:
        raise NoSuchThing(f"no tariff {code!r} in scope")
    wanted = number or row.number or versions[-1][0].number
    found = [(line, tariff) for line, tariff in versions if line.number == wanted]
    if not found:
        raise NoSuchThing(f"tariff {code!r} has no version {number}")
    return TariffPage(
        place=place,
        now=now,
        code=code,
        name=row.name,
        shown=found[0][0],
        tariff=found[0][1],
        in_force=row.number,
        next_from=row.next_from,
        accounts=row.accounts,
        versions=tuple(line for line, _ in reversed(versions)),
        draft=row.draft,
    )


def draft_page(*, actor: Actor, code: str, now: datetime) -> DraftPage:
    """A draft as it was saved last. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        row = _row(place, code, now)
        if row.draft is None:
            raise NoSuchThing(f"no draft {code!r} in scope")
        content = rows("SELECT content FROM tariff_draft WHERE id = %s", [row.draft.draft_id])
        document = json_of(content[0][0])
        in_force, last = _in_force(place, code, row.number)
    return DraftPage(
        place=place,
        now=now,
        draft=row.draft,
        document=document,
        tariff=parse_tariff(document),
        in_force=in_force,
        in_force_number=row.number,
        next_number=last + 1,
        accounts=row.accounts,
    )


def builder_page(*, actor: Actor, now: datetime) -> BuilderPage:
    """The place of a new plan, and the tariffs it can start from."""
    with scope(actor):
        place = place_of(actor)
        found = _rows(place, now)
    return BuilderPage(place, now, tuple(row for row in found if row.number is not None))


def _rows(place: Place, now: datetime, code: str | None = None) -> list[TariffRow]:
    found = rows(_LIST, {"property": place.property_id, "now": now, "code": code})
    names = actor_names(row[11] for row in found if row[7] is not None)
    return [_tariff_row(row, names) for row in found]


def _row(place: Place, code: str, now: datetime) -> TariffRow:
    found = _rows(place, now, code)
    if not found:
        raise NoSuchThing(f"no tariff {code!r} in scope")
    return found[0]


def _tariff_row(row: tuple[Any, ...], names: Mapping[str, str]) -> TariffRow:
    (code, name, number, since, accounts, next_number, next_from, draft_id, draft_name, edition,
     reason, made_by, changed_at) = row  # fmt: skip
    draft = None
    if draft_id is not None:
        by = names.get(made_by, made_by)
        draft = DraftLine(draft_id, code, draft_name, edition, reason, by, changed_at)
    return TariffRow(code, name, number, since, accounts, next_number, next_from, draft)


def _text(row: TariffRow) -> str:
    return f"{row.code} {row.name} {row.draft.name if row.draft else ''}".casefold()


def _versions(place: Place, code: str) -> list[tuple[VersionLine, Tariff]]:
    """All versions of a tariff by their beginning, each with its content."""
    found = rows(
        """SELECT v.number, v.valid_from, lead(v.valid_from) OVER (ORDER BY v.valid_from),
                  v.made_by, v.approved_by, v.approved_at, encode(v.digest, 'hex'), v.content
           FROM tariff_version v JOIN tariff t ON t.id = v.tariff_id
           WHERE t.property_id = %s AND t.code = %s ORDER BY v.valid_from""",
        [place.property_id, code],
    )
    names = actor_names(by for row in found for by in (row[3], row[4]))
    versions: list[tuple[VersionLine, Tariff]] = []
    for number, begins, until, made, approved, approved_at, digest, content in found:
        tariff = parse_tariff(json_of(content))
        changes = changes_between(versions[-1][1], tariff) if versions else None
        line = VersionLine(
            number, begins, until, names.get(made, made), names.get(approved, approved),
            approved_at, digest, changes,
        )  # fmt: skip
        versions.append((line, tariff))
    return versions


def _in_force(place: Place, code: str, number: int | None) -> tuple[Tariff | None, int]:
    """The content of a version, None without one; and the highest number of the tariff."""
    found: Sequence[tuple[Any, ...]] = rows(
        """SELECT v.number, v.content FROM tariff_version v JOIN tariff t ON t.id = v.tariff_id
           WHERE t.property_id = %s AND t.code = %s""",
        [place.property_id, code],
    )
    last = max((row[0] for row in found), default=0)
    for each, content in found:
        if each == number:
            return parse_tariff(json_of(content)), last
    return None, last
