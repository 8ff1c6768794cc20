"""The pages of those who see little of a property: a tenant, its owner, and who fits its meters.

Each is read under its own duty's role in the database, which has no right to anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from prewatt.access.scope import Actor, scope
from prewatt.core.vocabulary import DeliveryState, RelayState
from prewatt.reports.paging import words
from prewatt.reports.place import NoSuchThing, local_day, place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import unit_name

DAYS = 14
MONTHS = 12
LINES_MAX = 20
METERS_MAX = 200
_SILENT_AFTER = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class OwnDay:
    """What one day used, and what it cost."""

    day: date
    wh: int
    micro: int


@dataclass(frozen=True, slots=True)
class OwnRecharge:
    """Money that came in, with the number of its receipt."""

    at: datetime
    micro: int
    way: str
    receipt: str


@dataclass(frozen=True, slots=True)
class OwnMessage:
    """Something a tenant was told."""

    at: datetime
    code: str
    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class OwnAccount:
    """One wallet of the person, as they see it. ``emergency_micro`` is what they have below zero."""

    account_id: int
    number: str
    unit: str
    available_micro: int
    emergency_micro: int
    spend_per_day_micro: int
    closed_at: datetime | None
    days: tuple[OwnDay, ...]
    recharges: tuple[OwnRecharge, ...]
    messages: tuple[OwnMessage, ...]

    @property
    def days_left(self) -> int | None:
        """Whole days that the money lasts at the usual use; None where nothing is used."""
        if self.spend_per_day_micro <= 0 or self.closed_at is not None:
            return None
        return max(0, self.available_micro) // self.spend_per_day_micro

    @property
    def most_wh(self) -> int:
        """The usage of the strongest day, for the chart."""
        return max((each.wh for each in self.days), default=0)


@dataclass(frozen=True, slots=True)
class Mine:
    """A tenant's own page."""

    place: Place
    now: datetime
    accounts: tuple[OwnAccount, ...]


def mine(*, actor: Actor, now: datetime) -> Mine:
    """The wallets of a tenant at one property. Raises PermissionRefused, NoSuchThing."""
    with scope(actor):
        place = place_of(actor, "mine.read")
        found = rows(
            """SELECT a.id, a.number, coalesce(b.code, ''), coalesce(u.code, ''), s.available,
                      coalesce(p.emergency_micro, 0), s.spend_per_day, a.closed_at
               FROM account a JOIN account_state s ON s.account_id = a.id
               LEFT JOIN supply_state p ON p.account_id = a.id
               LEFT JOIN LATERAL (SELECT unit_id FROM tenancy t WHERE t.account_id = a.id
                   ORDER BY lower(t.period) DESC LIMIT 1) h ON true
               LEFT JOIN unit u ON u.id = h.unit_id LEFT JOIN building b ON b.id = u.building_id
               WHERE a.id = ANY(%s) ORDER BY a.closed_at NULLS FIRST, a.id""",
            [list(actor.account_ids)],
        )
        accounts = tuple(
            OwnAccount(
                row[0], row[1], unit_name(row[2], row[3]) if row[3] else "", row[4], row[5],
                row[6], row[7],
                _days(row[0], place, now), _recharges(row[0]), _messages(row[0]),
            )
            for row in found
        )  # fmt: skip
    return Mine(place, now, accounts)


def _days(account_id: int, place: Place, now: datetime) -> tuple[OwnDay, ...]:
    since = local_day(now, place.time_zone, back=DAYS - 1).begins_at
    found = rows(
        """SELECT (from_at AT TIME ZONE %s)::date AS day, sum(energy_wh)::bigint,
                  sum(charge_energy + charge_standing + charge_tax + charge_fee + charge_demand
                      + charge_subsidy)::bigint
           FROM interval WHERE account_id = %s AND start_at >= %s AND start_at < %s
           GROUP BY day ORDER BY day DESC""",
        [place.time_zone, account_id, since, now],
    )
    return tuple(OwnDay(*row) for row in found)


