"""The audit as an auditor reads it: searched, by person, by object, one event with what it changed.

A page goes on from the row where the last one ended. What an index finds (person, code, object, time)
is found by it; words and addresses are looked for in so many rows before the mark, and a page that
found too little says how far back it has looked. So a page costs the same among millions of events.
"""

# ruff: noqa: S608 - statements are put together of our own constants; what is asked for are parameters

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Final

from prewatt.access.scope import Actor, require, scope
from prewatt.reports.lists_query import actor_names
from prewatt.reports.paging import Mark, Neighbours, Page, words
from prewatt.reports.place import NoSuchThing, json_of, local_day, place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import unit_name

#: Which events a list shows: what was done, what was only looked at, what was refused.
SHOWS: Final = ("deeds", "reads", "refused", "all")
PAGE: Final = 50
#: So many rows before the mark are searched for words or an address.
SEARCHED: Final = 20_000
#: A file has at most so many events, and says so.
FILE_MAX: Final = 200_000
#: The chart shows so many days, and counts at most so many events.
CHART_DAYS: Final = 14
_COUNTED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A search. Empty texts and None ask for nothing; ``until_at`` is where the period ends."""

    show: str = SHOWS[0]
    actor: str = ""
    code: str = ""
    subject: str = ""
    address: str = ""
    text: str = ""
    from_at: datetime | None = None
    until_at: datetime | None = None

    def as_query(self) -> dict[str, str]:
        """What was asked for, as a signed file says it."""
        given = {
            "show": self.show, "actor": self.actor, "code": self.code, "subject": self.subject,
            "address": self.address, "text": self.text,
            "from": self.from_at.isoformat() if self.from_at else "",
            "until": self.until_at.isoformat() if self.until_at else "",
        }  # fmt: skip
        return {key: value for key, value in given.items() if value}


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event. ``who`` is the person's name, empty for a process; ``about`` the name of its object."""

    event_id: int
    happened_at: datetime
    actor: str
    who: str
    code: str
    subject: str
    about: str
    detail: Mapping[str, Any]
    request_id: str
    duty: str
    address: str
    browser: str
    login: str
    transaction: int | None
    proposal_id: int | None

    @property
    def user_id(self) -> int | None:
        """The person, where it was one."""
        kind, _, number = self.actor.partition(":")
        return int(number) if kind == "user" and number.isdigit() else None


@dataclass(frozen=True, slots=True)
class Trail:
    """A page of events. ``searched_to`` is how far back words were looked for, None to the beginning."""

    place: Place
    now: datetime
    wanted: Wanted
    rows: tuple[EventRow, ...]
    beside: Neighbours
    searched_to: datetime | None
    people: tuple[tuple[str, str], ...]
    days: tuple[tuple[date, int], ...]
    hours: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EventPage:
    """One event, and the others of its request."""

    place: Place
    now: datetime
    event: EventRow
    beside: tuple[EventRow, ...]


@dataclass(frozen=True, slots=True)
class PersonRow:
    """A person of this property: what they did in the last thirty days."""

    user_id: int
    name: str
    email: str
    duty: str
    is_active: bool
    deeds: int
    reads: int
    refused: int
    last_at: datetime | None


_COLUMNS: Final = """e.id, e.happened_at, e.actor, e.code, e.subject, e.detail, e.request_id, e.duty,
    e.address, e.browser, e.login, e.transaction, e.proposal_id"""
_SHOWN: Final = {
    "deeds": "e.code NOT LIKE 'reads.%%' AND e.code <> 'access.refused'",
    "reads": "e.code LIKE 'reads.%%'",
    "refused": "e.code = 'access.refused'",
    "all": "true",
}
#: What an index finds.
_FOUND: Final = """e.property_id = %(place)s
    AND (%(actor)s = '' OR e.actor = %(actor)s) AND (%(code)s = '' OR e.code = %(code)s)
    AND (%(subject)s = '' OR e.subject = %(subject)s)
    AND (%(from_at)s::timestamptz IS NULL OR e.happened_at >= %(from_at)s)
    AND (%(until_at)s::timestamptz IS NULL OR e.happened_at < %(until_at)s)"""
#: What is looked for row by row.
_SAID: Final = """(%(address)s = '' OR e.address = %(address)s)
    AND lower(concat_ws(' ', e.actor, e.code, e.subject, e.request_id, e.detail::text)) LIKE ALL (%(words)s)"""


