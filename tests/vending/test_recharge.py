"""Recharges: each refusal says what is wrong, touches nobody else and takes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.invariants.places import NOW, one, place, rows, wish

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused
from prewatt.core.accounts import CounterAccount
from prewatt.vending.operations import LIMIT_MICRO, Recharged, RechargeRefused, recharge

pytestmark = pytest.mark.usefixtures("database")


def test_a_set_is_decided_one_by_one_and_committed_at_once() -> None:
    here = place()
    good = wish(here, "good")
    wishes = [
        replace(good, key="zero", amount=0),
        replace(good, key="below", amount=-1),
        replace(good, key="over", amount=LIMIT_MICRO + 1),
        replace(good, key=""),
        replace(good, key="k" * 129),
        replace(good, key="way", way="barter"),
        replace(good, key="future", paid_at=NOW + timedelta(minutes=3)),
        replace(good, key="nobody", account_id=10**9),
        good,
        replace(good, key="online", way="online", amount=LIMIT_MICRO),
    ]
    answers = recharge(actor=here.operator, recharges=wishes, now=NOW)
    codes = [
        each.code.removeprefix("vending.recharge.")
        for each in answers
        if isinstance(each, RechargeRefused)
    ]
    assert codes == [
        "amount_not_positive", "amount_not_positive", "amount_over_limit", "key_malformed",
        "key_malformed", "way_unknown", "paid_in_the_future", "unknown_account",
    ]  # fmt: skip
    first, second = answers[-2:]
    assert isinstance(first, Recharged) and isinstance(second, Recharged)
    assert (first.receipt_number, second.receipt_number) == (1, 2)
    assert first.available_after == 25_500_000 + first.amount
    assert second.available_after == first.available_after + LIMIT_MICRO
    assert rows("SELECT counter_account, amount FROM transfer WHERE kind = 2 ORDER BY seq") == [
        (CounterAccount.CASH, first.amount),
        (CounterAccount.BANK, LIMIT_MICRO),
    ]
    assert one("SELECT count(*) FROM idempotency WHERE caller = 'user:6'") == 2
    assert one("SELECT count(*) FROM audit_event WHERE code = 'vending.recharge.posted'") == 2


def test_an_auditor_sells_nothing_and_a_foreign_account_is_unknown() -> None:
    here, there = place(), place()
    with pytest.raises(PermissionRefused):
        recharge(
            actor=Actor("user:9", Duty.AUDITOR, (here.property_id,)),
            recharges=[wish(here, "k")], now=NOW,
        )  # fmt: skip
    (answer,) = recharge(actor=here.operator, recharges=[wish(there, "k")], now=NOW)
    assert isinstance(answer, RechargeRefused)
    assert answer.code == "vending.recharge.unknown_account"


def test_series_are_counted_per_legal_entity() -> None:
    here, there = place(), place()
    for each in (here, there, here):
        (answer,) = recharge(
            actor=each.operator, recharges=[wish(each, f"k{one('SELECT count(*) FROM payment')}")],
            now=NOW,
        )  # fmt: skip
        assert isinstance(answer, Recharged)
    assert rows("SELECT property_id, number FROM document ORDER BY id") == [
        (here.property_id, 1), (there.property_id, 1), (here.property_id, 2),
    ]  # fmt: skip