def _recharges(account_id: int) -> tuple[OwnRecharge, ...]:
    found = rows(
        """SELECT p.accepted_at, p.amount_micro, p.way, coalesce(d.series || '-' || d.number, '')
           FROM payment p LEFT JOIN document d ON d.account_id = p.account_id
               AND d.event_id = p.event_id AND d.kind = 'receipt'
           WHERE p.account_id = %s ORDER BY p.accepted_at DESC, p.id DESC LIMIT %s""",
        [account_id, LINES_MAX],
    )
    return tuple(OwnRecharge(*row) for row in found)


def _messages(account_id: int) -> tuple[OwnMessage, ...]:
    found = rows(
        """SELECT m.created_at, m.code, coalesce(t.subject, ''), coalesce(t.body, '')
           FROM message m LEFT JOIN LATERAL (SELECT subject, body FROM message_attempt x
               WHERE x.message_id = m.id ORDER BY x.tried_at DESC LIMIT 1) t ON true
           WHERE m.account_id = %s AND m.state <> %s ORDER BY m.created_at DESC, m.id DESC LIMIT %s""",
        [account_id, int(DeliveryState.WOULD_HAVE), LINES_MAX],
    )
    return tuple(OwnMessage(*row) for row in found)


# --- the owner ---


@dataclass(frozen=True, slots=True)
class MonthSums:
    """One local month: money received and paid back, energy and charges that were posted."""

    month: date
    received_micro: int
    refunded_micro: int
    energy_wh: int
    charged_micro: int

    @property
    def has_any(self) -> bool:
        """Whether anything was received, paid back or posted."""
        return any((self.received_micro, self.refunded_micro, self.energy_wh, self.charged_micro))


@dataclass(frozen=True, slots=True)
class PropertyFigures:
    """What an owner sees of the property: sums, and nobody's name.

    ``months`` are the last ones, latest first, without those before the first in which anything was.
    """

    place: Place
    now: datetime
    units: int
    let: int
    cut: int
    credit_micro: int
    owed_micro: int
    debts_micro: int
    refunds_due_micro: int
    months: tuple[MonthSums, ...]


def property_figures(*, actor: Actor, now: datetime) -> PropertyFigures:
    """The sums of a property, today and of the last months. Raises PermissionRefused, NoSuchThing."""
    with scope(actor):
        place = place_of(actor, "figures.read")
        given = {
            "property": place.property_id,
            "now": now,
            "zone": place.time_zone,
            "back": MONTHS - 1, "open": int(RelayState.OPEN),
        }  # fmt: skip
        ((units, let, cut, credit, owed, debts, due),) = rows(
            """SELECT (SELECT count(*) FROM unit WHERE property_id = %(property)s),
                      (SELECT count(*) FROM tenancy
                       WHERE property_id = %(property)s AND period @> %(now)s::timestamptz),
                      (SELECT count(*) FROM meter_link
                       WHERE property_id = %(property)s AND relay = %(open)s),
                      (SELECT coalesce(sum(available) FILTER (WHERE available > 0), 0)::bigint
                       FROM account_state WHERE property_id = %(property)s),
                      (SELECT coalesce(-sum(available) FILTER (WHERE available < 0), 0)::bigint
                       FROM account_state WHERE property_id = %(property)s),
                      (SELECT coalesce(sum(principal_micro), 0)::bigint
                       FROM debt WHERE property_id = %(property)s AND closed_at IS NULL),
                      (SELECT coalesce(sum(amount_micro), 0)::bigint
                       FROM refund WHERE property_id = %(property)s AND state = 'due')""",
            given,
        )
        months = rows(
            """WITH month AS (
                   SELECT (date_trunc('month', %(now)s AT TIME ZONE %(zone)s)
                           - make_interval(months => back))::date AS begins
                   FROM generate_series(0, %(back)s) AS back
               ), edge AS (
                   SELECT begins, begins::timestamp AT TIME ZONE %(zone)s AS since,
                          (begins + interval '1 month') AT TIME ZONE %(zone)s AS until FROM month)
               SELECT e.begins,
                      (SELECT coalesce(sum(amount_micro), 0) FROM payment p
                       WHERE p.property_id = %(property)s AND p.accepted_at >= e.since
                         AND p.accepted_at < e.until)::bigint,
                      (SELECT coalesce(sum(amount_micro), 0) FROM refund r
                       WHERE r.property_id = %(property)s AND r.state = 'paid'
                         AND r.paid_at >= e.since AND r.paid_at < e.until)::bigint,
                      t.energy_wh, t.charged
               FROM edge e CROSS JOIN LATERAL (
                   SELECT coalesce(sum(energy_wh), 0)::bigint AS energy_wh,
                          coalesce(sum(amount), 0)::bigint AS charged
                   FROM posting WHERE property_id = %(property)s AND posted_at >= e.since
                     AND posted_at < e.until) t
               ORDER BY e.begins DESC""",
            given,
        )
    sums = [MonthSums(*row) for row in months]
    while len(sums) > 1 and not sums[-1].has_any:
        sums.pop()
    return PropertyFigures(
        place, now, units, let, cut, credit, owed, debts, due, tuple(sums)
    )  # fmt: skip


