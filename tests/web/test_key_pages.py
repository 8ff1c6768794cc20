"""A key of a program by its pages: seen once, made by two, used, ended by one."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html import unescape
from typing import Any

from django.test import Client

from fernmoor import Fernmoor
from web.test_approvals import Owner, at, code_of, take_up

__all__ = ["at"]

PATH = "/property/keys"


def test_a_key_is_seen_once_made_by_two_and_ended_by_one(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner, at: list[Any]
) -> None:
    at[0] = datetime.now(UTC)
    with as_owner(fernmoor):
        fernmoor.users["second"] = fernmoor.another_user("second", "Jonas Weir", "administrator")
    ines, jonas, operator, auditor = (
        sign_in(fernmoor, who) for who in ("administrator", "second", "operator", "auditor")
    )
    assert "No program has a key" in auditor.get(PATH).content.decode()
    assert operator.get(f"{PATH}/new").status_code == 403
    form = {"name": "Till of the kiosk", "use": "sell", "days": "90", "reason": "A kiosk opens"}
    assert ines.post(f"{PATH}/new", form | {"name": "", "do": "look"}).status_code == 422
    app = take_up(ines, at)
    look = ines.post(f"{PATH}/new", form | {"do": "look"}).content.decode()
    found = re.search(r'name="key" value="(pwk_[^"]+)"', look)
    assert found and look.count(found[1]) == 2 and "nobody can see it again" in look
    key = unescape(found[1])
    proposed = ines.post(
        f"{PATH}/new", form | {"do": "confirm", "key": key, "code": code_of(app, at)}
    )
    proposal = proposed["location"].removesuffix("?done=proposed")
    program = Client(headers={"host": "localhost", "authorization": f"Bearer {key}"})
    assert program.get("/api/v1/property").status_code == 401
    for page in (jonas.get(proposal), ines.get("/approvals"), auditor.get(proposal)):
        assert key[-20:] not in page.content.decode()
    done = jonas.post(proposal, {"do": "approve", "code": code_of(take_up(jonas, at), at)})
    assert done["location"] == f"{proposal}?done=approve"
    assert program.get("/api/v1/property").status_code == 200
    listed = auditor.get(PATH).content.decode()
    for said in ("Till of the kiosk", key[:16], "sells recharges", "Jonas Weir"):
        assert said in listed, said
    assert "End it</a>" not in listed
    assert "Till of the kiosk" in auditor.get(f"{PATH}.csv").content.decode()
    end = re.search(rf'href="({PATH}/\d+/end)"', ines.get(PATH).content.decode())
    assert end
    assert operator.post(end[1], {"reason": "mine"}).status_code == 403
    assert jonas.post(end[1], {"reason": ""}).status_code == 422
    assert jonas.post(end[1], {"reason": "The kiosk closed"}).status_code == 302
    assert program.get("/api/v1/property").status_code == 401
    past = auditor.get(f"{PATH}?show=past").content.decode()
    assert "ended by Jonas Weir" in past
