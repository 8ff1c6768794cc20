"""Rating anew: the exact model's cents for the truth as it is known at last, and nothing twice."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from math import floor
from random import Random
from typing import Any

import pytest
from django.db import connection
from tests.conftest import role_dsn
from tests.core.exact_model import (
    Announced,
    ExactCustomer,
    ExactPrices,
    ExactUsage,
    exact_charges,
)
from tests.invariants.places import (
    CLERK,
    NOW,
    OPENED,
    PRICES,
    TARIFF,
    World,
    at,
    one,
    place,
    post,
    rows,
    send,
    signed_in,
    wish,
)
from tests.moves.world import tenant

from agreements import agreed
from cases import cases
from prewatt.access.scope import system_actor
from prewatt.billing import rerating
from prewatt.billing.models import Tariff
from prewatt.billing.operations import SelfApproval, advance_epoch, create_tariff_version
from prewatt.billing.plans import wanted_correction
from prewatt.billing.queries import plans_at
from prewatt.billing.rerate_requests import request_rerating
from prewatt.billing.rerating import Corrected, CorrectionRefused, correct_tariff, rerate
from prewatt.billing.tasks import rate_anew
from prewatt.billing.terms import (
    SeriesPrice,
    TermsRefused,
    announce_event,
    append_prices,
    set_terms,
)
from prewatt.core.accounts import TransferKind
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.vee import HELD_VERDICTS
from prewatt.ledger.operations import close_period
from prewatt.moves import operations as moves
from prewatt.reports.books import check_books
from prewatt.vending.operations import Recharged, recharge

pytestmark = pytest.mark.usefixtures("database")

FLAT = {
    "format": "prewatt-tariff/1",
    "name": "One price",
    "currency": "EUR",
    "energy": {"unit": "kWh", "bands": {"all": {"price": "0.1999999"}}},
}


def tariff(here: World, code: str, document: dict[str, Any]) -> None:
    """An approved tariff that has held for ever."""
    create_tariff_version(
        actor=CLERK, property_id=here.property_id, code=code, name=code, document=document,
        valid_from=datetime(2026, 1, 1, tzinfo=UTC), approved_by="user:2", now=NOW,
    )  # fmt: skip


def correct(here: World, code: str, from_at: datetime, **changes: Any) -> list[Corrected]:
    """The tenant's account, put on the right tariff by an administrator; another one asked for it."""
    accounts = changes.get("account_ids", [here.accounts["1001"]])
    plan = Tariff.objects.filter(property_id=here.property_id, code=code).first()
    on = plans_at(accounts, from_at)
    effect = {
        "plan": plan and plan.pk, "valid_from": from_at.isoformat(), "withdraws": False,
        "accounts": sorted(set(accounts)),
        "before": [on[each].tariff_id if each in on else None for each in sorted(set(accounts))],
    }  # fmt: skip
    with agreed("billing.correction", here.property_id, "here", effect):
        return correct_tariff(
            **{
                "actor": here.administrator,
                "property_id": here.property_id,
                "account_ids": accounts,
                "tariff_code": code,
                "from_at": from_at,
                "reason": "The contract says the flat price",
                "made_by": "user:9",
                "about": "here",
                "now": NOW,
                **changes,
            }
        )


def again(here: World, from_at: datetime) -> list[Corrected]:
    """Rate the tenant's account anew."""
    return rerate(
        actor=CLERK,
        account_ids=[here.accounts["1001"]],
        from_at=from_at,
        reason="late_reading",
        now=NOW,
    )


def available(here: World) -> int:
    return int(
        one("SELECT available FROM account_state WHERE account_id = %s", here.accounts["1001"])
    )


def charged(here: World, charge: str = "charge_energy") -> int:
    return int(
        one(
            f"SELECT coalesce(sum({charge}), 0) FROM interval WHERE account_id = %s",
            here.accounts["1001"],
        )
    )


def rows_written(here: World) -> list[Any]:
    """How much there is of everything that only grows."""
    return [
        one(f"SELECT count(*) FROM {table} WHERE account_id = %s", here.accounts["1001"])
        for table in ("interval", "transfer", "posting", "message")
    ]


