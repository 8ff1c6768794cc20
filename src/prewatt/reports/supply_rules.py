"""The supply rules of a property: what holds, since when and by whom, and what other rules would touch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from prewatt.access.scope import Actor, require, scope
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.cut_window import is_open, next_open_at_us
from prewatt.core.levels import Level, LevelsPolicy
from prewatt.core.vocabulary import LevelKind, OrderKind, OrderState
from prewatt.notify.policy import quiet_hours
from prewatt.reports.lists_query import actor_names
from prewatt.reports.place import json_of, place_of, rows
from prewatt.reports.today import Place
from prewatt.supply import queries
from prewatt.supply.policy import Rules
from prewatt.supply.rules import CHANGED

#: So many changes and coming holidays are shown.
CHANGES_SHOWN: Final = 5
HOLIDAYS_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class RulesChange:
    """One change of the rules by people: who asked, who agreed, and why."""

    at: datetime
    by: str
    agreed: str
    reason: str


@dataclass(frozen=True, slots=True)
class SupplyRulesPage:
    """What holds at a property. ``body`` is what it says itself; ``rules`` has the defaults as well.

    ``permitted`` says whether cuts are permitted at this instant, ``next_permitted`` from when on they
    are otherwise. ``with_emergency`` accounts have emergency credit, between ``emergency_least`` and
    ``emergency_most`` micro-units. ``quiet_min`` are the ends of the quiet hours, equal for none.
    """

    place: Place
    now: datetime
    version: int
    changed_at: datetime | None
    body: Mapping[str, Any]
    rules: Rules
    permitted: bool
    next_permitted: datetime | None
    brake_since: datetime | None
    waiting: int
    with_emergency: int
    emergency_least: int
    emergency_most: int
    quiet_min: tuple[int, int]
    holidays: tuple[date, ...]
    changes: tuple[RulesChange, ...]


@dataclass(frozen=True, slots=True)
class RulesEffect:
    """Whom other rules would touch: accounts at a warning level now and then, and cuts that wait.

    ``on_their_way`` are cuts that were ordered and not sent yet: they are called back. ``permitted`` says
    whether the other rules permit cuts at this instant.
    """

    warned_now: int
    warned_then: int
    waiting: int
    on_their_way: int
    permitted: bool


def supply_rules_page(*, actor: Actor, now: datetime) -> SupplyRulesPage:
    """The rules of the actor's property with what they mean at this instant."""
    with scope(actor):
        place = place_of(actor)
        stored = queries.stored_rules(place.property_id)
        rules = queries.rules([place.property_id], now)[place.property_id]
        ((waiting, some, least, most),) = rows(_STANDINGS, [place.property_id])
        brake = queries.brake_since([place.property_id]).get(place.property_id)
        quiet = rows(
            "SELECT quiet_starts_min, quiet_ends_min FROM notify_policy WHERE property_id = %s",
            [place.property_id],
        )
        changes = _changes(place.property_id)
    hours = quiet_hours(place.time_zone, *(quiet[0] if quiet else (None, None)))
    window, now_us = rules.supply.window, instant_us(now)
    opens_us = next_open_at_us(window, now_us)
    today = window.calendar.local_date(now_us)
    year = today + timedelta(days=366)
    return SupplyRulesPage(
        place, now, stored.version, stored.changed_at, stored.body, rules,
        permitted=is_open(window, now_us),
        next_permitted=None if opens_us is None else utc_datetime(opens_us),
        brake_since=brake, waiting=waiting, with_emergency=some, emergency_least=least,
        emergency_most=most, quiet_min=(hours.starts_min, hours.ends_min),
        holidays=tuple(
            sorted(each for each in window.calendar.holidays if today <= each < year)
        )[:HOLIDAYS_SHOWN],
        changes=changes,
    )  # fmt: skip


_STANDINGS: Final = """
SELECT count(*) FILTER (WHERE s.held), count(*) FILTER (WHERE s.emergency_micro > 0),
       coalesce(min(s.emergency_micro) FILTER (WHERE s.emergency_micro > 0), 0),
       coalesce(max(s.emergency_micro), 0)
FROM supply_state s JOIN account a ON a.id = s.account_id AND a.closed_at IS NULL
WHERE s.property_id = %s
"""


def _changes(property_id: int) -> tuple[RulesChange, ...]:
    found = rows(
        """SELECT happened_at, actor, detail FROM audit_event
           WHERE property_id = %s AND subject = %s AND code = %s
           ORDER BY happened_at DESC, id DESC LIMIT %s""",
        [property_id, f"property:{property_id}", CHANGED, CHANGES_SHOWN],
    )
    details = [json_of(row[2]) for row in found]
    names = actor_names(
        each
        for row, said in zip(found, details, strict=True)
        for each in (row[1], said["approved_by"])
    )
    return tuple(
        RulesChange(
            row[0],
            names.get(row[1], row[1]),
            names.get(said["approved_by"], said["approved_by"]),
            said["reason"],
        )
        for row, said in zip(found, details, strict=True)
    )


def rules_effect(*, actor: Actor, then: Rules, now: datetime) -> RulesEffect:
    """Whom the rules of now and other ones touch at this instant; reads only."""
    require(actor, "supply.rules")
    with scope(actor):
        place = place_of(actor)
        before = queries.rules([place.property_id], now)[place.property_id]
        ((warned_now, waiting),) = rows(_WARNED, _warned_by(place, before.levels))
        ((warned_then, _),) = rows(_WARNED, _warned_by(place, then.levels))
        ((on_their_way,),) = rows(
            """SELECT count(DISTINCT account_id) FROM supply_order
               WHERE property_id = %s AND state = %s AND kind = %s""",
            [place.property_id, int(OrderState.DECIDED), int(OrderKind.DISCONNECT)],
        )
    permitted = is_open(then.supply.window, instant_us(now))
    return RulesEffect(warned_now, warned_then, waiting, on_their_way, permitted)


#: An account is at a level when it has the amount of the highest or less (`core.levels`).
_WARNED: Final = """
SELECT count(*) FILTER (WHERE w.available <= greatest(
           -s.emergency_micro, %(money)s::bigint,
           (%(hours)s::bigint * greatest(w.spend_per_day, 0) + 23) / 24,
           CASE WHEN %(zero)s AND s.emergency_micro > 0 THEN 0 END)),
       count(*) FILTER (WHERE s.held)
FROM supply_state s JOIN account_state w USING (account_id)
JOIN account a ON a.id = s.account_id AND a.closed_at IS NULL
WHERE s.property_id = %(place)s
"""


def _warned_by(place: Place, policy: LevelsPolicy) -> dict[str, Any]:
    def of(kind: LevelKind) -> list[Level]:
        return [each for each in policy.levels if each.kind is kind]

    return {
        "place": place.property_id,
        "money": max((each.threshold_micro for each in of(LevelKind.MONEY)), default=None),
        "hours": max((each.threshold_h for each in of(LevelKind.DAYS)), default=None),
        "zero": bool(of(LevelKind.EMERGENCY)),
    }
