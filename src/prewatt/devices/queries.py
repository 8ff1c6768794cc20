"""What is known of devices' certificates: the latest of each, who is isolated, what is revoked.

The caller has the scope, but where a query says that it opens one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.devices.authority import Revoked


@dataclass(frozen=True, slots=True)
class Issuer:
    """A property's issuer; ``certificate`` is DER."""

    id: int
    property_id: int
    property_code: str
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Latest:
    """The certificate of a device that nothing has replaced, with the one by whose key it was asked for."""

    property_id: int
    property_code: str
    certificate: bytes
    key_sha256: bytes
    revoked_at: datetime | None
    former: bytes | None
    issuer: bytes


@dataclass(frozen=True, slots=True)
class DeviceNow:
    """How a device stands: ``state`` is `holds`, `revoked` or `expired`."""

    serial: str
    number: str
    not_after: datetime
    state: str


@dataclass(frozen=True, slots=True)
class Isolated:
    """A device that has had certificates, none of which holds; ``why`` is `revoked` or `expired`.

    ``meter_id`` is None of a concentrator, ``concentrator_id`` of a meter.
    """

    property_id: int
    serial: str
    meter_id: int | None
    why: str
    since: datetime
    concentrator_id: int | None = None


def latest_of(serial: str) -> Latest | None:
    """The latest certificate of a device; None for one that was never enrolled."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT d.property_id, p.code, d.certificate, d.key_sha256, d.revoked_at, f.certificate,
                      i.certificate
               FROM device_certificate d JOIN property p ON p.id = d.property_id
               JOIN device_issuer i ON i.id = d.issuer_id
               LEFT JOIN device_certificate f ON f.id = d.follows_id
               WHERE d.serial = %s AND d.replaced_at IS NULL""",
            [serial],
        )
        row = cursor.fetchone()
    if row is None:
        return None
    property_id, code, certificate, key, revoked_at, former, issuer = row
    return Latest(
        property_id, code, bytes(certificate), bytes(key), revoked_at,
        None if former is None else bytes(former), bytes(issuer),
    )  # fmt: skip


def issuer_of_key(key_sha256: bytes) -> Issuer | None:
    """The issuer with that key."""
    found = _issuers("i.key_sha256 = %s", key_sha256)
    return found[0] if found else None


def issuers(*, now: datetime) -> list[Issuer]:
    """All issuers whose certificates devices may still show, by property."""
    return _issuers("i.not_after > %s", now)


def devices_by_issuer(*, now: datetime) -> dict[int, int]:
    """How many devices still show a certificate of each issuer that has any such."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT issuer_id, count(*) FROM device_certificate
               WHERE replaced_at IS NULL AND revoked_at IS NULL AND not_after > %s
               GROUP BY issuer_id ORDER BY issuer_id""",
            [now],
        )
        return {int(issuer): int(number) for issuer, number in cursor.fetchall()}


def _issuers(condition: str, *params: bytes | datetime) -> list[Issuer]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT i.id, i.property_id, p.code, i.certificate
                FROM device_issuer i JOIN property p ON p.id = i.property_id
                WHERE {condition} ORDER BY p.code, i.id""",  # noqa: S608 - two words of ours
            params,
        )
        return [Issuer(key, place, code, bytes(der)) for key, place, code, der in cursor.fetchall()]


def revoked_by(issuer_id: int, *, now: datetime) -> list[Revoked]:
    """What an issuer has revoked and would still be believed."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT number, revoked_at FROM device_certificate
               WHERE issuer_id = %s AND revoked_at IS NOT NULL AND not_after > %s ORDER BY id""",
            [issuer_id, now],
        )
        return [Revoked(int(number, 16), at) for number, at in cursor.fetchall()]


def isolated(*, now: datetime) -> list[Isolated]:
    """Devices that were enrolled once and have no certificate that holds."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT d.property_id, d.serial, m.id,
                      CASE WHEN d.revoked_at IS NULL THEN 'expired' ELSE 'revoked' END,
                      coalesce(d.revoked_at, d.not_after), c.id
               FROM device_certificate d LEFT JOIN meter m ON m.serial = d.serial
               LEFT JOIN concentrator c ON c.serial = d.serial
               WHERE d.replaced_at IS NULL AND (d.revoked_at IS NOT NULL OR d.not_after <= %s)
               ORDER BY d.serial""",
            [now],
        )
        return [Isolated(*row) for row in cursor.fetchall()]


def rights_of_concentrators(*, now: datetime) -> dict[str, list[str]]:
    """For each concentrator the meters (serial numbers) that it speaks for and hears for now."""
    rights: dict[str, list[str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT c.serial, m.serial FROM concentrator_meter k
               JOIN concentrator c ON c.id = k.concentrator_id JOIN meter m ON m.id = k.meter_id
               WHERE k.period @> %s::timestamptz ORDER BY c.serial, m.serial""",
            [now],
        )
        for concentrator, meter in cursor.fetchall():
            rights.setdefault(concentrator, []).append(meter)
    return rights


def devices(*, actor: Actor, property_id: int, now: datetime) -> list[DeviceNow]:
    """The enrolled devices of a property by serial number; opens the scope."""
    require(actor, "meters.read", property_id=property_id)
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """SELECT serial, number, not_after,
                      CASE WHEN revoked_at IS NOT NULL THEN 'revoked'
                           WHEN not_after <= %s THEN 'expired' ELSE 'holds' END
               FROM device_certificate
               WHERE property_id = %s AND replaced_at IS NULL ORDER BY serial""",
            [now, property_id],
        )
        return [DeviceNow(*row) for row in cursor.fetchall()]


def subject_of(serial: str) -> str:
    """How the audit names a device."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT 'meter:' || id FROM meter WHERE serial = %s
               UNION ALL SELECT 'concentrator:' || id FROM concentrator WHERE serial = %s""",
            [serial, serial],
        )
        row = cursor.fetchone()
    return "device:0" if row is None else str(row[0])
