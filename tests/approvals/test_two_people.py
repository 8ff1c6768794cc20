"""A price takes two people and a second factor of each: by the operations, and straight at the database."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pyotp
import pytest
from tests.conftest import role_dsn
from tests.invariants.places import NOW, TARIFF, one, place

from prewatt.access import second_factor
from prewatt.access.models import Duty, DutyGrant, SecondFactor, StepUp, User
from prewatt.access.scope import Actor, PermissionRefused
from prewatt.access.second_factor import FactorRefused
from prewatt.approvals.operations import (
    PROPOSE,
    ProposalRefused,
    Wanted,
    approval_digest,
    approve,
    digest_of,
    propose,
    refuse,
    withdraw,
)
from prewatt.billing.drafts import ask_trial, save_draft
from prewatt.billing.models import TariffTrial, TariffVersion
from prewatt.billing.proposals import (
    KIND,
    VersionRefused,
    wanted_version,
)
from prewatt.sign_in import factors

pytestmark = pytest.mark.usefixtures("database")
DAY = timedelta(days=1)


class Office:
    """Two administrators and an operator of one property, each with an app, and one draft of a plan."""

    def __init__(self) -> None:
        self.world = place()
        self.property_id = self.world.property_id
        self.now = NOW
        self.secrets: dict[str, str] = {}
        self.users = {
            name: self._hire(name, duty)
            for name, duty in (
                ("ines", Duty.ADMINISTRATOR), ("jonas", Duty.ADMINISTRATOR), ("tomas", Duty.OPERATOR)
            )
        }  # fmt: skip
        self.draft_id = self.draft()

    def _hire(self, name: str, duty: Duty) -> User:
        email = f"{name}{self.property_id}@example.org"
        user = User(email=email, name=name, password="!")
        user.save()
        DutyGrant.objects.create(
            user=user, property_id=self.property_id, duty=duty, granted_at=self.now
        )
        offer = second_factor.offer(user=user, now=self.now)
        self.secrets[name] = offer.secret
        factors.take_up_app(
            user=user, sealed=offer.sealed, code=self.code(name), step_up_id=None, now=self.now
        )
        return user

    def draft(self, code: str = "new", name: str = "New") -> int:
        return save_draft(
            actor=self.actor("ines"), property_id=self.property_id, code=code, name=name,
            document={**TARIFF, "name": name}, reason="The supplier's prices rose", now=self.now,
        ).draft_id  # fmt: skip

    def actor(self, name: str, duty: Duty = Duty.ADMINISTRATOR) -> Actor:
        user = self.users[name] if hasattr(self, "users") else User.objects.get(name=name)
        return Actor(f"user:{user.pk}", duty, (self.property_id,), name, user.pk)

    def code(self, name: str) -> str:
        return pyotp.TOTP(self.secrets[name]).generate_otp(
            int(self.now.timestamp()) // second_factor.STEP_S
        )

    def prove(self, name: str, digest: bytes) -> int:
        """A step-up by the next code of this person's app."""
        self.now += timedelta(seconds=second_factor.STEP_S)
        return second_factor.prove(
            user=self.users[name], code=self.code(name), digest=digest, now=self.now
        )

    def wanted(self, name: str = "ines", *, valid_from: datetime | None = None) -> Wanted:
        return wanted_version(
            actor=self.actor(name), draft_id=self.draft_id, valid_from=valid_from or NOW + DAY,
            now=self.now,
        )  # fmt: skip

    def propose(self, name: str = "ines") -> int:
        wanted = self.wanted(name)
        return self.ask(name, wanted)

    def ask(self, name: str, wanted: Wanted, step_up_id: int | None = None) -> int:
        step = self.prove(name, wanted.digest) if step_up_id is None else step_up_id
        made = propose(
            actor=self.actor(name), wanted=wanted, reason="Agreed in the board", step_up_id=step,
            now=self.now,
        )  # fmt: skip
        return made.proposal_id

    def approve(self, proposal_id: int, name: str = "jonas", step_up_id: int | None = None) -> int:
        if step_up_id is None:
            digest = approval_digest(actor=self.actor(name), proposal_id=proposal_id)
            step_up_id = self.prove(name, digest)
        return approve(
            actor=self.actor(name), proposal_id=proposal_id, step_up_id=step_up_id, now=self.now
        )


