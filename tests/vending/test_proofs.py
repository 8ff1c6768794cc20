"""Cash = ledger = meter credit: proved each night, kept with its time, and found out where it is not so."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import ProgrammingError, connection
from tests.conftest import role_dsn
from tests.invariants.places import NOW, at, pay, place, rows, send, signed_in
from tests.moves.world import World

from agreements import taking_back_agreed
from prewatt.access.scope import PermissionRefused, system_actor
from prewatt.billing.operations import post_usage
from prewatt.vending.proofs import prove_books, prove_due
from prewatt.vending.sums import Proof
from prewatt.vending.taking_back import reverse_recharge

pytestmark = pytest.mark.usefixtures("database")

NIGHT = datetime(2026, 11, 18, 1, 0, tzinfo=UTC)
"""Two in the morning of Berlin."""


def prove(here: World, now: datetime = NIGHT) -> Proof:
    (proof,) = prove_books(actor=system_actor("proof"), property_ids=[here.property_id], now=now)
    return proof


def lived() -> World:
    """A property with usage posted and not, recharges, and a payment that went back."""
    here = place()
    send(here, [("M-101", at(1), 2_000), ("M-102", at(1), 5_000)])
    pay(here, "one")
    post_usage(actor=system_actor("posting"), now=NOW, until=NOW, cause="posting.daily")
    pay(here, "two")
    event = int(rows("SELECT max(event_id) FROM payment")[0][0])
    with taking_back_agreed(event):
        reverse_recharge(
            actor=here.administrator, event_id=event, why="cheque bounced", key="back", now=NOW
        )
    send(here, [("M-101", at(2), 3_000)])
    return here


def test_the_three_sums_are_one_and_are_what_customers_have() -> None:
    here = lived()
    proof = prove(here)
    ((available,),) = rows("SELECT sum(available)::bigint FROM account_state")
    assert proof.holds and proof.difference_micro == 0
    assert proof.cash_micro == proof.ledger_micro == proof.meters_micro == available != 0
    assert rows("SELECT property_id, proved_at, cash_micro, made_by FROM books_proof") == [
        (here.property_id, NIGHT, available, "system:proof")
    ]


@pytest.mark.parametrize(
    ("theft", "which"),
    [
        # A payment is booked that nobody made, one that was made is not, and credit out of thin air.
        ("UPDATE payment SET amount_micro = amount_micro + 70000 WHERE id = (SELECT min(id) FROM payment)", "cash_micro"),
        ("DELETE FROM payment WHERE id = (SELECT min(id) FROM payment)", "cash_micro"),
        ("UPDATE account_state SET posted = posted + 70000 WHERE account_id = (SELECT min(account_id) FROM account_state)", "meters_micro"),
        ("UPDATE account_state SET accrued_energy = accrued_energy - 7 WHERE account_id = (SELECT min(account_id) FROM account_state)", "meters_micro"),
        ("UPDATE interval SET charge_energy = charge_energy + 7 WHERE interval_no = (SELECT max(interval_no) FROM interval)", "meters_micro"),
    ],
)  # fmt: skip
def test_whatever_was_tampered_with_shows(
    theft: str, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    here = lived()
    with connection.cursor() as cursor:
        cursor.execute(theft)
    proof = prove(here)
    assert not proof.holds and "are not the same" in caplog.text
    others = {proof.cash_micro, proof.ledger_micro, proof.meters_micro} - {getattr(proof, which)}
    assert len(others) == 1, "the two others agree"
    assert rows("SELECT count(*) FROM books_proof") == [(1,)], "what does not hold is kept too"


def test_a_night_has_one_proof_and_the_next_one_another() -> None:
    lived()
    early, late = NIGHT - timedelta(minutes=1), NIGHT + timedelta(hours=20)
    assert len(prove_due(now=early)) == 1, "there was none at all"
    assert prove_due(now=early) == []
    assert len(prove_due(now=NIGHT)) == 1
    assert prove_due(now=late) == [] == prove_due(now=NIGHT + timedelta(hours=23, minutes=59))
    assert len(prove_due(now=NIGHT + timedelta(days=1))) == 1


def test_only_the_worker_writes_proofs_and_nobody_changes_one(database: str) -> None:
    here = lived()
    prove(here)
    with pytest.raises(PermissionRefused):
        prove_books(actor=here.administrator, property_ids=[here.property_id], now=NOW)
    forged = replace(system_actor("x"), property_ids=(here.property_id,))
    with (
        signed_in(role_dsn(database, "head_end"), database),
        pytest.raises(ProgrammingError, match="permission denied"),
    ):
        prove_books(actor=forged, property_ids=[here.property_id], now=NOW)
    with signed_in(role_dsn(database, "clerk"), database):
        assert prove_books(actor=forged, property_ids=[here.property_id], now=NOW)[0].holds
        with pytest.raises(ProgrammingError, match="permission denied"), connection.cursor() as c:
            c.execute("UPDATE books_proof SET cash_micro = 0")


def test_a_proof_of_a_time_that_has_not_come_keeps_no_night_unproved() -> None:
    here = lived()
    prove(here, NIGHT + timedelta(days=3_650))
    assert [each.property_id for each in prove_due(now=NIGHT)] == [here.property_id]
    assert prove_due(now=NIGHT) == []
    assert len(prove_due(now=NIGHT + timedelta(days=1))) == 1
