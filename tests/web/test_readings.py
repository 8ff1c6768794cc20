"""Readings and devices by the pages: what it charges is seen before, and who may not is not offered it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.db import connection
from django.utils.html import escape

from fernmoor import NOW, Fernmoor
from prewatt.reports.units import units_by_id
from web.test_approvals import at, code_of, take_up

__all__ = ["at"]

METER = {
    "how": "meter", "serial": "NEW-1", "opening": "12.5", "model": "S2", "driver": "mqtt_senml",
    "multiplier": "1", "max_power": "25", "period": "15", "has_relay": "1", "key": "x",
}  # fmt: skip

#: A public key of P-256, as a maker hands it over.
PEM = (
    ec.derive_private_key(5, ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


@pytest.fixture
def settled(fernmoor: Fernmoor, as_owner: Callable[..., Any]) -> Fernmoor:
    """The property with one account whose figures agree."""
    with as_owner(fernmoor):
        fernmoor.settle("N-305")
    return fernmoor


def _plain(response: Any) -> str:
    """The words of a page without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def _read(place: Fernmoor, kwh: str, **more: str) -> dict[str, str]:
    return {"register": kwh, "at": "2026-11-17T14:30", "reason": "Display is dark"} | more


def test_a_reading_is_seen_then_in_the_books(
    settled: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client, meter = sign_in(settled, "operator"), settled.meters["N-305"]
    last, where = settled.register("N-305"), f"/meters/{meter}/read"
    wish = _read(settled, f"{(last + 300) / 1000:.3f}", reference="IMG-7")
    look = _plain(client.post(where, wish | {"do": "look"}))
    assert "Accepted." in look and "−€" in look and "Enter" in look
    assert settled.register("N-305") == last
    done = _plain(client.post(where, wish | {"do": "confirm"}))
    assert "is in the books" in done and settled.register("N-305") == last + 300
    assert settled.audited("mdm.reading.entered") == [("Display is dark", "IMG-7")]
    for wrong, beside in (
        ({"register": "-1"}, "Write the register in kWh"),
        ({"register": ""}, "Still to be filled in."),
        ({"reason": " "}, "Still to be filled in."),
        ({"at": "yesterday"}, "Write date and time"),
    ):
        refused = client.post(where, wish | wrong | {"do": "confirm"})
        assert refused.status_code == 422 and escape(beside) in refused.content.decode(), wrong
    assert client.get(f"/meters/{meter}/exchange").status_code == 403
    assert sign_in(settled, "auditor").get(where).status_code == 403


def test_what_a_person_reads_does_not_make_a_silent_meter_look_alive(
    settled: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    meter, last, heard_at = (
        settled.meters["N-305"],
        settled.register("N-305"),
        NOW - timedelta(hours=9),
    )

    def now_it() -> tuple[bool, datetime | None]:
        (unit,) = units_by_id(
            property_id=settled.property_id, now=NOW, unit_ids=[settled.units["N-305"]]
        )
        return unit.silent, unit.heard_at

    with as_owner(settled), connection.cursor() as cursor:
        cursor.execute("SELECT last_at FROM meter_state WHERE meter_id = %s", [meter])
        (told_at,) = cursor.fetchone()
        cursor.execute(
            """UPDATE meter_link SET last_seen_at = %s WHERE meter_id = %s""", [heard_at, meter]
        )
        assert now_it() == (False, told_at), "its own readings are a sign of life"
    client = sign_in(settled, "operator")
    wish = _read(settled, f"{(last + 300) / 1000:.3f}", do="confirm")
    assert "is in the books" in _plain(client.post(f"/meters/{meter}/read", wish))
    with as_owner(settled), connection.cursor() as cursor:
        assert now_it() == (False, told_at), "what it told before is not forgotten"
        cursor.execute("UPDATE meter_link SET last_seen_at = %s", [heard_at])
        assert now_it() == (True, heard_at), "a person's reading is none"
        cursor.execute(
            "UPDATE meter_state SET last_at = %s WHERE meter_id = %s",
            [NOW + timedelta(seconds=1), meter],
        )
        assert now_it()[0] is False, "it came back"


def test_a_reading_before_a_later_one_is_told_so_and_the_form_begins_after_the_last(
    settled: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    client, meter = sign_in(settled), settled.meters["N-305"]
    last, where = settled.register("N-305"), f"/meters/{meter}/read"
    first = _read(settled, f"{(last + 300) / 1000:.3f}", do="confirm")
    assert "is in the books" in _plain(client.post(where, first))
    late = _read(settled, f"{(last + 310) / 1000:.3f}", at="2026-11-17T14:29:59", do="look")
    told = _plain(client.post(where, late))
    assert "lower than the last" not in told
    shown = f"{(last + 300) / 1000:.3f}"[-7:] + " kWh, 14:30:00."
    assert "There is a later reading already: " in told and shown in told
    assert 'value="2026-11-17T14:30:01"' in client.get(where).content.decode()
    with as_owner(settled), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE meter_state SET last_at = %s WHERE meter_id = %s",
            [NOW - timedelta(milliseconds=1_400), meter],
        )
    for page in (where, f"/meters/{meter}/exchange"):
        assert 'value="2026-11-17T14:30:00"' in client.get(page).content.decode()


def test_what_one_operator_may_not_enter_alone_an_administrator_sees_first(
    settled: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    meter, last = settled.meters["N-305"], settled.register("N-305")
    with as_owner(settled), connection.cursor() as cursor:
        cursor.execute(
            # A meter so strong that validation has nothing to say.
            "UPDATE meter_state SET max_power_w = 2000000 WHERE meter_id = %s",
            [meter],
        )
    where, wish = f"/meters/{meter}/read", _read(settled, f"{(last + 6_000) / 1000:.3f}")
    for do in ("look", "confirm"):
        refused = sign_in(settled, "operator").post(where, wish | {"do": do})
        assert refused.status_code == 422
        said = _plain(refused)
        assert "An administrator may enter it." in said and "6.0 kWh" in said, do
        assert 'id="f-register-why"' in refused.content.decode()
    assert settled.register("N-305") == last and settled.audited("mdm.reading.entered") == []
    administrator = sign_in(settled)
    look = _plain(administrator.post(where, wish | {"do": "look"}))
    assert "far more than the meter usually counts" in look and "Balance before" in look
    assert "is plausible of this meter" in look and settled.register("N-305") == last
    done = _plain(administrator.post(where, wish | {"do": "confirm"}))
    assert "is in the books" in done and settled.register("N-305") == last + 6_000


def test_an_unbelievable_reading_is_held_then_released_or_discarded_with_a_reason(
    settled: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client, meter = sign_in(settled), settled.meters["N-305"]
    where, last = f"/meters/{meter}/read", settled.register("N-305")
    before = client.get("/meters/held.csv").getvalue().decode("utf-8-sig").count("\n")
    for kwh in (f"{last // 1000 + 900}", f"{last // 1000 - 5}"):
        held = _plain(client.post(where, _read(settled, kwh) | {"do": "confirm"}))
        assert "is held" in held and "until an administrator decides" in held
    listed = client.get("/meters/held?sort=reason").content.decode()
    cases = re.findall(r'data-row="(\d+)"', listed)
    lines = list(
        csv.reader(io.StringIO(client.get("/meters/held.csv").getvalue().decode("utf-8-sig")))
    )
    assert len(lines) == before + 2
    much, less = (
        next(each for each in cases if said in _plain(client.get(f"/meters/held/{each}")))
        for said in ("more than the meter can have counted", "lower than the last register")
    )
    page = _plain(client.get(f"/meters/held/{much}"))
    assert "Most that the meter can carry 25 kW" in page and "Release 4410" in page
    assert "It cannot be released." in _plain(client.get(f"/meters/held/{less}"))
    for do in ("release", "discard"):
        silent = client.post(f"/meters/held/{much}", {"do": do, "reason": ""})
        assert silent.status_code == 422 and "Still to be filled in." in silent.content.decode()
    refused = client.post(f"/meters/held/{less}", {"do": "release", "reason": "I say so"})
    assert refused.status_code == 422 and "Nothing was decided." in refused.content.decode()
    for case, do, said in ((much, "release", "Released"), (less, "discard", "Discarded")):
        done = client.post(f"/meters/held/{case}", {"do": do, "reason": "Checked on site"})
        assert done.status_code == 302
        assert f"{said} By Ines Halvard" in _plain(client.get(done["Location"]))
        again = client.post(f"/meters/held/{case}", {"do": "discard", "reason": "Again"})
        assert again.status_code == 422 and "already" in again.content.decode()
    assert settled.register("N-305") == (last // 1000 + 900) * 1000
    assert "Checked on site" in client.get("/meters/held.csv?show=closed").getvalue().decode()


def test_what_is_held_of_a_meter_is_decided_together_after_a_look(
    settled: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client, meter = sign_in(settled), settled.meters["N-305"]
    read, last = f"/meters/{meter}/read", settled.register("N-305")
    for minute, kwh in ((30, last // 1000 + 900), (31, last // 1000 + 901), (32, last // 1000 - 9)):
        wish = _read(settled, str(kwh), at=f"2026-11-17T14:{minute}")
        assert "is held" in _plain(client.post(read, wish | {"do": "confirm"})), minute
    where = f"/meters/{meter}/held"
    with psycopg.connect(settled.dsn) as busy:
        # Whoever looks waits for nobody who charges; a page that did would end this session.
        busy.execute("SET idle_in_transaction_session_timeout = '10s'")
        busy.execute("SELECT FROM account_state FOR UPDATE")
        page = client.get(where).content.decode()
        (first, *_) = re.findall(r'name="case" value="(\d+)" checked', page)
        assert "Released, it charges" in _plain(client.get(f"/meters/held/{first}"))
        busy.execute("SELECT 1")
    cases = re.findall(r'name="case" value="(\d+)" checked', page)
    assert len(cases) == 2, "what can be released is ticked"
    assert "It cannot be released." in page and "Release 2 readings, charge" in page
    cases = re.findall(r'name="case" value="(\d+)"', page)
    look = client.post(where, {"case": cases, "do": "look"}).content.decode()
    assert look.count(" checked") == 3 and "Release 3" not in look
    form = {"case": cases[:2], "do": "look"}
    look = client.post(where, form).content.decode()
    assert "Release 2 readings, charge" in look and look.count(" checked") == 2
    assert settled.register("N-305") == last
    for wrong, said in (
        ({"case": [], "do": "release", "reason": "x"}, "Tick at least one"),
        ({"case": cases[:2], "do": "release", "reason": ""}, "Still to be filled in."),
        ({"case": cases, "do": "release", "reason": "All"}, "lower than the last register"),
        ({"case": ["999999", "x"], "do": "discard", "reason": "All"}, "Tick at least one"),
    ):
        refused = client.post(where, wrong)
        assert refused.status_code == 422 and said in refused.content.decode(), wrong
    assert settled.register("N-305") == last
    done = client.post(where, form | {"do": "release", "reason": "Load test"})
    assert (
        done.status_code == 302
        and "Load test" in client.get("/meters/held.csv?show=closed").getvalue().decode()
    )
    assert settled.register("N-305") == (last // 1000 + 901) * 1000
    client.post(where, {"case": cases[2], "do": "discard", "reason": "Misread"})
    assert "No reading of 44102035 is held" in _plain(client.get(where))
    for duty in ("operator", "auditor"):
        other = sign_in(settled, duty)
        assert other.get(where).status_code == 200
        assert other.post(where, form | {"do": "release", "reason": "x"}).status_code == 403


def test_a_meter_is_exchanged_and_the_balance_goes_on(
    settled: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client, meter = sign_in(settled), settled.meters["N-305"]
    where, unit = f"/meters/{meter}/exchange", settled.units["N-305"]
    look = _plain(client.post(where, METER | {"do": "look"}))
    assert "put NEW-1 in its place?" in look and look.count("€5.96") == 3
    assert "NEW-1" not in client.get(f"/units/{unit}").content.decode()
    for wrong, beside in (
        ({"serial": ""}, "Still to be filled in."),
        ({"serial": "44102001"}, "There is a meter with this serial already."),
        ({"opening": "9999999"}, "more than the meter can have counted"),
        ({"multiplier": "0"}, "Write a whole number from 1"),
        ({"max_power": "0"}, "This must be more than zero."),
        ({"driver": "carrier pigeon"}, "Choose one of these."),
        ({"how": "typed", "at": "2026-11-02T10:00", "closing": "1"}, "Energy is charged up to"),
        ({"how": "typed", "at": "2026-11-18T10:00", "closing": "1"}, "That has not come yet."),
        ({"how": "typed", "at": "2026-11-17T14:30", "closing": "1"}, "lower than the last"),
        ({"public_key": "-----BEGIN PUBLIC KEY-----\nx"}, "no public key of P-256"),
        ({"public_key": "hello"}, "no public key of P-256"),
    ):
        for do in ("look", "confirm"):
            refused = client.post(where, METER | wrong | {"do": do})
            assert refused.status_code == 422, wrong
            assert escape(beside) in refused.content.decode(), wrong
            assert "Nothing was exchanged." in refused.content.decode()
    looked = client.post(where, METER | {"do": "look", "public_key": PEM})
    assert looked.status_code == 200 and PEM.splitlines()[1][:20] in looked.content.decode(), (
        "it goes along"
    )
    done = client.post(where, METER | {"do": "confirm", "public_key": PEM})
    assert done.status_code == 302
    new = done["Location"].rpartition("=")[2]
    assert "holds" in client.get(f"/meters/{new}/credit").content.decode()
    page = _plain(client.get(done["Location"]))
    assert "Meter NEW-1 counts here since" in page and "taken away" in page
    # The same form again is the same exchange; another one finds the device gone.
    again = client.post(where, METER | {"do": "confirm", "public_key": PEM})
    assert again["Location"] == done["Location"]
    gone = client.post(where, METER | {"do": "confirm", "key": "y", "serial": "NEW-2"})
    assert gone.status_code == 422 and "taken away already" in gone.content.decode()
    assert "was taken away" in client.get(where).content.decode()


def test_anothers_meters_and_readings_do_not_exist(
    settled: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    with as_owner(settled):
        away = settled.another("Elsewhere")
        settled.grant("operator", away, "administrator")
    meter = settled.meters["N-305"]
    sign_in(settled).post(f"/meters/{meter}/read", _read(settled, "9") | {"do": "confirm"})
    client = sign_in(settled, "operator")
    client.post("/property/switch", {"property": away})
    case = settled.held_case()
    for page in (f"/meters/{meter}/read", f"/meters/{meter}/exchange", f"/meters/held/{case}"):
        assert client.get(page).status_code == 404, page
    assert client.post(f"/meters/held/{case}", {"do": "discard", "reason": "r"}).status_code == 404
    for duty in ("operator", "auditor"):
        held = sign_in(settled, duty)
        assert "Discard" not in held.get(f"/meters/held/{case}").content.decode()
        sent = held.post(f"/meters/held/{case}", {"do": "discard", "reason": "r"})
        assert sent.status_code == 403


def test_a_charged_reading_is_corrected_after_a_look_and_by_two_where_it_moves_more(
    settled: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any], at: list[Any]
) -> None:
    with as_owner(settled), connection.cursor() as cursor:
        settled.users["second"] = settled.another_user("second", "Pell Adair", "administrator")
        # Four cents are much here.
        cursor.execute(
            "INSERT INTO amount_limit (property_id, kind, above, approvers) "
            "VALUES (%(place)s, 'mdm.edit', 0, 0), (%(place)s, 'mdm.edit', 40000, 1)",
            {"place": settled.property_id},
        )
    client, meter = sign_in(settled, "administrator"), settled.meters["N-305"]
    second = sign_in(settled, "second")
    apps = [take_up(each, at) for each in (client, second)]
    where, before = f"/meters/{meter}/correct", settled.register("N-305")
    assert "No reading of this meter is charged yet." in _plain(client.get(where))
    wrong_one = _read(settled, f"{(before + 300) / 1000:.3f}") | {"do": "confirm"}
    assert "is in the books" in _plain(client.post(f"/meters/{meter}/read", wrong_one))
    last = settled.register("N-305")
    listed = client.get(where).content.decode()
    newest = re.search(r"correct\?at=([0-9]+)", listed)
    assert newest and "Which reading" in listed
    assert "Right register" in client.get(f"{where}?at={newest[1]}").content.decode()
    wish = {
        "at": newest[1], "what": "correct", "register": f"{(last - 100) / 1000:.3f}",
        "reason": "A 7 for a 5", "proof": "IMG-8",
    }  # fmt: skip
    look = _plain(client.post(where, wish | {"do": "look"}))
    assert "What it will do" in look and settled.register("N-305") == last
    assert "Under the limits of this property you do this alone" in look
    for wrong, beside in (
        ({"register": ""}, "Still to be filled in."),
        ({"reason": ""}, "Still to be filled in."),
        ({"proof": ""}, "Still to be filled in."),
        ({"register": f"{last / 1000:.3f}"}, "The reading has this value already."),
        ({"what": "withdraw"}, "The last reading cannot be withdrawn."),
        ({"code": "000000"}, "That is not the code."),
    ):
        refused = client.post(where, wish | wrong | {"do": "confirm"})
        assert refused.status_code == 422 and escape(beside) in refused.content.decode(), wrong
    assert settled.register("N-305") == last
    done = client.post(where, wish | {"do": "confirm", "code": code_of(apps[0], at)})
    assert done["location"].endswith("?done=alone") and settled.register("N-305") == last - 100
    assert "Put the reading of" in _plain(client.get(done["location"]))

    # More than a little takes a colleague, who reads what becomes of what.
    more = wish | {"register": f"{(last - 200) / 1000:.3f}", "reason": "Another floor's"}
    assert "1 other administrator has to agree first" in _plain(
        client.post(where, more | {"do": "look"})
    )
    made = client.post(where, more | {"do": "confirm", "code": code_of(apps[0], at)})
    path = made["location"].removesuffix("?done=proposed")
    assert settled.register("N-305") == last - 100
    assert "waits for somebody’s yes" in _plain(client.get(where))
    assert client.post(path, {"do": "approve", "code": code_of(apps[0], at)}).status_code == 409
    page = _plain(second.get(path))
    assert "Charged for that time" in page and "IMG-8" in page and "Another floor" in page
    # Much in little steps comes to the same rung: what waits counts with it.
    other = wish | {"register": f"{(last - 101) / 1000:.3f}", "do": "look"}
    assert "1 other administrator has to agree first" in _plain(client.post(where, other))
    agreed = second.post(path, {"do": "approve", "code": code_of(apps[1], at)})
    assert agreed["location"] == f"{path}?done=approve"
    assert settled.register("N-305") == last - 200

    # A proposal of before the reading was put right again is void.
    stale = wish | {"register": f"{(last - 250) / 1000:.3f}"}
    made = client.post(where, stale | {"do": "confirm", "code": code_of(apps[0], at)})
    path = made["location"].removesuffix("?done=proposed")
    later = at[0].astimezone(ZoneInfo("Europe/Berlin")).strftime("%Y-%m-%dT%H:%M")
    since = _read(settled, f"{(last - 190) / 1000:.3f}") | {"at": later, "do": "confirm"}
    assert "is in the books" in _plain(client.post(f"/meters/{meter}/read", since))
    void = second.post(path, {"do": "approve", "code": code_of(apps[1], at)})
    assert void.status_code == 409 and settled.register("N-305") == last - 190
    assert "was changed after it was proposed" in _plain(second.get(path))
    for odd in ("x", "9" * 30, "٣", "-1"):
        assert client.get(f"{where}?at={odd}").status_code == 200
    for duty in ("operator", "auditor"):
        assert sign_in(settled, duty).get(where).status_code == 403
        assert sign_in(settled, duty).post(where, wish).status_code == 403
