"""The ledger's pen: events are whole or not at all, and accounts are known or refused."""

from __future__ import annotations

import threading
from datetime import date
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from tests.invariants.checks import append, leg
from tests.invariants.places import NOW, at, one, pay, place, rows

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, system_actor
from prewatt.ledger.operations import PeriodClosed, UnknownAccount, close_period

pytestmark = pytest.mark.usefixtures("database")


def test_an_event_is_all_or_nothing_and_moves_every_account_it_names() -> None:
    here = place()
    mine, other = here.accounts["1001"], here.accounts["OWN-LIFT"]
    append(leg(mine, -700), leg(mine, 200), leg(other, 500))
    assert rows(
        "SELECT account_id, amount, posted_after FROM transfer WHERE kind = 5 ORDER BY account_id, seq"
    ) == [
        (mine, -700, 25_500_000 - 700),
        (mine, 200, 25_500_000 - 500),
        (other, 500, 100_000_500),
    ]
    for broken in (leg(other, 0), leg(other, 1, reason=""), leg(other, 1, service_to=at(-1))):
        with pytest.raises(DatabaseError):
            append(leg(mine, -700), broken)
    with pytest.raises(UnknownAccount):
        append(leg(mine, -700), leg(10**9, 700))
    assert one("SELECT posted FROM account_state WHERE account_id = %s", mine) == 25_500_000 - 500
    assert one("SELECT transfer_seq FROM account_state WHERE account_id = %s", mine) == 3


def test_nothing_enters_a_period_while_it_is_being_closed() -> None:
    here = place()
    entered = threading.Event()
    refused: list[Any] = []

    def sell_late() -> None:
        entered.set()
        try:
            append(leg(here.accounts["1001"], 1, service_from=at(1)))
        except PeriodClosed as error:
            refused.append(error)
        finally:
            connection.close()

    with transaction.atomic():
        close_period(
            actor=system_actor("close"), property_id=here.property_id,
            open_from=date(2026, 11, 10), now=NOW,
        )  # fmt: skip
        seller = threading.Thread(target=sell_late)
        seller.start()
        entered.wait(timeout=10)
        seller.join(timeout=0.5)
        assert seller.is_alive(), "the entry waits for the closing"
    seller.join(timeout=10)
    assert len(refused) == 1


def test_closing_is_for_administrators_and_leaves_a_record() -> None:
    here = place()
    for duty, allowed in (
        (Duty.OPERATOR, False),
        (Duty.AUDITOR, False),
        (Duty.ADMINISTRATOR, True),
    ):
        actor = Actor("user:3", duty, (here.property_id,))
        call = {"property_id": here.property_id, "open_from": date(2026, 11, 2), "now": NOW}
        if allowed:
            close_period(actor=actor, **call)
            continue
        with pytest.raises(PermissionRefused):
            close_period(actor=actor, **call)
    assert one("SELECT actor FROM audit_event WHERE code = 'ledger.period.closed'") == "user:3"
    assert pay(here, "still").key
