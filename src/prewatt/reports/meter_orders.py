"""All that meters are told and asked: supply orders, signed instructions, requests; what waits and what came of it.

Three tables, one list by time, a page at a time: of each table no more rows are read than a page has. An instruction
that carries an order is that order, and stands once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.core.vocabulary import RequestKind, RequestState
from prewatt.fleet.drift import KNOWN_DRIFT_S
from prewatt.reports.lists import Listing
from prewatt.reports.lists_query import actor_names
from prewatt.reports.paging import Mark, Neighbours, Page, words
from prewatt.reports.place import NoSuchThing, json_of, place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import HEARD_AT, READ_OF_SOME, UNIT_NAME

SHOWS: Final = ("all", "open", "done", "failed")
SORTS: Final = ("latest", "oldest")
#: Every kind there is, as it is asked for.
KINDS: Final = (
    "connect", "disconnect", "read", "history", "clock", "version", "reconnect", "credit", "release", "state",
    "set_clock", "keys", "limit",
)  # fmt: skip
#: A file has at most so many rows: the latest.
FILE_MAX: Final = 100_000
GAPS_SHOWN: Final = 50
DAYS_SHOWN: Final = 30


@dataclass(frozen=True, slots=True)
class OrderRow:
    """One order to a meter. ``state`` is waiting, sent, done, failed or ended; ``reason`` a code or somebody's words.

    ``request_id`` is that of a request, None for the others; ``made_by`` a name, empty where rules did it.
    """

    mark: Mark
    kind: str
    state: str
    meter_id: int
    serial: str
    unit: str
    at: datetime
    made_by: str
    reason: str
    tries: int
    sent_at: datetime | None
    ended_at: datetime | None
    result: str
    bulk_id: int | None
    request_id: int | None

    @property
    def can_cancel(self) -> bool:
        """Whether it has not gone out: a request alone is taken back by a person."""
        return self.request_id is not None and self.state == "waiting" and self.tries == 0


MeterOrders = Listing[OrderRow]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which orders: of one of `SHOWS`, of a kind (empty: all), whose meter or unit has these words, of one meter."""

    show: str = SHOWS[0]
    kind: str = ""
    query: str = ""
    sort: str = SORTS[0]
    meter_id: int | None = None
    bulk_id: int | None = None


#: Of each table: its rows as columns of the list. The last digit of a row's key says of which table it is.
_SUPPLY: Final = """
SELECT o.decided_at AS at, o.id * 4 AS key, CASE o.kind WHEN 1 THEN 'connect' ELSE 'disconnect' END AS kind,
       CASE WHEN o.state = 1 THEN 'waiting' WHEN o.state IN (2, 3) THEN 'sent' WHEN o.state = 4 THEN 'done'
            WHEN o.state IN (5, 6) THEN 'failed' ELSE 'ended' END AS state,
       o.meter_id, '' AS made_by, o.reason, o.attempts AS tries, o.sent_at, o.finished_at AS ended_at,
       o.failure AS result, NULL::bigint AS bulk_id, NULL::bigint AS request_id
FROM supply_order o WHERE o.property_id = %(property)s AND o.state <> 8"""
_REQUESTS: Final = """
SELECT r.made_at AS at, r.id * 4 + 1 AS key,
       (ARRAY['read', 'history', 'clock', 'version', 'reconnect'])[r.kind] AS kind,
       CASE r.state WHEN 1 THEN 'waiting' WHEN 2 THEN 'sent' WHEN 3 THEN 'done' WHEN 6 THEN 'ended'
            ELSE 'failed' END AS state,
       r.meter_id, r.made_by, r.reason, r.tries, r.sent_at, r.ended_at, r.result, r.bulk_id,
       r.id AS request_id
FROM meter_request r WHERE r.property_id = %(property)s"""
_INSTRUCTIONS: Final = """
SELECT i.issued_at AS at, i.id * 4 + 2 AS key,
       CASE i.operation WHEN 2 THEN 'credit' WHEN 3 THEN 'set_clock' WHEN 4 THEN 'keys' WHEN 5 THEN 'limit'
            WHEN 7 THEN 'release' ELSE 'state' END AS kind,
       CASE WHEN i.state = 1 THEN 'waiting' WHEN i.state = 2 THEN 'sent' WHEN i.state = 3 THEN 'done'
            WHEN i.state IN (4, 5) THEN 'failed' ELSE 'ended' END AS state,
       i.meter_id, '' AS made_by, 'instruction' AS reason, i.tries, i.issued_at AS sent_at,
       i.answered_at AS ended_at, '' AS result, NULL::bigint AS bulk_id, NULL::bigint AS request_id
FROM instruction i WHERE i.property_id = %(property)s AND i.order_id IS NULL"""
_STATES: Final = {
    "all": "", "open": " AND state IN ('waiting', 'sent')", "done": " AND state = 'done'",
    "failed": " AND state = 'failed'",
}  # fmt: skip


