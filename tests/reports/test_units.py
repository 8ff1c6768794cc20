"""One definition of how a unit stands, held to a model of its own over states at random."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from cases import cases
from fernmoor import NOW, Fernmoor
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, scope
from prewatt.core.vocabulary import BoardState
from prewatt.reports.estate_query import property_page, unit_page
from prewatt.reports.lists_query import accounts, meters
from prewatt.reports.place import rows
from prewatt.reports.today_query import today
from prewatt.reports.units import STATE, UNIT_NOW, UnitNow, units_by_id, units_of_account

AsOwner = Callable[[Fernmoor], AbstractContextManager[None]]


@dataclass
class Facts:
    """What the tables say of one unit, in their own figures."""

    vacant: bool
    available: int
    spend: int
    emergency: int
    fired: int
    protection: str
    relay: int
    tamper_since: datetime | None
    #: When alerts of tampering were closed; None is one that is open.
    looked_at: list[datetime | None]
    seen_at: datetime | None
    reading_at: datetime | None
    #: A person read it then.
    read_by_hand_at: datetime | None
    period_s: int


def state_of(unit: Facts) -> BoardState:
    """The guide's precedence: tamper > cut > offline > emergency > low > protected > vacant > on."""
    holds = {BoardState.ON}
    if unit.tamper_since is not None and not looked_at(unit, unit.tamper_since):
        holds.add(BoardState.TAMPER)
    if unit.relay == 2:
        holds.add(BoardState.CUT)
    if silent(unit):
        holds.add(BoardState.OFFLINE)
    if not unit.vacant and unit.available <= 0:
        holds.add(BoardState.EMERGENCY)
    if not unit.vacant and unit.fired:
        holds.add(BoardState.LOW)
    if unit.protection not in ("", "none"):
        holds.add(BoardState.PROTECTED)
    if unit.vacant:
        holds.add(BoardState.VACANT)
    return max(holds)


def looked_at(unit: Facts, since: datetime) -> bool:
    """A person has closed what was told of this tampering, and nothing of it is open."""
    closed = [at for at in unit.looked_at if at is not None]
    return len(closed) == len(unit.looked_at) > 0 and max(closed) >= since


def silent(unit: Facts) -> bool:
    """Not heard for two of its own periods, by a frame or a reading of its own."""
    by_hand = unit.reading_at is not None and (
        unit.read_by_hand_at is not None and unit.read_by_hand_at >= unit.reading_at
    )
    counted = None if by_hand else unit.reading_at
    heard = [at for at in (unit.seen_at, counted) if at is not None]
    return not heard or NOW - max(heard) > timedelta(seconds=2 * unit.period_s)


def hours_left(unit: Facts) -> int | None:
    """Whole hours until balance, then emergency credit are used up."""
    if unit.vacant or unit.spend <= 0:
        return None
    left = unit.available if unit.available > 0 else max(0, unit.available + unit.emergency)
    days, rest = divmod(left, unit.spend)
    return min(days, 1_000_000) * 24 + rest * 24 // unit.spend


def at_random(chance: random.Random) -> Facts:
    """A unit in which several states hold at once, with figures at their edges."""
    period = chance.choice((1, 900, 86_400))

    def ago() -> datetime | None:
        around = 2 * period + chance.choice((-1, 0, 1, 5_000))
        return chance.choice((None, NOW, NOW - timedelta(seconds=around)))

    seen_at, before = ago(), NOW - timedelta(microseconds=1)
    reading_at = ago() or NOW - timedelta(days=300)
    return Facts(
        vacant=chance.random() < 0.3,
        available=chance.choice((-7_000_000, -5_000_000, -1, 0, 1, 999, 10**6, 4 * 10**17)),
        spend=chance.choice((0, 1, 3, 999_983, 2_650_000, 10**13)),
        emergency=chance.choice((0, 5_000_000)),
        fired=chance.choice((0, 0, 1, 7)),
        protection=chance.choice(("", "", "none", "medical")),
        # A meter that was never heard has nothing to say of its relay either.
        relay=chance.choice((0, 1, 1, 2)) if seen_at else 0,
        tamper_since=chance.choice((None, None, NOW)) if seen_at else None,
        looked_at=chance.choice(
            ([], [], [None], [NOW], [NOW, None], [before], [before, NOW], [before, before])
        ),
        seen_at=seen_at,
        reading_at=reading_at,
        read_by_hand_at=chance.choice(
            (None, None, reading_at, reading_at - timedelta(microseconds=1))
        )
        if seen_at
        else None,
        period_s=period,
    )


def write(place: Fernmoor, names: list[str], facts: list[Facts]) -> None:
    """Put the facts into the tables, past every operation."""
    with connection.cursor() as cursor:
        for name, unit in zip(names, facts, strict=True):
            account, meter, unit_id = place.accounts[name], place.meters[name], place.units[name]
            cursor.execute(
                "UPDATE account_state SET posted = %s + 1270000, spend_per_day = %s WHERE account_id = %s",
                [unit.available, unit.spend, account],
            )
            cursor.execute(
                """UPDATE supply_state SET emergency_micro = %s, fired_mask = %s, protection = %s
                   WHERE account_id = %s""",
                [unit.emergency, unit.fired, unit.protection, account],
            )
            if unit.seen_at is None:
                cursor.execute("DELETE FROM meter_link WHERE meter_id = %s", [meter])
            cursor.execute(
                """UPDATE meter_link SET relay = %s, tamper_since = %s, last_seen_at = %s,
                       read_by_hand_at = %s
                   WHERE meter_id = %s""",
                [unit.relay, unit.tamper_since, unit.seen_at or NOW, unit.read_by_hand_at, meter],
            )
            for closed_at in unit.looked_at:
                cursor.execute(
                    """INSERT INTO alert (property_id, code, subject, detail, opened_at, closed_at)
                       VALUES (%s, 'meter.tamper', %s, '{}', %s, %s)""",
                    [place.property_id, f"meter:{meter}", NOW - timedelta(days=1), closed_at],
                )
            cursor.execute(
                "UPDATE meter_state SET last_at = %s WHERE meter_id = %s", [unit.reading_at, meter]
            )
            cursor.execute(
                "UPDATE meter SET expected_period_s = %s WHERE id = %s", [unit.period_s, meter]
            )
            if unit.vacant:
                cursor.execute("DELETE FROM tenancy WHERE unit_id = %s", [unit_id])
                cursor.execute(
                    """UPDATE account SET kind = 'vacancy', customer_id = NULL, unit_id = %s
                       WHERE id = %s""",
                    [unit_id, account],
                )


