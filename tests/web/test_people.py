"""People come and go: by invitation, suspension and the end of a duty; and what no administrator can do alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from psycopg.conninfo import make_conninfo

from fernmoor import NOW, ROLE_PASSWORD, Fernmoor, use_database, web_login
from prewatt.access.duties import duties_of
from prewatt.access.models import DutyGrant, User
from prewatt.sign_in import notices
from prewatt.sign_in.models import Invitation, Notice, SignIn
from prewatt.web import clock
from web.test_approvals import code_of, take_up
from web.test_factors import Mail

Owner = Callable[[Fernmoor], AbstractContextManager[None]]
NEW = "mira@fernmoor.example"


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The instant of the next request, in a list of one: codes follow it."""
    instant = [NOW]
    monkeypatch.setattr(clock, "now", lambda: instant[0])
    return instant


def test_somebody_is_invited_by_a_letter_and_has_no_duty_by_it(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner, at: list[Any]
) -> None:
    client = sign_in(fernmoor)
    app = take_up(client, at)
    form = {"name": "Mira Sol", "email": NEW.upper(), "do": "confirm"}
    assert (
        "Invite Mira Sol" in client.post("/people/invite", form | {"do": "look"}).content.decode()
    )
    for wrong in ({"name": ""}, {"email": "nobody"}, {"email": "operator@fernmoor.example"}):
        refused = client.post("/people/invite", form | wrong | {"code": code_of(app, at)})
        assert refused.status_code == 422, wrong
    assert client.post("/people/invite", form | {"code": "000000"}).status_code == 422
    done = client.post("/people/invite", form | {"code": code_of(app, at)})
    assert done.status_code == 302, re.findall(
        r'id="f-[a-z]+-why"[^>]*>[^<]*', done.content.decode()
    )
    assert done["location"] == "/people?done=invited"
    assert "invited, no password yet" in client.get("/people").content.decode()
    mail = Mail()
    use_database(make_conninfo(fernmoor.dsn, user="clerk", password=ROLE_PASSWORD))
    with psycopg.connect(fernmoor.dsn) as owner:
        owner.execute("UPDATE notice SET due_at = due_at WHERE code <> 'access.invited'")
    notices.deliver_due(channels=[mail], now=at[0])
    use_database(web_login(fernmoor.dsn))
    (letter,) = [each for each in mail.sent if each.address == NEW]
    assert "Ines Halvard" in letter.body and "Fernmoor Court" in letter.body
    found = re.search(r"http://localhost:8000(/invited/\d+/\S+)", letter.body)
    assert found
    link, guest = found[1], Client(headers={"host": "localhost"})
    with as_owner(fernmoor):
        assert link.rpartition("/")[2].encode() not in bytes(Invitation.objects.get().token_digest)
    assert guest.get(link[:-1] + "x").status_code == 404
    assert guest.get(link.replace("/invited/", "/invited/9")).status_code == 404
    assert guest.get(link).status_code == 200
    new = "a-lamp-in-the-window"
    assert guest.post(link, {"new": new, "again": "other"}).status_code == 422
    for weak, why in (
        ("short", "at least twelve"), ("PasswordPassword", "Many people"), ("q1w2e3r4t5y6", "Many people"),
        ("Fernmoor-Court-26", "a name"), ("mira.sol.2026!!", "a name"),
    ):  # fmt: skip
        refused = guest.post(link, {"new": weak, "again": weak})
        assert refused.status_code == 422 and why in refused.content.decode(), weak
    chosen = guest.post(link, {"new": new, "again": new})
    assert chosen["location"] == "/sign-in?problem=invited"
    assert guest.post(link, {"new": new + "2", "again": new + "2"}).status_code == 404, "once"
    assert guest.post("/sign-in", {"email": NEW, "password": new})["location"] == "/"
    assert guest.get("/")["location"] == "/sign-in?problem=no-duty"
    assert "no duty yet" in client.get("/people").content.decode()
    assert sign_in(fernmoor, "operator").get("/people").status_code == 403

    # Two people give the duty, and the first of them alone does not.
    with as_owner(fernmoor):
        fernmoor.users["second"] = fernmoor.another_user("second", "Jonas Weir", "administrator")
    jonas = sign_in(fernmoor, "second")
    his = take_up(jonas, at)
    found = re.search(r"/people/\d+/duty", client.get("/people").content.decode())
    assert found
    wish = {"duty": "operator", "reason": "She runs the window"}
    assert client.post(found[0], wish | {"duty": "tenant", "do": "look"}).status_code == 422
    assert "has to agree first" in client.post(found[0], wish | {"do": "look"}).content.decode()
    proposed = client.post(found[0], wish | {"do": "confirm", "code": code_of(app, at)})
    proposal = proposed["location"].removesuffix("?done=proposed")
    guest.post("/sign-in", {"email": NEW, "password": new})
    assert guest.get("/")["location"] == "/sign-in?problem=no-duty"
    assert "Mira Sol as Operator" in jonas.get(proposal).content.decode()
    done = jonas.post(proposal, {"do": "approve", "code": code_of(his, at)})
    assert done["location"] == f"{proposal}?done=approve"
    guest.post("/sign-in", {"email": NEW, "password": new})
    assert guest.get("/accounts").status_code == 200 and guest.get("/people").status_code == 403
    assert client.get(found[0]).status_code == 200
    assert client.post(found[0], wish | {"do": "look"}).status_code == 422, "held already"


