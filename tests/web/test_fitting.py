"""Who stands before a meter exchanges it, fits one and sees what it says: a form, a look, one press."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
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
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode())))


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


def test_many_are_fitted_by_a_table_of_which_every_bad_line_is_told(
    settled: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(settled, "installer")

    def look(*lines: str, head: str = "building;unit;serial;opening_wh;installed_at;beside") -> Any:
        content = "\n".join((head, *lines)).encode()
        file = SimpleUploadedFile("mine.csv", content)
        return client.post("/work/table", {"do": "look", "file": file})

    good = "N;305;F-1;100;2026-11-17T14:00;yes"
    wrong = look(
        good,
        "N;305;F-1;1;;yes",
        "N;999;F-2;1;;",
        "N;305;F-3;1;;",
        "N;305;F-4;-1;;yes",
        "N;404;44102001;1;;yes",
    )
    assert wrong.status_code == 422
    said = _plain(wrong)
    assert (
        "Row 2 has the same." in said and "There is no 'N/999'." in said and "out of range" in said
    )
    # What only the property itself refuses is told by its line too, once every cell can be read.
    said = _plain(look(good, "N;305;F-3;1;;", "N;404;44102001;1;;yes", "N;404;no serial!;1;;yes"))
    assert "A meter counts there already." in said
    assert (
        "There is a meter with this serial already." in said
        and "No device has such a serial" in said
    )
    assert (
        look(good, head="building;unit;serial;opening_wh;installed_at;besides").status_code == 422
    )
    assert client.post("/work/table", {"do": "look"}).status_code == 422
    shown = look(good, "N;404;F-2;0;;yes")
    assert "Fit 2 meters?" in _plain(shown)
    sent = dict(re.findall(r'name="(key|name)" value="([^"]+)"', shown.content.decode()))
    assert client.post("/work/table", {**sent, "name": "other", "do": "confirm"}).status_code == 422
    assert client.post("/work/table", sent | {"do": "confirm"}).status_code == 302
    assert client.post("/work/table", sent | {"do": "confirm"}).status_code == 302
    listed = _plain(client.get("/work/fitted"))
    assert "2 meters, 2 not heard yet." in listed and "F-1" in listed and "F-2" in listed
    assert len(settled.audited("moves.meter.fitted")) == 2


def test_a_device_gets_its_code_once_and_is_revoked_by_name_with_a_reason(
    settled: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    with as_owner(settled):
        issuer = _one(
            """INSERT INTO device_issuer (property_id, certificate, key_sha256, not_after, made_at)
               VALUES (%s, '', '', '2030-01-01', '2026-01-01') RETURNING id""",
            settled.property_id,
        )
        _run(
            """INSERT INTO device_certificate (property_id, serial, issuer_id, number, certificate, key_sha256,
                   not_after, made_at, revoked_by, revoked_why)
               SELECT property_id, serial, %s, serial, '', sha256(serial::bytea),
                      CASE WHEN id = %s THEN timestamptz '2026-12-01' ELSE '2027-10-01' END, '2026-01-01', '', ''
               FROM meter WHERE id = ANY(%s)""",
            issuer, settled.meters["N-305"], [settled.meters[each] for each in ("N-305", "N-404")],
        )  # fmt: skip
        serial = _run("SELECT serial FROM meter WHERE id = %s", settled.meters["N-305"])[0][0]
        bare = _run("SELECT serial FROM meter WHERE id = %s", settled.meters["N-101"])[0][0]
        narrow = _run(
            """UPDATE meter SET driver = 'lwm2m' WHERE id = (
                   SELECT max(id) FROM meter WHERE NOT id = ANY(%s)) RETURNING serial""",
            [settled.meters[each] for each in ("N-305", "N-404", "N-101")],
        )[0][0]
    client = sign_in(settled, "installer")
    soon = _plain(client.get("/meters/certificates?show=expiring"))
    assert serial in soon and "1 of 1 shown" in soon and "Revoke it" not in soon
    assert "prewatt devices renew" in soon
    # By another radio it shows keys of that, and never a certificate.
    assert client.get(f"/meters/certificates/{narrow}/code").status_code == 404
    assert narrow not in client.get("/meters/certificates.csv").content.decode()
    shown = client.post(f"/meters/certificates/{bare}/code")
    (code,) = re.findall(r">((?:[A-Z2-9]{5}-){3}[A-Z2-9]{5})<", shown.content.decode())
    assert shown["Cache-Control"].startswith("max-age=0") or "no-store" in shown["Cache-Control"]
    assert code not in client.get(f"/meters/certificates/{bare}/code").content.decode()
    assert bare in _plain(client.get("/meters/certificates?show=code"))
    where = f"/meters/certificates/{serial}/revoke"
    assert client.get(where).status_code == client.post(where, {"reason": "x"}).status_code == 403
    admin = sign_in(settled)
    assert f"Revoke the certificate of {serial} in N-305?" in _plain(admin.get(where))
    assert admin.post(where, {"reason": " "}).status_code == 422
    assert admin.post(where, {"reason": "Stolen"}).status_code == 302
    assert "It has no certificate that holds." in _plain(admin.get(where))
    assert settled.audited("devices.revoked")
    listed = admin.get("/meters/certificates.csv?show=revoked").content.decode()
    assert serial in listed and bare not in listed
    assert admin.get("/meters/certificates/44109999/revoke").status_code == 404
    for duty in ("operator", "auditor"):
        assert sign_in(settled, duty).get("/meters/certificates").status_code == 200
        assert sign_in(settled, duty).post(f"/meters/certificates/{bare}/code").status_code == 403


def test_an_installer_registers_a_concentrator_and_moves_meters_to_it(
    settled: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    client = sign_in(settled, "installer")
    assert "There is none." in _plain(client.get("/meters/concentrators"))
    with as_owner(settled):
        known = _run("SELECT serial FROM meter WHERE id = %s", settled.meters["N-305"])[0][0]
        other = _run("SELECT serial FROM meter WHERE id = %s", settled.meters["N-404"])[0][0]
    for wrong in ("", "no serial!", known):
        assert client.post("/meters/concentrators/new", {"serial": wrong}).status_code == 422
    where = [
        client.post("/meters/concentrators/new", {"serial": each, "name": "Cellar"})["Location"]
        for each in ("C-1", "C-2")
    ]
    at = {"at": "2026-11-17T14:00"}
    put = at | {"way": "put", "serials": f"{known}\n{other}"}
    for wrong in ({"serials": "M-NONE"}, {"serials": ""}, {"at": "2027-01-01T00:00"}, {"at": ""}):
        assert client.post(where[0], put | wrong | {"do": "confirm"}).status_code == 422, wrong
    look = _plain(client.post(where[0], put))
    assert "Put 2 meters behind C-1" in look and "it speaks for itself" in look
    assert client.post(where[0], put | {"do": "confirm"}).status_code == 302
    later = {"way": "put", "serials": known, "at": "2026-11-17T14:10"}
    assert "behind another concentrator now" in _plain(client.post(where[1], later))
    assert client.post(where[1], later | {"do": "confirm"}).status_code == 302
    # An earlier time would give one meter two voices.
    assert client.post(where[0], put | {"serials": known, "do": "confirm"}).status_code == 422
    taken = {"way": "take", "at": "2026-11-17T14:20"}
    assert client.post(where[0], taken | {"do": "confirm"}).status_code == 422
    assert "Take 1 meter away from C-1" in _plain(client.post(where[0], taken | {"meter": other}))
    assert client.post(where[0], taken | {"serials": other, "do": "confirm"}).status_code == 302
    assert "None yet." in _plain(client.get(where[0])) and known in _plain(client.get(where[1]))
    for duty in ("operator", "auditor"):
        looks = sign_in(settled, duty)
        assert looks.get(where[1]).status_code == 200
        assert looks.post(where[1], put | {"do": "confirm"}).status_code == 403
        assert looks.get("/meters/concentrators/new").status_code == 403