def books_hold(here: World) -> None:
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def used(here: World, readings: Sequence[tuple[float, int]]) -> list[tuple[int, int]]:
    """Send the tenant's readings (hours, register) and return them with the first, for the model."""
    send(here, [("M-101", at(hours), value) for hours, value in readings])
    return [(instant_us(OPENED), 1_000)] + [(instant_us(at(h)), value) for h, value in readings]


READINGS = [(hour * 5.3, 1_000 + hour * 777) for hour in range(1, 30)]


def test_a_wrong_tariff_costs_what_the_right_one_would_have_from_its_instant_on() -> None:
    here = place()
    tariff(here, "right", FLAT)
    known = used(here, READINGS[:20])
    post(here, until=at(60))
    before, energy = available(here), charged(here, "energy_wh")
    (corrected,) = correct(here, "right", at(30))
    prices = ExactPrices("Europe/Berlin", [(0, PRICES.versions[0][1]), (instant_us(at(30)), FLAT)])
    assert abs(charged(here) - exact_charges(known, prices)) <= 1
    assert charged(here, "energy_wh") == energy
    assert before - available(here) == corrected.difference < 0
    assert corrected.since == at(5 * 5.3), "where the first interval that differs begins"
    books_hold(here)
    # What comes afterwards is rated by the right one.
    known += used(here, READINGS[20:])[1:]
    assert abs(charged(here) - exact_charges(known, prices)) <= 1
    grown = rows_written(here)
    assert again(here, at(0)) == again(here, at(30)) == again(here, at(77)) == []
    assert rows_written(here) == grown, "a second run writes nothing"


def test_the_difference_is_an_event_of_its_own_that_names_what_it_corrects() -> None:
    here = place()
    tariff(here, "right", FLAT)
    used(here, READINGS)
    post(here, until=at(60))
    (corrected,) = correct(here, "right", OPENED)
    event = one("SELECT max(event_id) FROM transfer WHERE account_id = %s", corrected.account_id)
    legs = rows(
        """SELECT t.kind, t.reason, t.amount, t.energy_wh, c.kind, c.component = t.component,
                  (c.service_from AT TIME ZONE 'Europe/Berlin')::date
                      = (t.service_from AT TIME ZONE 'Europe/Berlin')::date
           FROM transfer t LEFT JOIN transfer c ON c.account_id = t.account_id
               AND c.seq = t.corrects_seq AND c.event_id = t.corrects_event_id
           WHERE t.account_id = %s AND t.event_id = %s""",
        corrected.account_id, event,
    )  # fmt: skip
    assert len(legs) > 10
    assert {each[:2] for each in legs} == {(int(TransferKind.CORRECTION), "wrong_tariff")}
    assert {each[4:] for each in legs} == {(int(TransferKind.USAGE), True, True)}
    assert sum(each[2] for each in legs) == -corrected.difference
    assert sum(each[3] for each in legs) == 0
    books_hold(here)


def test_a_tariff_that_was_wrong_from_the_first_instant_is_corrected_there() -> None:
    here = place()
    tariff(here, "right", FLAT)
    known = used(here, READINGS)
    start = one(
        "SELECT min(valid_from) FROM tariff_assignment WHERE account_id = %s", here.accounts["1001"]
    )
    correct(here, "right", start)
    assert abs(charged(here) - exact_charges(known, ExactPrices("Europe/Berlin", [(0, FLAT)]))) <= 1
    assert (
        one("SELECT count(*) FROM tariff_assignment WHERE account_id = %s", here.accounts["1001"])
        == 2
    )
    books_hold(here)


def test_a_correction_is_refused_before_anything_is_written() -> None:
    here = place()
    tariff(here, "right", FLAT)
    used(here, READINGS)
    grown = rows_written(here)
    with pytest.raises(SelfApproval):
        correct(here, "right", at(5), made_by="user:5")
    for reason, instant, accounts in (
        ("future", NOW, [here.accounts["1001"]]),
        ("none", at(5), []),
    ):
        with pytest.raises(CorrectionRefused) as refused:
            correct(here, "right", instant, account_ids=accounts)
        assert refused.value.reason == reason
    assert rows_written(here) == grown