def test_a_suspended_person_is_out_at_once_and_comes_back_by_another_hand(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner, at: list[Any]
) -> None:
    with as_owner(fernmoor):
        fernmoor.users["second"] = fernmoor.another_user("second", "Jonas Weir", "administrator")
    ines, jonas, desk = (sign_in(fernmoor, who) for who in ("administrator", "second", "operator"))
    hers, his = take_up(ines, at), take_up(jonas, at)
    who = fernmoor.users["operator"]
    form = {"reason": "The till was short"}
    assert (
        ines.post(f"/people/{who}/suspend", {"reason": "", "code": code_of(hers, at)}).status_code
        == 422
    )
    assert ines.post(f"/people/{who}/suspend", form | {"code": code_of(his, at)}).status_code == 422
    assert desk.get("/").status_code == 200
    done = ines.post(f"/people/{who}/suspend", form | {"code": code_of(hers, at)})
    assert done["location"] == "/people?done=suspend"
    assert desk.get("/").status_code == 302
    with as_owner(fernmoor):
        assert SignIn.objects.get(user=who).ended_why == "suspended"
        assert DutyGrant.objects.get(user=who).ended_at is None
    door = Client(headers={"host": "localhost"})
    barred = door.post(
        "/sign-in", {"email": "operator@fernmoor.example", "password": "quiet-window-42"}
    )
    assert barred.status_code == 403
    own = ines.post(f"/people/{who}/resume", {"code": code_of(hers, at)})
    assert own.status_code == 422 and "another administrator" in own.content.decode()
    assert jonas.post(f"/people/{who}/resume", {"code": code_of(his, at)})["location"]
    back = door.post(
        "/sign-in", {"email": "operator@fernmoor.example", "password": "quiet-window-42"}
    )
    assert back["location"] == "/"
    # The duty ends by date, and what was stays.
    gone = jonas.post(f"/people/{who}/leave", form | {"code": code_of(his, at)})
    assert gone["location"] == "/people?done=leave" and door.get("/").status_code == 302
    with as_owner(fernmoor):
        assert DutyGrant.objects.get(user=who).ended_by == f"user:{fernmoor.users['second']}"
        told = set(Notice.objects.filter(user=who).values_list("code", flat=True))
    assert told >= {"access.suspended", "access.resumed"}
    for which in ("auditor", "administrator"):
        other = fernmoor.users[which]
        refused = ines.post(f"/people/{other}/suspend", form | {"code": code_of(hers, at)})
        assert refused.status_code == 422, which
    # Nobody sends away who looks, and none makes themselves the only one to decide, but by two people.
    second = fernmoor.users["second"]
    left = ines.post(f"/people/{second}/leave", form | {"code": code_of(hers, at)})
    assert left["location"] == f"/people/{second}/end"
    for person, said in ((fernmoor.users["auditor"], "Auditor"), (second, "Administrator")):
        where = f"/people/{person}/end"
        assert (where in ines.get("/people").content.decode()) is (person != second)
        look = ines.post(where, form).content.decode()
        assert said in look and "1 other administrator has to agree first" in look
        assert ines.post(where, form | {"do": "confirm", "code": "000000"}).status_code == 422
        made = ines.post(where, form | {"do": "confirm", "code": code_of(hers, at)})["location"]
        proposal = made.removesuffix("?done=proposed")
        with as_owner(fernmoor):
            assert DutyGrant.objects.get(user=person).ended_at is None
        own = ines.post(proposal, {"do": "approve", "code": code_of(hers, at)})
        assert own.status_code == 409
        # Jonas agrees to the end of his own duty last of all.
        done = jonas.post(proposal, {"do": "approve", "code": code_of(his, at)})
        assert done.status_code == 302
        with as_owner(fernmoor):
            assert DutyGrant.objects.get(user=person).ended_by == f"user:{second}"
    assert jonas.get("/people").status_code in (302, 403)


