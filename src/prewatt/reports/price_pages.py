"""Reads what prices are made of beside a plan: terms of accounts, announced prices, rules of resale."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from prewatt.access.scope import Actor, require, scope
from prewatt.billing.queries import HOLDS
from prewatt.billing.resale import packs
from prewatt.core.price_rules import RulePack
from prewatt.core.tariff import Tariff, parse_tariff
from prewatt.core.tariff.model import OverlayKind
from prewatt.debts.policy import policy_of
from prewatt.debts.words import Policy
from prewatt.reports.holders import Holding, holding_of
from prewatt.reports.lists import Listing
from prewatt.reports.lists_query import PAGE, actor_names
from prewatt.reports.place import json_of, place_of, rows
from prewatt.reports.today import Place

EVENT_SHOWS: Final = ("coming", "past", "withdrawn", "all")
EVENT_SORTS: Final = ("begin", "group")
SERIES_SHOWN: Final = 48


@dataclass(frozen=True, slots=True)
class PlanLine:
    """A tariff with a version in force: its code, name and content."""

    code: str
    name: str
    tariff: Tariff

    @property
    def for_a_time(self) -> bool:
        """Whether it is for places that are let for a time."""
        return self.tariff.temporary is not None


@dataclass(frozen=True, slots=True)
class TermsLine:
    """Terms that hold from a local midnight on, until the next ones."""

    valid_from: datetime
    members: int
    contracted_w: int
    exempt: tuple[str, ...]
    groups: tuple[str, ...]
    by: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class OnTariff:
    """A tariff that an account is on from an instant; ``now`` marks the present one."""

    code: str
    name: str
    valid_from: datetime
    now: bool


@dataclass(frozen=True, slots=True)
class TermsPage:
    """What an account's prices depend on besides its plan, and the plan itself, over time."""

    place: Place
    now: datetime
    holding: Holding
    terms: tuple[TermsLine, ...]
    current: TermsLine | None
    assigned: tuple[OnTariff, ...]
    plans: tuple[PlanLine, ...]
    rating_waits: bool

    @property
    def plan(self) -> PlanLine | None:
        """The plan that the account is on now."""
        code = next((each.code for each in self.assigned if each.now), None)
        return next((each for each in self.plans if each.code == code), None)

    @property
    def taxes(self) -> tuple[tuple[str, str], ...]:
        """Codes and names of all taxes of the property's plans."""
        found = {tax.code: tax.label for each in self.plans for tax in each.tariff.taxes}
        return tuple(sorted(found.items()))

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that some plan has prices announced for."""
        return groups_of(self.plans)


@dataclass(frozen=True, slots=True)
class EventRow:
    """A critical peak as announced; ``ends_at`` is earlier than ``until_at`` where it was withdrawn."""

    event_id: int
    group: str
    from_at: datetime
    until_at: datetime
    announced_at: datetime
    by: str
    withdrawn_at: datetime | None
    withdrawn_by: str
    ends_at: datetime
    accounts: int

    def is_coming(self, now: datetime) -> bool:
        """Whether some of it lies ahead."""
        return self.ends_at > now and self.withdrawn_at is None

    def has_begun(self, now: datetime) -> bool:
        """Whether it can only be ended, not taken away."""
        return self.from_at <= now


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """A group's real-time prices: how far they are known, and the latest of them in nano-units."""

    group: str
    known_from: datetime
    known_until: datetime
    count: int
    least_nano: int
    most_nano: int
    prices: tuple[tuple[datetime, datetime, int], ...]


@dataclass(frozen=True, slots=True)
class Follows:
    """A group, the plans with prices for it and how many accounts follow it."""

    group: str
    kind: OverlayKind
    plans: tuple[str, ...]
    accounts: int
    prices: tuple[int | None, ...]


EventList = Listing[EventRow]


@dataclass(frozen=True, slots=True)
class AnnouncedPage:
    """All announced prices of the property."""

    place: Place
    now: datetime
    events: EventList
    series: tuple[SeriesLine, ...]
    follows: tuple[Follows, ...]

    def groups(self, kind: OverlayKind) -> tuple[str, ...]:
        """The groups that prices of this kind can be announced to."""
        return tuple(each.group for each in self.follows if each.kind is kind)


@dataclass(frozen=True, slots=True)
class ResaleLine:
    """Which rules hold from an instant on."""

    valid_from: datetime
    pack: RulePack
    purchase_nano_per_kwh: int | None
    direct: str
    by: str
    at: datetime
    now: bool


