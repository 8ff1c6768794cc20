"""`prewatt devices`: who may be a meter at the broker: root, issuers, enrolment, revocation, the broker's own files.

The root needs no database and no network: `root` and `sign` are for the machine on which its safe lies. Everything else
works as the owner of PREWATT_DSN's database, like `prewatt import`, with the safe that PREWATT_DEVICE_SAFE names.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from prewatt import wiring
from prewatt.runtime.state import CannotRunError

if TYPE_CHECKING:
    from cryptography import x509

    from prewatt.access.scope import Actor
    from prewatt.devices.safe import Safe

REFUSED = 2
"""Exit status when nothing was done, with the reason on standard error."""

_ROOT = "root"
#: What a refusal of the database means, by its word (`devices/sql/0001_one_each.sql`); others say it themselves.
_REFUSED = {
    "unknown": "no device here has that serial number, or it has no certificate that holds",
    "too_long": "a code holds 31 days at most",
    "unknown_code": "that is no code for this device",
    "used_code": "the code was used already, or another was made after it",
    "late_code": "the code holds no more: make another",
    "enrolled": "the device has a certificate that holds: revoke that first, or renew it",
    "not_current": "the request is not signed by the key that the device shows now, or it has no certificate",
    "revoked": "its certificate is revoked: enrol it anew, with a code",
    "expired": "its certificate has ended: enrol it anew, with a code",
    "early": "its certificate holds for more than 91 days yet, so there is nothing to renew",
    "issuer": "the property's issuer does not sign as long as the certificate would hold",
    "old_key": "a device has shown that key before: a certificate is of a new one",
    "signature": "the request is not signed by the key that it would replace",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    commands = parser.add_subparsers(dest="devices_command", required=True)
    root = commands.add_parser("root", help="make the root, on a machine without a network")
    root.add_argument("--safe", type=Path, required=True, metavar="DIR")
    root.add_argument("--name", default="Prewatt devices")
    issuer = commands.add_parser(
        "issuer", help="make a property's issuer, and print what the root has to sign"
    )
    issuer.add_argument("code", help="the property's code, or @platform for broker and head-end")
    issuer.add_argument(
        "--next",
        action="store_true",
        help="the one that follows: it signs once it is kept, and what the former signed holds on",
    )
    commands.add_parser(
        "issuers", help="all that devices are believed by, and until when each signs"
    )
    sign = commands.add_parser("sign", help="sign an issuer, on the machine of the root")
    sign.add_argument("--safe", type=Path, required=True, metavar="DIR")
    sign.add_argument("code", help="the issuer's name, as `issuer` said it")
    sign.add_argument("request", type=Path, help="what `issuer` printed")
    keep = commands.add_parser("keep", help="keep what the root has signed")
    keep.add_argument("code", help="the issuer's name, as `issuer` said it")
    keep.add_argument("certificate", type=Path)
    keep.add_argument("root", type=Path, help="the root's certificate")
    code = commands.add_parser("code", help="let one device be enrolled, once, within seven days")
    enrol = commands.add_parser("enrol", help="sign the request that a device has made")
    renew = commands.add_parser(
        "renew",
        help="give a device its next certificate that does not ask for it over its own line",
    )
    revoke = commands.add_parser("revoke", help="believe a device no more")
    listed = commands.add_parser("list", help="the enrolled devices of a property")
    for each in (code, enrol, renew, revoke, listed):
        each.add_argument("--property", required=True, metavar="CODE")
    for each in (code, enrol, renew, revoke):
        each.add_argument("serial")
    code.add_argument("--days", type=int, default=7)
    enrol.add_argument("request", type=Path, help="the request (PKCS #10), DER or PEM")
    enrol.add_argument("--code", required=True)
    enrol.add_argument(
        "--signs",
        action="store_true",
        help="it verifies signed instructions and signs its answers by this key",
    )
    renew.add_argument("request", type=Path, help="the request of its next key, DER or PEM")
    renew.add_argument(
        "signature",
        type=Path,
        help="by its present key, of the line prewatt-renewal-v1 and the request (DER): ECDSA, SHA-256, DER",
    )
    revoke.add_argument("--reason", required=True)
    broker = commands.add_parser(
        "broker", help="write what Mosquitto needs, or write its lists anew"
    )
    broker.add_argument("--write", type=Path, required=True, metavar="DIR")
    broker.add_argument(
        "--host", action="append", help="a name or address under which it is reached"
    )
    broker.add_argument("--port", type=int, default=8883)
    broker.add_argument("--user", default="", help="who Mosquitto becomes when root starts it")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; returns 2 where it is refused."""
    from prewatt.devices.authority import CertificateRefused
    from prewatt.devices.safe import SafeRefused

    try:
        if arguments.devices_command in ("root", "sign"):
            _at_the_root(arguments)
        else:
            _at_the_platform(arguments)
    except (SafeRefused, CertificateRefused, _NoSuch, OSError) as refused:
        print(f"prewatt: {refused}", file=sys.stderr)
        return REFUSED
    return 0


