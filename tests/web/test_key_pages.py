"""A key of a program by its pages: seen once, made by two, used, ended by one."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.test import Client

from fernmoor import Fernmoor
from prewatt.signing.keys import KeyRole
from prewatt.signing.store import KeyStore
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


def test_a_signing_key_and_a_customers_file_are_agreed_to_and_the_file_is_taken_by_who_asked(
    fernmoor: Fernmoor,
    sign_in: Callable[..., Any],
    as_owner: Owner,
    at: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with as_owner(fernmoor):
        fernmoor.users["second"] = fernmoor.another_user("second", "Jonas Weir", "administrator")
    ines, jonas, auditor = (
        sign_in(fernmoor, who) for who in ("administrator", "second", "auditor")
    )
    where = "/property/signing-keys"
    assert "This process has no keys that sign" in auditor.get(where).content.decode()
    store = KeyStore(tmp_path / "keys.json", [seal := Fernet.generate_key().decode()])
    hers, his = take_up(ines, at), take_up(jonas, at)
    monkeypatch.setenv("PREWATT_KEY_STORE", str(store.path))
    monkeypatch.setenv("PREWATT_KEY_STORE_KEYS", seal)
    key = store.make(KeyRole.RECEIPT, signs_from=at[0])
    assert key.key_id in auditor.get(where).content.decode()
    assert auditor.post(where, {"deed": "rotate:receipt:"}).status_code == 403
    file = f"/accounts/{fernmoor.accounts['N-305']}/file"
    for page, form, wrong, said in (
        (where, {"deed": f"revoke:receipt:{key.key_id}"}, {"deed": "revoke:receipt:x"}, "believed no more"),
        (file, {"for": "Her lawyer"}, {"for": ""}, "Her lawyer"),
    ):  # fmt: skip
        form |= {"reason": "Asked in writing"}
        assert ines.post(page, form | wrong).status_code == 422
        look = ines.post(page, form | {"do": "look"}).content.decode()
        assert said in look and "1 other administrator has to agree first" in look
        made = ines.post(page, form | {"do": "confirm", "code": code_of(hers, at)})["location"]
        proposal = made.removesuffix("?done=proposed")
        assert ines.get(f"{proposal}/file").status_code == 404, "nothing is agreed to yet"
        assert said in jonas.get(proposal).content.decode()
        assert jonas.post(proposal, {"do": "approve", "code": code_of(his, at)}).status_code == 302
        if page == where:
            done = f"prewatt keys revoke {key.key_id} --agreed {proposal.rpartition('/')[2]}"
            assert done in ines.get(proposal).content.decode()
    take = f"{proposal}/file"
    assert take in ines.get(proposal).content.decode()
    assert take not in jonas.get(proposal).content.decode()
    unsigned = ines.post(take)
    assert unsigned.status_code == 409 and "No key signs such files" in unsigned.content.decode()
    store.make(KeyRole.PERSONAL_FILE, signs_from=at[0])
    assert jonas.post(take).status_code == 409 and auditor.post(take).status_code == 403
    taken = ines.post(take)
    assert taken["content-type"] == "application/zip" and taken.content.startswith(b"PK")
    assert "2 more times" in ines.get(take).content.decode()
