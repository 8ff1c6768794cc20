"""The pages of alerts: found, filtered and exported, closed with a note, and in words of both languages."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.utils import translation

from fernmoor import NOW, Fernmoor
from prewatt.core.civil_time import instant_us
from prewatt.notify.alerts import CODES, SUBJECTS, AlertCode
from prewatt.reports.alerts import AlertRow
from prewatt.reports.today import Place
from prewatt.web.ui import alert_words, messages
from prewatt.web.ui.alert_words import Speech

AT_US = instant_us(NOW) - 3_600_000_000
#: The figures that each alert is opened with.
DETAIL: dict[AlertCode, list[dict[str, Any]]] = {
    "supply.usage_while_open": [
        {"account": 1, "since_us": AT_US, "from_us": AT_US, "from_wh": 71_000, "read_us": AT_US,
         "register_wh": 72_300, "used_wh": 1_300, "tolerance_wh": 100},
    ],
    "meter.tamper": [
        {"event": each, "at_us": AT_US, "received_at_us": AT_US}
        for each in ("cover_open", "terminal_cover_open", "magnetic_field")
    ],
    "meter.foreign_answer": [{"command": "x", "at_us": AT_US, "received_at_us": AT_US}],
    "meter.forged": [
        {"what": each, "why": "forged", "count": 3, "received_at_us": AT_US}
        for each in ("answer", "command")
    ],
    "meter.session_ended": [
        {"what": "session", "why": "ended", "count": 65_536, "received_at_us": AT_US}
    ],
    "meter.balance_differs": [{"balance_micro": 4_000_000, "expected_micro": 9_500_000}],
    "meter.not_released": [
        {"why": why, "since_us": AT_US, "has_key": why != "moved", "can": why == "protected"}
        for why in ("moved", "exchanged", "protected", "by_hand")
    ],
    "meter.isolated": [{"why": each, "since_us": AT_US} for each in ("revoked", "expired")],
    "concentrator.isolated": [{"why": each, "since_us": AT_US} for each in ("revoked", "expired")],
    "concentrator.silent": [{"serial": "C-1", "since_us": AT_US, "meters": each} for each in (1, 40)],
    "meter.never_heard": [{"serial": "F-1", "since_us": AT_US, "meters": 0}],
    "supply.relay_departed": [{"wanted": each, "read_at_us": AT_US} for each in ("open", "closed")],
    "supply.relay_stuck": [{"order": 4, "kind": "disconnect", "attempts": 8, "why": "relay_not_as_wanted"}],
    "supply.command_refused": [{"order": 4, "kind": "connect", "attempts": 8, "why": "meter_failed"}],
    "supply.brake": [{"wanted": 40, "room": 12}],
    "notify.unreachable": [
        {"message": "supply.warning", "why": each} for each in ("no_address", "all_channels_failed")
    ],
    "billing.no_tariff": [{}],
    "billing.correction_too_old": [{"from_at": "2026-01-02T00:00:00+00:00"}],
    "billing.posting_failed": [{"why": "LedgerRefused"}, {"why": "PeriodClosed"}],
    "billing.rerating_failed": [{"why": "AssertionError"}],
    "billing.rebates_failed": [{"why": "PeriodClosed"}],
    "billing.held_failed": [{"why": "NumericValueOutOfRange"}],
    "moves.let_not_closed": [
        {"let": 1, "begins_us": AT_US, "ends_us": AT_US, "why": each}
        for each in ("PeriodClosed", "RegisterMissing", "RegisterRefused", "RefundRefused")
    ],
    "moves.let_not_begun": [
        {"let": 1, "begins_us": AT_US, "ends_us": AT_US, "why": each}
        for each in ("UnitOccupied", "PaidTooLittle")
    ],
    "approvals.emergency": [{"proposal": 1, "kind": "supply.brake", "by": "user:1"}],
    "signing.key_alone": [
        {"do": each, "key": "key:f00d", "reason": "lost"} for each in ("rotate", "revoke")
    ],
    "meter.clock_unmended": [{"drift_s": -400, "asked": 3, "since_us": AT_US}],
    "fleet.bulk_braked": [{"bulk": 9, "failed": 5, "of": 20}],
    "audit.past_program": [{"changes": 1}, {"changes": 3}],
}  # fmt: skip


def _plain(response: Any) -> str:
    """The words of a page without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def _open(place: Fernmoor, code: AlertCode, unit: str, detail: dict[str, Any]) -> int:
    about = {"meter": place.meters, "account": place.accounts}.get(SUBJECTS[code], {})
    subject = f"{SUBJECTS[code]}:{about.get(unit, place.property_id)}"
    with psycopg.connect(place.dsn) as owner:
        return int(
            owner.execute(
                """INSERT INTO alert (property_id, code, subject, detail, opened_at)
                   VALUES (%s, %s, %s, %s, %s) RETURNING id""",
                [place.property_id, code, subject, psycopg.types.json.Jsonb(detail), NOW],
            ).fetchall()[0][0]
        )


