"""Makes the demo's property in an empty database and says how its history and meters shall run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from django.db import connection, transaction

from prewatt.access import second_factor
from prewatt.access.models import Duty, DutyGrant, User
from prewatt.access.scope import system_actor
from prewatt.core.civil_time import instant_us
from prewatt.core.cose import Sealer
from prewatt.core.money import MICRO, NANO_PER_MICRO
from prewatt.instructions.operations import enrol_key
from prewatt.instructions.sessions import begin_session
from prewatt.instructions.wallets import hold_credit
from prewatt.moves.onboarding import import_property
from prewatt.sign_in import factors
from prewatt.signing.sessions import SessionSeals
from prewatt.sim.history import CENT, QUARTER_US, opening_registers, registers, spent_micro
from prewatt.sim.loads import load_profile, scale_ppm_for
from prewatt.sim.property import (
    BOOTH_PRICE,
    EMERGENCY_CREDIT,
    HOLDS_CREDIT,
    LORAWAN,
    LWM2M,
    MQTT,
    PROPERTY_CODE,
    TIME_ZONE,
    UTC_OFFSET_S,
    DemoUnit,
    demo_units,
    property_sheets,
)
from prewatt.supply.operations import set_policy

EMERGENCY_MICRO = EMERGENCY_CREDIT * MICRO

#: What some units (by `key`) have left when the visitor arrives, in micro-units: about to be cut, about to be
#: warned, in emergency credit, already exhausted, low.
_ENDINGS = {
    "PWN101": -EMERGENCY_MICRO + 40_000,
    "PWAA2": -EMERGENCY_MICRO + 90_000,
    "PWS305": 5 * MICRO + 40_000,
    "PWN603": -1_300_000,
    "PWN704": -2_800_000,
    "PWAK5": -EMERGENCY_MICRO - 20_000,
    "PWN305": 3_900_000,
    "PWS201": 2_600_000,
}
#: Heaters and faults, switched on at every start.
_FAULTS = (
    ("PWN101", "heater", 9_000),
    ("PWAA2", "heater", 9_000),
    ("PWS305", "heater", 6_000),
    ("PWS403", "cover_open", 1),
    ("PWN502", "outage", 1),
    ("PWN503", "outage", 1),
    ("PWN504", "outage", 1),
)
_SILENT_S = 3 * 3600
#: In so many days anybody has used up what they opened with.
_DAYS_TO_USE_UP = 30

POLICY: dict[str, Any] = {
    "freshness_s": 1800,
    # A visitor shall see warning, cut and connection within two minutes: half a minute stands for hours.
    "notice_s": 30,
    "window": {"opens_min": 540, "closes_min": 900, "weekdays": [0, 1, 2, 3, 4]},
    "levels": [
        {"level_no": 0, "kind": "days", "threshold_h": 72},
        {"level_no": 1, "kind": "money", "threshold_micro": 5_000_000},
        {"level_no": 2, "kind": "emergency"},
        {"level_no": 3, "kind": "exhausted"},
    ],
    "brake": {"window_s": 900, "cuts_max": 12, "share_bp": 1000},
}


def make_property(
    *, units: int, days: int, now: datetime, sign_ins: Sequence[tuple[str, str, str, str]]
) -> dict[str, Any]:
    """Import the property as it stood ``days`` local midnights ago; returns the plan of the demo.

    The plan is plain JSON: what the feeders, the simulated meters and the next start need.
    """
    estate = demo_units(units)
    opened = _midnight(now, days)
    until = _last_quarter(now)
    opening = opening_registers(estate)
    actor = system_actor("demo")
    with transaction.atomic():
        report = import_property(
            actor=actor,
            sheets=property_sheets(
                estate,
                opened_at=opened,
                today=now.astimezone(ZoneInfo(TIME_ZONE)).date(),
                opening_wh=opening,
                opening_balances=opening_balances(estate, opened=opened, until=until),
            ),
            now=opened,
        )
        set_policy(
            actor=system_actor("demo", (report.property_id,)),
            property_id=report.property_id,
            body=POLICY,
            now=opened,
        )
        administrators = _make_users(sign_ins, report.property_id, now)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT make_month_partitions(%s, %s)",
                [opened.date(), (now + timedelta(days=62)).date()],
            )
    # Past the transaction above, which would keep the role under which each of them notes it.
    for user in administrators:
        _take_up_factor(user, now)
    at_end = np.array([instant_us(until)], dtype=np.int64)
    return {
        "property": PROPERTY_CODE,
        "property_id": report.property_id,
        "units": units,
        "days": days,
        "opened_us": instant_us(opened),
        "until_us": instant_us(until),
        "history": _history(estate, opening),
        "meters": _of(MQTT, estate, opening, opened, at_end),
        "devices": _of(LWM2M, estate, opening, opened, at_end),
        "lora": _of(LORAWAN, estate, opening, opened, at_end),
        "faults": [
            (unit.serial, name, value)
            for key, name, value in _FAULTS
            for unit in estate
            if unit.key == key
        ],
    }


@dataclass(frozen=True, slots=True)
class SessionSide:
    """The platform's side of sessions of the short form: who signs what is carried to a meter, and what seals the keys."""

    signs: Sealer
    seals: SessionSeals


