"""Invariants 2 and 5 under a plan with everything that usage can cost: steps, taxes, fees, subsidies.

Each check lives through one history that is told in full, and holds it to the exact model. The same
checks are run on mutations of the code, which they must notice.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, Final

from tests.core.exact_model import ExactCustomer
from tests.invariants.places import NOW, one, post, rows
from tests.invariants.stories import Story, berlin

from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.civil_time import instant_us
from prewatt.core.rating import Component

OPENING: Final = "2026-10-29T00:00"
#: Steps by month, two bands, a fee per kWh and one as a share, a compound tax, free energy, a rebate.
LADDER: Final[dict[str, Any]] = {
    "format": "prewatt-tariff/1",
    "name": "Ladder",
    "currency": "EUR",
    "energy": {
        "unit": "kWh",
        "bands": {
            "day": {"prices": ["0.2876543", "0.3176543", "0.4076543"]},
            "night": {"prices": ["0.1734567", "0.1934567", "0.2734567"]},
        },
        "schedule": [
            {
                "periods": [
                    {"from": "00:00", "until": "06:00", "band": "night"},
                    {"from": "06:00", "until": "22:00", "band": "day"},
                    {"from": "22:00", "until": "24:00", "band": "night"},
                ]
            }
        ],
        "steps": {
            "kind": "graduated",
            "window": "month",
            "scope": "all",
            "limits": ["10", "25"],
        },
    },
    "fees": [
        {"code": "service", "per_kwh": "0.0103333"},
        {"code": "handling", "share": "1.37"},
    ],
    "taxes": [
        {"code": "levy", "rate": "2.05", "on": ["energy"]},
        {"code": "vat", "rate": "19", "compound": True, "on": ["energy", "fee"]},
    ],
    "allowances": [
        {"code": "free-basic", "free_kwh": "3", "window": "month"},
        {"code": "relief", "per_kwh": "0.0042"},
    ],
}
WINDOWS: Final = {
    **LADDER,
    "energy": {**LADDER["energy"], "steps": {**LADDER["energy"]["steps"], "window": "purchase"}},
}


def hourly(wh: int, hours: int, start: str = OPENING) -> list[tuple[datetime, int]]:
    """One reading an hour, of so many Wh each and a few more."""
    begin = berlin(start)
    return [
        (begin + timedelta(hours=number), 1_000 + wh * number + number % 7)
        for number in range(1, hours + 1)
    ]


def full_usage(dsn: str) -> None:
    """Every reading a batch of its own, over the end of a month, posted in between."""
    story = Story.told(LADDER, OPENING, hourly(411, 130))
    for number, reading in enumerate(story.readings):
        story.send(reading)
        if number in (20, 80):
            # What is wrong by now needs no further hours to be seen.
            assert story.charged() == story.exactly(number + 1)
            post(story.here, until=reading[0])
            assert story.breaches() == []
    assert story.charged() == story.exactly()
    assert story.counted() == (_since(story, "2026-11-01T00:00"),) * 2
    story.books_hold()
    _agrees_with_ledger(story)


def _since(story: Story, begin: str) -> int:
    known = dict(story.readings)
    return max(known.values()) - known[berlin(begin)]


def _agrees_with_ledger(story: Story) -> None:
    """Who got what: each code's share of what was charged, to within a millionth a day."""
    booked = {
        (component, code): (amount, counter, rate)
        for component, code, amount, counter, rate in rows(
            """SELECT component, code, -sum(amount)::bigint, max(counter_account), max(tax_rate_ppm)
               FROM transfer WHERE account_id = %s AND kind = %s GROUP BY component, code""",
            story.account, int(TransferKind.USAGE),
        )
    }  # fmt: skip
    energy, fee, _, subsidy = story.charged()
    wh = sum(each.energy_wh for each in story.exact().parts)
    levy, vat = Fraction(205, 10_000), Fraction(19, 100)
    rebate = -Fraction(42 * wh, 10)
    expected = {
        (Component.ENERGY, ""): (Fraction(energy), CounterAccount.ENERGY_REVENUE, 0),
        (Component.FEE, "service"): (
            Fraction(103_333 * wh, 10_000), CounterAccount.FEE_REVENUE, 0,
        ),
        (Component.FEE, "handling"): (
            Fraction(137 * energy, 10_000), CounterAccount.FEE_REVENUE, 0,
        ),
        (Component.TAX, "levy"): (energy * levy, CounterAccount.TAX_PAYABLE, 20_500),
        (Component.TAX, "vat"): (
            energy * (1 + levy) * vat + fee * vat, CounterAccount.TAX_PAYABLE, 190_000,
        ),
        (Component.SUBSIDY, "relief"): (rebate, CounterAccount.SUBSIDY_FUNDING, 0),
        (Component.SUBSIDY, "free-basic"): (subsidy - rebate, CounterAccount.SUBSIDY_FUNDING, 0),
    }  # fmt: skip
    assert booked.keys() == {(int(component), code) for component, code in expected}
    for (component, code), (amount, counter, rate) in expected.items():
        found, its_counter, its_rate = booked[int(component), code]
        assert (its_counter, its_rate) == (int(counter), rate), code
        assert abs(found - amount) <= 12, (code, found, amount)