@pytest.fixture
def alarmed(fernmoor: Fernmoor) -> dict[str, int]:
    """One alert of each kind, by its code."""
    units = iter(dict.fromkeys(("N-404", "S-403", *fernmoor.meters)))
    with psycopg.connect(fernmoor.dsn) as owner:
        owner.execute("DELETE FROM alert")
    return {
        code: _open(
            fernmoor,
            code,
            "" if SUBJECTS[code] in ("property", "concentrator", "bulk") else next(units),
            DETAIL[code][0],
        )
        for code in CODES
    }


def _row(code: str, detail: dict[str, Any]) -> AlertRow:
    return AlertRow(1, code, detail, NOW, None, "", "", 1, "44", 1, "20", "N. N.", 1, "N-101")


@pytest.mark.parametrize("language", ["en", "zh-hans"])
@pytest.mark.parametrize("code", CODES)
def test_every_alert_has_its_words_in_every_language(code: AlertCode, language: str) -> None:
    messages.compile_all()
    speech = Speech(Place(1, "Fernmoor", "EUR", "Europe/Berlin"), NOW, language)
    with translation.override(language):
        for detail in DETAIL[code]:
            row = _row(code, detail)
            said = [alert_words.name_of(code), alert_words.what_happened(row, speech)]
            said += [alert_words.what_to_do(row)]
            said += [part for line in alert_words.figures(row, speech) for part in line[:1]]
            for text in said:
                assert text and "%(" not in text and "None" not in text
                assert bool(re.search("[\u4e00-\u9fff]", text)) is (language != "en"), text
            assert said[1] != said[0] and said[0] != code
        # What was opened by an earlier release, without the figures of this one, is still said.
        assert alert_words.what_happened(_row(code, {}), speech)


def test_an_unknown_alert_is_shown_by_its_own_words() -> None:
    speech = Speech(Place(1, "Fernmoor", "EUR", "Europe/Berlin"), NOW, "en")
    row = _row("hes.gateway_lost", {"x": 1})
    assert alert_words.what_happened(row, speech) == "hes gateway lost"
    assert alert_words.what_to_do(row) == ""


