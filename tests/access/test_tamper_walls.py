"""An adversary with a duty's credential who closes cases, makes evidence up after the fact, or darkens somebody by them."""

from __future__ import annotations

import psycopg
import pytest
from tests.access.test_duty_walls import as_way, breaks
from tests.access.test_money_walls import WAYS, Session
from tests.access.test_walls import owner, two
from tests.invariants.conftest import books
from tests.invariants.places import World

__all__ = ["books", "owner", "two"]

_CASE = """INSERT INTO tamper_case (property_id, meter_id, account_id, kind, opened_at, first_at, last_at, evidence_count)
           VALUES (%s, %s, %s, 1, now(), now(), now(), 1)"""
_CLOSE = """UPDATE tamper_case SET state = 3, closed_by = 'user:1', closed_at = now(), close_reason = 'other',
                close_note = 'Nothing' WHERE id = %s"""
_WITHHOLD = "UPDATE supply_state SET withheld_since = now() WHERE account_id = %s"
_HOLD = (
    "UPDATE supply_state SET emergency_micro = 0, emergency_held_micro = 5 WHERE account_id = %s"
)
_POLICY = """INSERT INTO tamper_policy VALUES (%s, 1, '{"responses": {"1": "cut"}}', now())"""
_FEEDS = """INSERT INTO feed_in (property_id, metering_point_id, period, reason, said_by)
            SELECT %s, min(id), tstzrange(now(), NULL), 'A roof', 'user:1' FROM metering_point WHERE property_id = %s"""
_FOUND = "INSERT INTO tamper_note (property_id, case_id, noted_at, noted_by, text) VALUES (%s, %s, now(), 'x', 'x')"
#: Who may do each of these; nobody else may, however they write it.
_NOTES = {"head_end", "clerk"}
_SEE = {*_NOTES, "app_operator", "app_admin", "app_auditor"}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[1] or way[0])
def test_nobody_ends_a_case_or_withholds_supply_past_their_duty(
    books: str, owner: Session, two: tuple[World, World], way: tuple[str, str]
) -> None:
    here, _ = two
    place, account, meter = here.property_id, here.accounts["1001"], here.meters["M-101"]
    who = way[1] or way[0]
    with owner.transaction(force_rollback=False):
        owner.execute("DELETE FROM tamper_policy")
        owner.execute("DELETE FROM tamper_case")
        case = owner.execute(_CASE + " RETURNING id", [place, meter, account]).fetchall()[0][0]
    with as_way(books, way, place) as session:
        assert breaks(session, _CLOSE, case) is (who != "app_admin")
        assert breaks(session, _CASE, place, meter + 1_000, account) is (who not in _NOTES)
        for statement, *values in (
            ("DELETE FROM tamper_case WHERE id = %s", case),
            ("UPDATE tamper_evidence SET code = 'x'",),
            ("UPDATE tamper_case SET kind = 2 WHERE id = %s", case),
            ("UPDATE tamper_case SET evidence_count = 0, last_at = first_at - interval '1 day' WHERE id = %s", case),
            (_WITHHOLD, account),
            (_HOLD, account),
            (_POLICY, place),
            ("SELECT withhold_supply(%s, now())", case),
            ("SELECT change_tamper_policy(%s, 0, '{}', now())", place),
        ):  # fmt: skip
            assert breaks(session, str(statement), *values), statement
        # Where reverse flow is no case, an administrator alone says; and nobody takes a word back.
        assert breaks(session, _FEEDS, place, place) is (who != "app_admin")
        assert breaks(session, "DELETE FROM feed_in")
        # What was found is added by whoever may, and stays.
        assert breaks(session, _FOUND, place, case) is (who != "app_admin")
        assert breaks(session, "UPDATE tamper_note SET text = 'x'")
        assert breaks(session, "DELETE FROM tamper_note")
        # Who pays there, and why somebody closed it, is for those who see accounts.
        assert breaks(session, "SELECT account_id, close_note FROM tamper_case") is (
            who not in _SEE
        )
    owner.execute(_POLICY, [place])
    owner.execute("UPDATE supply_state SET protection = '' WHERE account_id = %s", [account])
    with as_way(books, way, place) as session:
        # With a policy that says so, the worker alone does what it says; whom it concerns is looked up.
        try:
            with session.transaction(force_rollback=True):
                done = session.execute("SELECT withhold_supply(%s, now())", [case]).fetchall()
        except psycopg.errors.InsufficientPrivilege:
            done = []
        assert done == ([("cut",)] if who == "clerk" else [])
    owner.execute("DELETE FROM tamper_policy")
    owner.execute("DELETE FROM tamper_case")
