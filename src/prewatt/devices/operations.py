"""Issuers kept, codes made, devices enrolled, renewed and revoked: each by the function of the database that alone may.

What is signed is signed before the database is asked, and leaves this process only once it has agreed.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.devices import authority
from prewatt.devices.authority import Authority, CertificateRefused
from prewatt.devices.queries import Issuer, issuer_of_key, latest_of, subject_of

CODE_LASTS: Final = timedelta(days=7)
_ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_CODE_CHARS: Final = 20

Value = str | int | bytes | datetime
IssuerOf = Callable[[str], Authority]
"""The authority of a property, by its code; raises SafeRefused."""


class DeviceRefused(Exception):
    """Nothing was done. ``reason`` is a word of `devices/sql/0001_one_each.sql`, or of CertificateRefused."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a device gets: its certificate and its issuer's, which it shows together."""

    certificate: x509.Certificate
    issuer: x509.Certificate

    @property
    def chain(self) -> bytes:
        """Both as PEM, the device's own first."""
        return authority.as_pem(self.certificate, self.issuer)


def keep_issuer(
    *, actor: Actor, property_id: int, certificate: x509.Certificate, now: datetime
) -> int:
    """Write down that a property has this issuer; returns its id."""
    require(actor, "devices.issue", property_id=property_id)
    with scope(actor):
        (issuer_id,) = _asked(
            "SELECT keep_device_issuer(%s, %s, %s, %s, %s)",
            property_id,
            authority.as_der(certificate),
            authority.key_digest(certificate),
            certificate.not_valid_after_utc,
            now,
        )
        record(
            actor=actor.code, code="devices.issuer", property_id=property_id,
            subject=f"property:{property_id}", now=now, ends=certificate.not_valid_after_utc,
        )  # fmt: skip
    return int(str(issuer_id))


def make_code(
    *, actor: Actor, property_id: int, serial: str, now: datetime, lasts: timedelta = CODE_LASTS
) -> str:
    """A code that lets one device be enrolled, once; it is shown now and never again.

    A former code of the device that was not used ends. Raises DeviceRefused `unknown`, `too_long`.
    """
    require(actor, "devices.enrol", property_id=property_id)
    code = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_CHARS))
    with scope(actor):
        _refused(
            "SELECT make_device_code(%s, %s, %s, %s, %s, %s)",
            property_id, serial, _code_digest(code), actor.code, now, now + lasts,
        )  # fmt: skip
        record(
            actor=actor.code, code="devices.code", property_id=property_id,
            subject=subject_of(serial), now=now, serial=serial,
        )  # fmt: skip
    return "-".join(code[at : at + 5] for at in range(0, _CODE_CHARS, 5))


def enrol(
    *,
    actor: Actor,
    property_id: int,
    serial: str,
    code: str,
    request: bytes,
    issuer: Authority,
    now: datetime,
) -> Enrolled:
    """Give a device its certificate for the request (PKCS #10, DER) that was made in it.

    Raises DeviceRefused: `request`, `key`, `name`, `serial`, `issuer`, `unknown_code`, `used_code`,
    `late_code`, `enrolled` (its certificate holds: revoke it first), `old_key` (its key had one before).
    """
    require(actor, "devices.enrol", property_id=property_id)
    certificate = _issued(issuer, request, serial, now)
    with scope(actor):
        kept = _kept(issuer, property_id)
        _refused(
            "SELECT enrol_device(%s, %s, %s, %s, %s, %s, %s, %s)",
            serial, _code_digest(code), *_columns(kept.id, certificate), now,
        )  # fmt: skip
        record(
            actor=actor.code, code="devices.enrolled", property_id=property_id,
            subject=subject_of(serial), now=now, serial=serial, ends=certificate.not_valid_after_utc,
        )  # fmt: skip
    return Enrolled(certificate, issuer.certificate)