@dataclass(frozen=True, slots=True)
class RulesPage:
    """The property's price rules and what it does about used credit that is taken back."""

    place: Place
    now: datetime
    terms: tuple[ResaleLine, ...]
    packs: tuple[RulePack, ...]
    policy: Policy
    policy_at: datetime | None

    @property
    def in_force(self) -> ResaleLine | None:
        """The terms that hold now."""
        return next((each for each in self.terms if each.now), None)


def groups_of(plans: tuple[PlanLine, ...]) -> tuple[str, ...]:
    """The groups that some plan has prices announced for."""
    return tuple(sorted({each.group for plan in plans for each in plan.tariff.overlays}))


def plans_in_force(place: Place, now: datetime) -> tuple[PlanLine, ...]:
    """Every tariff that has a version in force, by its name, inside the caller's scope."""
    found = rows(
        """SELECT DISTINCT ON (f.code) f.code, f.name, v.content FROM tariff f
           JOIN tariff_version v ON v.tariff_id = f.id AND v.valid_from <= %s
           WHERE f.property_id = %s ORDER BY f.code, v.valid_from DESC, v.id DESC""",
        [now, place.property_id],
    )
    lines = [PlanLine(code, name, parse_tariff(json_of(content))) for code, name, content in found]
    return tuple(sorted(lines, key=lambda line: line.name.casefold()))