@pytest.fixture
def office(database: str) -> Office:
    return Office()


def state(proposal_id: int) -> str:
    return str(one("SELECT state FROM proposal WHERE id = %s", proposal_id))


def said(reason: str) -> Any:
    return pytest.raises(ProposalRefused, match=f"^{reason}$")


def test_a_draft_becomes_a_price_by_two_people(office: Office) -> None:
    epoch = one("SELECT epoch FROM tariff_epoch WHERE property_id = %s", office.property_id)
    proposal_id = office.propose()
    assert TariffVersion.objects.filter(tariff__code="new").count() == 0
    assert office.approve(proposal_id) == 0
    version = TariffVersion.objects.get(proposal_id=proposal_id)
    assert (version.made_by, version.approved_by) == (
        office.actor("ines").code, office.actor("jonas").code
    )  # fmt: skip
    assert (version.number, version.valid_from) == (1, NOW + DAY)
    assert version.proposal_id == proposal_id and state(proposal_id) == "approved"
    assert one("SELECT epoch FROM tariff_epoch WHERE property_id = %s", office.property_id) > epoch
    assert one("SELECT became FROM tariff_draft WHERE id = %s", office.draft_id) == 1
    for code in ("approvals.proposed", "approvals.approved"):
        assert one("SELECT count(*) FROM audit_event WHERE code = %s", code) == 1
    with said("ended"):
        office.approve(proposal_id)
    with pytest.raises(VersionRefused, match="became"):
        office.wanted()


def test_nobody_approves_their_own_and_no_operator_does(office: Office) -> None:
    proposal_id = office.propose()
    with said("own"):
        office.approve(proposal_id, "ines")
    with said("own"):
        refuse(actor=office.actor("ines"), proposal_id=proposal_id, reason="no", now=office.now)
    with said("not_own"):
        withdraw(actor=office.actor("jonas"), proposal_id=proposal_id, reason="no", now=office.now)
    # An operator with the duty's permission forged: the database looks the duty up itself.
    with said("not_administrator"):
        office.approve(proposal_id, "tomas")
    with pytest.raises(PermissionRefused):
        approve(
            actor=office.actor("tomas", Duty.OPERATOR), proposal_id=proposal_id, step_up_id=1,
            now=office.now,
        )  # fmt: skip
    assert (
        state(proposal_id) == "open"
        and TariffVersion.objects.filter(tariff__code="new").count() == 0
    )


def test_a_step_up_is_for_one_person_one_deed_and_once(office: Office) -> None:
    proposal_id = office.propose()
    jonas = office.actor("jonas")
    digest = approval_digest(actor=jonas, proposal_id=proposal_id)
    for step_up_id in (
        office.prove("ines", digest),  # another person's
        office.prove("jonas", office.wanted().digest),  # for proposing, not for approving
        10**9,
    ):
        with said("step_up"):
            office.approve(proposal_id, step_up_id=step_up_id)
    old = office.prove("jonas", digest)
    StepUp.objects.filter(pk=old).update(issued_at=datetime.now(NOW.tzinfo) - timedelta(minutes=6))
    with said("step_up"):
        office.approve(proposal_id, step_up_id=old)
    good = office.prove("jonas", digest)
    assert office.approve(proposal_id, step_up_id=good) == 0
    with said("ended"):
        office.approve(proposal_id, step_up_id=good)


def test_what_changed_since_makes_it_void(office: Office) -> None:
    proposal_id = office.propose()
    office.draft()
    with said("void:draft"):
        office.approve(proposal_id)
    assert state(proposal_id) == "void"
    proposal_id = office.propose()
    office.now = NOW + DAY
    with said("void:begun"):
        office.approve(proposal_id)
    assert TariffVersion.objects.filter(tariff__code="new").count() == 0
    assert one("SELECT count(*) FROM audit_event WHERE code = 'approvals.void'") == 2


