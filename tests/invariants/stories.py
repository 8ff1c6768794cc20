"""One tenant's meter under a price plan: what happens to it, and what the exact model says it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import floor
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.db import connection
from tests.core.exact_model import Announced, ExactCustomer, ExactPrices, ExactUsage
from tests.invariants.places import NOW, World, place, post, rows, send, wish

from prewatt.access.scope import system_actor
from prewatt.billing.memory import Memory
from prewatt.billing.tariffs import TariffBook
from prewatt.billing.terms import (
    SeriesPrice,
    TermsRefused,
    announce_event,
    append_prices,
    set_terms,
)
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.vee import HELD_VERDICTS
from prewatt.reports.books import check_books
from prewatt.vending.operations import Recharged, recharge

BERLIN: Final = ZoneInfo("Europe/Berlin")
COMPONENTS: Final = ("charge_energy", "charge_fee", "charge_tax", "charge_subsidy")
SYSTEM: Final = system_actor("test")
FIRST_WH: Final = 1_000
Reading = tuple[datetime, int]


def berlin(text: str) -> datetime:
    """An instant by local civil time."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


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
        opened = berlin(opening)
        when, value, readings = opened, FIRST_WH, []
        for _ in range(length):
            when += timedelta(seconds=random.choice([900, 900, 3_600, 17_777, 86_400]))
            value += random.choice([0, 1, random.randrange(200), random.randrange(4_000)])
            readings.append((when, value))
        customer = _customer(random, opened, when, document)
        return cls.told(document, opening, readings, customer, random)

    @classmethod
    def told(
        cls,
        document: Mapping[str, Any],
        opening: str,
        readings: Sequence[Reading],
        customer: ExactCustomer | None = None,
        random: Random | None = None,
    ) -> Story:
        """A history that is given, from a local midnight on."""
        here = place(opening, {**document, "currency": "EUR"})
        rows("UPDATE property SET holiday_calendar = '' WHERE id = %s", here.property_id)
        opened = berlin(opening)
        customer = customer or ExactCustomer(terms=[(instant_us(opened), 1, 0)])
        _tell(here, customer, opened)
        return cls(document, random or Random(0), opened, here, customer, list(readings))

    @property
    def account(self) -> int:
        return self.here.accounts["1001"]

    def exact(self, count: int | None = None) -> ExactUsage:
        """What the history costs, or the first `count` readings of it, counted in the order of time."""
        model = ExactUsage(ExactPrices("Europe/Berlin", [(0, self.document)]), self.customer)
        history = [(self.opened, FIRST_WH), *self.readings[:count]]
        for (start, low), (end, high) in pairwise(history):
            model.use(instant_us(start), instant_us(end), high - low)
        return model

    def exactly(self, count: int | None = None) -> list[int]:
        """What the account is charged by component when nothing comes late."""
        exact = self.exact(count)
        return [floor(each) for each in (exact.energy, exact.fee, exact.tax, exact.subsidy)]

    def send(self, *readings: Reading) -> None:
        """One batch."""
        verdicts = send(self.here, [("M-101", *each) for each in readings])
        assert not HELD_VERDICTS & set(verdicts), "every one of these readings is true"

    def deliver(self, order: Sequence[Reading]) -> None:
        """Readings in any batches, each a while after its instant, with what else happens."""
        book, memory, pending = TariffBook(), Memory(), list(order)
        recharges = [utc_datetime(each) for each in self.customer.recharges]
        while pending:
            size = self.random.randrange(1, 8)
            batch, pending = pending[:size], pending[size:]
            arrival = max(when for when, _ in batch)
            while recharges and recharges[0] <= arrival:
                self.recharge(recharges.pop(0))
            verdicts = send(
                self.here, [("M-101", *each) for each in batch], book=book, memory=memory
            )
            assert not HELD_VERDICTS & set(verdicts), "every one of these readings is true"
            what = self.random.randrange(6)
            if what == 0:
                post(self.here, until=self.random.choice([NOW, arrival]))
            elif what == 1:
                connection.close()
                book, memory = TariffBook(), Memory()
        for each in recharges:
            self.recharge(each)

    def recharge(self, when: datetime) -> None:
        """Money at an instant."""
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
        """Whether somebody asked for it."""
        return bool(self.rated_anew_from())

    def rated_anew_from(self) -> list[datetime]:
        """From when on, if at all."""
        found = rows("SELECT from_at FROM rerate_request WHERE account_id = %s", self.account)
        return [each for (each,) in found]

    def books_hold(self) -> None:
        """Before and after everything is posted."""
        for _ in range(2):
            assert self.breaches() == []
            post(self.here)

    def breaches(self) -> list[str]:
        """What is wrong with the property's books now."""
        with connection.cursor() as cursor:
            return check_books(cursor, [self.here.property_id])


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
        # Terms that hold already are no change.
        with suppress(TermsRefused):
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
