"""An adversary with a duty's credential who cuts whom nobody decided to cut, or somebody else's meter."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from tests.access.test_duty_walls import DECIDERS, as_way
from tests.access.test_money_walls import WAYS, Session
from tests.access.test_walls import all_of, owner, two
from tests.invariants.conftest import books
from tests.invariants.places import World

from prewatt.core.vocabulary import Outcome

__all__ = ["books", "owner", "two"]

_DECISION = """INSERT INTO supply_decision (property_id, account_id, decided_at, outcome, reason, gates,
                   available_micro, would_have, trigger)
               VALUES (%s, %s, now(), %s, 'exhausted', '[]', 0, %s, 'reading') RETURNING id"""
_ORDER = """INSERT INTO supply_order (property_id, account_id, meter_id, kind, state, decision_id, reason,
                decided_at, finished_at, attempts, failure)
            VALUES (%s, %s, %s, %s, %s, %s, 'mine', now(), CASE WHEN %s = 8 THEN now() END, 0, '')"""
CONNECT, DISCONNECT, DECIDED, WOULD_HAVE = 1, 2, 1, 8
_SAID = "decision of its own account"


def insert(
    session: Session, here: World, decision: int, *, account: str = "1001", meter: int | None = None,
    kind: int = DISCONNECT, state: int = DECIDED, times: int = 1,
) -> str:  # fmt: skip
    """What the database says to an order of a decision; it is undone again."""
    meter = here.meters["M-101"] if meter is None else meter
    given: list[Any] = [
        here.property_id,
        here.accounts[account],
        meter,
        kind,
        state,
        decision,
        state,
    ]
    try:
        with session.transaction(force_rollback=True):
            session.execute("UPDATE supply_order SET state = 7 WHERE meter_id = %s", [meter])
            for _ in range(times):
                session.execute(_ORDER, given)
                session.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.errors.IntegrityError as error:
        return error.diag.constraint_name or error.diag.message_primary or "refused"
    return "done"


@pytest.mark.parametrize(
    "way",
    [each for each in WAYS if (each[1] or each[0]) in DECIDERS],
    ids=lambda way: way[1] or way[0],
)
def test_an_order_is_of_a_decision_of_its_account_and_for_its_meter(
    books: str, owner: Session, two: tuple[World, World], way: tuple[str, str]
) -> None:
    here, there = two

    def decided(outcome: Outcome, *, account: str = "1001", would: bool = False) -> int:
        place = here.property_id
        return int(all_of(owner, _DECISION, place, here.accounts[account], outcome.value, would)[0])

    cut, connect = decided(Outcome.CUT), decided(Outcome.CONNECT)
    other = next(number for number in here.accounts if number != "1001")
    foreign = next(meter for name, meter in here.meters.items() if name != "M-101")
    with as_way(books, way, here.property_id) as session:
        assert insert(session, here, cut) == "done"
        assert insert(session, here, connect, kind=CONNECT) == "done"
        would = decided(Outcome.HOLD, would=True)
        assert insert(session, here, would, state=WOULD_HAVE) == "done"
        # Past the gates: held, kept, nothing but told, or decided to be the opposite.
        for outcome in (Outcome.KEEP, Outcome.HOLD, Outcome.STAY_CUT, Outcome.CONNECT):
            assert _SAID in insert(session, here, decided(outcome)), outcome
        assert _SAID in insert(session, here, would)
        assert _SAID in insert(session, here, decided(Outcome.CUT, would=True))
        assert _SAID in insert(session, here, cut, kind=CONNECT)
        # Of somebody else's decision, for somebody else's meter, or twice of one decision.
        assert _SAID in insert(session, here, decided(Outcome.CUT, account=other))
        assert _SAID in insert(session, here, cut, meter=foreign)
        assert _SAID in insert(session, here, cut, state=WOULD_HAVE, times=2)
        assert insert(session, here, cut, meter=there.meters["M-101"]) != "done"


def test_meter_and_account_of_an_order_are_of_its_property_whoever_writes_it(
    owner: Session, two: tuple[World, World]
) -> None:
    here, there = two
    (cut,) = all_of(owner, _DECISION, here.property_id, here.accounts["1001"], 3, False)
    meter = there.meters["M-101"]
    assert insert(owner, here, cut, meter=meter) == "order_meter_of_the_property"
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="order_account_of_the_property"):
        owner.execute(
            _ORDER, [here.property_id, there.accounts["1001"], here.meters["M-101"], 2, 8, cut, 8]
        )