class _NoSuch(Exception):
    """What was named is not there, or was refused."""


# --- on the machine of the root ----------------------------------------------------------------------


def _at_the_root(arguments: argparse.Namespace) -> None:
    from prewatt.devices import authority
    from prewatt.devices.safe import ROOT_PHRASE_VARIABLE, Safe

    safe = Safe(arguments.safe, _variable(ROOT_PHRASE_VARIABLE))
    now = datetime.now(UTC)
    if arguments.devices_command == "root":
        made = authority.make_root(arguments.name, now=now)
        safe.keep_key(_ROOT, made.key)
        safe.keep_certificate(_ROOT, made.certificate)
        print(f"the root is in {safe.path}; its certificate is {safe.path / 'root.pem'}")
        return
    signed = authority.sign_issuer(
        safe.authority(_ROOT),
        _request(arguments.request),
        property_code=arguments.code,
        now=now,
    )
    print(authority.as_pem(signed).decode("ascii"), end="")


# --- on the platform ---------------------------------------------------------------------------------


def _at_the_platform(arguments: argparse.Namespace) -> None:
    command = arguments.devices_command
    if command == "issuer":
        _make_issuer(_safe(), arguments.code, is_next=arguments.next)
        return
    wiring.start_django()
    from django.db import connection

    from prewatt.devices.operations import DeviceRefused

    try:
        {
            "keep": _keep, "code": _code, "enrol": _enrol, "renew": _renew, "revoke": _revoke,
            "list": _list, "issuers": _issuers, "broker": _broker,
        }[command](arguments)  # fmt: skip
    except DeviceRefused as refused:
        raise _NoSuch(_REFUSED.get(refused.reason, f"refused: {refused.reason}")) from None
    finally:
        connection.close()