def terms_page(*, actor: Actor, account_id: int, now: datetime) -> TermsPage:
    """An account's terms and tariffs over time, newest first. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        holding = holding_of(actor, account_id)
        terms = _terms(account_id)
        assigned = _assigned(account_id, now)
        plans = plans_in_force(place, now)
        waits = rows(
            "SELECT 1 FROM rerate_request WHERE account_id = %s AND done_at IS NULL", [account_id]
        )
    held = [each for each in terms if each.valid_from <= now]
    # As in rating, the first terms also hold before their start.
    current = held[0] if held else terms[-1] if terms else None
    return TermsPage(place, now, holding, terms, current, assigned, plans, bool(waits))


def _terms(account_id: int) -> tuple[TermsLine, ...]:
    found = rows(
        """SELECT valid_from, members, contracted_w, exempt, overlay_groups, made_by, made_at
           FROM (SELECT DISTINCT ON (valid_from) * FROM account_terms WHERE account_id = %s
                 ORDER BY valid_from DESC, id DESC) n WHERE NOT withdraws ORDER BY valid_from DESC""",
        [account_id],
    )
    names = actor_names(row[5] for row in found)
    return tuple(
        TermsLine(
            row[0], row[1], row[2], tuple(row[3]), tuple(row[4]), names.get(row[5], ""), row[6]
        )
        for row in found
    )


def _assigned(account_id: int, now: datetime) -> tuple[OnTariff, ...]:
    found = rows(
        f"""SELECT f.code, f.name, s.valid_from
           FROM tariff_assignment s JOIN tariff f ON f.id = s.tariff_id
           WHERE s.account_id = %s AND {HOLDS} ORDER BY s.valid_from DESC""",  # noqa: S608 - our own constants
        [account_id],
    )
    held = [row[2] for row in found if row[2] <= now]
    present = max(held) if held else min((row[2] for row in found), default=None)
    return tuple(OnTariff(row[0], row[1], row[2], row[2] == present) for row in found)


def announced_page(
    *, actor: Actor, now: datetime, show: str = "coming", query: str = "", sort: str = "begin",
    limit: int = PAGE,
) -> AnnouncedPage:  # fmt: skip
    """Announced peaks, found, filtered and sorted, and the real-time series."""
    with scope(actor):
        place = place_of(actor)
        events = _events(place)
        series = _series(place)
        follows = _follows(place, now)
    if show == "coming":
        events = [each for each in events if each.is_coming(now)]
        events.reverse()
    elif show == "withdrawn":
        events = [each for each in events if each.withdrawn_at is not None]
    elif show == "past":
        events = [each for each in events if each.ends_at <= now]
    events = [each for each in events if query.casefold() in each.group.casefold()]
    if sort == "group":
        events.sort(key=lambda each: each.group)
    found: EventList = Listing(place, now, tuple(events[:limit]), len(events))
    return AnnouncedPage(place, now, found, series, follows)


def event_row(*, actor: Actor, event_id: int) -> tuple[Place, EventRow | None]:
    """One announced peak of the property, None where there is none."""
    require(actor, "billing.announce")
    with scope(actor):
        place = place_of(actor)
        return place, next((row for row in _events(place) if row.event_id == event_id), None)


def _events(place: Place) -> list[EventRow]:
    found = rows(
        """SELECT e.id, e.overlay_group, e.from_at, e.until_at, e.announced_at, e.made_by,
                  w.announced_at, coalesce(w.made_by, ''), coalesce(w.until_at, e.until_at),
                  (SELECT count(*) FROM (SELECT DISTINCT ON (account_id) account_id, overlay_groups
                       FROM (SELECT DISTINCT ON (account_id, valid_from) * FROM account_terms
                             WHERE property_id = e.property_id AND valid_from <= e.from_at
                             ORDER BY account_id, valid_from DESC, id DESC) d
                       WHERE NOT withdraws ORDER BY account_id, valid_from DESC) n
                   WHERE n.overlay_groups @> ARRAY[e.overlay_group]::varchar[])
           FROM price_event e LEFT JOIN price_event w ON w.withdraws_id = e.id
           WHERE e.property_id = %s AND e.withdraws_id IS NULL
           ORDER BY e.from_at DESC, e.id DESC LIMIT 2000""",
        [place.property_id],
    )
    names = actor_names(code for row in found for code in (row[5], row[7]))
    return [
        EventRow(
            row[0], row[1], row[2], row[3], row[4], names.get(row[5], ""), row[6],
            names.get(row[7], ""), row[8], row[9],
        )
        for row in found
    ]  # fmt: skip


def _series(place: Place) -> tuple[SeriesLine, ...]:
    sums = rows(
        """SELECT overlay_group, min(from_at), max(until_at), count(*), min(price_nano),
                  max(price_nano)
           FROM price_series WHERE property_id = %s GROUP BY 1 ORDER BY 1""",
        [place.property_id],
    )
    lines = []
    for group, known_from, known_until, count, least, most in sums:
        last = rows(
            """SELECT from_at, until_at, price_nano FROM price_series
               WHERE property_id = %s AND overlay_group = %s ORDER BY from_at DESC LIMIT %s""",
            [place.property_id, group, SERIES_SHOWN],
        )
        prices = tuple((row[0], row[1], row[2]) for row in last)
        lines.append(SeriesLine(group, known_from, known_until, count, least, most, prices))
    return tuple(lines)


def _follows(place: Place, now: datetime) -> tuple[Follows, ...]:
    counted = dict(
        rows(
            """SELECT g, count(*) FROM (SELECT DISTINCT ON (account_id) account_id, overlay_groups
                   FROM (SELECT DISTINCT ON (account_id, valid_from) * FROM account_terms
                         WHERE property_id = %s AND valid_from <= %s
                         ORDER BY account_id, valid_from DESC, id DESC) d
                   WHERE NOT withdraws ORDER BY account_id, valid_from DESC) n,
                 unnest(n.overlay_groups) AS g
               GROUP BY g""",
            [place.property_id, now],
        )
    )
    found: dict[tuple[str, OverlayKind], list[tuple[str, int | None]]] = {}
    for plan in plans_in_force(place, now):
        for each in plan.tariff.overlays:
            found.setdefault((each.group, each.kind), []).append(
                (plan.name, each.price_nano_per_kwh)
            )
    return tuple(
        Follows(
            group, kind, tuple(name for name, _ in plans), counted.get(group, 0),
            tuple(price for _, price in plans),
        )
        for (group, kind), plans in sorted(found.items())
    )  # fmt: skip


def rules_page(*, actor: Actor, now: datetime) -> RulesPage:
    """The price rules over time, newest first, the packs to choose of, and the debt policy."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            """SELECT valid_from, rules, purchase_nano_per_kwh, direct, made_by, made_at, id
               FROM resale_terms WHERE property_id = %s ORDER BY valid_from DESC, id DESC""",
            [place.property_id],
        )
        names = actor_names(row[4] for row in found)
        policy = policy_of(place.property_id)
        changed = rows(
            "SELECT changed_at FROM debt_policy WHERE property_id = %s", [place.property_id]
        )
    held = [row for row in found if row[0] <= now]
    lines = tuple(_resale(row, names, row is held[0] if held else False) for row in found)
    return RulesPage(
        place, now, lines, tuple(packs().values()), policy, changed[0][0] if changed else None
    )


def _resale(row: tuple[Any, ...], names: dict[str, str], in_force: bool) -> ResaleLine:
    direct = "" if row[3] is None else parse_tariff(json_of(row[3])).name
    return ResaleLine(
        row[0], packs()[row[1]], row[2], direct, names.get(row[4], ""), row[5], in_force
    )