def test_alerts_are_listed_filtered_sorted_and_exported(
    fernmoor: Fernmoor, alarmed: dict[str, int], sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    page = client.get("/alerts").content.decode()
    assert {int(each) for each in re.findall(r'data-row="(\d+)"', page)} == set(alarmed.values())
    assert "1.300 kWh have been counted since" in _plain(client.get("/alerts"))
    for address, codes in (
        ("/alerts?kind=meter.tamper", ["meter.tamper"]),
        ("/alerts?q=n-404", ["supply.usage_while_open"]),
        ("/alerts?q=n-404&kind=meter.tamper", []),
        ("/alerts?show=closed", []),
        ("/alerts?q=%25", []),
        ("/alerts?kind=nonsense&show=nonsense&sort=kind", list(CODES)),
    ):
        found = re.findall(r'data-row="(\d+)"', client.get(address).content.decode())
        assert [int(each) for each in found] == [alarmed[code] for code in codes], address
    by_unit = re.findall(r'data-row="(\d+)"', client.get("/alerts?sort=unit").content.decode())
    assert len(by_unit) == len(CODES) and int(by_unit[-1]) == alarmed["supply.brake"]
    text = client.get("/alerts.csv?sort=kind").content.decode("utf-8-sig")
    lines = list(csv.reader(io.StringIO(text)))
    assert [line[0] for line in lines[1:]] == [str(each) for each in alert_words.ALERT.values()]
    assert lines[1][2] == "N-404" and datetime.fromisoformat(lines[1][6]) == NOW.replace(second=0)
    assert lines[1][6].endswith("+01:00")


def test_an_empty_list_says_what_would_be_there(
    fernmoor: Fernmoor, alarmed: dict[str, int], sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    assert "No alert has been closed yet." in _plain(client.get("/alerts?show=closed"))
    assert "No alert matches." in _plain(client.get("/alerts?q=nobody"))
    with psycopg.connect(fernmoor.dsn) as owner:
        owner.execute("UPDATE alert SET closed_at = opened_at")
    assert "No alert is open. The last was" in _plain(client.get("/alerts"))
    with psycopg.connect(fernmoor.dsn) as owner:
        owner.execute("DELETE FROM alert")
    assert "What needs a person appears here." in _plain(client.get("/alerts"))


def test_an_administrator_closes_one_with_a_note_and_nobody_twice(
    fernmoor: Fernmoor, alarmed: dict[str, int], sign_in: Callable[..., Any]
) -> None:
    client, where = sign_in(fernmoor), f"/alerts/{alarmed['meter.tamper']}"
    assert "Look at the meter and its seals." in _plain(client.get(where))
    silent = client.post(where, {"note": " "})
    assert silent.status_code == 422 and "Still to be filled in." in silent.content.decode()
    assert client.post(where, {"note": "Seal is whole"}).status_code == 302
    done = _plain(client.get(where))
    assert "Ines Halvard" in done and "Seal is whole" in done and "Close the alert" not in done
    again = client.post(where, {"note": "Me too"})
    assert again.status_code == 409 and "It is closed already." in again.content.decode()
    listed = client.get("/alerts?show=closed").content.decode()
    assert "Ines Halvard" in listed and "Seal is whole" not in listed
    assert client.get("/alerts/999999").status_code == 404
    for duty in ("operator", "auditor"):
        other = sign_in(fernmoor, duty)
        strange = f"/alerts/{alarmed['meter.foreign_answer']}"
        assert "An administrator closes alerts." in _plain(other.get(strange))
        assert other.post(strange, {"note": "I say so"}).status_code == 403


def test_what_closes_by_itself_is_not_offered_and_not_closed_while_its_cause_lasts(
    fernmoor: Fernmoor, alarmed: dict[str, int], sign_in: Callable[..., Any]
) -> None:
    client, where = sign_in(fernmoor), f"/alerts/{alarmed['supply.usage_while_open']}"
    page = _plain(client.get(where))
    assert "It closes by itself" in page and "Close the alert" not in page
    assert "Used behind the open relay 1.300 kWh" in page and "72.300 kWh" in page
    refused = client.post(where, {"note": "Never mind"})
    assert refused.status_code == 409 and "Not closed." in refused.content.decode()
    with psycopg.connect(fernmoor.dsn) as owner:
        owner.execute("UPDATE meter_link SET relay = 1")
    assert "Its cause has ended." in _plain(client.get(where))
    assert client.post(where, {"note": "Relay renewed"}).status_code == 302


def test_today_and_the_unit_lead_to_their_alerts(
    fernmoor: Fernmoor, alarmed: dict[str, int], sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    today = client.get("/").content.decode()
    assert 'href="/alerts"' in today and "N-404: 1.300 kWh used behind an open relay" in today
    unit = client.get(f"/units/{fernmoor.units['N-404']}").content.decode()
    assert f'href="/alerts/{alarmed["supply.usage_while_open"]}"' in unit
    assert f'href="/alerts/{alarmed["meter.tamper"]}"' not in unit
    with psycopg.connect(fernmoor.dsn) as owner:
        untariffed = owner.execute(
            "SELECT split_part(subject, ':', 2)::bigint FROM alert WHERE code = 'billing.no_tariff'"
        ).fetchall()[0][0]
    home = next(name for name, account in fernmoor.accounts.items() if account == untariffed)
    by_account = client.get(f"/units/{fernmoor.units[home]}").content.decode()
    assert f'href="/alerts/{alarmed["billing.no_tariff"]}"' in by_account
    with psycopg.connect(fernmoor.dsn) as owner:
        owner.execute("UPDATE meter_link SET tamper_since = NULL")
    assert "S-403: cover opened" in client.get("/").content.decode(), "closed again, not looked at"
    with psycopg.connect(fernmoor.dsn) as owner:
        owner.execute("DELETE FROM alert")
    assert 'id="alerts"' not in client.get(f"/units/{fernmoor.units['N-404']}").content.decode()


def test_what_a_person_has_looked_at_calls_no_more_until_it_is_tampered_with_anew(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client, unit = sign_in(fernmoor), f"/units/{fernmoor.units['S-403']}"
    meter = fernmoor.meters["S-403"]

    def alert(opened_at: datetime) -> int:
        with psycopg.connect(fernmoor.dsn) as owner:
            (made,) = owner.execute(
                """INSERT INTO alert (property_id, code, subject, detail, opened_at)
                   VALUES (%s, 'meter.tamper', %s, '{"event": "cover_open"}', %s) RETURNING id""",
                [fernmoor.property_id, f"meter:{meter}", opened_at],
            ).fetchone()  # type: ignore[misc]  # the row that was made
        return int(made)

    def calls() -> bool:
        today, page = _plain(client.get("/")), _plain(client.get(unit))
        assert ("S-403: cover opened" in today) is (" Tamper " in page)
        return "S-403: cover opened" in today

    first = alert(NOW - timedelta(minutes=92))
    assert calls()
    client.post(f"/alerts/{first}", {"note": "Seal is whole"})
    assert not calls()
    second = alert(NOW)
    assert calls(), "opened again while the cover still counts as open"
    client.post(f"/alerts/{second}", {"note": "The caretaker"})
    assert not calls()
    with psycopg.connect(fernmoor.dsn) as owner:
        owner.execute(
            "UPDATE meter_link SET tamper_since = %s WHERE meter_id = %s",
            [NOW + timedelta(seconds=1), meter],
        )
    assert calls(), "closed, and opened after that"


def test_alerts_of_another_property_are_nobodys_here(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    with psycopg.connect(fernmoor.dsn) as owner:
        alert = owner.execute(
            """INSERT INTO alert (property_id, code, subject, detail, opened_at)
               VALUES (%s, 'meter.tamper', 'meter:1', '{}', now()) RETURNING id""",
            [fernmoor.property_id + 1],
        ).fetchall()[0][0]
    assert client.get(f"/alerts/{alert}").status_code == 404
    assert client.post(f"/alerts/{alert}", {"note": "Mine now"}).status_code == 404
    assert f'data-row="{alert}"' not in client.get("/alerts").content.decode()