# --- steps, fees, taxes and allowances: the truth as it is known at last ---

BANDS = {
    "day": {"prices": ["0.2123457", "0.2976543", "0.4"]},
    "night": {"prices": ["0.1111111", "0.1777777", "0.3"]},
}
SCHEDULE = TARIFF["energy"]["schedule"]
EXTRAS = {
    "taxes": [
        {"code": "vat", "label": "VAT", "rate": "19", "on": ["energy", "fee"]},
        {"code": "levy", "label": "Levy", "rate": "2.5501", "compound": True, "on": ["energy"]},
    ],
    "allowances": [
        {"code": "free", "label": "Free energy", "free_kwh": "7", "window": "month"},
        {"code": "rebate", "label": "Rebate", "per_kwh": "0.0123457"},
    ],
    "fees": [
        {"code": "service", "label": "Service", "per_kwh": "0.0033333"},
        {"code": "share", "label": "Share", "share": "1.2345"},
    ],
}
#: What may be announced; the account follows the group.
OVERLAYS = [
    {"kind": "critical_peak", "group": "shops", "adder": "0.3333333"},
    {"kind": "critical_peak", "group": "shops", "price": "0.9999999"},
    {"kind": "real_time", "group": "spot", "share": "87.5", "adder": "0.0111111"},
]
GROUPS = ("shops", "spot")
NO_TAX: frozenset[str] = frozenset()


def stepped(random: Random, *, extras: bool) -> dict[str, Any]:
    """A plan whose steps are reached within days."""
    steps = {
        "kind": random.choice(["graduated", "whole_usage"]),
        "window": random.choice(["day", "month", "month", "quarter", "year", "purchase"]),
        "scope": random.choice(["all", "each"]),
        "limits": random.choice([["20", "60"], ["3.5", "150"], ["0.1", "0.2"]]),
        "scale": random.choice(["none", "members"]),
    }
    document: dict[str, Any] = {
        "format": "prewatt-tariff/1",
        "name": "Stepped",
        "currency": "EUR",
        "energy": {"unit": "kWh", "bands": BANDS, "schedule": SCHEDULE, "steps": steps},
    }
    if extras:
        document |= {name: EXTRAS[name] for name in EXTRAS if random.random() < 0.7}
        document["overlays"] = random.sample(OVERLAYS, 1)
    return document


#: Random lives of each kind; a sweep has more.
LIVES = int(os.environ.get("PREWATT_TEST_LIVES", "2"))

AUTUMN = datetime(2026, 10, 22, 22, 0, tzinfo=UTC)
"""Midnight of 23 October in Berlin: two days before the clock goes back, nine before a new month."""


Reading = tuple[str, datetime, int]


@dataclass
class Life:
    """The tenant's readings as the meter counted them, and all that held at last."""

    known: dict[int, int]
    versions: list[tuple[int, dict[str, Any]]]
    terms: list[tuple[int, int, int]] = field(default_factory=list)
    exemptions: list[tuple[int, frozenset[str]]] = field(default_factory=list)
    recharges: list[int] = field(default_factory=list)
    announced: list[Announced] = field(default_factory=list)
    corrections: int = 0

    def exact(self) -> ExactUsage:
        """What all of it costs, in order of time."""
        customer = ExactCustomer(
            terms=sorted(self.terms) or [(0, 1, 0)],
            recharges=self.recharges,
            announced=self.announced,
            exemptions=sorted(self.exemptions, key=lambda each: each[0]),
        )
        usage = ExactUsage(ExactPrices("Europe/Berlin", self.versions), customer)
        for (start, before), (end, after) in pairwise(sorted(self.known.items())):
            usage.use(start, end, after - before)
        return usage


def _set_terms(
    here: World, life: Life, day: datetime, members: int, exempt: frozenset[str] = NO_TAX
) -> None:
    at_us = instant_us(day)
    if not life.terms:
        # What held until the first terms goes on until then.
        life.terms.append((instant_us(AUTUMN), 1, 0))
        life.exemptions.append((instant_us(AUTUMN), NO_TAX))
    life.terms = [each for each in life.terms if each[0] != at_us]
    life.terms.append((at_us, members, 0))
    life.exemptions = [each for each in life.exemptions if each[0] != at_us]
    life.exemptions.append((at_us, exempt))
    with suppress(TermsRefused):
        set_terms(
            actor=system_actor("owner"), property_id=here.property_id,
            account_id=here.accounts["1001"], valid_from=day, members=members, contracted_w=0,
            exempt=sorted(exempt), overlay_groups=GROUPS, now=NOW,
        )  # fmt: skip


