"""Terms of accounts and announced prices: who may, what is refused, and what it does to a price."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.conftest import role_dsn
from tests.invariants.full_checks import LADDER
from tests.invariants.places import NOW, TARIFF, World, at, one, place, rows, send, signed_in

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, system_actor
from prewatt.billing.tariffs import TariffBook
from prewatt.billing.terms import (
    EventRefused,
    PricesRefused,
    SeriesPrice,
    TermsRefused,
    announce_event,
    append_prices,
    set_terms,
    withdraw_event,
)
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
    terms(here, valid_from=at(24), now=at(32), overlay_groups=["day-ahead"])
    terms(here, valid_from=at(0), now=at(32), overlay_groups=["day-ahead"])
    assert rows("SELECT account_id, from_at, reason, done_at FROM rerate_request") == [
        (account, at(0), "terms", None)
    ]


def test_an_exemption_begins_on_its_day() -> None:
    here = place(document=LADDER)
    terms(here)
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
        terms(here, actor=here.administrator)
    with signed_in(role_dsn(database, "head_end"), database):
        send(here, [("M-101", at(1), 1_100), ("M-101", at(9), 40_000)])
        with pytest.raises(Exception, match="permission denied"):
            terms(here)
    assert one("SELECT count(*) FROM account_terms") == 1
    assert NOW - at(0) > timedelta(days=1)
