"""Concentrators are registered, and meters put behind them and taken away: who may speak for a meter, and when.

A right has a period, as an installation has: the head-end judges each reading by its own instant, so what an
exchanged concentrator still had is taken from it, and nothing later. Every change raises the edition that the
head-end looks at in each batch (`hes/rosters.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet
from psycopg.types.range import TimestamptzRange

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.core.serials import is_serial
from prewatt.estate.models import Concentrator, ConcentratorMeter, Meter


class ConcentratorRefused(Exception):
    """What was asked cannot be so; nothing was done. The text says what and why."""


@dataclass(frozen=True, slots=True)
class PutBehind:
    """Which concentrator now speaks for so many meters."""

    concentrator_id: int
    serial: str
    meters: int


def register_concentrator(
    *, actor: Actor, property_id: int, serial: str, name: str = "", now: datetime
) -> int:
    """Register a concentrator of a property and return its id; it may speak for no meter yet.

    Raises PermissionRefused, ConcentratorRefused for a serial number that is no topic's or is taken at
    any property, by a meter too: both would hear what is meant for the other. It does not say whose it is.
    """
    require(actor, "estate.concentrators", property_id=property_id)
    if not is_serial(serial):
        raise ConcentratorRefused(f"{serial!r} cannot be a serial number")
    with scope(actor):
        if _is_taken(serial):
            raise ConcentratorRefused(f"the serial number {serial} is taken")
        try:
            with transaction.atomic():
                made = Concentrator.objects.create(
                    property_id=property_id, serial=serial, name=name
                )
        except IntegrityError as error:
            raise ConcentratorRefused(f"the serial number {serial} is taken") from error
        record(
            actor=actor.code,
            code="estate.concentrator.registered",
            property_id=property_id,
            subject=f"concentrator:{made.pk}",
            now=now,
            serial=serial,
        )
    return made.pk


def put_behind(
    *,
    actor: Actor,
    property_id: int,
    serial: str,
    meters: Sequence[str],
    at: datetime,
    now: datetime,
) -> PutBehind:
    """Let a concentrator speak for meters (serial numbers) from ``at`` on; who did before no longer may.

    A meter that it speaks for already stays as it is. Raises PermissionRefused, ConcentratorRefused
    for what is not of this property, and where another right begins at ``at`` or later.
    """
    require(actor, "estate.concentrators", property_id=property_id)
    with scope(actor):
        concentrator = _locked(property_id, serial)
        ids = _meters(property_id, meters)
        own = _open(ids, at).filter(concentrator_id=concentrator.pk)
        ids = sorted(set(ids) - set(own.values_list("meter_id", flat=True)))
        _end(ids, at)
        period = TimestamptzRange(at, None)
        if ConcentratorMeter.objects.filter(meter_id__in=ids, period__overlap=period).exists():
            raise ConcentratorRefused("one of the meters had another concentrator then or later")
        _begin(concentrator, ids, period)
        _next_edition([concentrator.pk])
        _audit(actor, "estate.concentrator.meters", concentrator, now, at=at, put=sorted(meters))
    return PutBehind(concentrator.pk, serial, len(ids))


def take_away(
    *,
    actor: Actor,
    property_id: int,
    serial: str,
    meters: Sequence[str],
    at: datetime,
    now: datetime,
) -> int:
    """Let a concentrator no longer speak for meters from ``at`` on; how many it may speak for no more.

    Raises PermissionRefused, ConcentratorRefused for what is not of this property.
    """
    require(actor, "estate.concentrators", property_id=property_id)
    with scope(actor):
        concentrator = _locked(property_id, serial)
        ids = _meters(property_id, meters)
        own = _open(ids, at).filter(concentrator_id=concentrator.pk)
        # One that began at this very instant is open and does not end; it is not told as taken.
        own = own.filter(period__startswith__lt=at)
        taken = dict(own.values_list("meter_id", "meter__serial"))
        ended = _end(sorted(taken), at)
        if ended:
            _audit(
                actor, "estate.concentrator.meters", concentrator, now,
                at=at, taken=sorted(taken.values()),
            )  # fmt: skip
    return ended


def _is_taken(serial: str) -> bool:
    """Whether a meter or a concentrator of any property has it, seen or not."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT serial_is_taken(%s)", [serial])
        return bool(cursor.fetchone() == (True,))


def _locked(property_id: int, serial: str) -> Concentrator:
    found = (
        Concentrator.objects.select_for_update()
        .filter(property_id=property_id, serial=serial)
        .first()
    )
    if found is None:
        raise ConcentratorRefused(f"no concentrator {serial} at this property")
    return found


def _meters(property_id: int, serials: Sequence[str]) -> list[int]:
    found = dict(
        Meter.objects.filter(property_id=property_id, serial__in=serials).values_list(
            "serial", "id"
        )
    )
    missing = sorted(set(serials) - set(found))
    if missing:
        raise ConcentratorRefused(f"no meter {', '.join(missing[:5])} at this property")
    return sorted(found.values())


def _open(meter_ids: Sequence[int], at: datetime) -> QuerySet[ConcentratorMeter]:
    """The rights that hold at an instant and have no end."""
    return ConcentratorMeter.objects.filter(
        meter_id__in=meter_ids, period__contains=at, period__endswith__isnull=True
    )


def _begin(concentrator: Concentrator, meter_ids: Sequence[int], period: TimestamptzRange) -> None:
    rights = [
        ConcentratorMeter(
            property_id=concentrator.property_id,
            concentrator=concentrator,
            meter_id=each,
            period=period,
        )
        for each in meter_ids
    ]
    try:
        with transaction.atomic():
            ConcentratorMeter.objects.bulk_create(rights)
    except IntegrityError as error:
        # Somebody was quicker: the exclusion constraint has the last word.
        raise ConcentratorRefused("one of the meters has just got another concentrator") from error


def _end(meter_ids: Sequence[int], at: datetime) -> int:
    """End what is open of these meters and began before; returns how many rights ended."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE concentrator_meter SET period = tstzrange(lower(period), %s)
               WHERE meter_id = ANY(%s) AND upper_inf(period) AND lower(period) < %s
               RETURNING concentrator_id""",
            [at, list(meter_ids), at],
        )
        ended = [int(row[0]) for row in cursor.fetchall()]
    _next_edition(sorted(set(ended)))
    return len(ended)


def _next_edition(concentrator_ids: Sequence[int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE concentrator SET edition = edition + 1 WHERE id = ANY(%s)",
            [list(concentrator_ids)],
        )


def _audit(
    actor: Actor, code: str, concentrator: Concentrator, now: datetime, **detail: object
) -> None:
    record(
        actor=actor.code,
        code=code,
        property_id=concentrator.property_id,
        subject=f"concentrator:{concentrator.pk}",
        now=now,
        **detail,
    )