def test_a_proposal_is_refused_where_it_could_not_hold(office: Office) -> None:
    for valid_from, reason in ((NOW - DAY, "begun"), (NOW + 500 * DAY, "far")):
        with pytest.raises(VersionRefused, match=reason):
            office.wanted(valid_from=valid_from)
    office.approve(office.propose())
    office.draft()
    with pytest.raises(VersionRefused, match="later"):
        office.wanted(valid_from=NOW + DAY)
    # Everybody of this property pays by the plan "tou": it has to be tried first.
    code = one(
        "SELECT code FROM tariff WHERE property_id = %s AND code <> 'new'", office.property_id
    )
    office.draft_id = office.draft(code, "Dearer")
    later = NOW + 3 * DAY
    with pytest.raises(VersionRefused, match="untried"):
        office.wanted(valid_from=later)
    trial = ask_trial(actor=office.actor("ines"), draft_id=office.draft_id, days=30, now=office.now)
    TariffTrial.objects.filter(pk=trial).update(state=TariffTrial.State.DONE)
    assert office.wanted(valid_from=later).effect["code"] == code
    office.draft_id = office.draft()
    with pytest.raises(VersionRefused, match="same"):
        office.wanted(valid_from=later)


def test_one_waits_at_a_time_and_it_ends_by_itself(office: Office) -> None:
    first = office.propose()
    with said("open"):
        office.propose()
    withdraw(actor=office.actor("ines"), proposal_id=first, reason="A typo", now=office.now)
    second = office.propose("jonas")
    refuse(actor=office.actor("ines"), proposal_id=second, reason="Too dear", now=office.now)
    assert (state(first), state(second)) == ("withdrawn", "refused")
    wanted = office.wanted(valid_from=NOW + 30 * DAY)
    third = office.ask("ines", wanted)
    office.now += 15 * DAY
    with said("expired"):
        office.approve(third)


def test_a_code_counts_once_and_guessing_is_slow(office: Office) -> None:
    user, digest = office.users["ines"], b"d" * 32
    office.prove("ines", digest)
    with pytest.raises(FactorRefused, match="code"):
        second_factor.prove(user=user, code=office.code("ines"), digest=digest, now=office.now)
    for wrong in ("", "12345", "١٢٣٤٥٦", "0" * 12):
        with pytest.raises(FactorRefused, match="code"):
            second_factor.prove(user=user, code=wrong, digest=digest, now=office.now)
    office.now += timedelta(seconds=2)
    with pytest.raises(FactorRefused, match="wait") as wait:
        second_factor.prove(user=user, code=office.code("ines"), digest=digest, now=office.now)
    assert wait.value.wait_s > 20
    office.now += timedelta(minutes=1)
    assert office.prove("ines", digest)


def test_a_factor_is_taken_up_once_by_its_own_person_and_kept_sealed(office: Office) -> None:
    ines, jonas = office.users["ines"], office.users["jonas"]
    with pytest.raises(FactorRefused, match="enrolled"):
        second_factor.offer(user=ines, now=office.now)
    kept = bytes(SecondFactor.objects.get(user=ines).sealed_secret)
    assert office.secrets["ines"].encode() not in kept
    assert factors.forget(actor=office.actor("jonas"), user=ines, now=office.now)
    offer = second_factor.offer(user=ines, now=office.now)
    office.secrets["ines"] = offer.secret
    late = office.now + second_factor.OFFER_LASTS + timedelta(seconds=1)
    for user, sealed, now in ((jonas, offer.sealed, office.now), (ines, "x", office.now),
                              (ines, offer.sealed, late)):  # fmt: skip
        with pytest.raises(FactorRefused, match="stale"):
            factors.take_up_app(user=user, sealed=sealed, code="1", step_up_id=None, now=now)
    with pytest.raises(FactorRefused, match="none"):
        second_factor.prove(user=ines, code=office.code("ines"), digest=b"d" * 32, now=office.now)


