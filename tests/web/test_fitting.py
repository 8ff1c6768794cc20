"""Who stands before a meter exchanges it, fits one and sees what it says: a form, a look, one press."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.utils.html import escape

from fernmoor import Fernmoor, _one, _run

METER = {
    "how": "meter", "serial": "NEW-1", "opening": "12.5", "model": "S2", "driver": "mqtt_senml",
    "multiplier": "1", "max_power": "25", "period": "15", "has_relay": "1", "key": "x",
}  # fmt: skip
FITTED = METER | {"unit": "N-305", "at": "2026-11-17T14:00", "concentrator": ""}


@pytest.fixture
def settled(fernmoor: Fernmoor, as_owner: Callable[..., Any]) -> Fernmoor:
    """The property with an account whose figures agree, and an installer."""
    with as_owner(fernmoor):
        fernmoor.settle("N-305")
        fernmoor.users["installer"] = fernmoor.another_user("installer", "Emil", "installer")
    return fernmoor


def _plain(response: Any) -> str:
    """The words of a page without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def test_an_installer_exchanges_a_meter_and_sees_neither_money_nor_a_name(
    settled: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    client, meter = sign_in(settled, "installer"), settled.meters["N-305"]
    where = f"/work/{meter}/exchange"
    shown = client.get(where)
    assert "camera=(self)" in shown["Permissions-Policy"] and "scan.js" in shown.content.decode()
    look = _plain(client.post(where, METER | {"do": "look"}))
    assert "put NEW-1 in its place?" in look and "N-305" in look and "€" not in look
    assert "Its balance stays with it." in look and "keeps credit itself" not in look
    for wrong, beside in (
        ({"serial": ""}, "Still to be filled in."),
        ({"serial": "44102001"}, "There is a meter with this serial already."),
        ({"how": "typed", "at": "2026-11-17T14:30", "closing": "1"}, "lower than the last"),
    ):
        refused = client.post(where, METER | wrong | {"do": "confirm"})
        assert refused.status_code == 422 and escape(beside) in refused.content.decode(), wrong
    done = client.post(where, METER | {"do": "confirm"})
    assert done.status_code == 302
    check = client.get(done["Location"])
    assert "Not heard yet" in _plain(check) and "camera=()" in check["Permissions-Policy"]
    assert "NEW-1" in _plain(client.get("/work/fitted"))
    # Nothing has answered: it is ended with a reason or not at all.
    assert client.post(done["Location"], {"note": ""}).status_code == 422
    with as_owner(settled):
        new = _one("SELECT id FROM meter WHERE serial = 'NEW-1'")
        _run(
            """UPDATE meter_link SET last_seen_at = last_seen_at + interval '1 hour', clock_drift_s = -400
               WHERE meter_id = %s""",
            new,
        )
    said = _plain(client.get(done["Location"]))
    assert "It was heard" in said and "400 seconds behind." in said
    assert client.post(done["Location"], {"note": "Clock is set tomorrow"}).status_code == 302
    assert "In service" in _plain(client.get(done["Location"]))
    assert "Clock is set tomorrow" in _plain(client.get("/work/fitted"))


def test_an_installer_fits_a_meter_beside_another_and_an_operator_none(
    settled: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(settled, "installer")
    for wrong, beside in (
        ({}, "A meter counts there already."),
        ({"unit": "N-999", "beside": "1"}, "There is no such unit"),
        ({"serial": "no serial!", "beside": "1"}, "No device has such a serial"),
        ({"at": "2026-11-18T10:00", "beside": "1"}, "That has not come yet."),
    ):
        refused = client.post("/work/new", FITTED | wrong | {"do": "confirm"})
        assert refused.status_code == 422 and escape(beside) in refused.content.decode(), wrong
    look = _plain(
        client.post("/work/new", FITTED | {"do": "look", "beside": "1", "unit": "n-305 "})
    )
    assert "Fit NEW-1 in N-305?" in look and "€" not in look
    done = client.post("/work/new", FITTED | {"do": "confirm", "beside": "1"})
    assert done.status_code == 302
    assert (
        client.post("/work/new", FITTED | {"do": "confirm", "beside": "1"})["Location"]
        == done["Location"]
    )
    for duty in ("operator", "auditor"):
        other = sign_in(settled, duty)
        assert other.get("/work/fitted").status_code == 200
        assert other.get("/work/new").status_code == 403
        assert other.post(done["Location"], {"note": "x"}).status_code == 403
    rules = {"hear_within_s": "48", "concentrator_silent_s": "3"}
    assert client.post("/work/fitted", rules).status_code == 403
    assert sign_in(settled).post("/work/fitted", rules | {"hear_within_s": "0"}).status_code == 422
    assert sign_in(settled).post("/work/fitted", rules).status_code == 302
    assert 'value="48"' in sign_in(settled).get("/work/fitted").content.decode()
