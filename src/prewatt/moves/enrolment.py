"""A meter that signs is enrolled for all that it says at once: its key opens its connection, and its answers are believed by it.

From then on it is instructed by signature alone, so whoever enrols it says whether it can verify.

A renewal changes the certificate alone: the meter keeps the key of its enrolment for its answers, so that those to
instructions under way stay good. A revocation ends both. A concentrator signs nothing and has the certificate alone.
"""

from __future__ import annotations

from datetime import datetime

from prewatt.access.scope import Actor, scope
from prewatt.devices import authority, operations
from prewatt.devices.authority import Authority
from prewatt.devices.operations import Enrolled
from prewatt.estate.models import Meter
from prewatt.instructions.models import MeterKey
from prewatt.instructions.operations import enrol_key, revoke_key


def enrol_device(
    *,
    actor: Actor,
    property_id: int,
    serial: str,
    code: str,
    request: bytes,
    issuer: Authority,
    signs: bool,
    now: datetime,
) -> Enrolled:
    """As `devices.operations.enrol`; of a meter that ``signs`` the same key is believed from now on."""
    with scope(actor):
        done = operations.enrol(
            actor=actor, property_id=property_id, serial=serial, code=code, request=request,
            issuer=issuer, now=now,
        )  # fmt: skip
        meter_id = _meter(property_id, serial)
        if signs and meter_id is not None:
            enrol_key(
                actor=actor, property_id=property_id, meter_id=meter_id, now=now,
                public_key=authority.public_key_of(done.certificate),
            )  # fmt: skip
    return done


def revoke_device(
    *, actor: Actor, property_id: int, serial: str, reason: str, now: datetime
) -> int:
    """As `devices.operations.revoke`; nothing that the meter signed is believed any more either."""
    with scope(actor):
        ended = operations.revoke(
            actor=actor, property_id=property_id, serial=serial, reason=reason, now=now
        )
        meter_id = _meter(property_id, serial)
        if meter_id is None:
            return ended
        keys = MeterKey.objects.filter(
            property_id=property_id, meter_id=meter_id, revoked_at__isnull=True
        )
        for key_id in list(keys.values_list("key_id", flat=True)):
            revoke_key(
                actor=actor, property_id=property_id, key_id=bytes(key_id), reason=reason, now=now
            )
    return ended


def _meter(property_id: int, serial: str) -> int | None:
    found = Meter.objects.filter(property_id=property_id, serial=serial)
    return found.values_list("id", flat=True).first()
