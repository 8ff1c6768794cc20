"""A key takes two people and a second factor of each; it does what it names, until its day or its end."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from tests.approvals.test_two_people import Office, said
from tests.conftest import role_dsn
from tests.invariants.places import NOW, one

from prewatt.access.models import Duty
from prewatt.access.scope import PermissionRefused, require
from prewatt.api_keys import operations
from prewatt.api_keys.models import ApiKey
from prewatt.api_keys.operations import KeyRefused, actor_of_key, new_key, permissions_of
from prewatt.approvals import operations as approvals
from prewatt.approvals.operations import Wanted, approval_digest

pytestmark = pytest.mark.usefixtures("database")
YEAR = timedelta(days=365)


@pytest.fixture
def office(database: str) -> Office:
    return Office()


def wanted(office: Office, key: str, **changes: Any) -> Wanted:
    asked: dict[str, Any] = {
        "name": "Cash desk", "duty": "operator", "permissions": ["vending.recharge"],
        "expires_at": NOW + YEAR,
    }  # fmt: skip
    return operations.wanted_key(
        actor=office.actor("ines"),
        property_id=office.property_id,
        key=key,
        now=office.now,
        **asked | changes,
    )


def propose(office: Office, key: str, **changes: Any) -> int:
    want = wanted(office, key, **changes)
    return office.ask("ines", want)


def approve(
    office: Office, proposal_id: int, name: str = "jonas", at: datetime | None = None
) -> int:
    digest = approval_digest(actor=office.actor(name), proposal_id=proposal_id)
    approvals.approve(
        actor=office.actor(name), proposal_id=proposal_id, step_up_id=office.prove(name, digest),
        now=at or office.now,
    )  # fmt: skip
    return int(ApiKey.objects.get(proposal_id=proposal_id).pk)


def test_a_key_holds_when_two_agreed_and_until_somebody_ends_it(office: Office) -> None:
    key = new_key()
    proposal_id = propose(office, key)
    assert actor_of_key(key, now=office.now) is None
    with said("own"):
        approve(office, proposal_id, "ines")
    key_id = approve(office, proposal_id)
    actor = actor_of_key(key, now=office.now)
    assert actor is not None
    assert (actor.code, actor.duty, actor.property_ids) == (
        f"key:{key_id}", Duty.OPERATOR, (office.property_id,)
    )  # fmt: skip
    require(actor, "vending.recharge", property_id=office.property_id)
    for beyond in ("mdm.read_manually", "approvals.propose"):
        with pytest.raises(PermissionRefused):
            require(actor, beyond)
    assert actor_of_key(key[:-1] + ("A" if key[-1] != "A" else "B"), now=office.now) is None
    assert actor_of_key(key, now=NOW + YEAR) is None
    secret = key.rsplit("_", 1)[1]
    told = one("SELECT string_agg(effect::text || reason, '') FROM proposal")
    told += one("SELECT string_agg(detail::text || subject, '') FROM audit_event")
    assert secret not in told
    operations.end_key(
        actor=office.actor("jonas"), key_id=key_id, reason="The desk closed", now=office.now
    )
    assert actor_of_key(key, now=office.now) is None
    with pytest.raises(KeyRefused, match=r"^unknown$"):
        operations.end_key(
            actor=office.actor("jonas"), key_id=key_id, reason="Again", now=office.now
        )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"duty": "administrator", "permissions": ["moves.tenant"]}, "duty"),
        ({"duty": "system", "permissions": ["billing.post"]}, "duty"),
        ({"permissions": ["supply.rules"]}, "permissions"),
        ({"permissions": []}, "permissions"),
        ({"name": " "}, "name"),
        ({"expires_at": NOW}, "expires"),
        ({"expires_at": NOW + 2 * YEAR}, "expires"),
    ],
)
def test_no_key_is_proposed_beyond_its_duty_or_for_ever(
    office: Office, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(KeyRefused, match=f"^{reason}$"):
        wanted(office, new_key(), **changes)


def test_a_key_whose_last_day_has_come_is_void_and_no_operator_proposes_one(office: Office) -> None:
    proposal_id = propose(office, new_key(), expires_at=office.now + timedelta(days=1))
    with said("void:expired"):
        approve(office, proposal_id, at=office.now + timedelta(days=1))
    with pytest.raises(PermissionRefused):
        operations.wanted_key(
            actor=office.actor("tomas", Duty.OPERATOR), property_id=office.property_id, key=new_key(),
            name="Mine", duty="operator", permissions=permissions_of(Duty.OPERATOR),
            expires_at=NOW + YEAR, now=office.now,
        )  # fmt: skip


_FORGED = """
INSERT INTO api_key (property_id, public_id, secret_sha256, name, duty, permissions, proposal_id, made_by,
                     approved_by, made_at, expires_at, ended_by)
SELECT property_id, 'x', secret_sha256, name, duty, permissions, 0, made_by, approved_by, made_at, expires_at, ''
FROM api_key
"""


@pytest.mark.parametrize(
    "role", ["web", "app_operator", "app_admin", "app_auditor", "clerk", "head_end"]
)
def test_no_login_makes_or_prolongs_a_key_by_itself(
    office: Office, database: str, role: str
) -> None:
    key_id = approve(office, propose(office, new_key()))
    login = role if role in ("web", "clerk", "head_end") else "web"
    for statement in (
        _FORGED,
        f"UPDATE api_key SET expires_at = 'infinity' WHERE id = {key_id}",
        f"UPDATE api_key SET permissions = '{{vending.take_back}}' WHERE id = {key_id}",
        f"UPDATE api_key SET ended_at = NULL WHERE id = {key_id}",
        f"DELETE FROM api_key WHERE id = {key_id}",
    ):
        with psycopg.connect(role_dsn(database, login)) as session:
            if login != role:
                session.execute(f"SET ROLE {role}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)