def give_keys(
    *,
    property_id: int,
    public_keys: Mapping[str, bytes],
    agreements: Mapping[str, bytes],
    by: SessionSide,
    now: datetime,
) -> dict[str, bytes]:
    """Enrol the keys of meters that verify, by serial (SubjectPublicKeyInfo), put credit into those that hold it, and
    begin a session with those behind LoRaWAN (points of agreement); returns what is carried to each of these.
    """
    actor = system_actor("demo", (property_id,))
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT m.serial, m.id, a.account_id FROM meter m
               JOIN meter_assignment a ON a.meter_id = m.id AND a.period @> %s::timestamptz
               WHERE m.serial = ANY(%s) ORDER BY m.id""",
            [now, [*public_keys, *agreements]],
        )
        found = cursor.fetchall()
    offers = {}
    for serial, meter_id, account_id in found:
        if serial in agreements:
            offers[serial] = begin_session(
                actor=actor, property_id=property_id, meter_id=meter_id,
                meter_point=agreements[serial], by=by.signs, seals=by.seals, now=now,
            )  # fmt: skip
            continue
        enrol_key(
            actor=actor, property_id=property_id, meter_id=meter_id,
            public_key=public_keys[serial], now=now,
        )  # fmt: skip
        if serial in HOLDS_CREDIT:
            hold_credit(
                actor=actor, property_id=property_id, meter_id=meter_id, account_id=account_id, now=now
            )  # fmt: skip
    return offers


def opening_balances(
    estate: Sequence[DemoUnit], *, opened: datetime, until: datetime
) -> dict[str, str]:
    """What accounts open with that shall end with little, where the history is too short to use more up:
    that little, and what they will use.
    """
    if until - opened >= timedelta(days=_DAYS_TO_USE_UP):
        return {}
    opened_us = instant_us(opened)
    at_us = np.arange(opened_us + QUARTER_US, instant_us(until) + 1, QUARTER_US, dtype=np.int64)
    found = {}
    for unit in estate:
        if unit.key in _ENDINGS:
            used = int(spent_micro(unit, opened_us, at_us)[-1])
            cents = -(-(_ENDINGS[unit.key] + used) // CENT)
            found[unit.key] = (
                f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"
            )
    return found


def _midnight(now: datetime, days: int) -> datetime:
    local = now.astimezone(ZoneInfo(TIME_ZONE)) - timedelta(days=days)
    return local.replace(hour=0, minute=0, second=0, microsecond=0)


def _last_quarter(now: datetime) -> datetime:
    return now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)


def _make_users(
    sign_ins: Sequence[tuple[str, str, str, str]], property_id: int, now: datetime
) -> list[User]:
    """Make everybody who signs in to the demo; returns the administrators among them."""
    administrators = []
    for email, name, duty, password in sign_ins:
        user = User.objects.create_user(email=email, name=name, password=password)
        DutyGrant.objects.create(
            user=user, property_id=property_id, duty=Duty(duty), granted_at=now,
            customer_id=_somebody(property_id) if duty == Duty.TENANT else None,
        )  # fmt: skip
        if duty == Duty.ADMINISTRATOR:
            administrators.append(user)
    return administrators


def _somebody(property_id: int) -> int:
    """The customer whose own page a visitor can look at: of the unit that the guide shows, or any."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT t.customer_id FROM tenancy t JOIN unit u ON u.id = t.unit_id
               WHERE t.property_id = %s ORDER BY u.code <> '305', t.id LIMIT 1""",
            [property_id],
        )
        row = cursor.fetchone()
    assert row is not None, "every demo has a tenant"
    return int(row[0])


def _take_up_factor(user: User, now: datetime) -> None:
    """As the person would with their app; the pages of a demo say which code it shows."""
    offer = second_factor.offer(user=user, now=now)
    code = second_factor.code_of_offer(offer, now)
    factors.take_up_app(user=user, sealed=offer.sealed, code=code, step_up_id=None, now=now)


def _history(estate: Sequence[DemoUnit], opening: dict[str, int]) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT m.serial, m.id, a.account_id FROM meter m
               JOIN meter_assignment a ON a.meter_id = m.id WHERE m.serial = ANY(%s)""",
            [[unit.serial for unit in estate]],
        )
        ids = {row[0]: (int(row[1]), int(row[2])) for row in cursor.fetchall()}
    silent = {key for key, name, _ in _FAULTS if name == "outage"}
    return [
        {
            "serial": unit.serial,
            "meter_id": ids[unit.serial][0],
            "account_id": ids[unit.serial][1],
            "opening_wh": opening[unit.serial],
            "target_micro": _ENDINGS.get(unit.key),
            "silent_s": _SILENT_S if unit.key in silent else 0,
        }
        for unit in estate
    ]


def _of(
    driver: str,
    estate: Sequence[DemoUnit],
    opening: dict[str, int],
    opened: datetime,
    at_end: np.ndarray[Any, Any],
) -> list[dict[str, Any]]:
    """The simulated meters that are reached by a driver, each by its serial and what it is made of."""
    return [_meter(unit, opening, opened, at_end) for unit in estate if unit.driver == driver]


def _meter(
    unit: DemoUnit, opening: dict[str, int], opened: datetime, at_end: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """The simulated meter goes on from the register with which the history ends."""
    register = registers(unit, opening[unit.serial], instant_us(opened), at_end)[0]
    profile = load_profile(unit.profile, utc_offset_s=UTC_OFFSET_S)
    meter: dict[str, Any] = {
        "serial": unit.serial,
        "profile": unit.profile,
        "scale_ppm": scale_ppm_for(profile, unit.annual_kwh),
        "start_register_wh": int(register),
        "start_at_us": int(at_end[0]),
    }
    if unit.driver == LORAWAN:
        meter |= {"model": unit.model}
    if unit.signs or unit.has_session:
        meter |= {"signs": True}
    if unit.holds_credit:
        meter |= {
            "holds_credit": True,
            "price_nano": int(Decimal(BOOTH_PRICE) * MICRO * NANO_PER_MICRO),
        }
    return meter


def count_readings() -> int:
    """How many readings the database holds."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM register_reading")
        row = cursor.fetchone()
    assert row is not None
    return int(row[0])