def _announce(here: World, life: Life, random: Random) -> None:
    """Two critical peaks before they begin, and a first hour of the series."""
    for day in (1, 9):
        begin = AUTUMN + timedelta(days=day, seconds=random.randrange(40_000))
        end = begin + timedelta(seconds=random.choice([900, 12_345, 100_000]))
        announce_event(
            actor=here.administrator, property_id=here.property_id, overlay_group="shops",
            from_at=begin, until_at=end, now=AUTUMN - timedelta(days=1),
        )  # fmt: skip
        life.announced.append(
            Announced("critical_peak", "shops", instant_us(begin), instant_us(end))
        )


def _append_price(here: World, life: Life, random: Random) -> None:
    """Go on with the series, hours or days behind what was used."""
    begin = AUTUMN + timedelta(hours=7)
    if spot := [each.until_us for each in life.announced if each.kind == "real_time"]:
        begin = utc_datetime(spot[-1])
    end = begin + timedelta(seconds=random.choice([3_600, 43_210, 200_000]))
    price = random.randrange(-(10**8), 10**9)
    append_prices(
        actor=here.administrator, property_id=here.property_id, overlay_group="spot",
        prices=[SeriesPrice(begin, end, price)], now=NOW,
    )  # fmt: skip
    life.announced.append(Announced("real_time", "spot", instant_us(begin), instant_us(end), price))


def _recharge(here: World, life: Life, when: datetime) -> None:
    wanted = replace(wish(here, f"{here.property_id}:{when.isoformat()}"), paid_at=when)
    (answer,) = recharge(actor=here.operator, recharges=[wanted], now=when)
    assert isinstance(answer, Recharged)
    life.recharges.append(instant_us(when))


def _correct_to(here: World, life: Life, document: dict[str, Any], begin: datetime) -> None:
    code = f"p{one('SELECT count(*) FROM tariff')}"
    tariff(here, code, document)
    life.versions = [each for each in life.versions if each[0] != instant_us(begin)]
    life.versions.append((instant_us(begin), document))
    life.corrections += 1
    correct(here, code, begin)


def _delivered(
    random: Random, readings: list[Reading], *, interleaved: bool
) -> Iterator[list[Reading]]:
    """Batches with late readings: all along, or in the first half only."""
    half = len(readings) if interleaved else len(readings) // 2
    late = sorted(
        readings[:half], key=lambda each: each[1] + timedelta(hours=random.random() * 200)
    )
    left = late + readings[half:]
    while left:
        size = random.randrange(1, 12)
        if not interleaved and len(left) > len(readings) - half:
            size = min(size, len(left) - (len(readings) - half))
        yield left[:size]
        left = left[size:]