def full_late(dsn: str) -> None:
    """A gap over the end of a month is charged, then filled in, when more is charged already."""
    story = Story.told(LADDER, OPENING, hourly(411, 130))
    gap = [each for each in story.readings if 40 <= _hour(story, each) < 78]
    rest = [each for each in story.readings if each not in gap]
    story.send(*rest[:50])
    before = story.charged()
    story.send(*gap)
    # Of all that came since, the first ten hours of November stood behind what was filled in.
    assert before != story.charged()
    assert story.counted()[0] == rest[49][1] - dict(story.readings)[berlin("2026-11-01T00:00")]
    story.send(*rest[50:])
    november = berlin("2026-11-01T00:00")
    assert story.rated_anew_from() == [november]
    _is_exact_until(story, november)
    story.books_hold()
    _fills_in_without_effect()


def _hour(story: Story, reading: tuple[datetime, int]) -> int:
    return int((reading[0] - story.opened) / timedelta(hours=1))


def _is_exact_until(story: Story, until: datetime) -> None:
    """What lies before has the charges of the exact model."""
    parts = [each for each in story.exact().parts if each.start_us < instant_us(until)]
    expected = sum((each.charge for each in parts), Fraction(0))
    found = one(
        "SELECT sum(charge_energy)::bigint FROM interval WHERE account_id = %s AND from_at < %s",
        story.account, until,
    )  # fmt: skip
    assert abs(found - expected) <= 1


def _fills_in_without_effect() -> None:
    """A gap within one window moves no step of what came after it: nobody has to rate it anew."""
    story = Story.told(LADDER, "2026-11-01T00:00", hourly(411, 70, "2026-11-01T00:00"))
    gap = [each for each in story.readings if 20 <= _hour(story, each) < 30]
    story.send(*(each for each in story.readings if each not in gap))
    story.send(*gap)
    assert story.rated_anew_from() == []
    energy, exact = story.charged()[0], story.exactly()[0]
    assert energy == exact
    assert story.counted() == (story.readings[-1][1] - 1_000,) * 2
    story.books_hold()


def full_purchases(dsn: str) -> None:
    """Steps begin anew with each recharge, at the first interval that starts at or after it."""
    readings = hourly(411, 100)
    recharged = [
        readings[30][0] + timedelta(minutes=20),
        readings[32][0],
        readings[70][0] + timedelta(minutes=59),
    ]
    customer = ExactCustomer(
        terms=[(instant_us(berlin(OPENING)), 1, 0)],
        recharges=[instant_us(each) for each in recharged],
    )
    story = Story.told(WINDOWS, OPENING, readings, customer)
    # A step is reached in what is filled in when its purchase is over.
    late = readings[50:64]
    story.recharge(recharged[0])
    story.recharge(recharged[1])
    story.send(*(each for each in readings[:66] if each not in late))
    story.recharge(recharged[2])
    story.send(*readings[66:90])
    story.send(*late)
    story.send(*readings[90:])
    assert story.counted()[0] == readings[-1][1] - readings[71][1]
    steps = rows(
        "SELECT step, sum(energy_wh)::bigint FROM interval WHERE account_id = %s GROUP BY 1 ORDER BY 1",
        story.account,
    )  # fmt: skip
    exact = story.exact()
    expected = [
        (step, sum(each.energy_wh for each in exact.parts if each.step == step))
        for step in range(2)
    ]
    assert steps == expected
    assert abs(story.charged()[0] - exact.energy) <= 1
    assert one("SELECT purchase_no FROM account_state WHERE account_id = %s", story.account) == 3
    story.books_hold()
    assert readings[-1][0] < NOW


def full_purchase_in_parts(dsn: str) -> None:
    """An interval over a recharge comes again in parts, of which the last begin after it."""
    readings = hourly(411, 12)
    recharged = readings[3][0] + timedelta(minutes=20)
    customer = ExactCustomer(
        terms=[(instant_us(berlin(OPENING)), 1, 0)], recharges=[instant_us(recharged)]
    )
    story = Story.told(WINDOWS, OPENING, readings, customer)
    story.send(*readings[:4])
    story.recharge(recharged)
    story.send(readings[6])
    assert story.counted()[0] == readings[6][1] - 1_000, "all of it began before the recharge"
    story.send(*readings[4:6])
    assert story.counted()[0] == readings[6][1] - readings[4][1]
    story.books_hold()
    story.send(*readings[7:])
    assert story.counted()[0] == readings[-1][1] - readings[4][1]
    assert story.charged()[0] == story.exactly()[0]
    story.books_hold()