def test_no_login_brings_anybody_in_or_puts_anybody_out_without_a_proof(
    fernmoor: Fernmoor, as_owner: Owner
) -> None:
    """The walls: straight at the database, as every role that the web can be."""
    with as_owner(fernmoor):
        away = fernmoor.another("Elsewhere")
        fernmoor.grant("operator", away, "operator")
        fernmoor.users["second"] = fernmoor.another_user("second", "Jonas Weir", "administrator")
    here, ines = fernmoor.property_id, fernmoor.users["administrator"]
    desk, auditor, jonas = (fernmoor.users[who] for who in ("operator", "auditor", "second"))
    later = NOW + timedelta(minutes=1)
    words = {
        f"suspend_person({here}, {jonas}, {ines}, 'x', NULL, '{later}')": "step_up",
        f"suspend_person({here}, {desk}, {ines}, 'x', NULL, '{later}')": "elsewhere",
        f"suspend_person({here}, {auditor}, {ines}, 'x', NULL, '{later}')": "auditor",
        f"suspend_person({here}, {ines}, {ines}, 'x', NULL, '{later}')": "own",
        f"suspend_person({here}, {ines}, {desk}, 'x', NULL, '{later}')": "not_administrator",
        f"end_duties({here}, {desk}, {ines}, 'x', NULL, '{later}')": "step_up",
        f"end_duties({here}, {auditor}, {ines}, 'x', NULL, '{later}')": "auditor",
        f"end_duties({here}, {jonas}, {ines}, 'x', NULL, '{later}')": "others",
        f"resume_person({here}, {desk}, {ines}, NULL, '{later}')": "nobody",
    }
    denied = (
        "INSERT INTO invitation (user_id) VALUES (1)", "UPDATE invitation SET token_digest = 'x'",
        "UPDATE suspension SET ended_at = now()", "UPDATE app_user SET is_active = true",
        "INSERT INTO app_user (email) VALUES ('x')", "SELECT person_refusal(1, 1, 1)",
        "INSERT INTO duty_grant (user_id, duty) VALUES (1, 'operator')", "SELECT end_duty(1, 'x', now())",
        f"SELECT end_agreed_duties({here}, {auditor}, now())",
    )  # fmt: skip
    with psycopg.connect(web_login(fernmoor.dsn), autocommit=True) as web:
        for role in ("none", "app_operator", "app_auditor", "app_admin"):
            web.execute(f"SET ROLE {role}")
            web.execute("SELECT set_config('prewatt.properties', %s, false)", [f"{{{here}}}"])
            for statement in denied:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    web.execute(statement)
            for call, word in words.items():
                if role == "app_admin":
                    assert web.execute(f"SELECT {call}").fetchone() == (word,), call
                else:
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        web.execute(f"SELECT {call}")
    assert User.objects.filter(pk__in=[desk, auditor, ines, jonas], is_active=True).count() == 4


