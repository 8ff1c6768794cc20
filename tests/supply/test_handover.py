"""What one payer's supply leaves behind at a meter never reaches the next one."""

from __future__ import annotations

import pytest
from django.db import transaction
from tests.supply.world import EUR, NOW, World, run_sql

from prewatt.core.vocabulary import OrderKind, OrderState, RelayState
from prewatt.supply.handover import take_over, withdraw_orders

pytestmark = pytest.mark.usefixtures("database")


def hand_over(here: World) -> None:
    """The first account leaves its meter to the second."""
    with transaction.atomic():
        take_over(
            from_account_id=here.account_ids[0],
            to_account_id=here.account_ids[1],
            meter_ids=here.meter_ids[:1],
            now=NOW,
        )


def desired(here: World, number: int) -> int:
    return int(here.state(here.account_ids[number])["desired"])


def test_a_cut_that_has_gone_out_is_superseded_and_its_relay_thought_open() -> None:
    """The meter may still carry it out, although its relay was last read back closed."""
    here = World(2, brake={"window_s": 900, "cuts_max": 12, "share_bp": 10_000})
    here.cut()
    assert [each["kind"] for each in here.orders()] == [OrderKind.DISCONNECT] * 2
    run_sql("UPDATE supply_order SET state = %s, sent_at = %s", OrderState.SENT.value, NOW)
    run_sql("UPDATE supply_state SET desired = 1 WHERE account_id = %s", here.account_ids[1])
    hand_over(here)
    first, other = here.orders()
    assert (first["state"], first["finished_at"], first["next_try_at"]) == (
        OrderState.SUPERSEDED, NOW, None,
    )  # fmt: skip
    assert other["state"] == OrderState.SENT, "another meter's order is another payer's"
    assert desired(here, 1) == RelayState.OPEN
    assert desired(here, 0) == RelayState.CLOSED


def test_a_held_cut_is_not_decided_again_for_who_has_left() -> None:
    here = World(2, notice_s=0, window={"opens_min": 0, "closes_min": 1, "weekdays": [0]})
    here.read(-EUR)
    assert here.state()["held"] and here.state()["reconsider_at"] is not None
    hand_over(here)
    assert not here.state()["held"] and here.state()["reconsider_at"] is None
    assert here.state(here.account_ids[1])["held"], "the other's own cut is still to be decided"
    assert here.reconsider() == 1


def test_a_relay_read_back_open_is_left_for_the_next_payers_credit_to_close() -> None:
    here = World(2)
    here.relay(RelayState.OPEN)
    hand_over(here)
    assert desired(here, 1) == RelayState.OPEN
    here.relay(RelayState.OPEN, meter=1)
    here.pay(50 * EUR, account=here.account_ids[1])
    assert [each["kind"] for each in here.orders()] == [OrderKind.CONNECT]


@pytest.mark.parametrize("relay", [RelayState.CLOSED, RelayState.UNKNOWN])
def test_a_closed_relay_and_a_connect_order_leave_nothing_to_do(relay: RelayState) -> None:
    here = World(2)
    here.cut()
    run_sql("UPDATE supply_order SET kind = %s", OrderKind.CONNECT.value)
    run_sql("UPDATE supply_state SET desired = 1")
    here.relay(relay)
    hand_over(here)
    assert here.orders()[0]["state"] == OrderState.SUPERSEDED
    assert desired(here, 1) == RelayState.CLOSED


def test_what_is_finished_stays_as_it_was() -> None:
    here = World(1)
    here.cut()
    run_sql("UPDATE supply_order SET state = %s, finished_at = %s", OrderState.VERIFIED.value, NOW)
    before = here.orders()
    assert withdraw_orders(meter_ids=here.meter_ids, now=NOW) is False
    assert here.orders() == before