def renew(
    *,
    actor: Actor,
    serial: str,
    request: bytes,
    signature: bytes,
    issuer_of: IssuerOf,
    now: datetime,
) -> Enrolled:
    """Give a device its next certificate, for a request that it signed by the key of its present one.

    One that asks again with the same key, because the answer was lost, gets the same certificate.
    Raises DeviceRefused: what `enrol` has of the request, `signature`, `not_current`, `revoked`, `expired`, `early`.
    """
    require(actor, "devices.issue")
    with scope(actor):
        latest = latest_of(serial)
        if latest is None:
            raise DeviceRefused("not_current")
        try:
            is_repeated = latest.key_sha256 == authority.request_digest(request)
            signer = latest.former if is_repeated else latest.certificate
            if signer is None:
                raise DeviceRefused("old_key")
            authority.check_renewal(signer, request, signature)
        except CertificateRefused as refused:
            raise DeviceRefused(refused.reason) from refused
        if is_repeated:
            if latest.revoked_at is not None:
                raise DeviceRefused("revoked")
            return Enrolled(
                authority.from_der(latest.certificate), authority.from_der(latest.issuer)
            )
        issuer = issuer_of(latest.property_code)
        certificate = _issued(issuer, request, serial, now)
        kept = _kept(issuer, latest.property_id)
        _refused(
            "SELECT renew_device(%s, %s, %s, %s, %s, %s, %s, %s)",
            serial, latest.key_sha256, *_columns(kept.id, certificate), now,
        )  # fmt: skip
        record(
            actor=actor.code, code="devices.renewed", property_id=latest.property_id,
            subject=subject_of(serial), now=now, serial=serial, ends=certificate.not_valid_after_utc,
        )  # fmt: skip
    return Enrolled(certificate, issuer.certificate)


def revoke(*, actor: Actor, property_id: int, serial: str, reason: str, now: datetime) -> int:
    """Believe a device no more, from now on; returns how many certificates of it would still have held.

    The broker learns of it by its files (`broker_files`), the head-end by itself. Raises DeviceRefused `unknown`.
    """
    require(actor, "devices.revoke", property_id=property_id)
    with scope(actor):
        (ended,) = _asked(
            "SELECT revoke_device(%s, %s, %s, %s, %s)",
            property_id, serial, reason[:200], actor.code, now,
        )  # fmt: skip
        count = int(str(ended))
        if not count:
            raise DeviceRefused("unknown")
        record(
            actor=actor.code, code="devices.revoked", property_id=property_id,
            subject=subject_of(serial), now=now, serial=serial, reason=reason,
        )  # fmt: skip
    return count


# --- inside ------------------------------------------------------------------------------------------


def _issued(issuer: Authority, request: bytes, serial: str, now: datetime) -> x509.Certificate:
    try:
        return authority.issue(issuer, request, serial=serial, now=now)
    except CertificateRefused as refused:
        raise DeviceRefused(refused.reason) from refused


def _kept(issuer: Authority, property_id: int) -> Issuer:
    found = issuer_of_key(authority.key_digest(issuer.certificate))
    if found is None or found.property_id != property_id:
        raise DeviceRefused("issuer")
    return found


def _columns(
    issuer_id: int, certificate: x509.Certificate
) -> tuple[int, str, bytes, bytes, datetime]:
    """Issuer, number, DER, key and end of a certificate, as the functions take them."""
    return (
        issuer_id,
        f"{certificate.serial_number:x}",
        authority.as_der(certificate),
        authority.key_digest(certificate),
        certificate.not_valid_after_utc,
    )


def _code_digest(code: str) -> bytes:
    """Of a code as people type it: in any case, with or without its dashes."""
    plain = code.replace("-", "").replace(" ", "").upper()
    return hashlib.sha256(plain.encode()).digest()


def _refused(statement: str, *params: Value) -> None:
    (why,) = _asked(statement, *params)
    if why is not None:
        raise DeviceRefused(str(why))


def _asked(statement: str, *params: Value) -> tuple[object, ...]:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        row = cursor.fetchone()
    assert row is not None, "a function returns a row"
    return tuple(row)