def test_a_group_takes_two_who_administer_all_of_it_and_carries_duties(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner, at: list[Any]
) -> None:
    with as_owner(fernmoor):
        beside, away = fernmoor.another("Beside Court"), fernmoor.another("Away Court")
        fernmoor.users["second"] = fernmoor.another_user("second", "Jonas Weir", "administrator")
        fernmoor.users["third"] = fernmoor.another_user("third", "Rosa Lind", "administrator")
        for who in ("administrator", "second"):
            fernmoor.grant(who, beside, "administrator")
        fernmoor.users["guest"] = User.objects.create(email=NEW, name="Mira Sol").pk
        Invitation.objects.create(
            user_id=fernmoor.users["guest"], property_id=fernmoor.property_id, invited_by="user:1",
            accepted_at=NOW, expires_at=timezone.now() + timedelta(days=1),
        )  # fmt: skip
    ines, jonas, rosa = (sign_in(fernmoor, who) for who in ("administrator", "second", "third"))
    for each in (ines, jonas, rosa):
        session = each.session
        session["property_id"] = fernmoor.property_id
        session.save()
    hers, his, roses = (take_up(each, at) for each in (ines, jonas, rosa))
    page, here = "/people/groups/new", fernmoor.property_id
    assert "There is no group yet" in ines.get("/people/groups").content.decode()
    form = {"name": "The courts", "reason": "One team for both", "place": [here, beside]}
    for wrong in ({"name": ""}, {"place": []}, {"place": [here, away]}):
        assert ines.post(page, form | wrong | {"do": "look"}).status_code == 422, wrong
    assert rosa.post(page, form | {"do": "look"}).status_code == 422, "not hers"
    look = ines.post(page, form | {"do": "look"}).content.decode()
    assert "Beside Court, Fernmoor Court" in look

    def proposed(where: str, what: dict[str, Any]) -> str:
        made = ines.post(where, what | {"do": "confirm", "code": code_of(hers, at)})
        return str(made["location"].removesuffix("?done=proposed"))

    # Somebody who administers a part of it agrees, and that makes it void.
    proposal = proposed(page, form)
    half = rosa.post(proposal, {"do": "approve", "code": code_of(roses, at)})
    assert half.status_code == 409 and "every property concerned" in half.content.decode()
    proposal = proposed(page, form)
    done = jonas.post(proposal, {"do": "approve", "code": code_of(his, at)})
    assert done["location"] == f"{proposal}?done=approve"
    group = re.search(r"/people/groups/\d+", ines.get("/people/groups").content.decode())
    assert group
    assert fernmoor.counted(
        "SELECT count(*), count(DISTINCT property_id) FROM audit_event WHERE code = 'access.group.changed'"
    ) == (2, 2)
    assert fernmoor.counted(
        "SELECT count(*) FROM unexplained_change WHERE table_name IN ('property_group', 'property_group_member')"
    ) == (0,)
    assert (
        rosa.get(group[0]).status_code == 200
        and "no administrator" in rosa.get(group[0]).content.decode()
    )
    assert ines.post(group[0], form | {"do": "look"}).status_code == 422, "the same"

    # A duty by the group is one at both, and ends at both.
    guest = fernmoor.users["guest"]
    wish = {
        "duty": "operator",
        "reason": "She runs both windows",
        "group": group[0].rpartition("/")[2],
    }
    assert rosa.post(f"/people/{guest}/duty", wish | {"do": "look"}).status_code == 422
    assert (
        "every property of The courts"
        in ines.post(f"/people/{guest}/duty", wish | {"do": "look"}).content.decode()
    )
    proposal = proposed(f"/people/{guest}/duty", wish)
    # The group changes meanwhile, by two people as well: the duty is not what was agreed to any more.
    alone = proposed(group[0], form | {"place": [beside]})
    assert jonas.post(alone, {"do": "approve", "code": code_of(his, at)}).status_code == 302
    stale = jonas.post(proposal, {"do": "approve", "code": code_of(his, at)})
    assert (
        stale.status_code == 409 and "was changed after it was proposed" in stale.content.decode()
    )
    again = proposed(group[0], form)
    assert jonas.post(again, {"do": "approve", "code": code_of(his, at)}).status_code == 302
    proposal = proposed(f"/people/{guest}/duty", wish)
    assert jonas.post(proposal, {"do": "approve", "code": code_of(his, at)}).status_code == 302
    assert [(each.property_id, each.duty) for each in duties_of(guest)] == [
        (here, "operator"), (beside, "operator"),
    ]  # fmt: skip
    assert "Mira Sol (Operator)" in ines.get("/people/groups").content.decode()
    end = {"reason": "She leaves"}
    refused = rosa.post(f"/people/{guest}/leave", end | {"code": code_of(roses, at)})
    assert refused.status_code == 422 and "more than this property" in refused.content.decode()
    assert ines.post(f"/people/{guest}/leave", end | {"code": code_of(hers, at)}).status_code == 302
    assert duties_of(guest) == ()


def test_a_tenant_is_invited_linked_unlinked_and_gone_with_the_last_account(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner, at: list[Any]
) -> None:
    desk, auditor = sign_in(fernmoor, "operator"), sign_in(fernmoor, "auditor")
    account, other = fernmoor.accounts["N-305"], fernmoor.accounts["N-404"]
    page, form = f"/accounts/{account}/sign-in", {"name": "Orla Fenwick", "email": NEW.upper()}
    assert auditor.get(page).status_code == 403 and auditor.post(page, form).status_code == 403
    assert "Nobody yet" in desk.get(page).content.decode()
    for wrong in ({"email": "nobody"}, {"email": "auditor@fernmoor.example"}, {"name": ""}):
        assert desk.post(page, form | wrong).status_code == 422, wrong
    assert desk.post(page, form)["location"] == f"{page}?done=invited"
    assert desk.post(page, form).status_code == 422, "held"
    with as_owner(fernmoor):
        tenant = User.objects.get(email=NEW)
        letter = Notice.objects.get(user=tenant)
    subject, body = notices.said(
        code=letter.code, detail=letter.detail | {"link": "https://x"}, language="zh-hans",
        zone="Europe/Berlin", at=NOW,
    )  # fmt: skip
    assert subject == "查看您的用电" and "Pell Adair" in body and "https://x" in body
    assert [each.account_ids for each in duties_of(tenant.pk)] == [(account,)]
    # Staff's page of people is not about tenants, and no duty comes of the invitation.
    assert NEW not in sign_in(fernmoor).get("/people").content.decode()
    assert desk.post(f"/accounts/{other}/sign-in", form)["location"].endswith("?done=linked")
    assert desk.post(f"/accounts/{other}/sign-in", {"end": tenant.pk})["location"].endswith(
        "?done=unlinked"
    )
    assert [each.account_ids for each in duties_of(tenant.pk)] == [(account,)]
    with as_owner(fernmoor), connection.cursor() as cursor:
        cursor.execute("UPDATE account SET closed_at = %s WHERE id = %s", [NOW, account])
        link = DutyGrant.objects.get(user=tenant, ended_by="system:moves")
    assert link.ended_at is not None and duties_of(tenant.pk) == ()
    assert desk.post(page, form).status_code == 422 and "closed" in desk.get(page).content.decode()