# --- who fits meters ---


@dataclass(frozen=True, slots=True)
class MeterOnRound:
    """A meter where it hangs, its register and when it was heard; neither money nor a name."""

    meter_id: int
    serial: str
    model: str
    place: str
    last_at: datetime | None
    last_wh: int | None
    heard_at: datetime | None
    is_silent: bool


@dataclass(frozen=True, slots=True)
class Round:
    """The meters of a property in the order of their places."""

    place: Place
    now: datetime
    meters: tuple[MeterOnRound, ...]


_METERS = """
SELECT m.id, m.serial, m.model, coalesce(b.code, ''), coalesce(u.code, p.code, ''), k.last_at,
       k.last_value_wh,
       greatest(l.last_seen_at, CASE WHEN l.read_by_hand_at >= k.last_at THEN NULL ELSE k.last_at END)
FROM meter m
JOIN installation i ON i.meter_id = m.id AND i.period @> %(now)s::timestamptz
JOIN metering_point p ON p.id = i.metering_point_id
LEFT JOIN unit u ON u.id = p.unit_id LEFT JOIN building b ON b.id = u.building_id
LEFT JOIN meter_link l ON l.meter_id = m.id
LEFT JOIN LATERAL (SELECT max(last_at) AS last_at, max(last_value_wh) AS last_value_wh FROM meter_state
    WHERE meter_id = m.id AND closed_at = 'infinity' AND register_code = 1) k ON true
WHERE m.property_id = %(property)s AND (%(meter)s::bigint IS NULL OR m.id = %(meter)s)
  AND lower(concat_ws(' ', m.serial, b.code || '-' || u.code, p.code)) LIKE ALL (%(words)s)
ORDER BY b.position NULLS FIRST, u.floor DESC, u.position, m.serial LIMIT %(most)s
"""


def meters_on_round(*, actor: Actor, now: datetime, query: str = "") -> Round:
    """The meters whose serial or place has all words. Raises PermissionRefused, NoSuchThing."""
    with scope(actor):
        place = place_of(actor, "meters.read")
        return Round(place, now, _found(place, now, words(query), None))


def meter_on_round(*, actor: Actor, meter_id: int, now: datetime) -> Round:
    """One meter. Raises NoSuchThing for one that hangs nowhere at the property, PermissionRefused."""
    with scope(actor):
        place = place_of(actor, "meters.read")
        found = _found(place, now, [], meter_id)
    if not found:
        raise NoSuchThing(f"no meter {meter_id} in scope")
    return Round(place, now, found)


def _found(
    place: Place, now: datetime, wanted: list[str], meter_id: int | None
) -> tuple[MeterOnRound, ...]:
    given = {
        "now": now, "property": place.property_id, "meter": meter_id, "words": wanted,
        "most": METERS_MAX,
    }  # fmt: skip
    return tuple(
        MeterOnRound(
            row[0], row[1], row[2], unit_name(row[3], row[4]), row[5], row[6], row[7],
            row[7] is None or now - row[7] > _SILENT_AFTER,
        )
        for row in rows(_METERS, given)
    )  # fmt: skip
