"""A statement and an account's books say the same: random plans, the same readings, both ways.

The statement is made of a load alone, the books of readings in batches and of nightly postings. They
share prices, taxes and calendars and nothing of how amounts come about, so each holds the other.
"""

from __future__ import annotations

import os
from collections import defaultdict
from datetime import date, timedelta
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.billing.days_world import local, night, place
from tests.invariants.places import rows, send

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, system_actor
from prewatt.billing.tasks import settle_peaks
from prewatt.billing.terms import announce_event, set_terms
from prewatt.billing.trials import try_tariff
from prewatt.core.allocation import Allocation
from prewatt.core.civil_time import LocalCalendar, instant_us
from prewatt.core.loads import LoadAxis
from prewatt.core.rating import Component
from prewatt.core.statement import Statement, bill
from prewatt.core.tariff import parse_tariff

pytestmark = pytest.mark.usefixtures("database")

OPENED = "2026-11-01T00:00"
#: Long enough for a month that has ended, and for one that a ratchet looks back from.
END = "2026-12-16T00:00"
MONTHS = 2
CASES = int(os.environ.get("PREWATT_TWIN_CASES", "4"))


def documents(random: Random) -> dict[str, Any]:
    """A plan with demand under taxes of every form, and what bounds hold against it."""

    def price(most: int) -> str:
        return f"{random.randrange(1, most)}.{random.randrange(10**6):06d}"

    def rate(most: int) -> str:
        return f"{random.randrange(1, most)}.{random.randrange(10**4):04d}"

    inclusive = random.choice([True, True, False])
    parts = ["energy", "standing", "fee", "demand", "minimum"]
    on = [*random.sample(parts, random.randrange(1, 6)), "demand"]
    vat = {"code": "vat", "rate": rate(25), "inclusive": inclusive, "on": sorted(set(on))}
    if random.random() < 0.4:
        taxes = [vat | {"until": "2026-12-01"}, vat | {"rate": rate(25), "from": "2026-12-01"}]
    else:
        taxes = [vat]
        if random.random() < 0.5:
            taxes.append({"code": "levy", "rate": rate(9), "compound": random.random() < 0.5,
                          "inclusive": inclusive})  # fmt: skip
    demand: dict[str, Any] = {
        "code": "peak", "per_kw": price(12), "interval_minutes": random.choice([15, 30, 60]),
    }  # fmt: skip
    if random.random() < 0.5:
        demand["ratchet"] = {"share": "70", "months": 3}
    if random.random() < 0.5:
        demand["bands"] = ["day"]
    document: dict[str, Any] = {
        "format": "prewatt-tariff/1",
        "name": "Twin",
        "currency": "EUR",
        "energy": {
            "unit": "kWh",
            "bands": {"day": {"price": f"0.{price(9)[-6:]}"}, "night": {"price": "0.1734567"}},
            "schedule": [{"periods": [
                {"from": "00:00", "until": "06:10", "band": "night"},
                {"from": "06:10", "until": "24:00", "band": "day"},
            ]}],
        },
        "standing": {"per_month": price(9)},
        "demand": [demand],
        "taxes": taxes,
    }  # fmt: skip
    if random.random() < 0.6:
        document[random.choice(["minimum", "maximum"])] = {"per_month": price(60)}
    return document


def intervals(random: Random) -> list[tuple[int, int, int]]:
    """(from, to, Wh) without a gap from the opening to the end, mostly quarter-hours."""
    at, end, found = local(OPENED), local(END), []
    while at < end:
        step = timedelta(seconds=random.choice([900, 900, 900, 1_800, 7_777, 86_400, 200_000]))
        upto = min(at + step, end)
        found.append((instant_us(at), instant_us(upto), random.randrange(0, 4_000)))
        at = upto
    return found


def stated(statement: Statement) -> dict[tuple[str, str], Fraction]:
    """What a statement comes to by component and code."""
    found: defaultdict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for month in statement.months:
        for name, lines in (("STANDING", month.fixed), ("DEMAND", month.demand)):
            for line in lines:
                found[name, line.code] += line.amount
        found["ENERGY", ""] += sum((line.amount for line in month.energy), Fraction(0))
        for line in month.taxes:
            found["TAX", line.code] += line.amount
        # A bound of the running month is not due before the month has ended.
        found["MINIMUM", "minimum"] += month.minimum
        found["MAXIMUM", "maximum"] += month.maximum
    return {key: amount for key, amount in found.items() if amount}


