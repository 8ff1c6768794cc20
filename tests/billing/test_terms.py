"""Terms of accounts and announced prices: who may, what is refused, and what it does to a price."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from django.db import connection
from tests.conftest import role_dsn
from tests.invariants.full_checks import LADDER
from tests.invariants.places import NOW, TARIFF, World, at, one, place, post, rows, send, signed_in

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, scope, system_actor
from prewatt.billing.change_looks import look_at_tariff, look_at_terms
from prewatt.billing.operations import create_tariff_version
from prewatt.billing.queries import terms_at, terms_of, version_chains
from prewatt.billing.rerating import rerate_requested
from prewatt.billing.tariffs import TariffBook
from prewatt.billing.terms import (
    ChangeRefused,
    EventRefused,
    PricesRefused,
    SeriesPrice,
    TermsRefused,
    WithdrawalRefused,
    announce_event,
    append_prices,
    change_plans,
    set_terms,
    withdraw_event,
    withdraw_tariff,
    withdraw_terms,
)
from prewatt.core.civil_time import instant_us
from prewatt.ledger.operations import UnknownAccount

pytestmark = pytest.mark.usefixtures("database")

SYSTEM = system_actor("test")
BEFORE, MIDNIGHT = at(-24), at(0)
PEAKS = {
    **TARIFF,
    "overlays": [
        {"kind": "critical_peak", "group": "events", "price": "1"},
        {"kind": "real_time", "group": "day-ahead"},
    ],
}


def terms(
    here: World, valid_from: datetime = MIDNIGHT, now: datetime = BEFORE, **given: Any
) -> int:
    values: dict[str, Any] = {"members": 1, "contracted_w": 0}
    return set_terms(
        actor=given.pop("actor", SYSTEM), property_id=here.property_id,
        account_id=given.pop("account_id", here.accounts["1001"]), valid_from=valid_from, now=now,
        **(values | given),
    )  # fmt: skip


def announce(here: World, begin: float, end: float, now: datetime = BEFORE) -> int:
    return announce_event(
        actor=SYSTEM, property_id=here.property_id, overlay_group="events",
        from_at=at(begin), until_at=at(end), now=now,
    )  # fmt: skip


def append(here: World, *prices: tuple[float, float, int], now: datetime = BEFORE) -> None:
    append_prices(
        actor=SYSTEM, property_id=here.property_id, overlay_group="day-ahead", now=now,
        prices=[SeriesPrice(at(begin), at(end), nano) for begin, end, nano in prices],
    )  # fmt: skip


def epoch(here: World) -> int:
    return int(one("SELECT epoch FROM tariff_epoch WHERE property_id = %s", here.property_id))


def prices(here: World) -> dict[datetime, int]:
    """The price of each stored part, by its begin."""
    found = rows("SELECT from_at, price_nano FROM interval WHERE account_id = %s",
                 here.accounts["1001"])  # fmt: skip
    return dict(found)


def test_every_change_is_told_to_running_books_and_to_the_auditor() -> None:
    here = place(document=PEAKS)
    before = epoch(here)
    terms(here, overlay_groups=["events"])
    event = announce(here, 2, 3)
    append(here, (4, 5, 7))
    withdraw_event(actor=SYSTEM, event_id=event, now=BEFORE)
    assert epoch(here) == before + 4
    codes = [each for (each,) in rows("SELECT code FROM audit_event ORDER BY id DESC LIMIT 4")]
    assert codes[::-1] == [
        "billing.terms.set", "billing.event.announced", "billing.prices.appended",
        "billing.event.withdrawn",
    ]  # fmt: skip


def test_who_may_not_may_not() -> None:
    here, there = place(), place()
    for duty in (Duty.OPERATOR, Duty.AUDITOR):
        with pytest.raises(PermissionRefused):
            terms(here, actor=Actor("user:6", duty, (here.property_id,)))
    with pytest.raises(PermissionRefused):
        terms(here, actor=there.administrator)
    with pytest.raises(UnknownAccount):
        terms(here, account_id=there.accounts["1001"])
    assert one("SELECT count(*) FROM account_terms") == 0


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"members": 0}, "members"),
        ({"contracted_w": -1}, "contracted_w"),
        ({"exempt": [" vat"]}, "words"),
        ({"valid_from": at(1)}, "not_midnight"),
        ({}, "same"),
        ({"valid_from": datetime(2025, 11, 1, 23, tzinfo=UTC), "members": 2}, "before_account"),
    ],
)
def test_terms_that_cannot_hold_are_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(TermsRefused) as refused:
        terms(place(), **given)
    assert refused.value.reason == reason


def test_an_event_is_announced_before_it_begins_and_alone() -> None:
    here = place(document=PEAKS)
    event = announce(here, 2, 4)
    for begin, end, now, reason in (
        (4, 4, BEFORE, "empty"),
        (1, 3, BEFORE, "overlaps"),
        (5, 6, at(5), "begun"),
    ):
        with pytest.raises(EventRefused) as refused:
            announce(here, begin, end, now)
        assert refused.value.reason == reason
    announce(here, 4, 5)
    withdraw_event(actor=SYSTEM, event_id=event, now=BEFORE)
    with pytest.raises(EventRefused, match="withdrawn already"):
        withdraw_event(actor=SYSTEM, event_id=event, now=BEFORE)
    announce(here, 1, 3)


def test_an_event_has_its_price_until_it_is_withdrawn() -> None:
    here, book = place(document=PEAKS), TariffBook()
    terms(here, overlay_groups=["events"])
    event = announce(here, 2, 4)
    send(here, [("M-101", at(1), 1_500), ("M-101", at(2.5), 2_500)], book=book)
    withdraw_event(actor=SYSTEM, event_id=event, now=at(3))
    send(here, [("M-101", at(5), 4_500)], book=book)
    found = prices(here)
    assert found[at(2)] == found[at(2.5)] == 1_000_000_000
    assert found[at(3)] == found[at(0)] == 173_456_700
    # It is not an event of those who are not in the group.
    assert one("SELECT count(DISTINCT price_nano) FROM interval WHERE price_nano = 10^9") == 1


def test_a_series_goes_on_in_order_and_a_gap_has_the_bands_own_price() -> None:
    here = place(document=PEAKS)
    terms(here, overlay_groups=["day-ahead"])
    for bad, reason in (
        ((), "empty"),
        (((2, 1, 5),), "order"),
        (((1, 3, 5), (2, 4, 6)), "order"),
        (((1, 2, 10**16),), "price"),
    ):
        with pytest.raises(PricesRefused) as refused:
            append(here, *bad)
        assert refused.value.reason == reason
    append(here, (1, 2, 111), (2, 3, -222))
    with pytest.raises(PricesRefused):
        append(here, (2.5, 4, 5))
    send(here, [("M-101", at(4), 9_000)])
    assert prices(here) == {
        at(0): 173_456_700, at(1): 111, at(2): -222, at(3): 173_456_700,
    }  # fmt: skip


def test_what_changes_the_past_has_the_accounts_concerned_rated_anew() -> None:
    here = place(document=PEAKS)
    account = here.accounts["1001"]
    terms(here, overlay_groups=["day-ahead"])
    send(here, [("M-101", at(30), 9_000)])
    append(here, (40, 41, 5), now=at(31))
    assert rows("SELECT * FROM rerate_request") == []
    terms(here, valid_from=at(24), now=at(32), members=2)
    terms(here, valid_from=at(0), now=at(32), members=3)
    assert rows("SELECT account_id, from_at, reason, done_at FROM rerate_request") == [
        (account, at(0), "terms", None)
    ]


def test_an_exemption_begins_on_its_day() -> None:
    here = place(document=LADDER)
    terms(here, members=2)
    terms(here, valid_from=at(24), exempt=["vat", "levy"])
    send(here, [("M-101", at(30), 9_000)])
    taxed = rows(
        "SELECT from_at < %s, sum(charge_tax) > 0 FROM interval WHERE account_id = %s GROUP BY 1",
        at(24), here.accounts["1001"],
    )  # fmt: skip
    assert dict(taxed) == {True: True, False: False}


def test_the_logins_write_what_is_theirs(database: str) -> None:
    here = place(document=LADDER)
    with signed_in(role_dsn(database, "web"), database):
        # One administrator alone, by the operation or straight at the table.
        with pytest.raises(Exception, match="takes the agreement of others"):
            terms(here, actor=here.administrator, members=2)
        with (
            pytest.raises(Exception, match="permission denied"),
            scope(here.administrator),
            connection.cursor() as cursor,
        ):
            cursor.execute("INSERT INTO account_terms DEFAULT VALUES")
    terms(here, members=2)
    with signed_in(role_dsn(database, "head_end"), database):
        send(here, [("M-101", at(1), 1_100), ("M-101", at(9), 40_000)])
        with pytest.raises(Exception, match="permission denied"):
            terms(here, members=3)
    assert one("SELECT count(*) FROM account_terms") == 1
    assert NOW - at(0) > timedelta(days=1)


#: A ladder whose steps are so many kWh for each person.
HOUSEHOLDS = {
    **LADDER,
    "energy": {**LADDER["energy"], "steps": {**LADDER["energy"]["steps"], "scale": "members"}},
}


def test_a_look_at_terms_of_a_past_day_shows_the_very_transfers_that_follow() -> None:
    here = place(document=HOUSEHOLDS)
    account, days = here.accounts["1001"], 5
    send(here, [("M-101", at(hours), 1_000 + 900 * hours) for hours in range(1, 24 * days)])
    post(here, until=at(24 * days))
    now, given = at(24 * days + 1), {"members": 4, "contracted_w": 0, "exempt": ["vat"]}
    seen = "SELECT count(*), sum(amount) FROM transfer WHERE account_id = %s"
    ((count, amount),) = rows(seen, account)
    look = look_at_terms(
        actor=SYSTEM, property_id=here.property_id, account_id=account, valid_from=at(0),
        overlay_groups=[], now=now, **given,
    )  # fmt: skip
    assert rows(seen, account) == [(count, amount)], "a look leaves nothing behind"
    assert rows("SELECT * FROM rerate_request") == rows("SELECT * FROM account_terms") == []
    terms(here, valid_from=at(0), now=now, **given)
    rerate_requested(actor=SYSTEM, now=now)
    ((more, total),) = rows(seen, account)
    booked = {int(each.component): each.amount for each in look.to_come}
    assert booked == dict(
        rows(
            "SELECT component, sum(amount)::bigint FROM transfer WHERE account_id = %s AND kind <> 3"
            " AND seq > %s GROUP BY 1",
            account,
            count,
        )
    )
    assert more - count == sum(each.transfers for each in look.to_come) > 0
    assert total - amount == look.booked == look.available_after - look.available_before > 0
    # Both bills of these days are what the intervals cost, before and after.
    charged = one(
        "SELECT sum(charge_energy + charge_fee + charge_tax + charge_subsidy)::bigint FROM interval"
        " WHERE account_id = %s", account,
    )  # fmt: skip
    assert abs(look.after - charged) <= len(look.lines) and look.saved == look.booked


def test_a_look_at_another_plan_is_of_both_and_of_a_young_account_says_nothing() -> None:
    here = place(document=LADDER)
    create_tariff_version(
        actor=SYSTEM, property_id=here.property_id, code="FLAT", name="Flat",
        document=TARIFF | {"standing": [{"code": "meter", "label": "Meter", "per_day": "0.10"}]},
        valid_from=at(-24 * 400), approved_by="somebody else", now=BEFORE,
    )  # fmt: skip
    send(here, [("M-101", at(hours), 1_000 + 700 * hours) for hours in range(1, 60)])

    def look(now: datetime, days: int) -> Any:
        return look_at_tariff(
            actor=SYSTEM, property_id=here.property_id, account_id=here.accounts["1001"],
            tariff_code="FLAT", valid_from=at(days * 24), now=now,
        )  # fmt: skip

    found = look(at(60), 4)
    parts = {each.part.value: each for each in found.lines}
    assert found.days > 0 and parts["standing"].before == 0 < parts["standing"].after
    assert parts["tax"].before > 0 == parts["tax"].after and found.to_come == ()
    with pytest.raises(ChangeRefused):
        look(at(60), 1)


def test_any_changes_and_withdrawals_leave_what_was_not_withdrawn() -> None:
    here, random = place(), Random(20261127)
    account, moment = here.accounts["1001"], at(-1)
    for code in ("B", "C"):
        create_tariff_version(
            actor=SYSTEM, property_id=here.property_id, code=code, name=code, document=TARIFF,
            valid_from=at(-24 * 400), approved_by="somebody else", now=BEFORE,
        )  # fmt: skip
    versions = dict(
        rows("SELECT v.id, t.code FROM tariff_version v JOIN tariff t ON t.id = v.tariff_id"
             " WHERE t.property_id = %s", here.property_id)
    )  # fmt: skip
    first = versions[version_chains([account])[account].versions[0][1]]
    own = {"property_id": here.property_id, "account_id": account, "actor": SYSTEM, "now": moment}
    at_all = {name: value for name, value in own.items() if name != "account_id"}
    plans, people = {0: first}, {0: 1}

    def held(model: dict[int, Any], day: int) -> Any:
        return model[max(each for each in model if each <= day)]

    for _ in range(60):
        day, code, members = random.randrange(1, 9), random.choice("BC"), random.randrange(1, 4)
        when = {"valid_from": at(24 * day)}
        if random.random() < 0.4:
            for model, withdraw in ((plans, withdraw_tariff), (people, withdraw_terms)):
                if day in model:
                    withdraw(**own, **when)
                    del model[day]
                else:
                    with pytest.raises(WithdrawalRefused, match="nothing changes"):
                        withdraw(**own, **when)
            continue
        if held(plans, day) == code:
            with pytest.raises(ChangeRefused, match="already"):
                change_plans(tariff_code=code, account_ids=[account], **at_all, **when)
        else:
            change_plans(tariff_code=code, account_ids=[account], **at_all, **when)
            plans[day] = code
        if held(people, day) == members:
            with pytest.raises(TermsRefused, match="already"):
                set_terms(members=members, contracted_w=0, **own, **when)
        else:
            set_terms(members=members, contracted_w=0, **own, **when)
            people[day] = members
        chain = version_chains([account])[account].versions
        found_terms = terms_of([account]).get(account, ())
        for each in range(1, 9):
            at_us = instant_us(at(24 * each))
            assert versions[max(one for one in chain if one[0] <= at_us)[1]] == held(plans, each)
            assert terms_at(found_terms, at_us).members == held(people, each)
    with pytest.raises(WithdrawalRefused) as refused:
        withdraw_tariff(**own | {"now": at(24 * 30)}, valid_from=at(24 * max(plans)))
    assert refused.value.reason == "begun"
    with pytest.raises(WithdrawalRefused) as refused:
        withdraw_tariff(**own, valid_from=at(0))
    assert refused.value.reason == "only"
