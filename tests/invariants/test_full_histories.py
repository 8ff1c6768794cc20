"""Random histories under random price plans against the exact model, which counts every Wh as it is used.

What is compared was never near the code under test: fractions, Wh by Wh, in
``tests/core/exact_model.py``. ``PREWATT_HISTORY_CASES`` sets how many are tried. Readings come in batches of any size and late; recharges, postings and
restarts come in between; part of a history may be filled in after the fact.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import floor
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from tests.core.exact_model import Announced, ExactCustomer, ExactPrices, ExactUsage
from tests.core.tariff_strategies import full_tariff_documents
from tests.invariants.books import check_books
from tests.invariants.places import NOW, World, place, post, rows, send, wish

from prewatt.access.scope import system_actor
from prewatt.billing.tariffs import TariffBook
from prewatt.billing.terms import SeriesPrice, announce_event, append_prices, set_terms
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.vee import HELD_VERDICTS
from prewatt.vending.operations import Recharged, recharge

pytestmark = pytest.mark.usefixtures("books")

BERLIN: Final = ZoneInfo("Europe/Berlin")
#: Local midnights some days before a month, a year and two changes of the clock begin.
OPENINGS: Final = ("2025-12-29T00:00", "2026-03-27T00:00", "2026-10-23T00:00", "2026-09-28T00:00")
COMPONENTS: Final = ("charge_energy", "charge_fee", "charge_tax", "charge_subsidy")
SYSTEM: Final = system_actor("test")
FIRST_WH: Final = 1_000
CASES: Final = int(os.environ.get("PREWATT_HISTORY_CASES", "25"))
MANY = settings(
    max_examples=CASES,
    deadline=None,
    derandomize="PREWATT_HISTORY_CASES" not in os.environ,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)

Reading = tuple[datetime, int]


@dataclass
class Story:
    """One tenant's meter under one plan, what happens to it, and what the model says it costs."""

    document: Mapping[str, Any]
    random: Random
    opened: datetime
    here: World
    customer: ExactCustomer
    readings: list[Reading]

    @classmethod
    def of(cls, document: Mapping[str, Any], seed: int, opening: str, length: int) -> Story:
        """A random history; everything that is known beforehand is told to the database."""
        random = Random(seed)
        here = place(opening, {**document, "currency": "EUR"})
        rows("UPDATE property SET holiday_calendar = '' WHERE id = %s", here.property_id)
        opened = datetime.fromisoformat(opening).replace(tzinfo=BERLIN).astimezone(UTC)
        when, value, readings = opened, FIRST_WH, []
        for _ in range(length):
            when += timedelta(seconds=random.choice([900, 900, 3_600, 17_777, 86_400]))
            value += random.choice([0, 1, random.randrange(200), random.randrange(4_000)])
            readings.append((when, value))
        customer = _customer(random, opened, when, document)
        _tell(here, customer, opened)
        return cls(document, random, opened, here, customer, readings)

    @property
    def account(self) -> int:
        return self.here.accounts["1001"]

    def exact(self) -> ExactUsage:
        """What the history costs, counted in the order of time."""
        model = ExactUsage(ExactPrices("Europe/Berlin", [(0, self.document)]), self.customer)
        history = [(self.opened, FIRST_WH), *self.readings]
        for (start, low), (end, high) in pairwise(history):
            model.use(instant_us(start), instant_us(end), high - low)
        return model

    def deliver(self, order: Sequence[Reading]) -> None:
        """Readings in any batches, each a while after its instant, with what else happens."""
        book, pending = TariffBook(), list(order)
        recharges = [utc_datetime(each) for each in self.customer.recharges]
        while pending:
            size = self.random.randrange(1, 8)
            batch, pending = pending[:size], pending[size:]
            arrival = max(when for when, _ in batch)
            while recharges and recharges[0] <= arrival:
                self._recharge(recharges.pop(0))
            verdicts = send(self.here, [("M-101", *each) for each in batch], book=book)
            assert not HELD_VERDICTS & set(verdicts), "every one of these readings is true"
            what = self.random.randrange(6)
            if what == 0:
                post(self.here, until=self.random.choice([NOW, arrival]))
            elif what == 1:
                connection.close()
                book = TariffBook()
        for each in recharges:
            self._recharge(each)

    def _recharge(self, when: datetime) -> None:
        key = f"{self.here.property_id}:{when.isoformat()}"
        wanted = replace(wish(self.here, key), paid_at=when)
        (answer,) = recharge(actor=self.here.operator, recharges=[wanted], now=when)
        assert isinstance(answer, Recharged)

    def charged(self) -> list[int]:
        """What the intervals of the account sum to, by component."""
        (sums,) = rows(
            f"SELECT {', '.join(f'sum({each})::bigint' for each in COMPONENTS)} "
            "FROM interval WHERE account_id = %s",
            self.account,
        )
        return list(sums)

    def counted(self) -> tuple[int, int]:
        """Wh that the account has counted towards its steps, and towards its free energy."""
        (counts,) = rows(
            """SELECT coalesce((SELECT sum(c) FROM unnest(step_wh) AS c), 0)::bigint, allowance_wh
               FROM account_state WHERE account_id = %s""",
            self.account,
        )
        return counts

    def is_to_be_rated_anew(self) -> bool:
        return bool(rows("SELECT 1 FROM rerate_request WHERE account_id = %s", self.account))

    def books_hold(self) -> None:
        for _ in range(2):
            with connection.cursor() as cursor:
                assert check_books(cursor, [self.here.property_id]) == []
            post(self.here)


