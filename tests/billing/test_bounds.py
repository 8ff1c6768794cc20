"""Minimum and maximum bills: settled when a period ends, by the days that an account was there."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from math import floor

import pytest
from django.db import connection
from tests.billing.days_world import charged, legs, local, night, place, plan, total, version
from tests.invariants.places import one, rows, send
from tests.moves.world import World

import prewatt.moves.operations as moves
from prewatt.core.rating import Component
from prewatt.reports.books import check_books

pytestmark = pytest.mark.usefixtures("database")

PRICE = Fraction("0.2876543") * 1000


def books_hold(here: World) -> None:
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def used(here: World, day: str, value_wh: int) -> None:
    """A reading of the flat's meter at a midnight."""
    at = local(f"{day}T00:00")
    send(here, [("M-101", at, value_wh)], now=at)


def test_who_uses_little_pays_the_minimum_after_the_last_day() -> None:
    here = place(plan(standing={"per_month": "2"}, minimum={"per_month": "20"}))
    account = here.accounts["1001"]
    used(here, "2026-11-20", 1_000 + 10_000)
    night("2026-11-30")
    assert total(account, Component.MINIMUM) == 0
    used(here, "2026-12-01", 1_000 + 30_000)
    night("2026-12-01")
    energy = floor(30_000 * PRICE)
    assert charged(account, Component.MINIMUM) == {
        ("MINIMUM", "minimum"): 20_000_000 - 2_000_000 - energy
    }
    (line,) = [each for each in legs(account) if each[1] is Component.MINIMUM]
    assert line[4].isoformat() == "2026-11-30"
    # The owner's lift used nothing at all and has a minimum too.
    assert total(here.accounts["OWN-LIFT"], Component.MINIMUM) == 18_000_000
    before = legs(account)
    assert night("2026-12-01") == 0 and legs(account) == before
    books_hold(here)


def test_a_maximum_gives_back_what_lies_above_it_with_its_tax() -> None:
    taxes = [{"code": "vat", "rate": "19", "on": ["energy", "minimum"]}]
    here = place(plan(maximum={"per_month": "5"}, taxes=taxes))
    account = here.accounts["1001"]
    used(here, "2026-11-30", 1_000 + 100_000)
    night("2026-12-01")
    energy = floor(100_000 * PRICE)
    back = charged(account)
    assert back["MAXIMUM", "maximum"] == 5_000_000 - energy
    assert back["TAX", "vat"] == floor(Fraction(19 * (5_000_000 - energy), 100))
    books_hold(here)


def test_usage_that_comes_after_the_period_settles_it_again() -> None:
    here = place(plan(minimum={"per_month": "20"}))
    account = here.accounts["1001"]
    used(here, "2026-11-21", 1_000 + 10_000)
    night("2026-12-01")
    assert total(account, Component.MINIMUM) == 20_000_000 - floor(10_000 * PRICE)
    # The meter was silent: five of ten days of what it counted since were still November.
    used(here, "2026-12-11", 1_000 + 30_000)
    night("2026-12-11")
    energy = one(
        """SELECT sum(charge_energy) FROM interval WHERE account_id = %s AND from_at < %s""",
        account, local("2026-12-01T00:00"),
    )  # fmt: skip
    assert total(account, Component.MINIMUM) == 20_000_000 - energy
    # And with more than the minimum nothing is left of it.
    send(here, [("M-101", local("2026-11-22T00:00"), 1_000 + 29_999)],
         now=local("2026-12-11T09:00"))  # fmt: skip
    used(here, "2026-12-12", 1_000 + 200_000)
    night("2026-12-12")
    assert 0 < total(account, Component.MINIMUM) < 20_000_000 - energy
    books_hold(here)


@pytest.mark.parametrize("days", [10, 17])
def test_a_part_of_a_month_has_a_part_of_its_bounds(days: int) -> None:
    here = place(plan(minimum={"per_month": "20"}), "2026-11-05T00:00")
    account = here.accounts["1001"]
    leaves = local("2026-11-04T14:00") + timedelta(days=days)
    night("2026-11-07")
    moves.move_out(
        actor=here.administrator, unit_id=here.units["101"], at=leaves,
        closing=here.register("M-101", 1_000 + 100), key="out", now=max(leaves, local("2026-11-17T13:00")),
    )  # fmt: skip
    bound = floor(Fraction(20_000_000 * days, 30))
    assert total(account, Component.MINIMUM) == bound - floor(100 * PRICE)
    before = legs(account)
    night("2026-12-02")
    assert legs(account) == before
    books_hold(here)


def test_days_under_a_version_without_a_bound_stay_out_of_it() -> None:
    here = place(plan(standing={"per_day": "0.10"}))
    account = here.accounts["1001"]
    version(here, plan(standing={"per_day": "0.20"}, minimum={"per_month": "30"}),
            local("2026-11-21T00:00"))  # fmt: skip
    used(here, "2026-11-21", 1_000 + 500_000)
    used(here, "2026-12-01", 1_000 + 500_000 + 5_000)
    night("2026-12-01")
    assert total(account, Component.MINIMUM) == (
        10_000_000 - 2_000_000 - floor(505_000 * PRICE) + floor(500_000 * PRICE)
    )


def test_a_year_is_settled_once_a_year() -> None:
    here = place(
        plan(minimum={"per_year": "365"}), "2026-12-01T00:00", now=local("2026-12-01T09:00")
    )
    account = here.accounts["1001"]
    night("2026-12-31")
    assert total(account) == 0
    night("2027-01-01")
    assert total(account) == 31_000_000, "31 days of a euro each"
    night("2027-12-31")
    assert total(account) == 31_000_000
    night("2028-01-01")
    assert total(account) == 31_000_000 + 365_000_000


def test_demand_counts_towards_a_bound() -> None:
    here = place(plan(minimum={"per_month": "50"},
                      demand=[{"code": "peak", "per_kw": "10", "interval_minutes": 60}]))  # fmt: skip
    account = here.accounts["1001"]
    at = local("2026-11-10T12:00")
    then = at + timedelta(hours=1)
    send(here, [("M-101", at, 1_000), ("M-101", then, 4_000)], now=then)
    night("2026-12-01")
    assert charged(account, Component.DEMAND, Component.MINIMUM) == {
        ("DEMAND", "peak"): 30_000_000,
        ("MINIMUM", "minimum"): 20_000_000 - floor(3_000 * PRICE),
    }
    assert rows("SELECT count(*) FROM bound_period WHERE account_id = %s AND is_settled", account) == [
        (1,)
    ]  # fmt: skip
    books_hold(here)