def test_no_login_of_the_web_writes_a_price_or_an_approval(office: Office, database: str) -> None:
    proposal_id = office.propose()
    digest = approval_digest(actor=office.actor("jonas"), proposal_id=proposal_id)
    step_up_id = office.prove("jonas", digest)
    here, ines, jonas = office.property_id, office.users["ines"].pk, office.users["jonas"].pk
    attacks = [
        "INSERT INTO tariff_version SELECT * FROM tariff_version",
        "INSERT INTO proposal SELECT * FROM proposal",
        "UPDATE proposal SET state = 'approved'",
        "UPDATE proposal SET effect = effect",
        "UPDATE step_up SET used_at = NULL",
        "INSERT INTO step_up (user_id, digest, issued_at) VALUES (1, 'x', now() + interval '1 day')",
        f"SELECT use_step_up({step_up_id}, {jonas}, 'x')",
        "SET ROLE approval_pen",
        "UPDATE second_factor SET sealed_secret = 'x'",
        "DELETE FROM second_factor",
        "UPDATE duty_grant SET duty = 'administrator'",
    ]
    with psycopg.connect(role_dsn(database, "web"), autocommit=True) as web:
        for role in ("", "app_operator", "app_auditor", "app_admin"):
            web.execute(f"SET ROLE {role}" if role else "RESET ROLE")
            web.execute("SELECT set_config('prewatt.properties', %s, false)", [f"{{{here}}}"])
            own = [] if role == "app_admin" else [
                f"SELECT approve_proposal({proposal_id}, '{KIND}', {jonas}, {step_up_id}, now())",
                f"SELECT make_version({proposal_id}, 'new', now())",
            ]  # fmt: skip
            for statement in [*attacks, *own]:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    web.execute(statement)
        # An administrator's role, and nobody's code: the maker as the approver, another's step-up, twice.
        call = f"SELECT (approve_proposal(%s, '{KIND}', %s, %s, %s)).refusal"
        make = f"SELECT make_version({proposal_id}, 'new', '{office.now.isoformat()}')"
        for person, step, at in ((ines, step_up_id, office.now), (jonas, 0, office.now)):
            assert web.execute(call, [proposal_id, person, step, at]).fetchone() != (None,)
        web.execute("SELECT set_config('prewatt.properties', %s, false)", [f"{{{here + 1}}}"])
        foreign = web.execute(call, [proposal_id, jonas, step_up_id, office.now]).fetchone()
        assert foreign == ("unknown",)
        web.execute("SELECT set_config('prewatt.properties', %s, false)", [f"{{{here}}}"])
        for alone in (call, make):
            # Agreed to without its effect, or made without the agreement: neither is.
            given = [proposal_id, jonas, step_up_id, office.now] if alone is call else None
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                web.execute(alone, given)
        with web.transaction():
            web.execute(call, [proposal_id, jonas, step_up_id, office.now])
            web.execute(make)
            with pytest.raises(psycopg.errors.InsufficientPrivilege), web.transaction():
                web.execute(make)
        assert web.execute(call, [proposal_id, jonas, step_up_id, office.now]).fetchone() == (
            "ended",
        )
    assert TariffVersion.objects.filter(tariff__code="new").count() == 1


def test_a_draft_becomes_a_version_of_its_own_plan_whatever_a_proposal_says(office: Office) -> None:
    """Proposed by who left the form out, and with two sound second factors."""
    wanted = office.wanted()
    forged = {**wanted.effect, "code": "other"}
    digest = digest_of(
        deed=PROPOSE, kind=KIND, property_id=office.property_id, subject="tariff:other",
        effect=forged,
    )  # fmt: skip
    proposal_id = office.ask(
        "ines", replace(wanted, subject="tariff:other", effect=forged, digest=digest)
    )
    with said("void:draft"):
        office.approve(proposal_id)


def test_of_two_who_propose_at_once_one_is_told_that_another_waits(
    office: Office, database: str
) -> None:
    """The other's proposal is written and not committed yet when ours looks whether one waits."""
    wanted, there = office.wanted("jonas"), office.users["ines"].pk
    step_up_id = office.prove("jonas", wanted.digest)
    with psycopg.connect(database) as other:
        other.execute(
            """INSERT INTO proposal (property_id, kind, subject, effect, digest, reason, made_by,
                   made_at, expires_at, state, ended_by, answer, amount, needed)
               VALUES (%s, 'billing.tariff', %s, '{}', 'x', 'r', %s, %s, %s, 'open', '', '', 0, 1)""",
            [office.property_id, wanted.subject, f"user:{there}", NOW, NOW + DAY],
        )
        committing = threading.Timer(0.3, other.commit)
        committing.start()
        with said("open"):
            office.ask("jonas", wanted, step_up_id)
        committing.join()
    assert StepUp.objects.get(pk=step_up_id).used_at is None, "nothing of ours was done"


def test_the_actor_without_a_person_proposes_nothing(office: Office) -> None:
    wanted = office.wanted()
    with said("not_administrator"):
        propose(
            actor=replace(office.actor("ines"), user_id=None), wanted=wanted, reason="So",
            step_up_id=1, now=office.now,
        )  # fmt: skip