def live(seed: int, *, extras: bool, interleaved: bool = False) -> tuple[World, Life]:
    """A life full of late readings, changed terms and plans that were wrong; everything is known."""
    random = Random(seed)
    here = place("2026-10-23T00:00")
    life = Life({instant_us(AUTUMN): 1_000}, [(0, TARIFF)])
    readings, when, count = [], AUTUMN, 1_000
    for _ in range(random.randrange(5, 60)):
        step = random.choice([900, 3_600, 3_600, 17_777, 86_400])
        when += timedelta(seconds=step)
        # At most what 21 kW can do, and often nothing at all.
        count += random.choice([0, 1, random.randrange(min(step * 6, 20_000))])
        if when < NOW - timedelta(hours=1):
            readings.append(("M-101", when, count))
    life.known |= {instant_us(at): value for _, at, value in readings}
    if extras:
        _set_terms(here, life, AUTUMN, 1)
        _announce(here, life, random)
    seconds = int((readings[-1][1] - AUTUMN).total_seconds())
    bought = sorted(random.randrange(1, seconds) for _ in range(random.randrange(4)))
    for batch in _delivered(random, readings, interleaved=interleaved):
        while bought and AUTUMN + timedelta(seconds=bought[0]) <= max(at for _, at, _ in batch):
            _recharge(here, life, AUTUMN + timedelta(seconds=bought.pop(0)))
        assert not HELD_VERDICTS & set(send(here, batch)), "every one of these readings is true"
        what = random.randrange(7)
        if what == 0:
            post(here, until=random.choice([NOW, AUTUMN + timedelta(days=8)]))
        elif what > 0 and not interleaved and batch[0][1] < readings[len(readings) // 2][1]:
            continue
        elif what in (1, 2):
            exempt = random.choice([NO_TAX, NO_TAX, frozenset({"vat"}), frozenset({"vat", "levy"})])
            day = AUTUMN + timedelta(days=random.randrange(3))
            _set_terms(here, life, day, random.randrange(1, 5), exempt if extras else NO_TAX)
        elif what == 3:
            rate_anew(now=NOW)
        elif what == 4:
            begin = AUTUMN + timedelta(seconds=random.choice([0, 86_400 * 9, 99_999, 500_000]))
            _correct_to(here, life, stepped(random, extras=extras), begin)
        elif what == 5 and extras:
            _append_price(here, life, random)
    life.versions.sort(key=lambda each: each[0])
    return here, life


CHARGES = ("energy", "fee", "tax", "subsidy")


def compare(here: World, life: Life) -> None:
    exact = life.exact()
    sums = {name: charged(here, f"charge_{name}") for name in CHARGES}
    assert charged(here, "energy_wh") == max(life.known.values()) - 1_000
    # Exact, and cut off once: whatever the number of corrections on the way.
    assert sums == {name: floor(getattr(exact, name)) for name in CHARGES}
    books_hold(here)


@pytest.mark.parametrize("extras", [False, True])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("seed", range(LIVES))
def test_any_life_ends_in_the_exact_models_cents_once_it_is_rated_anew(
    seed: int, interleaved: bool, extras: bool
) -> None:
    here, life = live(seed, extras=extras, interleaved=interleaved)
    rate_anew(now=NOW)
    before = available(here)
    post(here)
    assert available(here) == before
    corrected = again(here, AUTUMN)
    assert before - available(here) == sum(each.difference for each in corrected)
    compare(here, life)
    grown = rows_written(here)
    assert again(here, AUTUMN) == again(here, AUTUMN + timedelta(days=4)) == []
    assert rows_written(here) == grown


@pytest.mark.parametrize("seed", range(LIVES))
def test_every_one_of_many_corrections_leaves_the_sum_exact(seed: int) -> None:
    """One account, corrected again and again from any instant on, forward and back."""
    random = Random(seed)
    here = place("2026-10-23T00:00")
    life = Life({instant_us(AUTUMN): 1_000}, [(0, TARIFF)])
    _set_terms(here, life, AUTUMN, 1)
    _announce(here, life, random)
    when, count = AUTUMN, 1_000
    while when < NOW - timedelta(hours=14):
        when += timedelta(seconds=random.choice([3_600, 17_777, 43_200]))
        count += random.choice([0, 1, random.randrange(15_000)])
        send(here, [("M-101", when, count)])
        life.known[instant_us(when)] = count
    post(here, until=AUTUMN + timedelta(days=random.randrange(15)))
    for _ in range(cases(12)):
        if random.random() < 0.5:
            begin = AUTUMN + timedelta(seconds=random.randrange(1_200_000))
            _correct_to(here, life, stepped(random, extras=True), begin)
            life.versions.sort(key=lambda each: each[0])
        else:
            exempt = random.choice([NO_TAX, frozenset({"vat"}), frozenset({"vat", "levy"})])
            day = AUTUMN + timedelta(days=random.randrange(3))
            _set_terms(here, life, day, random.randrange(1, 5), exempt)
            again(here, day)
        compare(here, life)


# --- closed books, messages, requests, and readings that come meanwhile ---


def test_a_closed_day_is_corrected_on_the_first_open_instant() -> None:
    here = place()
    tariff(here, "right", FLAT)
    known = used(here, READINGS)
    post(here)
    close_period(
        actor=here.administrator, property_id=here.property_id, open_from=date(2026, 11, 5), now=NOW
    )
    (corrected,) = correct(here, "right", OPENED)
    event = one("SELECT max(event_id) FROM transfer WHERE account_id = %s", corrected.account_id)
    booked, total = rows(
        "SELECT min(service_from), sum(amount) FROM transfer WHERE account_id = %s AND event_id = %s",
        corrected.account_id, event,
    )[0]  # fmt: skip
    assert booked == at(4 * 24), "midnight of 5 November"
    assert total == -corrected.difference
    assert abs(charged(here) - exact_charges(known, ExactPrices("Europe/Berlin", [(0, FLAT)]))) <= 1
    books_hold(here)


def test_the_customer_is_told_the_difference_once() -> None:
    here = place()
    tariff(here, "right", FLAT)
    used(here, READINGS)
    (corrected,) = correct(here, "right", at(30))
    again(here, OPENED)
    ((detail,),) = rows(
        "SELECT detail FROM message WHERE account_id = %s AND code = 'billing.corrected'",
        corrected.account_id,
    )
    told = json.loads(detail) if isinstance(detail, str) else detail
    assert told["charged_after_micro"] - told["charged_before_micro"] == corrected.difference
    assert told["returned_micro"] == -corrected.difference and told["added_micro"] is None
    assert told["available_micro"] == available(here)


def test_a_request_is_answered_by_whoever_rates_the_account_anew() -> None:
    here = place()
    account = here.accounts["1001"]
    used(here, READINGS)
    request_rerating(from_at={account: at(10)}, reason="late_reading", now=NOW)
    assert rate_anew(now=NOW) == 0, "nothing had been charged otherwise"
    assert one("SELECT count(*) FROM rerate_request WHERE done_at IS NULL") == 0
    tariff(here, "right", FLAT)
    correct(here, "right", at(60))
    assert one("SELECT count(*) FROM rerate_request WHERE done_at IS NULL") == 0


def test_an_account_without_revisions_left_is_told_of_and_keeps_no_other_from_being_rated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = place()
    tariff(here, "right", FLAT)
    used(here, [(10, 3_000)])
    used(here, [(5, 2_000)])
    send(here, [("M-102", at(10), 4_000)])
    monkeypatch.setattr(rerating, "_REVISION_LAST", 1)
    worn = here.accounts["1001"]
    other = one("SELECT account_id FROM meter_state WHERE meter_id = %s", here.meters["M-102"])
    grown = rows_written(here)
    done = correct(here, "right", OPENED, account_ids=[worn, other])
    assert [each.account_id for each in done] == [other]
    assert rows_written(here) == grown
    assert rows("SELECT code, subject, detail ->> 'worn' FROM alert") == [
        ("billing.correction_too_old", f"account:{worn}", "true")
    ]
    assert one("SELECT count(*) FROM rerate_request WHERE done_at IS NULL") == 0
    books_hold(here)


def test_readings_that_arrive_meanwhile_wait_and_are_rated_by_the_right_tariff(
    database: str,
) -> None:
    here = place()
    tariff(here, "right", FLAT)
    known = used(here, READINGS[:15])
    failed: list[Exception] = []

    def ingest() -> None:
        try:
            for hours, value in READINGS[15:]:
                send(here, [("M-101", at(hours), value)])
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=ingest)
    thread.start()
    correct(here, "right", at(30))
    thread.join()
    assert failed == []
    # A batch that had read its prices before the change is put right by the next run.
    again(here, OPENED)
    known += [(instant_us(at(h)), value) for h, value in READINGS[15:]]
    prices = ExactPrices("Europe/Berlin", [(0, TARIFF), (instant_us(at(30)), FLAT)])
    assert abs(charged(here) - exact_charges(known, prices)) <= 1
    books_hold(here)


