"""The pages of cases: listed, filtered, exported, looked at, closed by a person with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import psycopg

from fernmoor import NOW, Fernmoor
from prewatt.core.vocabulary import TamperKind


def opened(place: Fernmoor, unit: str, kind: int, code: str, said: str = "") -> int:
    """A case of a unit's meter with one piece of evidence, laid straight into the tables."""
    meter = place.meters[unit]
    with psycopg.connect(place.dsn) as owner:
        found = owner.execute(
            """WITH made AS (
                   INSERT INTO tamper_case (property_id, meter_id, account_id, kind, opened_at, first_at,
                       last_at, evidence_count)
                   VALUES (%(place)s, %(meter)s, %(account)s, %(kind)s, %(now)s, %(now)s, %(now)s, 1)
                   RETURNING id),
               rest AS (
                   INSERT INTO alert (property_id, code, subject, detail, opened_at)
                   SELECT %(place)s, 'meter.tamper', 'meter:' || %(meter)s,
                       jsonb_build_object('event', %(code)s::text, 'case', id), %(now)s FROM made)
               SELECT id FROM made""",
            {
                "place": place.property_id,
                "meter": meter,
                "account": place.accounts[unit],
                "kind": kind,
                "now": NOW,
                "code": code,
            },
        ).fetchall()
        case = int(found[0][0])
        owner.execute(
            """INSERT INTO tamper_evidence (property_id, meter_id, case_id, source, code, happened_at,
                   told_us, received_at, detail, digest)
               VALUES (%s, %s, %s, 'event', %s, %s, 7, %s, jsonb_build_object('said', %s::text), 'ab')""",
            [place.property_id, meter, case, code, NOW, NOW, said],
        )  # fmt: skip
    return case