def _customer(
    random: Random, opened: datetime, end: datetime, document: Mapping[str, Any]
) -> ExactCustomer:
    """Members, contracted power, exemptions, recharges and announcements, as luck has it."""
    days = (end - opened).days + 1
    terms = [(instant_us(opened), random.randrange(1, 8), random.randrange(20_000))]
    for day in sorted(random.sample(range(1, days + 1), min(days, random.randrange(3)))):
        local = opened.astimezone(BERLIN) + timedelta(days=day)
        terms.append((instant_us(local), random.randrange(1, 8), random.randrange(20_000)))
    span = int((end - opened).total_seconds())
    recharges = sorted(
        instant_us(opened) + random.randrange(1, span) * 1_000_000
        for _ in range(random.randrange(4))
    )
    codes = [each["code"] for each in document.get("taxes", ())]
    announced: list[Announced] = []
    for overlay in document.get("overlays", ()):
        at = instant_us(opened)
        for _ in range(random.randrange(4)):
            at += random.randrange(1, max(2, span // 3)) * 1_000_000
            length = random.choice([420, 3_600, 100_000]) * 1_000_000
            price = random.randrange(-(10**8), 10**9) if overlay["kind"] == "real_time" else 0
            announced.append(Announced(overlay["kind"], overlay["group"], at, at + length, price))
            at += length
    return ExactCustomer(
        terms=terms,
        recharges=recharges,
        exempt=frozenset(random.sample(codes, random.randrange(len(codes) + 1))),
        announced=announced,
    )


def _tell(here: World, customer: ExactCustomer, opened: datetime) -> None:
    before = opened - timedelta(days=1)
    groups = sorted({each.group for each in customer.announced})
    for from_us, members, contracted_w in customer.terms:
        set_terms(
            actor=SYSTEM, property_id=here.property_id, account_id=here.accounts["1001"],
            valid_from=utc_datetime(from_us), members=members, contracted_w=contracted_w,
            exempt=sorted(customer.exempt), overlay_groups=groups, now=before,
        )  # fmt: skip
    for each in customer.announced:
        begin, end = utc_datetime(each.from_us), utc_datetime(each.until_us)
        if each.kind == "critical_peak":
            announce_event(
                actor=SYSTEM, property_id=here.property_id, overlay_group=each.group,
                from_at=begin, until_at=end, now=before,
            )  # fmt: skip
        else:
            append_prices(
                actor=SYSTEM, property_id=here.property_id, overlay_group=each.group,
                prices=[SeriesPrice(begin, end, each.price_nano)], now=before,
            )  # fmt: skip


def _in_order(document: Mapping[str, Any], seed: int, opening: str, length: int) -> None:
    story = Story.of(document, seed, opening, length)
    exact = story.exact()
    story.deliver(story.readings)
    story.books_hold()
    assert story.charged() == [
        floor(each) for each in (exact.energy, exact.fee, exact.tax, exact.subsidy)
    ]
    assert story.counted() == (sum(exact.counts.values()), exact.allowance_wh)
    assert not story.is_to_be_rated_anew()


@MANY
@given(
    document=full_tariff_documents(),
    seed=st.integers(0, 2**32),
    opening=st.sampled_from(OPENINGS),
    length=st.integers(3, 40),
)
def test_any_plan_charges_what_the_exact_model_says(
    books: str, document: dict[str, Any], seed: int, opening: str, length: int
) -> None:
    _in_order(document, seed, opening, length)


def _filled_in(document: Mapping[str, Any], seed: int, opening: str, length: int) -> Story:
    """A history of which some readings come when later ones are charged already."""
    story = Story.of(document, seed, opening, length)
    late = {each for each in story.readings[:-1] if story.random.random() < 0.3}
    order = [each for each in story.readings if each not in late]
    for each in sorted(late, key=lambda _: story.random.random()):
        after = order.index(next(other for other in order if other[0] > each[0]))
        order.insert(story.random.randrange(after + 1, len(order) + 1), each)
    story.deliver(order)
    story.books_hold()
    return story


@MANY
@given(
    document=full_tariff_documents(),
    seed=st.integers(0, 2**32),
    opening=st.sampled_from(OPENINGS),
    length=st.integers(3, 40),
)
def test_what_is_filled_in_costs_the_same_or_is_to_be_rated_anew(
    books: str, document: dict[str, Any], seed: int, opening: str, length: int
) -> None:
    story = _filled_in(document, seed, opening, length)
    exact = story.exact()
    event("to be rated anew" if story.is_to_be_rated_anew() else "exact at once")
    assert story.counted() == (sum(exact.counts.values()), exact.allowance_wh)
    if not story.is_to_be_rated_anew():
        for charged, sum_ in zip(
            story.charged(), (exact.energy, exact.fee, exact.tax, exact.subsidy), strict=True
        ):
            assert abs(charged - sum_) <= 1