def test_the_logins_of_the_web_and_the_worker_may_do_their_part(database: str) -> None:
    here = place()
    account = here.accounts["1001"]
    tariff(here, "right", FLAT)
    known = used(here, READINGS)
    with signed_in(role_dsn(database, "web"), database):
        # The very correction, taken back: that people agree to it is tried in `tests/approvals`.
        wanted, seen = wanted_correction(
            actor=here.administrator, property_id=here.property_id, account_id=account,
            tariff_code="right", from_at=at(30), now=NOW,
        )  # fmt: skip
    (done,) = correct(here, "right", at(30))
    assert (seen.charged_before, seen.charged_after) == (done.charged_before, done.charged_after)
    assert wanted.amount == abs(done.difference)
    tariff(here, "later", FLAT | {"name": "Later"})
    rows(
        """INSERT INTO tariff_assignment (property_id, account_id, tariff_id, valid_from)
           SELECT property_id, %s, id, %s FROM tariff WHERE code = 'later'""",
        account, at(50),
    )  # fmt: skip
    advance_epoch(here.property_id)
    request_rerating(from_at={account: at(50)}, reason="terms", now=NOW)
    with signed_in(role_dsn(database, "clerk"), database):
        assert rate_anew(now=NOW) == 1
    prices = ExactPrices("Europe/Berlin", [(0, TARIFF), (instant_us(at(30)), FLAT)])
    assert abs(charged(here) - exact_charges(known, prices)) <= 1
    books_hold(here)


