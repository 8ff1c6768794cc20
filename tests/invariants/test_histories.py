"""Random histories against an independent exact model: whatever the order, the same cents.

A history is a few meters over a week in which the clock is changed, delivered in random batches with
duplicates, late comers and jumps over gaps that are filled afterwards, between recharges, postings,
tenant changes and restarts. What is compared was never near the code under test: fractions, minute by
minute, in ``tests/core/exact_model.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from random import Random
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.core.exact_model import exact_charges
from tests.invariants.mutations import nothing_is_taken_back, the_carry_is_forgotten
from tests.invariants.places import NOW, OPENING_MICRO, PRICES, World, pay, place, post, rows, send
from tests.moves.world import tenant

import prewatt.moves.operations as moves
from cases import cases
from prewatt.billing.memory import Memory
from prewatt.billing.tariffs import TariffBook
from prewatt.core.civil_time import instant_us
from prewatt.core.vee import HELD_VERDICTS
from prewatt.reports.books import check_books
from prewatt.vending.operations import Recharged

pytestmark = pytest.mark.usefixtures("books")

#: Local midnights of Berlin before the clock goes back, before it goes forward, and of a plain week.
WEEKS: Final = ("2026-10-23T00:00", "2026-03-27T00:00", "2026-11-01T00:00")
METERS: Final = {
    "M-101": ("1001", 1_000),
    "M-102": ("V-A-102", 2_000),
    "M-LIFT": ("OWN-LIFT", 3_000),
}
OPENINGS: Final = {"1001": OPENING_MICRO, "V-A-102": 0, "OWN-LIFT": 100_000_000}
Reading = tuple[str, datetime, int]


@dataclass
class Model:
    """Who counted what, and who paid what: account → meter → known readings, account → money."""

    known: dict[int, dict[str, set[tuple[int, int]]]] = field(default_factory=dict)
    paid: dict[int, int] = field(default_factory=dict)
    #: Each meter's payers, oldest first: (opened at, account). A boundary belongs to the former.
    payers: dict[str, list[tuple[datetime, int]]] = field(default_factory=dict)
    last: dict[str, tuple[datetime, int]] = field(default_factory=dict)

    def open(self, meter: str, account: int, when: datetime, value: int) -> None:
        """From now on the account pays for the meter."""
        self.payers.setdefault(meter, []).append((when, account))
        self.known.setdefault(account, {}).setdefault(meter, set()).add((instant_us(when), value))
        self.last[meter] = (when, value)

    def read(self, meter: str, when: datetime, value: int) -> None:
        """Give a reading to whoever paid at its instant."""
        account = [payer for opened, payer in self.payers[meter] if opened < when][-1]
        self.known[account][meter].add((instant_us(when), value))
        self.last[meter] = max(self.last[meter], (when, value))

    def available(self, account: int) -> int:
        """What the account shows: charges are cut off to whole micro-units, the rest is carried."""
        owed = sum(exact_charges(each, PRICES) for each in self.known[account].values())
        return ceil(self.paid.get(account, 0) - owed)

    def energy_wh(self, account: int) -> int:
        """The way of every register from its first to its last reading."""
        return sum(max(each)[1] - min(each)[1] for each in self.known[account].values() if each)


def _truth(random: Random, opened: datetime, length: int) -> list[Reading]:
    """Registers as the meters counted them, at steps of minutes to a day, odd seconds included."""
    readings = []
    for meter, (_, opening) in METERS.items():
        when, count = opened, opening
        for _ in range(length):
            step = random.choice([900, 900, 1_800, 3_600, 17_777, 86_400])
            when += timedelta(seconds=step)
            # At most what 25 kW can do, and often nothing at all.
            count += random.choice([0, 1, random.randrange(step * 6)])
            readings.append((meter, when, count))
    return readings


def _as_delivered(random: Random, truth: list[Reading]) -> list[list[Reading]]:
    """Late, twice and in batches of any size: the way readings come."""
    lateness = random.choice([0, 3_600, 40_000, 400_000])
    order = sorted(truth, key=lambda each: each[1] + timedelta(seconds=random.random() * lateness))
    for _ in range(random.randrange(len(order))):
        order.insert(random.randrange(len(order)), random.choice(order))
    batches = []
    while order:
        size = random.randrange(1, 25)
        batches.append(order[:size])
        order = order[size:]
    return batches


@settings(
    max_examples=cases(8),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32), week=st.sampled_from(WEEKS), length=st.integers(3, 30))
def test_any_history_ends_in_the_exact_models_cents(
    books: str, seed: int, week: str, length: int
) -> None:
    _live_through(seed, week, length)


@pytest.mark.parametrize("break_it", [the_carry_is_forgotten, nothing_is_taken_back])
def test_a_mutation_does_not_live_through_a_history(
    books: str, break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    with pytest.raises(AssertionError):
        _live_through(4, WEEKS[0], 25)


def _live_through(seed: int, week: str, length: int) -> None:
    """One history, and the comparison at its end."""
    random = Random(seed)
    here = place(week)
    opened = datetime.fromisoformat(week).replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
    model = Model()
    for meter, (number, value) in METERS.items():
        model.open(meter, here.accounts[number], opened, value)
    model.paid |= {here.accounts[number]: amount for number, amount in OPENINGS.items()}
    book, memory = TariffBook(), Memory()
    for number, batch in enumerate(_as_delivered(random, _truth(random, opened, length))):
        verdicts = send(here, batch, book=book, memory=memory)
        assert not HELD_VERDICTS & set(verdicts), "every one of these readings is true"
        for reading in batch:
            model.read(*reading)
        what = random.randrange(8)
        if what == 0:
            post(here, until=random.choice([NOW, batch[-1][1]]))
        elif what == 1:
            tenant_account = model.payers["M-101"][-1][1]
            answer = pay(here, f"r{number}", random.randrange(1, 10**8), tenant_account)
            assert isinstance(answer, Recharged)
            model.paid[tenant_account] = model.paid.get(tenant_account, 0) + answer.amount
        elif what == 2:
            _change_tenant(here, model, number)
        elif what == 3:
            # A restart: nothing survives but the database.
            connection.close()
            book, memory = TariffBook(), Memory()
    _compare(here, model)
    post(here)
    _compare(here, model)


def _change_tenant(here: World, model: Model, number: int) -> None:
    when, value = model.last["M-101"]
    when += timedelta(minutes=1)
    changed = moves.tenant_change(
        actor=here.administrator,
        unit_id=here.units["101"],
        at=when,
        key=f"{here.property_id}:move{number}",
        now=NOW,
        tenant=tenant(),
        registers=here.register("M-101", value),
    )
    model.read("M-101", when, value)
    model.open("M-101", changed.account_id, when, value)


def _compare(here: World, model: Model) -> None:
    found = {
        account: (available, energy)
        for account, available, energy in rows(
            """SELECT s.account_id, s.available, coalesce((SELECT sum(energy_wh) FROM interval i
                      WHERE i.account_id = s.account_id), 0)
               FROM account_state s WHERE property_id = %s""",
            here.property_id,
        )
    }
    expected = {
        account: (model.available(account), model.energy_wh(account)) for account in model.known
    }
    assert {account: found[account] for account in expected} == expected
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []
