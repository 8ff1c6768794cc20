"""A price by two people, by their pages: second factor, proposal, approval, and who may not."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pyotp
import pytest

from fernmoor import NOW, TARIFF, Fernmoor
from prewatt.access import second_factor
from prewatt.access.models import User
from prewatt.billing.models import TariffDraft, TariffTrial, TariffVersion
from prewatt.sign_in import factors
from prewatt.web import clock
from web.test_tariffs import fields, post

Owner = Callable[[Fernmoor], AbstractContextManager[None]]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The instant of the next request, in a list of one: codes follow it."""
    instant = [NOW]
    monkeypatch.setattr(clock, "now", lambda: instant[0])
    return instant


def take_up(client: Any, at: list[Any]) -> pyotp.TOTP:
    """Take a second factor up as its page does; the app of this person."""
    user = User.objects.get(pk=client.session["_auth_user_id"])
    offered = second_factor.offer(user=user, now=at[0])
    app = pyotp.TOTP(offered.secret)
    code = code_of(app, at)
    factors.take_up_app(user=user, sealed=offered.sealed, code=code, step_up_id=None, now=at[0])
    return app


def take_up_by_page(client: Any, at: list[Any]) -> pyotp.TOTP:
    """Take a second factor up by its page, which takes nothing else; the app of this person."""
    page = client.get("/second-factor").content.decode()
    assert "<svg" in page
    sealed = re.search(r'name="sealed" value="([^"]+)"', page)
    groups = re.search(r'class="mono breaks secret">(.*?)</p>', page)
    assert sealed and groups
    app = pyotp.TOTP(re.sub(r"<[^>]+>|\s", "", groups[1]))
    wrong = client.post("/second-factor", {"sealed": sealed[1], "first": "000000"})
    assert wrong.status_code == 422 and groups[1] in wrong.content.decode()
    done = client.post("/second-factor", {"sealed": sealed[1], "first": code_of(app, at)})
    assert "Your recovery codes" in done.content.decode()
    assert "Second factor taken up" in client.get("/me").content.decode()
    # A form of before, sent once more: there is a factor now, whatever became of its secret.
    for old in (sealed[1], "", "x"):
        again = client.post("/second-factor", {"sealed": old, "first": code_of(app, at)})
        assert again.status_code == 422 and "Give up the app" in again.content.decode()
    return app


def code_of(app: pyotp.TOTP, at: list[Any]) -> str:
    """The next code; a minute later."""
    at[0] += timedelta(minutes=1)
    return str(app.generate_otp(int(at[0].timestamp()) // second_factor.STEP_S))


def test_a_price_by_two_people_and_by_nobody_alone(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner, at: list[Any]
) -> None:
    with as_owner(fernmoor):
        fernmoor.users["second"] = fernmoor.another_user("second", "Jonas Weir", "administrator")
    ines, jonas, operator = (
        sign_in(fernmoor, who) for who in ("administrator", "second", "operator")
    )
    path, day = "/tariffs/drafts/R/propose", (NOW + timedelta(days=2)).date().isoformat()
    new = fields({**TARIFF, "name": "Dearer"}, do="save", reason="The supplier's prices rose")
    post(ines, "/tariffs/new", new)
    form = {"from": day, "reason": "Agreed in the board"}
    assert "on real days first" in ines.post(path, form | {"do": "look"}).content.decode()
    with as_owner(fernmoor):
        draft = TariffDraft.objects.get()
        TariffTrial.objects.create(
            property_id=fernmoor.property_id, draft=draft, edition=1, content=draft.content, days=30,
            state="done", asked_by="user:1", asked_at=NOW, finished_at=NOW,
            result={"from": "2026-10-18", "until": "2026-11-17", "findings": [], "accounts": [
                {"account_id": fernmoor.accounts["N-305"], "charged": 1_000_000, "drafted": 3_500_000,
                 "energy_wh": 9_000, "first_cut_day": None, "was_cut": False}]},
        )  # fmt: skip
    assert operator.get(path).status_code == 403
    for bad, why in ((NOW.date().isoformat(), "midnight to come"), ("", "Write a date")):
        refused = ines.post(path, form | {"from": bad, "do": "look"})
        assert refused.status_code == 422 and why in refused.content.decode()
    look = ines.post(path, form | {"do": "look"}).content.decode()
    assert "You have no second factor yet" in look
    app = take_up_by_page(ines, at)
    wrong = ines.post(path, form | {"do": "confirm", "code": "123456"})
    assert wrong.status_code == 422 and "That is not the code" in wrong.content.decode()
    proposed = ines.post(path, form | {"do": "confirm", "code": code_of(app, at)})
    proposal = proposed["location"].removesuffix("?done=proposed")
    assert "Agreed in the board" in ines.get("/approvals").content.decode()

    own = ines.get(proposal).content.decode()
    assert "Withdraw the proposal" in own and "Approve version" not in own
    forged = ines.post(proposal, {"do": "approve", "code": code_of(app, at)})
    assert forged.status_code == 409 and "proposed themselves" in forged.content.decode()
    assert operator.post(proposal, {"do": "approve", "code": "1"}).status_code == 403
    assert "Approve version" not in operator.get(proposal).content.decode()

    page = jonas.get(proposal).content.decode()
    assert "Tried on 30 real days" in page and "2.50" in page
    jonas_app = take_up(jonas, at)
    stolen = jonas.post(proposal, {"do": "approve", "code": code_of(app, at)})
    assert stolen.status_code == 422
    done = jonas.post(proposal, {"do": "approve", "code": code_of(jonas_app, at)})
    assert done["location"] == f"{proposal}?done=approve"
    with as_owner(fernmoor):
        version = TariffVersion.objects.latest("pk")
        assert (version.number, version.made_by) == (7, f"user:{fernmoor.users['administrator']}")
        assert version.approved_by == f"user:{fernmoor.users['second']}"
    assert (
        "made by Ines Halvard, approved by Jonas Weir" in jonas.get("/tariffs/R").content.decode()
    )
    assert "R, version 7" in ines.get("/approvals.csv?show=all").content.decode()
    again = jonas.post(proposal, {"do": "refuse", "why": "Too late"})
    assert again.status_code == 409


def test_another_property_sees_nothing_of_it(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner
) -> None:
    with as_owner(fernmoor):
        away = fernmoor.another("Elsewhere")
        fernmoor.grant("administrator", away, "administrator")
        user = User.objects.get(pk=fernmoor.users["administrator"])
        from prewatt.approvals.models import Proposal

        hidden = Proposal.objects.create(
            property_id=away, kind="billing.tariff", subject="tariff:R", digest=b"d" * 32, reason="x",
            effect={"code": "R", "name": "R", "number": 1, "valid_from": NOW.isoformat()},
            made_by=f"user:{user.pk}", made_at=NOW, expires_at=NOW + timedelta(days=1),
        )  # fmt: skip
    client = sign_in(fernmoor)
    assert client.get(f"/approvals/{hidden.pk}").status_code == 404
    assert "Nothing waits" in client.get("/approvals").content.decode()