def order_list(*, actor: Actor, now: datetime, wanted: Wanted, page: Page) -> MeterOrders:
    """A page of the wanted orders, by time."""
    with scope(actor):
        place = place_of(actor)
        found = _orders(place, now, wanted, page)
        names = actor_names(row[6] for row in found)
    shown, is_before, is_after = page.cut([_row(row, names) for row in found])
    beside = Neighbours.of([each.mark for each in shown], is_before=is_before, is_after=is_after)
    return MeterOrders(place, now, shown, len(shown), beside=beside)


def _orders(place: Place, now: datetime, wanted: Wanted, page: Page) -> list[tuple[Any, ...]]:
    falls = wanted.sort == "latest"
    where = page.where(("at", "key"), "(%(mark_at)s, %(mark_id)s)", falls=falls)
    narrow = _STATES[wanted.show]
    narrow += " AND kind = %(kind)s" if wanted.kind else ""
    narrow += " AND meter_id = %(meter)s" if wanted.meter_id is not None else ""
    narrow += " AND bulk_id = %(bulk)s" if wanted.bulk_id is not None else ""
    if wanted.query.split():
        narrow += """ AND meter_id IN (
            SELECT m.id FROM meter m
            LEFT JOIN installation i ON i.meter_id = m.id AND i.period @> %(now)s
            LEFT JOIN metering_point p ON p.id = i.metering_point_id LEFT JOIN unit u ON u.id = p.unit_id
            LEFT JOIN building b ON b.id = u.building_id
            WHERE m.property_id = %(property)s
              AND lower(concat_ws(' ', m.serial, b.code || '-' || u.code, u.code)) LIKE ALL (%(words)s))"""
    parts = " UNION ALL ".join(
        f"(SELECT * FROM ({part}) AS x WHERE true{narrow} AND {where})"  # noqa: S608 - our own expressions
        for part in (_SUPPLY, _REQUESTS, _INSTRUCTIONS)
    )
    return rows(
        f"""WITH page AS (SELECT * FROM ({parts}) AS y WHERE {where})
            SELECT page.at, page.key, page.kind, page.state, m.id, m.serial, page.made_by, page.reason,
                   page.tries, page.sent_at, page.ended_at, page.result, page.bulk_id, page.request_id,
                   {UNIT_NAME}
            FROM page JOIN meter m ON m.id = page.meter_id
            LEFT JOIN installation i ON i.meter_id = m.id AND i.period @> %(now)s
            LEFT JOIN metering_point p ON p.id = i.metering_point_id LEFT JOIN unit u ON u.id = p.unit_id
            LEFT JOIN building b ON b.id = u.building_id
            ORDER BY {_order(falls is not (page.before is not None))}""",  # noqa: S608 - our own expressions
        {
            "property": place.property_id, "now": now, "kind": wanted.kind, "meter": wanted.meter_id,
            "bulk": wanted.bulk_id, "words": words(wanted.query), **page.given(),
        },
    )  # fmt: skip


def _order(falls: bool) -> str:
    return "page.at DESC, page.key DESC" if falls else "page.at, page.key"


