"""The auditor's console: found, shown, watched, answered and signed; and nothing else can be written with it."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.conftest import role_dsn
from tests.web.conftest import as_owner, fernmoor, laid_out, sign_in

from fernmoor import NOW, Fernmoor
from prewatt import cli, walls
from prewatt.core.money import MICRO
from prewatt.oversight.kinds import BY_CODE
from prewatt.oversight.letters import NAMES, tell_auditors
from prewatt.oversight.operations import look
from prewatt.sign_in.notices import said
from prewatt.signing.keys import KeyRole
from prewatt.signing.store import KeyStore

__all__ = ["as_owner", "fernmoor", "laid_out", "sign_in"]

SignIn = Callable[..., Any]


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    from prewatt.web import clock

    monkeypatch.setattr(clock, "now", lambda: NOW)


def write(place: Fernmoor, *events: tuple[str, str, str, datetime, dict[str, Any]]) -> list[int]:
    """Events (actor, code, subject, when, detail) as operations leave them, one transaction each."""
    with psycopg.connect(place.dsn, autocommit=True) as owner:
        return [
            owner.execute(
                """INSERT INTO audit_event (property_id, actor, code, subject, happened_at, detail)
                   VALUES (%s, %s, %s, %s, %s, %s) RETURNING id""",
                [place.property_id, actor, code, subject, at, psycopg.types.json.Jsonb(detail)],
            ).fetchall()[0][0]
            for actor, code, subject, at, detail in events
        ]


def looked(place: Fernmoor, as_owner: Any) -> dict[str, list[tuple[Any, ...]]]:
    """(actor, subject, detail) of what is found by now, by the kind of the watch."""
    with as_owner(place):
        look(now=NOW)
    with psycopg.connect(place.dsn) as owner:
        found: dict[str, list[tuple[Any, ...]]] = {}
        for kind, *rest in owner.execute(
            """SELECT w.kind, f.actor, f.subject, f.detail FROM watch_finding f
               JOIN audit_watch w ON w.id = f.watch_id ORDER BY f.id"""
        ):
            found.setdefault(kind, []).append(tuple(rest))
    return found


def test_nobody_but_the_auditor_opens_it(fernmoor: Fernmoor, sign_in: SignIn) -> None:
    for duty in ("operator", "administrator"):
        client = sign_in(fernmoor, duty)
        for path in ("/audit", "/audit.csv", "/audit.zip", "/audit/people", "/audit/findings",
                     "/audit/watches", "/audit/of/account:1", "/audit/watches/new/dormant"):  # fmt: skip
            assert client.get(path).status_code == 403, path
        assert b'href="/audit"' not in client.get("/messages").content
    assert b'href="/audit"' in sign_in(fernmoor, "auditor").get("/messages").content


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_events_are_found_shown_and_followed(
    fernmoor: Fernmoor, sign_in: SignIn, language: str
) -> None:
    admin, account = f"user:{fernmoor.users['administrator']}", fernmoor.accounts["N-305"]
    first, changed = write(
        fernmoor,
        (admin, "debts.policy.set", f"property:{fernmoor.property_id}", NOW - timedelta(days=40), {}),
        (admin, "supply.rules.changed", f"account:{account}", NOW - timedelta(hours=2),
         {"before": {"levels": [5, 3], "cut": {"from": "09:00"}},
          "after": {"levels": [5, 3], "cut": {"from": "10:00"}}, "reason": "<b>later</b>"}),
    )  # fmt: skip
    write(fernmoor, *[
        ("system:supply", "supply.order.decided", f"account:{account}", NOW - timedelta(minutes=each), {})
        for each in range(60)
    ])  # fmt: skip
    client = sign_in(fernmoor, "auditor", language)
    page = client.get("/audit").content.decode()
    assert page.count('id="e') == 50 and f'href="/audit/{first}"' not in page
    assert "&lt;b&gt;later" not in page, "the oldest of the first page is newer"
    further = page.split('rel="next"')[0].rpartition('href="')[2].rstrip('" ').replace("&amp;", "&")
    assert f'href="/audit/{first}"' in client.get(further).content.decode()
    for asked in (
        f"actor={admin}",
        "q=later",
        "code=supply.rules.changed",
        f"subject=account:{account}&q=later",
    ):
        found = client.get(f"/audit?{asked}").content.decode()
        assert f'href="/audit/{changed}"' in found and "&lt;b&gt;later" in found, asked
        assert found.count('id="e') <= 2
    assert client.get("/audit?q=nowhere&address=192.0.2.9").status_code == 200
    event = client.get(f"/audit/{changed}").content.decode()
    assert "09:00" in event and "10:00" in event and "<b>later" not in event
    assert f'href="/accounts/{account}"' in event and f'href="/audit/of/account:{account}"' in event
    for path in ("/audit/people", f"/audit/people/{fernmoor.users['administrator']}",
                 f"/audit/of/account:{account}", "/audit/findings", "/audit/watches",
                 "/audit/watches/new/night_change"):  # fmt: skip
        assert client.get(path).status_code == 200, path
    assert client.get("/audit/of/nothing:1").status_code == 404
    assert client.get("/audit/999999999").status_code == 404
    lines = b"".join(client.get("/audit.csv?show=all").streaming_content).decode().splitlines()
    assert len(lines) > 62


def test_watches_find_once_and_only_what_they_look_for(fernmoor: Fernmoor, as_owner: Any) -> None:
    who, admin = "user:901", "user:902"
    account = fernmoor.accounts["N-305"]
    day = datetime(2026, 11, 16, 12, tzinfo=UTC)
    write(
        fernmoor,
        (admin, "access.refused", admin, day, {"what": "proposal", "why": "own"}),
        *[(who, "access.refused", who, day + timedelta(minutes=each), {"what": "factor", "why": "code"})
          for each in range(5)],
        (admin, "billing.terms.set", "account:1", day.replace(hour=22), {}),
        (admin, "billing.terms.set", "account:1", day, {}),
        # Days off: a Saturday and a holiday, by day; a Sunday that is worked to make up for one is none.
        (admin, "billing.terms.set", "account:2", day - timedelta(days=2), {}),
        (admin, "billing.terms.set", "account:5", day - timedelta(days=4), {}),
        (admin, "billing.terms.set", "account:6", day - timedelta(days=1), {}),
        ("system:clerk", "billing.terms.set", "account:1", day.replace(hour=22), {}),
        *[(admin, "vending.refund.booked", "account:2", day, {"amount": 10 * MICRO}) for _ in range(3)],
        (admin, "vending.refund.booked", "account:2", day, {"amount": 60 * MICRO}),
        *[(who, "vending.recharge.taken_back", "account:3", day, {}) for _ in range(3)],
        *[(who, "vending.recharge.posted", "account:4", day, {"amount": MICRO}) for _ in range(10)],
        (who, "vending.recharge.posted", f"account:{account}", day - timedelta(days=300), {"amount": 50 * MICRO}),
        (who, "reads.account", f"account:{account}", day - timedelta(days=1), {}),
        (who, "vending.recharge.posted", f"account:{account}", day, {"amount": 50 * MICRO}),
        (admin, "approvals.emergency", "proposal:9", day, {}),
    )  # fmt: skip
    with psycopg.connect(fernmoor.dsn) as owner:
        owner.execute("DELETE FROM unexplained_change")
        owner.execute("UPDATE customer SET name = name")
        owner.execute(
            """INSERT INTO calendar_day (property_id, day, kind, counts_as, note)
               VALUES (%(place)s, '2026-11-12', 'holiday', NULL, ''),
                      (%(place)s, '2026-11-15', 'workday', 0, '')""",
            {"place": fernmoor.property_id},
        )
        owner.execute("DELETE FROM unexplained_change WHERE table_name = 'calendar_day'")
    found = looked(fernmoor, as_owner)
    assert {kind: len(rows) for kind, rows in found.items()} == {
        "self_approval": 1, "refused": 1, "night_change": 3, "unusual_refund": 1, "taken_back": 1,
        "small_credits": 1, "dormant": 1, "broken_glass": 1, "past_program": 1,
    }  # fmt: skip
    assert sorted(each[1] for each in found["night_change"]) == [
        "account:1",
        "account:2",
        "account:5",
    ]
    assert found["unusual_refund"][0][2]["amount"] == 60 * MICRO
    assert found["dormant"][0][1] == f"account:{account}"
    assert found["past_program"][0][1] == "table:customer"
    assert found["small_credits"][0][2]["count"] == 10
    assert looked(fernmoor, as_owner) == found, "nothing is found twice"
    with psycopg.connect(fernmoor.dsn) as owner:
        alerts = owner.execute("SELECT count(*) FROM alert WHERE code = 'audit.past_program'")
        assert alerts.fetchall() == [(1,)]
    _told_once_to_auditors_alone(fernmoor, as_owner, sum(map(len, found.values())))


def _told_once_to_auditors_alone(fernmoor: Fernmoor, as_owner: Any, findings: int) -> None:
    def told(minutes: int) -> int:
        with as_owner(fernmoor):
            return tell_auditors(now=NOW + timedelta(minutes=minutes))

    with psycopg.connect(fernmoor.dsn, autocommit=True) as owner:
        ended = owner.execute(
            "DELETE FROM watch_finding WHERE key LIKE 'event:%' RETURNING id"
        ).rowcount
        owner.execute(
            "UPDATE app_user SET language = 'zh-hans' WHERE id = %s", [fernmoor.users["auditor"]]
        )
        assert told(0) == 1 and told(1) == told(20) == 0
        ((person, code, detail),) = owner.execute(
            "SELECT user_id, code, detail FROM notice"
        ).fetchall()
        assert (person, detail["count"]) == (fernmoor.users["auditor"], findings - ended)
        subject, body = said(code=code, detail=detail, language="zh-hans", zone="UTC", at=NOW)
        assert (
            "多笔小额充值" in body
            and body.count("/audit/findings") == 1
            and "{" not in subject + body
        )
        # What comes soon after a letter waits a quarter of an hour; what is answered by then is not told.
        owner.execute(
            """INSERT INTO watch_finding (property_id, watch_id, key, actor, subject, happened_at, found_at,
                                          detail)
               SELECT property_id, watch_id, 'new:' || n, actor, subject, happened_at, found_at, detail
               FROM watch_finding, generate_series(1, 2) AS n WHERE id = (SELECT min(id) FROM watch_finding)"""
        )
        assert told(14) == 0
        owner.execute("UPDATE watch_finding SET seen_at = now() WHERE key = 'new:1'")
        assert told(16) == 1 and told(32) == 0
        counts = owner.execute(
            "SELECT (detail ->> 'count')::int FROM notice ORDER BY id"
        ).fetchall()
        assert counts[1:] == [(1,)]
        assert set(NAMES) == set(BY_CODE)


def test_an_auditor_sets_a_watch_and_answers_what_it_found(
    fernmoor: Fernmoor, sign_in: SignIn, as_owner: Any
) -> None:
    with psycopg.connect(fernmoor.dsn) as owner:
        # The property was laid past the program, and it is noted.
        owner.execute("DELETE FROM unexplained_change")
    looked(fernmoor, as_owner)
    client = sign_in(fernmoor, "auditor")
    with psycopg.connect(fernmoor.dsn) as owner:
        ((watch,),) = owner.execute(
            "SELECT id FROM audit_watch WHERE kind = 'unusual_refund'"
        ).fetchall()
    form = {"amount": "5.00", "times": "900", "name": "Small ones too", "is_on": "1"}
    assert client.post(f"/audit/watches/{watch}", form | {"times": "1"}).status_code == 422
    assert client.post(f"/audit/watches/{watch}", form).status_code == 302
    night = {"opens": "19:00", "closes": "08:00", "name": ""}
    assert client.post("/audit/watches/new/night_change", night).status_code == 422
    assert (
        client.post("/audit/watches/new/night_change", night | {"closes": "24:00"}).status_code
        == 302
    )
    write(fernmoor, ("user:1", "vending.refund.booked", "account:2", NOW, {"amount": 6 * MICRO}))
    assert len(looked(fernmoor, as_owner)["unusual_refund"]) == 1
    page = client.get("/audit/findings").content.decode()
    assert 'class="badge">' in page
    with psycopg.connect(fernmoor.dsn) as owner:
        ((finding,),) = owner.execute("SELECT id FROM watch_finding").fetchall()
    path = f"/audit/findings/{finding}"
    assert client.post(path, {"note": " "}).status_code == 422
    assert client.post(path, {"note": "asked, and it was so"}).status_code == 302
    assert client.post(path, {"note": "again"}).status_code == 409
    assert 'class="badge">' not in client.get("/audit/findings").content.decode()
    with psycopg.connect(fernmoor.dsn) as owner:
        saved = owner.execute(
            """SELECT detail -> 'before' -> 'parameters' ->> 'amount',
                      detail -> 'after' -> 'parameters' ->> 'amount', duty FROM audit_event
               WHERE code = 'oversight.watch.saved' AND subject = %s""",
            [f"watch:{watch}"],
        ).fetchall()
    assert saved == [(str(200 * MICRO), str(5 * MICRO), "auditor")]
    stranger = sign_in(fernmoor, "administrator")
    assert stranger.post(path, {"note": "nothing here"}).status_code == 403


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> KeyStore:
    seal = Fernet.generate_key().decode()
    monkeypatch.setenv("PREWATT_KEY_STORE", str(tmp_path / "keys.json"))
    monkeypatch.setenv("PREWATT_KEY_STORE_KEYS", seal)
    return KeyStore(tmp_path / "keys.json", [seal])


def test_a_signed_copy_is_checked_without_us_and_any_change_of_it_is_found(
    fernmoor: Fernmoor, sign_in: SignIn, keys: KeyStore, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    client = sign_in(fernmoor, "auditor")
    assert client.get("/audit.zip").status_code == 409
    key = keys.make(KeyRole.AUDIT_EXPORT, signs_from=NOW - timedelta(days=1))
    write(fernmoor, ("user:1", "vending.refund.booked", "account:2", NOW, {"amount": 6 * MICRO}))
    content = client.get("/audit.zip?code=vending.refund.booked").content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    # By hand, with the primitive alone: role, key, instant in µs, then the manifest's own bytes.
    manifest, signed = json.loads(files["manifest.json"]), json.loads(files["manifest.sig.json"])
    at_us = (
        datetime.fromisoformat(signed["signed_at"]) - datetime(1970, 1, 1, tzinfo=UTC)
    ) // timedelta(microseconds=1)
    head = f"prewatt-signature-v1\naudit-export\n{signed['key_id']}\n{at_us}\n".encode()
    Ed25519PublicKey.from_public_bytes(key.value).verify(
        b64decode(signed["value"]), head + files["manifest.json"]
    )
    assert manifest["sha256"] == hashlib.sha256(files["events.jsonl"]).hexdigest()
    assert (manifest["count"], manifest["query"]["code"]) == (1, "vending.refund.booked")
    assert json.loads(files["events.jsonl"])["detail"] == {"amount": 6 * MICRO}

    def verified(changed: dict[str, bytes]) -> int:
        file = tmp_path / "copy.zip"
        with zipfile.ZipFile(file, "w") as archive:
            for name, body in (files | changed).items():
                archive.writestr(name, body)
        return cli.main(["audit", "verify", str(file)])

    assert verified({}) == 0 and "1 events of Fernmoor Court" in capsys.readouterr().out
    assert verified({"events.jsonl": files["events.jsonl"].replace(b"6000000", b"5000000")}) == 2
    assert (
        verified({"manifest.json": files["manifest.json"].replace(b'"count": 1', b'"count": 2')})
        == 2
    )
    assert verified({"another": b""}) == 2
    with psycopg.connect(fernmoor.dsn) as owner:
        taken = owner.execute(
            "SELECT detail ->> 'sha256' FROM audit_event WHERE code = 'oversight.exported'"
        ).fetchall()
    assert taken == [(manifest["sha256"],)]


def test_with_the_auditors_credential_no_table_can_be_written(fernmoor: Fernmoor) -> None:
    """Every table, every way of writing; what they may write are events, in their own property."""
    place = f"{{{fernmoor.property_id}}}"
    with psycopg.connect(role_dsn(fernmoor.dsn, "web"), autocommit=True) as web:
        web.execute("SET ROLE app_auditor")
        web.execute("SELECT set_config('prewatt.properties', %s, false)", [place])
        tables = [*walls.APPEND_ONLY, *walls.MUTABLE, *walls.SIGN_IN, *walls.UNUSED]
        for table in tables:
            columns = [
                row[0]
                for row in web.execute(
                    "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
                    "AND attgenerated = '' AND attidentity <> 'a' AND NOT attisdropped", [table],
                )
            ]  # fmt: skip
            tries = [f"DELETE FROM {table}", f"TRUNCATE {table}"]
            tries += [f"UPDATE {table} SET {each} = {each}" for each in columns]
            if table != "audit_event":
                tries += [f"INSERT INTO {table} ({each}) VALUES (NULL)" for each in columns]
                tries.append(f"INSERT INTO {table} DEFAULT VALUES")
            for statement in tries:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    web.execute(statement)
        event = """INSERT INTO audit_event (property_id, happened_at, actor, code, subject, detail)
                   VALUES (%s, now(), 'user:1', 'reads.audit', 'property:1', '{}')"""
        web.execute(event, [fernmoor.property_id])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            web.execute(event, [fernmoor.property_id + 1])
        for call in ("save_watch(NULL, %s, 'dormant', '', '{}', true, %s, now())",):
            refusal = web.execute(
                f"SELECT refusal FROM {call}",
                [fernmoor.property_id, fernmoor.users["administrator"]],
            ).fetchall()
            assert refusal == [("not_auditor",)], "an auditor's function asks who the person is"
