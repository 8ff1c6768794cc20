"""Enrolment, renewal and revocation against the database, which alone decides who may be a meter."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from django.db import connection
from django.db.utils import ProgrammingError
from tests.conftest import role_dsn
from tests.devices.pki import issuer_below
from tests.hes.test_head_end import add_meter

from prewatt import devices_command, wiring
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, scope, system_actor
from prewatt.devices import authority
from prewatt.devices.authority import Authority
from prewatt.devices.operations import (
    DeviceRefused,
    Enrolled,
    enrol,
    keep_issuer,
    make_code,
    renew,
    revoke,
)
from prewatt.devices.queries import devices, isolated, issuers, revoked_by
from prewatt.estate.models import Meter, Property
from prewatt.moves.alerts import AlertRefused, close_alert
from prewatt.moves.isolated import tell_of_isolated

NOW = datetime(2026, 11, 28, 5, 0, tzinfo=UTC)
DAY = timedelta(days=1)
SYSTEM = system_actor("devices")


class Place:
    """A property with two meters, its issuer kept."""

    def __init__(self, database: str) -> None:
        self.meter_id, self.property_id = add_meter(database)
        Meter.objects.create(property_id=self.property_id, serial="PW-2")
        first = Property.objects.get(pk=self.property_id)
        self.other = Property.objects.create(
            organisation_id=first.organisation_id, legal_entity_id=first.legal_entity_id,
            code="Q", name="Q", currency="EUR", time_zone="Europe/Berlin",
        ).pk  # fmt: skip
        self.root = authority.make_root("Test", now=NOW)
        self.issuer = self.kept("P", self.property_id)

    def kept(self, code: str, property_id: int) -> Authority:
        made = issuer_below(self.root, code, now=NOW)
        keep_issuer(actor=SYSTEM, property_id=property_id, certificate=made.certificate, now=NOW)
        return made

    def someone(self, duty: Duty) -> Actor:
        return Actor("user:7", duty, (self.property_id,), "Ines", 7)

    def code(self, serial: str = "PW-1", now: datetime = NOW) -> str:
        actor = self.someone(Duty.INSTALLER)
        return make_code(actor=actor, property_id=self.property_id, serial=serial, now=now)

    def enrolled(
        self, code: str, serial: str = "PW-1", *, key: authority.Key | None = None,
        now: datetime = NOW, issuer: Authority | None = None,
    ) -> Enrolled:  # fmt: skip
        request = authority.make_request(serial, key or authority.new_key())
        return enrol(
            actor=self.someone(Duty.INSTALLER), property_id=self.property_id, serial=serial, code=code,
            request=request, issuer=issuer or self.issuer, now=now,
        )  # fmt: skip

    def renewed(
        self, by: authority.Key, key: authority.Key, now: datetime, serial: str = "PW-1"
    ) -> Enrolled:
        request = authority.make_request(serial, key)
        return renew(
            actor=SYSTEM, serial=serial, request=request, signature=authority.sign_renewal(by, request),
            issuer_of=lambda _code: self.issuer, now=now,
        )  # fmt: skip


@pytest.fixture
def place(database: str) -> Place:
    return Place(database)


def why(deed: Callable[[], object]) -> str:
    with pytest.raises(DeviceRefused) as refused:
        deed()
    return refused.value.reason


def test_a_code_is_good_for_its_device_once_and_a_device_has_one_certificate(place: Place) -> None:
    code = place.code()
    key = authority.new_key()
    assert why(lambda: place.enrolled(code, "PW-2")) == "unknown_code"
    assert why(lambda: place.enrolled("AAAAA-AAAAA-AAAAA-AAAAA")) == "unknown_code"
    assert why(lambda: place.enrolled(code, now=NOW + 8 * DAY)) == "late_code"
    assert why(lambda: place.enrolled(code, issuer=place.kept("Q", place.other))) == "issuer"
    done = place.enrolled(code.lower().replace("-", " "), key=key)
    assert done.certificate.subject.rfc4514_string().startswith("CN=PW-1,")
    assert why(lambda: place.enrolled(code)) == "used_code"
    assert why(lambda: place.enrolled(place.code())) == "enrolled"
    first = place.code("PW-2")
    place.code("PW-2")
    assert why(lambda: place.enrolled(first, "PW-2")) == "used_code"
    with pytest.raises(PermissionRefused):
        make_code(
            actor=place.someone(Duty.OPERATOR),
            property_id=place.property_id,
            serial="PW-1",
            now=NOW,
        )
    assert why(lambda: place.code("PW-404")) == "unknown"
    # Once it is revoked it may come again, but not with the key that was.
    admin = place.someone(Duty.ADMINISTRATOR)
    stolen = {"property_id": place.property_id, "serial": "PW-1", "reason": "stolen"}
    with pytest.raises(PermissionRefused):
        revoke(actor=place.someone(Duty.INSTALLER), now=NOW, **stolen)  # type: ignore[arg-type]
    assert revoke(actor=admin, now=NOW, **stolen) == 1  # type: ignore[arg-type]
    assert why(lambda: place.enrolled(place.code(), key=key)) == "old_key"
    again = place.enrolled(place.code())
    (issuer,) = [each for each in issuers(now=NOW) if each.property_code == "P"]
    assert [each.number for each in revoked_by(issuer.id, now=NOW)] == [
        done.certificate.serial_number
    ]
    seen = devices(actor=admin, property_id=place.property_id, now=NOW)
    assert [(each.serial, each.state, int(each.number, 16)) for each in seen] == [
        ("PW-1", "holds", again.certificate.serial_number)
    ]
    with connection.cursor() as cursor:
        cursor.execute("SELECT code, count(*) FROM audit_event GROUP BY code ORDER BY code")
        assert dict(cursor.fetchall()) == {
            "devices.issuer": 2, "devices.code": 6, "devices.enrolled": 2, "devices.revoked": 1,
        }  # fmt: skip


def test_a_device_renews_with_the_key_it_has_and_is_isolated_when_it_does_not(place: Place) -> None:
    first, second, third = (authority.new_key() for _ in range(3))
    place.enrolled(place.code(), key=first)
    late = NOW + 300 * DAY
    assert why(lambda: place.renewed(first, second, NOW + 200 * DAY)) == "early"
    assert why(lambda: place.renewed(second, second, late)) == "signature"
    assert why(lambda: place.renewed(first, first, late)) == "old_key"
    assert why(lambda: place.renewed(first, second, late, "PW-2")) == "not_current"
    done = place.renewed(first, second, late)
    # The answer was lost: the same question has the same answer, of the same key alone.
    assert place.renewed(first, second, late + DAY).certificate == done.certificate
    assert why(lambda: place.renewed(third, second, late)) == "signature"
    assert why(lambda: place.renewed(first, third, late)) == "signature"
    assert isolated(now=NOW + 366 * DAY) == []
    gone = NOW + 700 * DAY
    assert why(lambda: place.renewed(second, third, gone)) == "expired"
    (lost,) = isolated(now=gone)
    assert (lost.serial, lost.meter_id, lost.why) == ("PW-1", place.meter_id, "expired")
    # One alert, kept while it is so, ended by an enrolment.
    assert tell_of_isolated(now=gone) == tell_of_isolated(now=gone + DAY) == 1
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, subject, detail->>'why' FROM alert WHERE code = 'meter.isolated'"
        )
        ((alert_id, subject, reason),) = cursor.fetchall()
    assert (subject, reason) == (f"meter:{place.meter_id}", "expired")
    admin = place.someone(Duty.ADMINISTRATOR)
    with pytest.raises(AlertRefused, match="ends by itself"):
        close_alert(actor=admin, alert_id=alert_id, note="so", now=gone)
    place.issuer = issuer_below(authority.make_root("Later", now=gone), "P", now=gone)
    keep_issuer(
        actor=SYSTEM, property_id=place.property_id, certificate=place.issuer.certificate, now=gone
    )
    place.enrolled(place.code(now=gone), now=gone)
    assert tell_of_isolated(now=gone) == 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM alert WHERE closed_at IS NULL")
        assert cursor.fetchone() == (0,)
    revoke(actor=admin, property_id=place.property_id, serial="PW-1", reason="x", now=gone)
    assert [each.why for each in isolated(now=gone)] == ["revoked"]


def test_no_login_writes_what_the_functions_write(place: Place, database: str) -> None:
    place.enrolled(place.code())
    attempts = (
        "UPDATE device_certificate SET revoked_at = NULL, not_after = 'infinity'",
        "DELETE FROM device_certificate",
        "UPDATE device_code SET used_at = NULL",
        """INSERT INTO device_issuer (property_id, certificate, key_sha256, not_after, made_at)
           VALUES (1, '', '', now(), now())""",
        "SELECT keep_device_issuer(1, ''::bytea, ''::bytea, now(), now())",
    )
    for duty in (Duty.ADMINISTRATOR, Duty.INSTALLER, Duty.OPERATOR):
        for attempt in attempts:
            with pytest.raises(ProgrammingError), scope(place.someone(duty)):
                connection.cursor().execute(attempt)
    with psycopg.connect(role_dsn(database, "head_end"), autocommit=True) as head_end:
        for attempt in (*attempts, "SELECT revoke_device(1, 'PW-1', '', '', now())"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                head_end.execute(attempt)
    # Another property's administrator revokes nothing here, whatever they ask for.
    with psycopg.connect(role_dsn(database, "web")) as web:
        web.execute("SET ROLE app_admin")
        for property_id, ended in ((place.other, 0), (place.property_id, 1)):
            web.execute("SELECT set_config('prewatt.properties', %s, true)", [f"{{{property_id}}}"])
            row = web.execute(
                "SELECT revoke_device(%s, 'PW-1', 'x', 'user:8', now())", [place.property_id]
            ).fetchone()
            assert row == (ended,)


def test_the_command_goes_all_the_way_from_a_root_to_a_broker_and_back(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As docs/operations.md has it, each step by what the one before has printed."""
    monkeypatch.setattr(wiring, "start_django", lambda: None)
    monkeypatch.setenv("PREWATT_DEVICE_SAFE", str(tmp_path / "safe"))
    monkeypatch.setenv("PREWATT_DEVICE_PHRASE", "a phrase of the platform")
    monkeypatch.setenv("PREWATT_DEVICE_ROOT_PHRASE", "a phrase of the root")

    def do(*words: str, into: str = "out", refused: bool = False) -> str:
        parser = argparse.ArgumentParser()
        devices_command.add_arguments(parser)
        status = devices_command.run(parser.parse_args([str(each) for each in words]))
        said = capsys.readouterr()
        assert status == (2 if refused else 0), said.err
        (tmp_path / into).write_text(said.out)
        return said.err if refused else said.out

    root, here = str(tmp_path / "root"), ("--property", "P", "PW-1")
    do("root", "--safe", root)
    assert "cannot write" in do("root", "--safe", root, refused=True)
    for code in ("@platform", "P"):
        do("issuer", code, into="request")
        do("sign", "--safe", root, code, str(tmp_path / "request"), into="signed")
        do("keep", code, str(tmp_path / "signed"), f"{root}/root.pem")
    key = authority.new_key()
    (tmp_path / "meter").write_bytes(authority.make_request("PW-1", key))
    code = do("code", *here).split()[1].rstrip(",")
    enrol_it = ("enrol", *here, str(tmp_path / "meter"), "--code", code, "--signs")
    chain = x509.load_pem_x509_certificates(do(*enrol_it).encode())
    assert [each.subject.rfc4514_string()[:5] for each in chain] == ["CN=PW", "CN=P,"]
    assert "used already" in do(*enrol_it, refused=True)
    meter_key = "SELECT meter_id, public_key, revoked_at IS NULL FROM meter_key"
    with connection.cursor() as cursor:
        cursor.execute(meter_key)
        ((meter_id, public_key, holds),) = cursor.fetchall()
    assert (meter_id, holds) == (place.meter_id, True)
    assert bytes(public_key) == authority.public_key_of(chain[0]), "what it signs is believed"
    assert "PW-1  holds" in do("list", "--property", "P")
    broker = tmp_path / "broker"
    write = ("broker", "--write", str(broker), "--host", "127.0.0.1", "--host", "broker.example")
    assert "the safe does not have issuer" in do(*write, refused=True)
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM device_issuer WHERE certificate <> %s", [authority.as_der(chain[1])]
        )
    said = do(*write)
    assert f"mosquitto -c {broker / 'mosquitto.conf'}" in said
    shown = x509.load_pem_x509_certificates((broker / "broker.pem").read_bytes())
    names = shown[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example"]
    assert {each.name for each in (broker / "head-end").iterdir()} == {
        "ca.pem", "head-end.pem", "head-end.key",
    }  # fmt: skip
    # The next issuer stands beside the one there is: what follows is signed by it, and either's devices are let in.
    do("issuer", "P", "--next", into="request")
    do("issuer", "P", "--next", into="request")
    assert not (tmp_path / "safe" / "P@3.key").exists(), "one waits at a time"
    assert "follows another" in do("issuer", "P@2", refused=True)
    do("sign", "--safe", root, "P", str(tmp_path / "request"), refused=True)
    do("sign", "--safe", root, "P@2", str(tmp_path / "request"), into="signed")
    assert "P@2 signs until" in do("keep", "P@2", str(tmp_path / "signed"), f"{root}/root.pem")
    following = authority.new_key()
    (tmp_path / "next").write_bytes(authority.make_request("PW-1", following))
    signature = authority.sign_renewal(key, (tmp_path / "next").read_bytes())
    (tmp_path / "word").write_bytes(signature[:-1] + bytes([signature[-1] ^ 1]))
    renew_it = ("renew", *here, str(tmp_path / "next"), str(tmp_path / "word"))
    sql = (Path(devices_command.__file__).parent / "devices/sql/0001_one_each.sql").read_text()
    assert set(re.findall(r"RETURN '(\w+)'", sql)) <= set(devices_command._REFUSED)
    assert "not signed by the key" in do(*renew_it, refused=True)
    (tmp_path / "word").write_bytes(signature)
    assert "for more than 91 days yet" in do(*renew_it, refused=True)
    today = wiring.now
    monkeypatch.setattr(wiring, "now", lambda: today() + 300 * DAY)
    renewed = x509.load_pem_x509_certificates(do(*renew_it).encode())
    assert [each.subject.rfc4514_string()[:6] for each in renewed] == ["CN=PW-", "CN=P@2,"[:6]]
    assert renewed[0].public_key() == following.public_key()
    issuers_now = do("issuers").splitlines()
    assert [each.split()[0] + each[-10:] for each in issuers_now] == [
        "P 0 devices",
        "P@2 1 devices",
    ]
    monkeypatch.setattr(wiring, "now", today)
    do("revoke", *here, "--reason", "stolen")
    with connection.cursor() as cursor:
        cursor.execute(meter_key)
        assert [row[2] for row in cursor.fetchall()] == [False]
    do("broker", "--write", str(broker))
    assert "user PW-1\ntopic deny #" in (broker / "rights").read_text()
    revoked = (broker / "revoked.pem").read_bytes().split(b"-----END X509 CRL-----\n")
    lists = [x509.load_pem_x509_crl(each + b"-----END X509 CRL-----\n") for each in revoked[:-1]]
    numbers = [one.serial_number for each in lists for one in each]
    assert numbers == [chain[0].serial_number, renewed[0].serial_number], (
        "each in its issuer's list"
    )
    assert len(lists) == 3
    assert "no certificate that holds" in do("revoke", *here, "--reason", "again", refused=True)
    assert "no property" in do("list", "--property", "X", refused=True)