def _plain(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def test_a_case_is_found_looked_at_and_closed_by_its_page(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    assert "No case is open." in _plain(client.get("/meters/cases"))
    cover = opened(fernmoor, "N-404", 1, "cover_open", "<b>seal</b>")
    phase = opened(fernmoor, "N-101", 5, "phase_loss")
    listed = client.get("/meters/cases?sort=kind").content.decode()
    assert listed.index(f"/meters/cases/{cover}") < listed.index(f"/meters/cases/{phase}")
    narrowed = client.get("/meters/cases?kind=phase_loss").content.decode()
    assert f"/meters/cases/{cover}" not in narrowed and f"/meters/cases/{phase}" in narrowed
    csv = client.get("/meters/cases.csv?q=N-404").content.decode()
    assert "Cover opened" in csv and "Phase lost" not in csv
    unit = client.get(f"/units/{fernmoor.units['N-404']}").content.decode()
    assert f'href="/meters/cases/{cover}"' in unit and "Firmware" not in unit
    account = client.get(f"/accounts/{fernmoor.accounts['N-404']}").content.decode()
    assert f'href="/meters/cases/{cover}"' in account and f"/meters/cases/{phase}" not in account
    assert "withholds supply" not in account
    with psycopg.connect(fernmoor.dsn) as owner:
        owner.execute(
            "UPDATE supply_state SET withheld_since = %s WHERE account_id = %s",
            [NOW, fernmoor.accounts["N-404"]],
        )
        owner.execute(
            "INSERT INTO meter_version (property_id, meter_id, part, version, since) VALUES (%s, %s, 'firmware', '<2.1>', %s)",
            [fernmoor.property_id, fernmoor.meters["N-404"], NOW],
        )
        owner.execute(
            "INSERT INTO clock_correction VALUES (1, %s, %s, 400, %s, 1, %s)",
            [fernmoor.property_id, fernmoor.meters["N-404"], NOW, NOW],
        )
    withheld = _plain(client.get(f"/accounts/{fernmoor.accounts['N-404']}"))
    assert "A recharge does not change that." in withheld
    told = client.get(f"/units/{fernmoor.units['N-404']}").content.decode()
    assert "&lt;2.1&gt;" in told and "+400 s before, +1 s after" in told

    where = f"/meters/cases/{cover}"
    page = client.get(where)
    said = _plain(page)
    assert "The meter says that its cover was opened." in said and "a time that cannot be" in said
    assert "&lt;b&gt;seal" in page.content.decode()
    meter = re.search(r"Close the case of (\S+), N-404", said)
    assert meter and "in the name of Ines Halvard" in said
    for duty in ("operator", "auditor"):
        other = sign_in(fernmoor, duty)
        assert "An administrator closes cases." in _plain(other.get(where))
        form = {"do": "close", "reason": "work", "note": "I say so"}
        assert other.post(where, form).status_code == 403
    assert client.post(where, {"do": "close", "reason": "", "note": ""}).status_code == 422
    assert client.post(where, {"do": "look"}).status_code == 302
    assert "Ines Halvard looks at it since" in _plain(client.get(where))
    form = {"do": "close", "reason": "work", "note": "The caretaker"}
    assert client.post(where, form).status_code == 302
    assert client.post(where, form).status_code == 409
    closed = _plain(client.get(where))
    assert "Work on the meter that was announced" in closed and "The caretaker" in closed
    assert f"/meters/cases/{cover}" in client.get("/meters/cases?show=closed").content.decode()
    assert f'href="/meters/cases/{cover}"' not in client.get("/").content.decode()


def test_who_is_sent_to_a_meter_sees_its_case_and_writes_down_what_was_found(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    case = opened(fernmoor, "N-404", 1, "cover_open", "<b>seal</b>")
    with psycopg.connect(fernmoor.dsn) as owner:
        ((customer,),) = owner.execute(
            "SELECT c.name FROM customer c JOIN account a ON a.customer_id = c.id WHERE a.id = %s",
            [fernmoor.accounts["N-404"]],
        ).fetchall()
    with as_owner(fernmoor):
        fernmoor.users["installer"] = fernmoor.another_user("installer", "Emil", "installer")
    client, where = sign_in(fernmoor, "installer"), f"/work/cases/{case}"
    assert f'href="{where}"' in client.get("/work/cases").content.decode()
    assert "/work/cases" in client.get("/work").content.decode()
    said = _plain(client.get(where))
    assert "The meter says that its cover was opened." in said and "&lt;b&gt;seal" in said
    assert customer not in said and "Close the case" not in said
    assert client.get(f"/meters/cases/{case}").status_code == 403
    assert client.post(where, {"found": ""}).status_code == 422
    assert client.post(where, {"found": "Seal <7> whole"}).status_code == 302
    assert "Seal &lt;7&gt; whole" in client.get(where).content.decode()
    for duty in ("operator", "auditor"):
        assert sign_in(fernmoor, duty).post(where, {"found": "x"}).status_code == 403
    admin = sign_in(fernmoor)
    assert "Seal &lt;7&gt; whole" in admin.get(f"/meters/cases/{case}").content.decode()
    form = {"do": "close", "reason": "work", "note": "The caretaker"}
    assert admin.post(f"/meters/cases/{case}", form).status_code == 302
    assert client.post(where, {"found": "Too late"}).status_code == 422
    gone = _plain(client.get(where))
    assert "Too late" not in gone and "The caretaker" not in gone and "Write it down" not in gone


def test_where_energy_rightly_flows_back_is_said_on_a_page(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client, where = sign_in(fernmoor), "/meters/feed-in"
    case = opened(fernmoor, "N-404", TamperKind.REVERSE_FLOW, "reverse_flow")
    found = re.search(
        r'href="/meters/feed-in\?meter=([^"]+)"',
        client.get(f"/meters/cases/{case}").content.decode(),
    )
    assert found and "all reverse flow is a case" in _plain(client.get(where))
    assert f'value="{found[1]}"' in client.get(f"{where}?meter={found[1]}").content.decode()
    form = {"do": "begin", "meter": found[1], "reason": "A roof <9> kW"}
    for wrong in ({"meter": "X"}, {"reason": ""}, {"do": "x"}):
        assert client.post(where, form | wrong).status_code == 422
    for duty in ("operator", "auditor"):
        assert sign_in(fernmoor, duty).post(where, form).status_code == 403
    assert client.post(where, form).status_code == 302
    assert "It feeds in rightly already." in _plain(client.post(where, form))
    page = client.get(where).content.decode()
    assert "A roof &lt;9&gt; kW" in page and "N-404 feeds in no longer" in page
    number = page.split('name="feed_in" value="')[1].split('"')[0]
    assert client.post(where, {"do": "end", "feed_in": number}).status_code == 302
    assert client.post(where, {"do": "end", "feed_in": number}).status_code == 422
    assert "feeds in no longer" not in client.get(where).content.decode()


def test_another_policy_is_proposed_and_done_by_nobody_alone(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client, where = sign_in(fernmoor), "/property/tamper"
    assert "Cover opened Alert alone" in _plain(client.get(where))
    form = {f"kind-{each.word}": "nothing" for each in TamperKind} | {
        "version": "0", "letters": "installer", "reason": "Meters in the cellar", "do": "look",
    }  # fmt: skip
    assert "That is the policy already." in _plain(client.post(where, form | {"letters": []}))
    refused = _plain(client.post(where, form | {"kind-phase_loss": "cut"}))
    assert "no supply is touched for it" in refused
    look = client.post(where, form | {"kind-cover": "cut"})
    said = _plain(look)
    assert "Cover opened" in said and "Cut with notice, through every gate" in said
    assert (
        "Terminal cover" not in said and 'name="letters" value="installer"' in look.content.decode()
    )
    for duty in ("operator", "auditor"):
        other = sign_in(fernmoor, duty)
        assert "Propose another policy" not in _plain(other.get(where))
        assert other.post(where, form).status_code == 403
