"""Mandates: a signing key changed at the machine, and a person's whole file; by operations and past them."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet
from django.db import connection
from tests.access.test_walls import duty, refused
from tests.approvals.test_two_people import Office
from tests.conftest import role_dsn
from tests.invariants.places import one, rows

from prewatt import cli, wiring
from prewatt.mandates.operations import (
    KeyDeed,
    MandateRefused,
    mandate_of,
    wanted_file,
    wanted_key_deed,
)
from prewatt.reports.personal_file import (
    LEFT_OUT,
    OF_ACCOUNT,
    Sign,
    file_of_account,
    personal_file,
)
from prewatt.signing.keyring import open_keyring
from prewatt.signing.keys import KeyRole, Signature, verify
from prewatt.signing.store import KeyStore

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def office(database: str) -> Office:
    return Office()


@pytest.fixture
def store(
    database: str, office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> KeyStore:
    """A store with a key that signs receipts and one that signs files; the command works on it and the database."""
    seal = Fernet.generate_key().decode()
    found = KeyStore(tmp_path / "keys.json", [seal])
    for role in (KeyRole.RECEIPT, KeyRole.PERSONAL_FILE):
        found.make(role, signs_from=office.now)
    monkeypatch.setenv("PREWATT_KEY_STORE", str(found.path))
    monkeypatch.setenv("PREWATT_KEY_STORE_KEYS", seal)
    monkeypatch.setenv("PREWATT_DSN", database)
    monkeypatch.setattr(wiring, "start_django", lambda _process: None)
    monkeypatch.setattr(wiring, "now", lambda: office.now)
    monkeypatch.setattr(connection, "close", lambda: None)
    return found


def agreed_key(office: Office, wanted: KeyDeed) -> int:
    asked = wanted_key_deed(
        actor=office.actor("ines"), property_id=office.property_id, wanted=wanted
    )
    proposal_id = office.ask("ines", asked)
    office.approve(proposal_id)
    return proposal_id


def told(code: str) -> list[tuple[str, str | None, str | None]]:
    return rows(
        "SELECT actor, detail->>'approved_by', detail->>'reason' FROM audit_event WHERE code = %s "
        "AND property_id = (SELECT max(id) FROM property) ORDER BY id",
        code,
    )


def test_a_key_is_rotated_once_by_what_two_agreed_on_and_alone_only_loudly(
    office: Office, store: KeyStore, capsys: pytest.CaptureFixture[str]
) -> None:
    def held() -> int:
        return len(store.public_keys())

    assert cli.main(["keys", "rotate", "receipt"]) == 2 and held() == 2
    assert "--agreed PROPOSAL" in capsys.readouterr().err
    proposal = str(agreed_key(office, KeyDeed("rotate", "receipt")))
    first = store.public_keys()[0].key_id
    for other in (["rotate", "personal-file"], ["revoke", first]):
        assert cli.main(["keys", *other, "--agreed", proposal]) == 2
    assert "for another deed" in capsys.readouterr().err and held() == 2
    assert cli.main(["keys", "rotate", "receipt", "--agreed", proposal]) == 0 and held() == 3
    assert cli.main(["keys", "rotate", "receipt", "--agreed", proposal]) == 2, "once"
    ines, jonas = office.actor("ines").code, office.actor("jonas").code
    assert told("signing.key_rotated") == [(ines, jonas, None)]
    assert rows("SELECT count(*) FROM alert WHERE code = 'signing.key_alone'") == [(0,)]
    # What the file refuses uses nothing up: a next key waits to follow already.
    again = str(agreed_key(office, KeyDeed("revoke", "receipt", first)))
    assert cli.main(["keys", "revoke", "no-such", "--alone", "stolen"]) == 2
    assert told("signing.key_revoked") == []
    assert cli.main(["keys", "revoke", first, "--agreed", again]) == 0
    assert cli.main(["keys", "rotate", "personal-file", "--alone", "The disk was lost"]) == 0
    assert told("signing.key_rotated")[-1] == ("system:keys", None, "The disk was lost")
    assert rows("SELECT count(DISTINCT property_id) FROM alert WHERE code = 'signing.key_alone'") \
        == rows("SELECT count(*) FROM property"), "every property is alarmed"  # fmt: skip


def test_a_file_of_all_that_is_known_takes_two_and_its_maker_three_times(
    office: Office, store: KeyStore
) -> None:
    account = office.world.accounts["1001"]
    customer, name, accounts = file_of_account(actor=office.actor("ines"), account_id=account)
    asked = wanted_file(
        actor=office.actor("ines"), property_id=office.property_id, customer_id=customer, name=name,
        accounts=accounts, asked_by="The customer",
    )  # fmt: skip
    proposal_id = office.ask("ines", asked)
    assert mandate_of(actor=office.actor("ines"), proposal_id=proposal_id) is None
    office.approve(proposal_id)
    mandate = mandate_of(actor=office.actor("ines"), proposal_id=proposal_id)
    assert mandate is not None

    def take(who: str, sign: Sign | None = None) -> bytes:
        return personal_file(
            actor=office.actor(who), mandate_id=mandate.pk, proposal_id=proposal_id, now=office.now,
            sign=sign or (lambda text: open_keyring().sign(KeyRole.PERSONAL_FILE, text, now=office.now)),
        )  # fmt: skip

    def broken(_document: bytes) -> Signature:
        raise RuntimeError("no key")

    with pytest.raises(MandateRefused):
        take("jonas")
    with pytest.raises(RuntimeError):
        take("ines", broken)
    assert one("SELECT uses_left FROM mandate") == 3, "what was not signed was not taken"
    archive = zipfile.ZipFile(io.BytesIO(take("ines")))
    manifest = json.loads(archive.read("manifest.json"))
    signature = Signature.from_json(json.loads(archive.read("manifest.sig.json")))
    verify(archive.read("manifest.json"), signature, store.public_keys())
    assert (manifest["for"], manifest["name"], manifest["proposal"]) == (
        "The customer", name, proposal_id
    )  # fmt: skip
    for table, part in manifest["files"].items():
        body = archive.read(f"{table}.jsonl")
        assert body.count(b"\n") == part["rows"] and part["is_whole"]
        assert hashlib.sha256(body).hexdigest() == part["sha256"]
    others = set(office.world.accounts.values()) - set(accounts)
    for line in archive.read("account_state.jsonl").splitlines():
        assert json.loads(line)["account_id"] not in others
    assert json.loads(archive.read("customer.jsonl"))["name"] == name
    for _ in range(2):
        take("ines")
    with pytest.raises(MandateRefused, match="gone"):
        take("ines")
    assert one("SELECT count(*) FROM audit_event WHERE code = 'mandates.file_taken'") == 3


def test_every_table_with_an_account_is_in_the_file_or_left_out_with_a_reason(
    database: str,
) -> None:
    found = rows(
        """SELECT c.table_name::text FROM information_schema.columns c
           JOIN pg_class k ON k.oid = to_regclass(quote_ident(c.table_name))
           WHERE c.table_schema = 'public' AND c.column_name = 'account_id'
             AND NOT k.relispartition AND k.relkind IN ('r', 'p')"""
    )
    assert {row[0] for row in found} - {"tenancy"} == {*OF_ACCOUNT, *LEFT_OUT}


def test_no_duty_writes_a_mandate_or_uses_anothers(office: Office, database: str) -> None:
    proposal_id = agreed_key(office, KeyDeed("rotate", "receipt"))
    ines = office.users["ines"].pk
    with psycopg.connect(role_dsn(database, "web"), autocommit=True) as session:
        for role in ("app_admin", "app_operator", "app_auditor"):
            duty(session, role, office.property_id)
            for call in (
                "INSERT INTO mandate SELECT * FROM mandate", "UPDATE mandate SET uses_left = 9",
                "DELETE FROM mandate", f"SELECT give_mandate({proposal_id}, now())",
            ):  # fmt: skip
                assert refused(session, call), (role, call)
        duty(session, "app_admin", office.property_id)
        (got,) = session.execute(
            f"SELECT use_mandate(id, {ines}, now()) FROM mandate"
        ).fetchone() or ("none",)
        assert got is None, "a key is changed at the machine, by nobody here"
