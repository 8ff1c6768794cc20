"""A receipt says for ever what it said at first, and small recharges are described as they are."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.invariants.places import NOW, World, at, pay, place, post, rows, send, wish

from prewatt.access.scope import system_actor
from prewatt.core.vocabulary import RelayState
from prewatt.reports.recharge import RechargeForm, RechargeResult
from prewatt.reports.recharge_query import effect_of, recharge_form, recharge_result
from prewatt.supply.operations import set_policy
from prewatt.vending.operations import Recharged, recharge
from prewatt.vending.queries import RechargePreview

pytestmark = pytest.mark.usefixtures("database")
#: What the tenant of a plain place has before anything was used.
OPENING = 25_500_000


def used_some(here: World) -> None:
    assert send(here, [("M-101", at(5), 9_000)])


def receipt(here: World, event_id: int) -> RechargeResult:
    return recharge_result(actor=here.administrator, event_id=event_id, now=NOW)


def figures(found: RechargeResult) -> bytes:
    """All that a receipt says of money, as bytes."""
    said = found.effect, found.balance_before_micro, found.is_posted, found.line, found.receipt
    return repr(said).encode()


def later(here: World, register_wh: int) -> None:
    """More usage, a posting of everything, and usage again."""
    send(here, [("M-101", at(300), register_wh)])
    post(here)
    send(here, [("M-101", at(304), register_wh + 7_000)])


def test_a_receipt_says_what_it_said_before_later_readings_and_a_posting() -> None:
    here = place()
    used_some(here)
    (available,) = rows(
        "SELECT available FROM account_state WHERE account_id = %s", here.accounts["1001"]
    )[0]
    assert available < OPENING, "something is used and not posted yet"
    sold = pay(here, "a", 4_000_000)
    assert isinstance(sold, Recharged)
    first = receipt(here, sold.event_id)
    assert first.balance_before_micro == available and not first.is_posted
    assert first.effect.balance_after_micro == sold.available_after == available + 4_000_000
    later(here, 20_000)
    again = receipt(here, sold.event_id)
    assert figures(again) == figures(first)
    assert again.balance_micro < first.balance_micro, "the live balance goes on"


def test_what_repaid_emergency_credit_stays_what_it_was() -> None:
    here = place()
    send(here, [("M-101", at(200), 150_000)])
    sold = pay(here, "a", 4_000_000)
    assert isinstance(sold, Recharged)
    first = receipt(here, sold.event_id)
    assert first.balance_before_micro < 0 < first.effect.emergency_micro
    later(here, 190_000)
    assert figures(receipt(here, sold.event_id)) == figures(first)


def test_a_replayed_past_told_nobody_and_its_receipt_says_that_it_is_the_posted_figure() -> None:
    here = place()
    used_some(here)
    (sold,) = recharge(
        actor=here.operator, recharges=[wish(here, "old", 4_000_000)], now=NOW, announce=False
    )
    assert isinstance(sold, Recharged)
    first = receipt(here, sold.event_id)
    assert first.is_posted and first.balance_before_micro == OPENING
    assert first.effect.balance_after_micro == OPENING + 4_000_000
    later(here, 20_000)
    assert figures(receipt(here, sold.event_id)) == figures(first)


def below(here: World, **more: object) -> RechargeForm:
    """A tenant at −5.00 with 5.00 of emergency credit, who uses 1.00 a day."""
    form = recharge_form(actor=here.administrator, account_id=here.accounts["1001"], now=NOW)
    wanted: dict[str, object] = {
        "balance_micro": -5_000_000, "emergency_limit_micro": 5_000_000,
        "connects_from_micro": -4_999_999, "micro_per_day": 1_000_000,
    }  # fmt: skip
    return replace(form, **(wanted | more))  # type: ignore[arg-type]  # by their names


def test_a_small_recharge_lasts_as_long_as_emergency_credit_does() -> None:
    effect = effect_of(below(place()), RechargePreview(500_000, ()))
    assert (effect.balance_after_micro, effect.emergency_left_micro) == (-4_500_000, 500_000)
    assert effect.lasts_until == NOW + timedelta(hours=12)
    whole = effect_of(below(place()), RechargePreview(7_000_000, ()))
    assert (whole.emergency_left_micro, whole.lasts_until) == (0, NOW + timedelta(days=2))


def test_what_does_not_bring_supply_back_lasts_for_nobody() -> None:
    """Where emergency credit must be repaid first, what is left of it lights no lamp."""
    here = place()
    set_policy(
        actor=system_actor("import"), property_id=here.property_id,
        body={"emergency_must_be_repaid": True}, now=NOW,
    )  # fmt: skip
    form = recharge_form(actor=here.administrator, account_id=here.accounts["1001"], now=NOW)
    assert form.connects_from_micro == 1
    cut = below(here, connects_from_micro=1, relay=RelayState.OPEN)
    dark = effect_of(cut, RechargePreview(500_000, ()))
    assert (dark.reconnects, dark.lasts_until, dark.emergency_left_micro) == (False, None, 0)
    assert effect_of(cut, RechargePreview(5_000_001, ())).reconnects


def test_the_result_counts_the_emergency_credit_that_is_left_now() -> None:
    here = place()
    send(here, [("M-101", at(200), 115_000)])
    sold = pay(here, "a", 500_000)
    assert isinstance(sold, Recharged)
    account = here.accounts["1001"]
    rows("UPDATE account_state SET spend_per_day = 1000000 WHERE account_id = %s", account)
    (balance,) = rows("SELECT available FROM account_state WHERE account_id = %s", account)[0]
    assert balance < 0, "the recharge did not reach zero"
    changed = "UPDATE supply_state SET emergency_micro = %s WHERE account_id = %s"
    rows(changed, 500_000 - balance, account)
    found = receipt(here, sold.event_id)
    assert found.emergency_left_micro == 500_000
    assert found.lasts_until == NOW + timedelta(hours=12)