def _row(row: tuple[Any, ...], names: dict[str, str]) -> OrderRow:
    at, key, kind, state, meter_id, serial, made_by, reason, tries, sent, ended, result, bulk, request, unit = row  # fmt: skip
    return OrderRow(
        Mark.of_time(at, key), kind, state, meter_id, serial, unit, at, names.get(made_by, ""),
        reason, tries, sent, ended, result, bulk, request,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class GapRow:
    """A gap in the readings of a meter."""

    gap_id: int
    from_at: datetime
    to_at: datetime
    found_missing: int
    missing: int
    found_at: datetime
    asked: int
    asked_at: datetime | None
    state: int
    closed_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class MeterDay:
    """What came of a meter on a local day."""

    day: Any
    stored: int
    promised: int

    @property
    def missing(self) -> int:
        """How many did not come."""
        return max(0, self.promised - self.stored)


@dataclass(frozen=True, slots=True)
class MeterPage:
    """One meter's line: how it reports, what is missing, what it was told and asked last."""

    place: Place
    now: datetime
    meter_id: int
    serial: str
    unit_id: int | None
    unit: str
    driver: str
    model: str
    firmware: str
    gateway: str
    seen_at: datetime | None
    clock_drift_s: int
    period_s: int
    days: tuple[MeterDay, ...]
    gaps: tuple[GapRow, ...]
    orders: tuple[OrderRow, ...]


def meter_page(*, actor: Actor, meter_id: int, now: datetime) -> MeterPage:
    """One meter of the property. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            f"""SELECT m.id, m.serial, u.id, {UNIT_NAME}, m.driver,
                      m.model, coalesce(l.firmware, ''), coalesce(nullif(r.gateway, ''), k.serial, ''),
                      CASE WHEN i.meter_id IS NULL OR {HEARD_AT} > lower(i.period) THEN {HEARD_AT} END,
                      coalesce({KNOWN_DRIFT_S}, 0), m.expected_period_s
               FROM meter m
               LEFT JOIN installation i ON i.meter_id = m.id AND i.period @> %(now)s
               LEFT JOIN metering_point p ON p.id = i.metering_point_id LEFT JOIN unit u ON u.id = p.unit_id
               LEFT JOIN building b ON b.id = u.building_id
               LEFT JOIN meter_link l ON l.meter_id = m.id LEFT JOIN radio_link r ON r.meter_id = m.id
               LEFT JOIN concentrator k ON k.id = l.concentrator_id
               {READ_OF_SOME}
               WHERE m.id = %(meter)s AND m.property_id = %(property)s""",  # noqa: S608 - our own
            {"meter": meter_id, "property": place.property_id, "now": now},
        )
        if not found:
            raise NoSuchThing(f"no meter {meter_id}")
        days = [(now - timedelta(days=back)).date() for back in range(DAYS_SHOWN + 1)]
        came = rows(
            """SELECT day, stored, promised FROM fleet_day
               WHERE property_id = %s AND day = ANY(%s) AND meter_id = %s AND promised > 0 ORDER BY day""",
            [place.property_id, days, meter_id],
        )
        gaps = rows(
            """SELECT id, from_at, to_at, found_missing, missing, found_at, asked, asked_at, state,
                      closed_at, reason
               FROM meter_gap WHERE meter_id = %s AND property_id = %s ORDER BY from_at DESC LIMIT %s""",
            [meter_id, place.property_id, GAPS_SHOWN],
        )
        told = _orders(place, now, Wanted(meter_id=meter_id), Page(limit=20))
        names = actor_names(row[6] for row in told)
    came_by_day = tuple(MeterDay(*row) for row in came)
    orders = tuple(_row(row, names) for row in told[:20])
    return MeterPage(
        *(place, now, *found[0], came_by_day, tuple(GapRow(*row) for row in gaps), orders)
    )


@dataclass(frozen=True, slots=True)
class BulkRow:
    """A bulk with how far it has come; counts by `RequestState`."""

    bulk_id: int
    kind: RequestKind
    chosen: dict[str, str]
    meters: int
    proposal_id: int
    made_by: str
    reason: str
    begun_at: datetime
    per_s: int
    per_gateway_min: int
    bound_percent: int
    state: int
    state_at: datetime
    state_by: str
    counts: dict[int, int]

    def _count(self, *states: RequestState) -> int:
        return sum(self.counts.get(int(each), 0) for each in states)

    @property
    def answered(self) -> int:
        """How many answered yes."""
        return self._count(RequestState.ANSWERED)

    @property
    def failed(self) -> int:
        """How many said no, or nothing."""
        return self._count(RequestState.REFUSED, RequestState.GIVEN_UP)

    @property
    def waiting(self) -> int:
        """How many have not gone out."""
        return self._count(RequestState.WAITING)

    @property
    def sent(self) -> int:
        """How many are under way."""
        return self._count(RequestState.SENT)

    @property
    def percent(self) -> int:
        """How much of it has ended."""
        return 100 * (self.meters - self.waiting - self.sent) // self.meters if self.meters else 100


_BULKS: Final = """
SELECT b.id, b.kind, b.chosen, b.meters, b.proposal_id, b.made_by, b.reason, b.begun_at, b.per_s,
       b.per_gateway_min, b.bound_percent, b.state, b.state_at, b.state_by,
       ARRAY(SELECT count(*) FILTER (WHERE r.state = s) FROM (VALUES (1), (2), (3), (4), (5), (6)) AS v(s)
             LEFT JOIN meter_request r ON r.bulk_id = b.id GROUP BY s ORDER BY s)
FROM fleet_bulk b WHERE b.property_id = %(property)s
"""


def bulk_list(*, actor: Actor, now: datetime, limit: int = 50) -> Listing[BulkRow]:
    """The latest bulks of the property."""
    with scope(actor):
        place = place_of(actor)
        given = {"property": place.property_id, "limit": limit}
        found = rows(_BULKS + " ORDER BY b.begun_at DESC, b.id DESC LIMIT %(limit)s", given)
        bulks = _bulks(found)
    return Listing(place, now, bulks, len(bulks))


def bulk_page(*, actor: Actor, bulk_id: int) -> BulkRow:
    """One bulk. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            _BULKS + " AND b.id = %(bulk)s", {"property": place.property_id, "bulk": bulk_id}
        )
        if not found:
            raise NoSuchThing(f"no bulk {bulk_id}")
        return _bulks(found)[0]