def actor(place: Fernmoor) -> Actor:
    return Actor("user:1", Duty.ADMINISTRATOR, (place.property_id,), "Ines", 1)


@pytest.mark.parametrize("seed", range(cases(3)))
def test_states_at_random_are_those_of_the_model_wherever_they_are_shown(
    fernmoor: Fernmoor, as_owner: AsOwner, seed: int
) -> None:
    chance = random.Random(seed)
    names = [each for each in fernmoor.units if each not in ("N-801", "A3")]
    facts = [at_random(chance) for _ in names]
    with as_owner(fernmoor):
        write(fernmoor, names, facts)
    who = actor(fernmoor)
    with scope(who):
        everywhere = dict(
            rows(
                f"SELECT unit_id, state FROM {UNIT_NOW} AS unit_now",
                {"property": fernmoor.property_id, "now": NOW},
            )
        )
        found: dict[int, UnitNow] = {
            unit.unit_id: unit
            for unit in units_by_id(
                property_id=fernmoor.property_id, now=NOW, unit_ids=fernmoor.units.values()
            )
        }
        by_account = {
            name: units_of_account(
                property_id=fernmoor.property_id, now=NOW, account_id=fernmoor.accounts[name]
            )
            for name in chance.sample(names, 12)
        }
    report = today(actor=who, now=NOW)
    windows = {
        unit.unit_id: unit
        for house in report.houses
        for floor in house.floors
        for unit in floor.units
    }
    listed = {row.account_id: row.state for row in accounts(actor=who, now=NOW).rows}
    for name, unit in zip(names, facts, strict=True):
        unit_id, expected = fernmoor.units[name], state_of(unit)
        assert everywhere[unit_id] == expected, (name, unit)
        assert found[unit_id].state is expected
        assert [each.state for each in by_account.get(name, ())] in ([], [expected])
        assert windows[unit_id].state is expected
        assert listed[fernmoor.accounts[name]] is expected
        assert found[unit_id].silent is silent(unit), (name, unit)
        assert found[unit_id].hours_left == windows[unit_id].hours_left == hours_left(unit)
    counted = Counter(unit.state for unit in found.values())
    assert {state: count for state, count in report.state_counts() if count} == counted
    assert report.figures.cut == sum(unit.relay == 2 for unit in facts)
    assert {row.unit for row in meters(actor=who, now=NOW, show="silent").rows} == {
        found[fernmoor.units[name]].name
        for name, unit in zip(names, facts, strict=True)
        if silent(unit)
    }
    page = property_page(actor=who, now=NOW)
    assert sum(each.vacant for each in page.buildings) == report.figures.vacant
    some = chance.choice(names)
    assert unit_page(actor=who, unit_id=fernmoor.units[some], now=NOW).state is (
        found[fernmoor.units[some]].state
    )


def test_of_states_that_hold_at_once_the_guides_precedence_shows_one(fernmoor: Fernmoor) -> None:
    order = ["tamper", "cut", "offline", "emergency", "low", "protected", "vacant"]
    combined = list(itertools.product([False, True], repeat=len(order)))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT {STATE} FROM (
                    SELECT n, CASE WHEN tamper THEN now() END AS tamper_since,
                           CASE WHEN cut THEN 2 ELSE 1 END AS relay, offline AS silent,
                           CASE WHEN emergency THEN 0 ELSE 1 END AS available, low::int AS fired_mask,
                           CASE WHEN protected THEN 'medical' ELSE 'none' END AS protection,
                           NOT vacant AS paying
                    FROM unnest({", ".join(["%s::bool[]"] * len(order))}) WITH ORDINALITY
                        AS x({", ".join(order)}, n)) AS facts ORDER BY n""",
            [list(column) for column in zip(*combined, strict=True)],
        )
        found = [BoardState(state).word for (state,) in cursor.fetchall()]
    for holding, shown in zip(combined, found, strict=True):
        holds = {name for name, is_so in zip(order, holding, strict=True) if is_so}
        if "vacant" in holds:
            # The owner of a vacant unit is never warned.
            holds -= {"emergency", "low"}
        assert shown == next((name for name in order if name in holds), "on"), holds


def test_a_unit_of_another_property_is_nobodys(fernmoor: Fernmoor, as_owner: AsOwner) -> None:
    with as_owner(fernmoor):
        foreign = fernmoor.another_unit(fernmoor.another("Elsewhere"))
    given: dict[str, Any] = {"property_id": fernmoor.property_id, "now": NOW}
    with scope(actor(fernmoor)):
        assert units_by_id(**given, unit_ids=[foreign]) == ()
        assert units_by_id(**given, unit_ids=[]) == ()