def trail(*, actor: Actor, now: datetime, wanted: Wanted, page: Page) -> Trail:
    """A page of a search, with the days and hours of what it found. Raises PermissionRefused."""
    require(actor, "audit.read")
    with scope(actor):
        place = place_of(actor)
        given = _given(place, wanted) | page.given()
        found, searched_to = _page(given, wanted, page)
        shown, is_before, is_after = page.cut(found)
        marks = [Mark.of_time(row[1], row[0]) for row in shown]
        beside = Neighbours.of(marks, is_before=is_before, is_after=is_after)
        if searched_to is not None and not is_after:
            beside = replace(beside, next=str(searched_to))
        days, hours = _counts(place, given, wanted, now)
        return Trail(
            place, now, wanted, _named(shown), beside,
            None if searched_to is None else searched_to.at,
            _people(place), days, hours,
        )  # fmt: skip


def _given(place: Place, wanted: Wanted) -> dict[str, Any]:
    return {
        "place": place.property_id, "zone": place.time_zone, "actor": wanted.actor,
        "code": wanted.code, "subject": wanted.subject, "address": wanted.address,
        "words": words(wanted.text), "from_at": wanted.from_at, "until_at": wanted.until_at,
        "searched": SEARCHED,
    }  # fmt: skip


def _page(
    given: dict[str, Any], wanted: Wanted, page: Page
) -> tuple[list[tuple[Any, ...]], Mark | None]:
    """The rows of a page and one more; where the search for words ended before it had found enough."""
    keys, edge = ("e.happened_at", "e.id"), "(%(mark_at)s, %(mark_id)s)"
    reach = replace(page, limit=SEARCHED - 1).where(keys, edge, falls=True)
    found_by_index = f"SELECT e.* FROM audit_event e WHERE {_FOUND} AND {_SHOWN[wanted.show]} AND "
    if not (wanted.text or wanted.address):
        return rows(
            f"SELECT {_COLUMNS} FROM ({found_by_index}{page.where(keys, edge, falls=True)}) AS e"
            f" ORDER BY {_order(page)}",
            given,
        ), None
    found = rows(
        f"SELECT {_COLUMNS} FROM ({found_by_index}{reach}) AS e WHERE {_SAID} "
        f"ORDER BY {_order(page)} LIMIT {page.limit + 1}",
        given,
    )
    if len(found) > page.limit or page.before is not None:
        return found, None
    last = rows(
        f"SELECT e.happened_at, e.id FROM ({found_by_index}{reach}) AS e "
        f"ORDER BY {_order(page)} OFFSET {SEARCHED - 1}",
        given,
    )
    return found, Mark.of_time(*last[0]) if last else None


def _order(page: Page) -> str:
    way = "DESC" if page.before is None else "ASC"
    return f"e.happened_at {way}, e.id {way}"