def carrying(random: Random) -> dict[str, Any]:
    """A plan whose count stays with the unit, over one window whatever its prices."""
    document = stepped(random, extras=False)
    document["energy"]["steps"] |= {
        "window": "month", "scope": "all", "scale": "none", "on_tenant_change": "carry",
        "limits": random.choice([["20", "60"], ["10", "25"], ["30", "31"]]),
    }  # fmt: skip
    return document


@pytest.mark.parametrize("seed", range(LIVES))
def test_a_count_that_came_with_the_unit_is_in_every_rating_anew(seed: int) -> None:
    """Late readings and wrong plans of who came: what the former tenant had counted goes before."""
    random = Random(seed)
    document = carrying(random)
    here = place("2026-10-23T00:00", document)
    prices = [(0, document)]
    former = ExactUsage(ExactPrices("Europe/Berlin", prices))
    when, count = AUTUMN, 1_000
    for _ in range(random.randrange(1, 12)):
        start, low = when, count
        when += timedelta(seconds=random.choice([3_600, 17_777, 43_200]))
        count += random.randrange(6_000)
        former.use(instant_us(start), instant_us(when), count - low)
        send(here, [("M-101", when, count)])
    came = moves.tenant_change(
        actor=here.administrator, unit_id=here.units["101"], at=when, now=NOW, key="came",
        tenant=tenant(), registers=here.register("M-101", count),
    )  # fmt: skip
    kept = replace(here, accounts={**here.accounts, "1001": came.account_id})
    life = Life({instant_us(when): count}, prices)
    readings = []
    for _ in range(random.randrange(4, 30)):
        when += timedelta(seconds=random.choice([3_600, 17_777, 43_200]))
        count += random.choice([0, 1, random.randrange(6_000)])
        readings.append(("M-101", when, count))
    life.known |= {instant_us(at): value for _, at, value in readings}
    opened = min(life.known)
    for batch in _delivered(random, readings, interleaved=True):
        send(kept, batch)
        what = random.randrange(4)
        if what == 0:
            post(kept)
        elif what == 1:
            begin = utc_datetime(opened) + timedelta(seconds=random.randrange(900_000))
            _correct_to(kept, life, carrying(random), begin)
        elif what == 2:
            rate_anew(now=NOW)
    life.versions.sort(key=lambda each: each[0])
    rate_anew(now=NOW)
    post(kept)
    exact = ExactUsage(ExactPrices("Europe/Berlin", life.versions))
    if former.counts:
        exact.window, exact.counts = former.window, dict(former.counts)
    for (start_us, low), (end_us, high) in pairwise(sorted(life.known.items())):
        exact.use(start_us, end_us, high - low)
    sums = {name: charged(kept, f"charge_{name}") for name in CHARGES}
    assert sums == {name: floor(getattr(exact, name)) for name in CHARGES}
    assert again(kept, utc_datetime(opened)) == []
    books_hold(kept)
