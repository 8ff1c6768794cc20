"""What is done by itself about a case: by an agreed policy alone, through every gate, and never to the protected."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import ProgrammingError, transaction
from tests.core.test_credit import NOW as NOW_US
from tests.core.test_credit import POLICY
from tests.supply.world import CLERK, EUR, NOW, World, run_sql
from tests.tamper.test_cases import event, note, rows, someone

from prewatt.core.credit import SupplyState, decide_supply
from prewatt.core.vocabulary import OrderKind, Outcome, Protection, Reason, RelayState
from prewatt.supply.operations import reconsider_due
from prewatt.tamper.operations import close_case
from prewatt.tamper.policy import PolicyRefused, parse
from prewatt.tamper.responses import respond_to_cases

H = timedelta(hours=1)


def test_a_policy_is_of_known_words_and_touches_no_supply_for_a_lost_phase() -> None:
    for body, why in (
        ({"responses": {"1": "shoot"}}, "unknown"),
        ({"responses": {"99": "warn"}}, "unknown"),
        ({"letters": ["tenant"]}, "unknown"),
        ({"answers": {}}, "unknown"),
        ({"responses": {"5": "cut"}}, "not_theirs"),
        ({"responses": {"5": "hold_emergency"}}, "not_theirs"),
    ):
        with pytest.raises(PolicyRefused, match=why):
            parse(body)
    body = {"responses": {"1": "cut", "5": "technician"}, "letters": ["operator"]}
    assert parse(body).body() == body


def say(world: World, response: str, *letters: str) -> None:
    """The policy, laid straight into the table as its owner may; people need `tamper.policy` agreed."""
    run_sql("DELETE FROM tamper_policy")
    run_sql(
        "INSERT INTO tamper_policy VALUES (%s, 1, %s, %s)",
        world.property_id,
        json.dumps({"responses": {"1": response}, "letters": list(letters)}),
        NOW,
    )


def state_of(account: int) -> tuple[Any, ...]:
    return rows(
        """SELECT withheld_since IS NOT NULL, emergency_micro, emergency_held_micro, desired, held
           FROM supply_state WHERE account_id = %s""",
        account,
    )[0]


@pytest.mark.usefixtures("database")
def test_a_cut_for_tampering_is_noticed_first_and_ends_with_its_case() -> None:
    world = World(2, notice_s=4 * 3600)
    me, account = someone(world), world.account_ids[0]
    for each in world.account_ids:
        world.read(50 * EUR, accounts=[each])
    note(event(world))
    assert respond_to_cases(actor=CLERK, now=NOW) == 1
    assert state_of(account)[0] is False and world.messages() == [], "nobody agreed to anything"
    run_sql("DELETE FROM tamper_evidence")
    run_sql("DELETE FROM tamper_case")

    say(world, "cut")
    (case,) = note(event(world))
    respond_to_cases(actor=CLERK, now=NOW)
    assert respond_to_cases(actor=CLERK, now=NOW) == 0, "once"
    assert [each["code"] for each in world.messages()] == ["tamper.cut_planned"]
    reconsider_due(actor=CLERK, now=NOW)
    assert state_of(account) == (True, 0, 0, RelayState.CLOSED, True), "held: nobody was told yet"
    world.deliver()
    # Other money warnings are no notice of this, and a recharge buys nobody out of it.
    world.pay(5 * EUR, now=NOW + H)
    assert world.orders() == []
    world.read(54 * EUR, now=NOW + 3 * H)
    world.reconsider(now=NOW + 3 * H)
    assert world.orders() == [], "the notice still runs"
    world.read(53 * EUR, now=NOW + 4 * H)
    world.reconsider(now=NOW + 4 * H)
    (cut,) = world.orders()
    assert (cut["kind"], cut["reason"], cut["account_id"]) == (2, "tampering", account)
    assert state_of(account)[3] == RelayState.OPEN
    world.pay(50 * EUR, now=NOW + 4 * H)
    assert state_of(account)[3] == RelayState.OPEN, "paying changes nothing about the meter"

    close_case(actor=me, case_id=case, reason="repaired", note="A new seal", now=NOW + 5 * H)
    reconsider_due(actor=CLERK, now=NOW + 5 * H)
    assert state_of(account) == (False, 0, 0, RelayState.CLOSED, False)
    assert world.orders()[-1]["kind"] == OrderKind.CONNECT
    assert state_of(world.account_ids[1])[0] is False


@pytest.mark.usefixtures("database")
def test_nobody_protected_is_touched_and_emergency_credit_comes_back() -> None:
    world = World(2, emergency_micro=10 * EUR)
    first, second = world.account_ids
    run_sql("UPDATE supply_state SET protection = 'medical' WHERE account_id = %s", first)
    say(world, "cut")
    note(event(world))
    respond_to_cases(actor=CLERK, now=NOW)
    assert state_of(first)[:3] == (False, 10 * EUR, 0)
    assert rows("SELECT response, response_kept FROM tamper_case") == [(2, "protected")]
    assert [each["code"] for each in world.messages()] == ["tamper.noticed"]

    (held,) = note(event(world, meter=1))
    say(world, "hold_emergency")
    respond_to_cases(actor=CLERK, now=NOW)
    assert state_of(second)[:3] == (False, 0, 10 * EUR)
    close_case(actor=someone(world), case_id=held, reason="false_alarm", note="Dust", now=NOW + H)
    assert state_of(second)[:3] == (False, 10 * EUR, 0)

    say(world, "cut")
    note(event(world, back_s=0, meter=1))
    respond_to_cases(actor=CLERK, now=NOW)
    assert state_of(second)[0] is True
    run_sql("UPDATE supply_state SET protection = 'medical' WHERE account_id = %s", second)
    assert state_of(second)[:3] == (False, 10 * EUR, 0), "whoever is protected has it back at once"
    say(world, "warn")
    case = rows("SELECT max(id) FROM tamper_case")[0][0]
    for wrong in (case, 999_999):
        with pytest.raises(ProgrammingError, match="no policy"), transaction.atomic():
            run_sql("SELECT withhold_supply(%s, %s)", wrong, NOW)


def test_what_is_withheld_is_decided_by_gates_and_never_connected_by_money() -> None:
    state = SupplyState(50_000_000, 0, NOW_US, is_withheld=True)
    held = decide_supply(state, POLICY, NOW_US)
    assert (held.outcome, held.reason) == (Outcome.HOLD, Reason.HELD_WARNING_NOT_DELIVERED)
    guarded = SupplyState(50_000_000, 0, NOW_US, is_withheld=True, protection=Protection.MEDICAL)
    assert decide_supply(guarded, POLICY, NOW_US).outcome is Outcome.HOLD
    cut = SupplyState(50_000_000, 0, NOW_US, relay=RelayState.OPEN, is_withheld=True)
    assert decide_supply(cut, POLICY, NOW_US).outcome is Outcome.KEEP