def _bulks(found: list[tuple[Any, ...]]) -> tuple[BulkRow, ...]:
    names = actor_names([*(row[5] for row in found), *(row[13] for row in found)])
    return tuple(
        BulkRow(
            *(row[0], RequestKind(row[1]), json_of(row[2]), row[3], row[4], names.get(row[5], "")),
            *(*row[6:13], names.get(row[13], ""), dict(enumerate(row[14], start=1))),
        )
        for row in found
    )


def choices(*, actor: Actor, now: datetime) -> dict[str, tuple[str, ...]]:
    """The words by which meters of the property can be chosen, at most fifty of each, the commonest first."""
    require(actor, "fleet.ask")
    with scope(actor), connection.cursor() as cursor:
        place = place_of(actor)
        cursor.execute(
            """WITH device AS (
                   SELECT m.driver, m.model, coalesce(l.firmware, '') AS firmware,
                          coalesce(nullif(r.gateway, ''), k.serial, '') AS gateway, coalesce(b.code, '') AS building
                   FROM meter m JOIN installation i ON i.meter_id = m.id AND i.period @> %(now)s
                   JOIN metering_point p ON p.id = i.metering_point_id
                   LEFT JOIN unit u ON u.id = p.unit_id LEFT JOIN building b ON b.id = u.building_id
                   LEFT JOIN meter_link l ON l.meter_id = m.id LEFT JOIN radio_link r ON r.meter_id = m.id
                   LEFT JOIN concentrator k ON k.id = l.concentrator_id
                   WHERE m.property_id = %(property)s
               ), counted AS (
                   SELECT v.word, v.value, count(*) AS count,
                          row_number() OVER (PARTITION BY v.word ORDER BY count(*) DESC, v.value) AS place
                   FROM device d CROSS JOIN LATERAL (VALUES ('driver', d.driver), ('model', d.model),
                       ('firmware', d.firmware), ('gateway', d.gateway), ('building', d.building)) AS v(word, value)
                   WHERE v.value <> '' GROUP BY 1, 2
               )
               SELECT word, array_agg(value::text ORDER BY place) FROM counted WHERE place <= 50 GROUP BY 1""",
            {"property": place.property_id, "now": now},
        )
        return {word: tuple(values) for word, values in cursor.fetchall()}