def booked(account: int) -> dict[tuple[str, str], int]:
    """What an account was charged by component and code."""
    return {
        (Component(component).name, code): micro
        for component, code, micro in rows(
            """SELECT component, code, -sum(amount)::bigint FROM transfer
               WHERE account_id = %s AND kind IN (3, 9, 10) GROUP BY 1, 2""",
            account,
        )
    }


@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32))
def test_books_and_statement_agree_under_random_plans(database: str, seed: int) -> None:
    random = Random(seed)
    document, load = documents(random), intervals(random)
    here = place(document, OPENED)
    account, meter = here.accounts["1001"], "M-101"
    value = rows("SELECT last_value_wh FROM meter_state WHERE account_id = %s", account)[0][0]
    readings = []
    for _, end, wh in load:
        value += wh
        readings.append((meter, end, value))
    for at in range(0, len(readings), 400):
        batch = [(serial, moment(end), count) for serial, end, count in readings[at : at + 400]]
        send(here, batch, now=local(END) + timedelta(hours=1))
        night(moment(readings[min(at + 400, len(readings)) - 1][1]).date().isoformat())
    # The account leaves at the end, so that its bounds of the running month are settled.
    rows("UPDATE account SET closed_at = %s WHERE id = %s", local(END), account)
    night("2026-12-17")
    start, finish, energy = (np.array(each, dtype=np.int64) for each in zip(*load, strict=True))
    statement = bill(
        parse_tariff(document), LocalCalendar("Europe/Berlin"), LoadAxis(start, finish), energy,
        allocation=Allocation.CHRONOLOGICAL,
    )  # fmt: skip
    expected, found = stated(statement), booked(account)
    assert statement.months[0].first_day == date(2026, 11, 1)
    for key in expected.keys() | found.keys():
        # Each component is cut off once over the whole, demand and bounds once for each month; a
        # tax is on what was cut off, and cut off again for each of its codes and lines.
        allowed = 200 if key[0] == "TAX" else 4 * MONTHS
        assert abs(found.get(key, 0) - expected.get(key, Fraction(0))) <= allowed, (
            key, found.get(key), float(expected.get(key, 0)), document,
        )  # fmt: skip


def moment(at_us: int) -> Any:
    """The instant of so many µs."""
    return local("1970-01-01T01:00") + timedelta(microseconds=at_us)


@settings(
    max_examples=max(1, CASES // 2),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32))
def test_a_trial_of_the_plan_in_force_comes_to_what_was_booked(database: str, seed: int) -> None:
    random = Random(seed)
    document = documents(random) | {
        "overlays": [{"kind": "critical_peak", "group": "flats", "rebate": "0.7654321",
                      "baseline_days": 1}],
    }  # fmt: skip
    document["demand"][0].pop("power_factor", None)
    here = place(document, OPENED)
    account = here.accounts["1001"]
    system = system_actor("test")
    set_terms(
        actor=system, property_id=here.property_id, account_id=account, valid_from=local(OPENED),
        members=1, contracted_w=0, overlay_groups=["flats"], now=local(OPENED),
    )  # fmt: skip
    announce_event(
        actor=system, property_id=here.property_id, overlay_group="flats", now=local(OPENED),
        from_at=local("2026-12-02T10:00"), until_at=local("2026-12-02T10:20"),
    )  # fmt: skip
    at, value, readings = local(OPENED), 1_000, []
    while at < local(END):
        at += timedelta(minutes=random.choice([15, 15, 30, 60]))
        # Nothing on the day of the peak, so that there is something to give back.
        value += 0 if at.date() == date(2026, 12, 2) else random.randrange(0, 2_000)
        readings.append(("M-101", at, value))
    for first in range(0, len(readings), 300):
        send(here, readings[first : first + 300], now=local(END) + timedelta(hours=2))
        night(readings[min(first + 300, len(readings)) - 1][1].date().isoformat())
    night("2026-12-16")
    settle_peaks(now=local("2026-12-05T00:00"))
    report = try_tariff(
        actor=Actor("user:1", Duty.ADMINISTRATOR, (here.property_id,)),
        property_id=here.property_id, draft=parse_tariff(document), days=30,
        now=local("2026-12-16T09:00"),
    )  # fmt: skip
    row = report.account_ids.index(account)
    rebate = rows("SELECT sum(amount)::bigint FROM transfer WHERE reason = 'rebate.event'")[0][0]
    assert rebate > 0, "there was a peak to be seen"
    # Every part is cut off once more where the trial begins.
    assert abs(int(report.trial.difference[row])) <= 60, (seed, document)
    assert report.left_out == ()
    for other in range(len(report.account_ids)):
        assert abs(int(report.trial.difference[other])) <= 60, (other, document)