def _make_issuer(safe: Safe, code: str, *, is_next: bool) -> None:
    """Print the request of the issuer that waits for its certificate, or of a new one where none waits."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from prewatt.devices import authority
    from prewatt.devices.safe import SafeRefused, code_of, issuer_name

    if code_of(code) != code:
        # Of a property with such a code nobody could tell whose next one it is.
        raise SafeRefused(f"{code} is the name of an issuer that follows another: --next makes one")
    names = safe.names(code)
    name = names[-1] if names else code
    if not names or (is_next and safe.is_signed(name)):
        name = issuer_name(code, len(names) + 1)
        safe.keep_key(name, authority.new_key())
    request = x509.load_der_x509_csr(authority.make_request(name, safe.key(name)))
    print(
        f"the root signs it as {name}: prewatt devices sign --safe DIR {name} FILE", file=sys.stderr
    )
    print(request.public_bytes(Encoding.PEM).decode("ascii"), end="")


def _keep(arguments: argparse.Namespace) -> None:
    from cryptography import x509

    from prewatt.devices.authority import PLATFORM, signs_until
    from prewatt.devices.operations import keep_issuer
    from prewatt.devices.safe import code_of

    safe = _safe()
    signed = x509.load_pem_x509_certificate(arguments.certificate.read_bytes())
    root = x509.load_pem_x509_certificate(arguments.root.read_bytes())
    try:
        signed.verify_directly_issued_by(root)
    except Exception:
        raise _NoSuch("the certificate is not signed by this root") from None
    if not (safe.path / "root.pem").exists():
        (safe.path / "root.pem").write_bytes(arguments.root.read_bytes())
    safe.keep_certificate(arguments.code, signed)
    code = code_of(arguments.code)
    if code != PLATFORM:
        place, actor = _place(code)
        keep_issuer(actor=actor, property_id=place, certificate=signed, now=wiring.now())
    print(f"{arguments.code} signs until {signs_until(signed).date()}; have its next one by then")


def _code(arguments: argparse.Namespace) -> None:
    from prewatt.devices.operations import make_code

    place, actor = _place(arguments.property)
    code = make_code(
        actor=actor, property_id=place, serial=arguments.serial, now=wiring.now(),
        lasts=timedelta(days=arguments.days),
    )  # fmt: skip
    print(f"{arguments.serial}: {code}, once, within {arguments.days} days")


def _enrol(arguments: argparse.Namespace) -> None:
    from prewatt.moves.enrolment import enrol_device

    place, actor = _place(arguments.property)
    done = enrol_device(
        actor=actor, property_id=place, serial=arguments.serial, code=arguments.code,
        request=_request(arguments.request), issuer=_safe().issuing(arguments.property),
        now=wiring.now(), signs=arguments.signs,
    )  # fmt: skip
    print(done.chain.decode("ascii"), end="")


def _renew(arguments: argparse.Namespace) -> None:
    from prewatt.devices.operations import renew

    _, actor = _place(arguments.property)
    done = renew(
        actor=actor, serial=arguments.serial, request=_request(arguments.request),
        signature=arguments.signature.read_bytes(), issuer_of=_safe().issuing, now=wiring.now(),
    )  # fmt: skip
    print(done.chain.decode("ascii"), end="")


def _revoke(arguments: argparse.Namespace) -> None:
    from prewatt.moves.enrolment import revoke_device

    place, actor = _place(arguments.property)
    count = revoke_device(
        actor=actor, property_id=place, serial=arguments.serial, reason=arguments.reason,
        now=wiring.now(),
    )  # fmt: skip
    print(f"{arguments.serial}: {count} revoked; the head-end takes nothing of it any more")
    print("shut the broker's door: prewatt devices broker --write DIR, and restart it")


def _list(arguments: argparse.Namespace) -> None:
    from prewatt.devices.queries import devices

    place, actor = _place(arguments.property)
    found = devices(actor=actor, property_id=place, now=wiring.now())
    if not found:
        print(f"prewatt: no device of {arguments.property} has a certificate", file=sys.stderr)
    for each in found:
        print(f"{each.serial}  {each.state}  until {each.not_after:%F}  no. {each.number}")


def _issuers(_arguments: argparse.Namespace) -> None:
    """Each with how many devices still show what it signed."""
    from prewatt.devices import authority, queries

    now = wiring.now()
    shown, found = queries.devices_by_issuer(now=now), queries.issuers(now=now)
    if not found:
        print("prewatt: there is no issuer yet", file=sys.stderr)
    for each in found:
        own = authority.from_der(each.certificate)
        print(
            f"{authority.name_of(own)}  signs until {authority.signs_until(own):%F}  "
            f"is believed until {own.not_valid_after_utc:%F}  {shown.get(each.id, 0)} devices"
        )


def _broker(arguments: argparse.Namespace) -> None:
    from cryptography import x509

    from prewatt.devices import authority
    from prewatt.devices.broker_files import CONFIGURATION, Shown, write_broker, write_client

    safe, folder, now = _safe(), arguments.write, wiring.now()
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.host:
        platform, key = safe.issuing(authority.PLATFORM), authority.new_key()
        root = x509.load_pem_x509_certificate((safe.path / "root.pem").read_bytes())
        own = authority.issue_broker(platform, key, hosts=arguments.host, now=now)
        write_broker(
            folder, root=root, broker=Shown(own, platform.certificate, key),
            port=arguments.port, user=arguments.user,
        )  # fmt: skip
        key = authority.new_key()
        head_end = authority.issue_head_end(platform, key, now=now)
        write_client(
            folder / "head-end", root=root, name="head-end",
            client=Shown(head_end, platform.certificate, key),
        )  # fmt: skip
        print(f"mosquitto -c {folder / CONFIGURATION}")
        print(f"the head-end's certificate: PREWATT_MQTT_TLS={folder / 'head-end'}")
    write_lists_of(safe, folder, now)


def write_lists_of(safe: Safe, folder: Path, now: datetime) -> None:
    """Write lists and rights as the database has them now."""
    from prewatt.devices import authority, queries
    from prewatt.devices.broker_files import write_lists

    lists: list[x509.CertificateRevocationList] = [
        authority.revocation_list(each, [], now=now)
        for each in safe.signed(authority.PLATFORM)
        if each.certificate.not_valid_after_utc > now
    ]
    # Former issuers among them: without its list the broker would refuse all devices of one.
    for each in queries.issuers(now=now):
        own = {
            authority.as_der(issuer.certificate): issuer
            for issuer in safe.signed(each.property_code)
        }
        issuer = own.get(each.certificate)
        if issuer is None:
            raise _NoSuch(f"the safe does not have issuer {each.id} of {each.property_code}")
        revoked = queries.revoked_by(each.id, now=now)
        lists.append(authority.revocation_list(issuer, revoked, now=now))
    write_lists(
        folder,
        lists=lists,
        concentrators=queries.rights_of_concentrators(now=now),
        isolated=[each.serial for each in queries.isolated(now=now)],
    )


def _place(code: str) -> tuple[int, Actor]:
    from prewatt.access.scope import system_actor
    from prewatt.estate.models import Property

    place = Property.objects.filter(code=code).first()
    if place is None:
        raise _NoSuch(f"no property {code}")
    return place.pk, system_actor("devices", (place.pk,))


def _request(path: Path) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    content = path.read_bytes()
    if not content.startswith(b"-----"):
        return content
    try:
        return x509.load_pem_x509_csr(content).public_bytes(Encoding.DER)
    except ValueError as error:
        raise _NoSuch(f"{path}: {error}") from None


def _safe() -> Safe:
    from prewatt.devices.safe import safe_of

    return safe_of(os.environ)


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise CannotRunError(f"{name} is not set")
    return value