def _counts(
    place: Place, given: dict[str, Any], wanted: Wanted, now: datetime
) -> tuple[tuple[tuple[date, int], ...], tuple[int, ...]]:
    """Events by local day (of the period's last two weeks) and by hour of the day."""
    until = min(wanted.until_at - timedelta(microseconds=1), now) if wanted.until_at else now
    first = local_day(until, place.time_zone, back=CHART_DAYS - 1)
    found = rows(
        f"""SELECT (t.at AT TIME ZONE %(zone)s)::date,
                   extract(hour FROM t.at AT TIME ZONE %(zone)s)::int, count(*)
            FROM (SELECT e.happened_at AS at FROM audit_event e
                  WHERE {_FOUND} AND {_SHOWN[wanted.show]} AND {_SAID}
                    AND e.happened_at >= %(chart_from)s
                  ORDER BY e.happened_at DESC LIMIT %(counted)s) AS t
            GROUP BY 1, 2""",
        given | {"chart_from": first.begins_at, "counted": _COUNTED},
    )
    by_day: dict[date, int] = {}
    hours = [0] * 24
    for day, hour, count in found:
        by_day[day] = by_day.get(day, 0) + count
        hours[hour] += count
    begin = first.begins_at + timedelta(hours=first.hours // 2)
    days = [(begin + timedelta(days=each)).date() for each in range(CHART_DAYS)]
    return tuple((day, by_day.get(day, 0)) for day in days), tuple(hours)


def _people(place: Place) -> tuple[tuple[str, str], ...]:
    """(code, name) of whoever has a duty here, for the choice of a search."""
    found = rows(
        """SELECT DISTINCT u.id, u.name FROM duty_grant g JOIN app_user u ON u.id = g.user_id
           WHERE g.property_id = %s ORDER BY u.name, u.id""",
        [place.property_id],
    )
    return tuple((f"user:{user}", str(name)) for user, name in found)


def event_page(*, actor: Actor, event_id: int, now: datetime) -> EventPage:
    """One event whole. Raises NoSuchThing, PermissionRefused."""
    require(actor, "audit.read")
    with scope(actor):
        place = place_of(actor)
        found = rows(
            f"SELECT {_COLUMNS} FROM audit_event e WHERE e.property_id = %s AND e.id = %s",
            [place.property_id, event_id],
        )
        if not found:
            raise NoSuchThing(f"no event {event_id}")
        (event,) = _named(found)
        named_in_it = actor_names(
            {each for each in event.detail.values() if isinstance(each, str) and _is_person(each)}
        )
        event = replace(
            event,
            detail={
                key: named_in_it.get(each, each) if isinstance(each, str) else each
                for key, each in event.detail.items()
            },
        )
        # Processes have no request of their own, only what they did in one transaction.
        same = "e.request_id = %(request)s" if event.address else "e.transaction = %(transaction)s"
        others = rows(
            f"""SELECT {_COLUMNS} FROM audit_event e
                WHERE e.property_id = %(place)s AND e.id <> %(id)s AND {same}
                  AND e.happened_at BETWEEN %(from)s AND %(until)s ORDER BY e.id LIMIT 50""",
            {
                "place": place.property_id, "id": event_id, "request": event.request_id,
                "transaction": event.transaction, "from": event.happened_at - timedelta(minutes=5),
                "until": event.happened_at + timedelta(minutes=5),
            },
        )  # fmt: skip
        return EventPage(place, now, event, _named(others))


def every_event(*, actor: Actor, wanted: Wanted) -> Iterator[EventRow]:
    """The events of a search to their end, at most `FILE_MAX`, for a file; the latest first.

    Raises PermissionRefused before the first of them.
    """
    require(actor, "audit.read")
    return _to_the_end(actor, wanted)


def _to_the_end(actor: Actor, wanted: Wanted) -> Iterator[EventRow]:
    with scope(actor):
        place = place_of(actor)
        page, given, left = Page(limit=2_000), _given(place, wanted), FILE_MAX
        while left > 0:
            keys, edge = ("e.happened_at", "e.id"), "(%(mark_at)s, %(mark_id)s)"
            found = rows(
                f"SELECT {_COLUMNS} FROM audit_event e WHERE {_FOUND} AND {_SHOWN[wanted.show]} "
                f"AND {_SAID} AND {page.where(keys, edge, falls=True)}",
                given | page.given(),
            )
            shown, _, is_after = page.cut(found)
            yield from _named(shown[:left])
            left -= len(shown)
            if not is_after:
                return
            page = replace(page, after=Mark.of_time(shown[-1][1], shown[-1][0]))


def people(*, actor: Actor, now: datetime) -> tuple[Place, tuple[PersonRow, ...]]:
    """Whoever has, or had, something to do here, with their last thirty days. Raises PermissionRefused."""
    require(actor, "audit.read")
    with scope(actor):
        place = place_of(actor)
        found = rows(
            """SELECT u.id, u.name, u.email, coalesce(string_agg(DISTINCT g.duty, ' '), ''), u.is_active,
                      coalesce(t.deeds, 0), coalesce(t.reads, 0), coalesce(t.refused, 0), last.at
               FROM app_user u
               JOIN duty_grant g ON g.user_id = u.id AND g.property_id = %(place)s
               LEFT JOIN LATERAL (
                   SELECT count(*) FILTER (WHERE e.code LIKE 'reads.%%') AS reads,
                          count(*) FILTER (WHERE e.code = 'access.refused') AS refused,
                          count(*) FILTER (WHERE e.code NOT LIKE 'reads.%%'
                                           AND e.code <> 'access.refused') AS deeds
                   FROM audit_event e
                   WHERE e.property_id = %(place)s AND e.actor = 'user:' || u.id
                     AND e.happened_at > %(since)s) AS t ON true
               LEFT JOIN LATERAL (
                   SELECT e.happened_at AS at FROM audit_event e
                   WHERE e.property_id = %(place)s AND e.actor = 'user:' || u.id
                   ORDER BY e.happened_at DESC, e.id DESC LIMIT 1) AS last ON true
               GROUP BY u.id, u.name, u.email, u.is_active, t.deeds, t.reads, t.refused, last.at
               ORDER BY u.name, u.id""",
            {"place": place.property_id, "since": now - timedelta(days=30)},
        )
        return place, tuple(PersonRow(*row) for row in found)


def _named(found: Iterable[Sequence[Any]]) -> tuple[EventRow, ...]:
    """Rows with the names of their people and objects; inside the scope."""
    listed = list(found)
    subjects = {str(row[4]) for row in listed}
    people_there = actor_names(
        {each for row in listed for each in (row[2], row[4]) if _is_person(str(each))}
    )
    names = people_there | object_names(subjects)
    return tuple(
        EventRow(
            row[0], row[1], row[2], people_there.get(row[2], ""), row[3], row[4],
            names.get(row[4], ""), json_of(row[5]), *row[6:],
        )
        for row in listed
    )  # fmt: skip


def _is_person(code: str) -> bool:
    kind, _, number = code.partition(":")
    return kind == "user" and number.isdigit()


#: What an object is called, by its kind; each takes the ids.
_NAMES: Final[Mapping[str, str]] = {
    "account": """SELECT a.id, concat_ws(' ', a.number, c.name) FROM account a
                  LEFT JOIN customer c ON c.id = a.customer_id WHERE a.id = ANY(%s)""",
    "meter": "SELECT id, serial FROM meter WHERE id = ANY(%s)",
    "concentrator": "SELECT id, serial FROM concentrator WHERE id = ANY(%s)",
    "property": "SELECT id, name FROM property WHERE id = ANY(%s)",
    "customer": "SELECT id, name FROM customer WHERE id = ANY(%s)",
    "group": "SELECT id, name FROM property_group WHERE id = ANY(%s)",
    "tariff": "SELECT id, code FROM tariff WHERE id = ANY(%s)",
    "tariff_draft": "SELECT id, code FROM tariff_draft WHERE id = ANY(%s)",
    # Of a supply its account's; what has no name at all is called by the proposal's number.
    "proposal": """SELECT p.id, coalesce(p.effect ->> 'name', concat_ws(' ', a.number, c.name),
                                         p.effect ->> 'code', '#' || p.id)
                   FROM proposal p LEFT JOIN account a ON p.subject = 'account:' || a.id
                   LEFT JOIN customer c ON c.id = a.customer_id WHERE p.id = ANY(%s)""",
}


def object_names(subjects: Iterable[str]) -> dict[str, str]:
    ids: dict[str, set[int]] = {}
    for each in subjects:
        kind, _, number = each.partition(":")
        if number.isdigit() and len(number) < 19:
            ids.setdefault(kind, set()).add(int(number))
    names = {
        f"{kind}:{row[0]}": str(row[1])
        for kind, statement in _NAMES.items()
        if kind in ids
        for row in rows(statement, [sorted(ids[kind])])
    }
    if "unit" in ids:
        found = rows(
            """SELECT u.id, b.code, u.code FROM unit u JOIN building b ON b.id = u.building_id
               WHERE u.id = ANY(%s)""",
            [sorted(ids["unit"])],
        )
        names |= {f"unit:{row[0]}": unit_name(row[1], row[2]) for row in found}
    return names


def record_of(row: EventRow) -> dict[str, Any]:
    """An event as files have it."""
    return {
        "id": row.event_id, "happened_at": row.happened_at.isoformat(), "actor": row.actor,
        "who": row.who, "duty": row.duty, "code": row.code, "subject": row.subject,
        "about": row.about, "detail": row.detail, "request": row.request_id,
        "address": row.address, "browser": row.browser, "login": row.login,
        "transaction": row.transaction, "proposal": row.proposal_id,
    }  # fmt: skip


def line_of(row: EventRow) -> str:
    """The same as one line of JSON with sorted names."""
    return json.dumps(record_of(row), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
