"""Recharges: each refusal says what is wrong, touches nobody else and takes nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connections
from tests.conftest import role_dsn
from tests.invariants.places import NOW, World, one, place, rows, send, signed_in, wish
from tests.moves.world import snapshot

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, system_actor
from prewatt.core.accounts import CounterAccount
from prewatt.ledger.operations import close_period
from prewatt.supply.operations import set_policy
from prewatt.vending import sets
from prewatt.vending.operations import LIMIT_MICRO, Answer, Recharged, RechargeRefused, recharge

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


def test_what_the_database_could_not_store_is_refused_alone() -> None:
    here = place()
    good = wish(here, "good")
    answers = recharge(
        actor=here.operator,
        recharges=[
            replace(good, key="nul\0"),
            replace(good, key="half\ud800"),
            replace(good, key="long", reference="r" * 81),
            replace(good, key="nul", reference="a\0b"),
            replace(good, key="big", account_id=2**63),
            replace(good, key="negative", account_id=-1),
            replace(good, reference="r" * 80),
        ],
        now=NOW,
    )
    assert codes(answers) == [
        "key_malformed", "key_malformed", "reference_malformed", "reference_malformed",
        "unknown_account", "unknown_account", "",
    ]  # fmt: skip


def codes(answers: Sequence[Answer]) -> list[str]:
    """What was refused and why, in the order asked; empty for a recharge that stands."""
    return [
        each.code.removeprefix("vending.recharge.") if isinstance(each, RechargeRefused) else ""
        for each in answers
    ]


def both(here: World, there: World) -> Actor:
    """An operator of two properties, who uses the same keys at both."""
    return Actor("user:6", Duty.OPERATOR, (here.property_id, there.property_id), "Otto")


def shut(here: World, open_from: date) -> None:
    close_period(
        actor=system_actor("close"), property_id=here.property_id, open_from=open_from, now=NOW
    )


def test_closed_books_refuse_their_own_recharges_and_nobody_elses(database: str) -> None:
    here, there = place(), place()
    shut(here, date(2026, 11, 18))
    actor = both(here, there)
    wishes = [
        wish(there, "a"),
        wish(here, "b"),
        wish(there, "c"),
        wish(here, "d", account=here.accounts["OWN-LIFT"]),
    ]
    with signed_in(role_dsn(database, "web"), database):
        answers = recharge(actor=actor, recharges=wishes, now=NOW)
    assert codes(answers) == ["", "period_closed", "", "period_closed"]
    (refused,) = {each.message for each in answers if isinstance(each, RechargeRefused)}
    assert "2026-11-18" in refused and refused.endswith("Nothing was taken.")
    assert rows("SELECT property_id, number FROM document ORDER BY id") == [
        (there.property_id, 1), (there.property_id, 2),
    ]  # fmt: skip
    assert one("SELECT count(*) FROM transfer WHERE kind = 2") == 2
    # The key stays free, and the day it may be sold is the local one of that property.
    midnight = datetime(2026, 11, 17, 23, 0, tzinfo=UTC)
    second = timedelta(seconds=1)
    late = [replace(wishes[1], paid_at=midnight - second)]
    assert codes(recharge(actor=actor, recharges=late, now=midnight - second)) == ["period_closed"]
    assert codes(recharge(actor=actor, recharges=late, now=midnight)) == [""]
    assert codes(recharge(actor=actor, recharges=late, now=midnight - second)) == [""]


def test_money_paid_in_a_closed_period_and_taken_in_the_open_one_is_taken() -> None:
    here = place()
    shut(here, date(2026, 11, 17))
    paid_before = replace(wish(here, "k"), paid_at=NOW - timedelta(days=3))
    assert codes(recharge(actor=here.operator, recharges=[paid_before], now=NOW)) == [""]
    assert one("SELECT service_from FROM transfer WHERE kind = 2") == NOW


def test_books_are_closed_after_what_we_sell_and_never_in_the_middle_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = place(), place()
    look = sets.look
    closing = threading.Thread(
        target=lambda: (shut(here, date(2026, 11, 18)), connections.close_all())
    )

    def while_somebody_closes(*given: Any, **more: Any) -> Any:
        found = look(*given, **more)
        closing.start()
        closing.join(timeout=0.3)
        assert closing.is_alive(), "the books were closed under our hands"
        return found

    monkeypatch.setattr(sets, "look", while_somebody_closes)
    actor, wishes = both(here, there), [wish(here, "a"), wish(there, "b")]
    assert codes(recharge(actor=actor, recharges=wishes, now=NOW)) == ["", ""]
    closing.join(timeout=10)
    assert not closing.is_alive()
    monkeypatch.undo()
    again = [replace(each, key=each.key * 2) for each in wishes]
    assert codes(recharge(actor=actor, recharges=again, now=NOW)) == ["period_closed", ""]


def test_the_ledger_looks_at_the_period_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    here = place()
    shut(here, date(2026, 11, 18))
    look = sets.look
    monkeypatch.setattr(
        sets,
        "look",
        lambda *given, **more: [each._replace(closed_until=None) for each in look(*given, **more)],
    )
    with pytest.raises(DatabaseError, match="period_closed"):
        recharge(actor=here.operator, recharges=[wish(here, "a")], now=NOW)
    assert one("SELECT count(*) FROM idempotency WHERE key = 'a'") == 0


@pytest.mark.parametrize("login", ["owner", "web"])
def test_a_key_used_at_a_property_out_of_sight_is_refused_alone_and_tells_nothing(
    database: str, login: str
) -> None:
    """One key, one effect, whatever account it names (invariant 4), and no word of the other place."""
    here, there = place(), place()
    recharge(actor=both(here, there), recharges=[wish(there, "used", 7_654_321)], now=NOW)
    before = snapshot()
    dsn = database if login == "owner" else role_dsn(database, login)
    with signed_in(dsn, database):
        (reused,) = recharge(actor=here.operator, recharges=[wish(here, "used")], now=NOW)
        assert codes([reused]) == ["key_reused"]
        # Not to be told from a key that was used for something else at one's own property.
        recharge(actor=here.operator, recharges=[wish(here, "own")], now=NOW)
        (own,) = recharge(actor=here.operator, recharges=[wish(here, "own", 1)], now=NOW)
        assert own == replace(reused, key="own")
        answers = recharge(
            actor=here.operator, recharges=[wish(here, k) for k in ("x", "used", "y")], now=NOW
        )
    assert codes(answers) == ["", "key_reused", ""]
    numbers = [each.receipt_number for each in answers if isinstance(each, Recharged)]
    assert numbers == [2, 3], "what was undone has left a gap"
    assert [row for row in before["transfer"] if row not in snapshot()["transfer"]] == [] and len(
        snapshot()["transfer"]
    ) == len(before["transfer"]) + 3
    (again,) = recharge(
        actor=both(here, there), recharges=[wish(there, "used", 7_654_321)], now=NOW
    )
    assert isinstance(again, Recharged) and again.repeated
    assert one("SELECT count(*) FROM idempotency WHERE key = 'used'") == 1


def test_new_levels_are_watched_from_the_next_reading_on() -> None:
    """Most recharges change nothing of supply and look no further; new rules are a reason to look. Who
    sells never lowers what is watched: until the first reading all that comes is looked at.
    """
    here = place()
    account = here.accounts["1001"]
    watch, all_of_it = "SELECT watch_below FROM account_state WHERE account_id = %s", 2**62
    recharge(actor=here.operator, recharges=[wish(here, "a")], now=NOW)
    assert one(watch, account) == all_of_it
    send(here, [("M-101", NOW - timedelta(minutes=1), 2_000)], now=NOW)
    assert one(watch, account) == 5_000_001
    recharge(actor=here.operator, recharges=[wish(here, "b")], now=NOW)
    assert one(watch, account) == 5_000_001
    levels = [{"level_no": 1, "kind": "money", "threshold_micro": 12_000_000},
              {"level_no": 3, "kind": "exhausted"}]  # fmt: skip
    set_policy(
        actor=system_actor("set"), property_id=here.property_id, body={"levels": levels}, now=NOW
    )
    recharge(actor=here.operator, recharges=[wish(here, "c")], now=NOW)
    assert one(watch, account) == all_of_it
    send(here, [("M-101", NOW, 2_001)], now=NOW)
    assert one(watch, account) == 12_000_001
