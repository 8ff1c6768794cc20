"""Fernmoor Court: a small invented property, laid straight into the tables for tests of pages.

It is written as the owner, past operations, on purpose: a page must show whatever the tables hold,
each of the eight states among it. Figures are chosen, not rated; the clock is 17 November 2026, 14:30.
"""

from __future__ import annotations

import copy
import hashlib
import json
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from psycopg.conninfo import make_conninfo

from databases import TestDatabases, keep_rows
from django_sessions import leave_database, use_database
from prewatt.api_keys.operations import new_key

NOW = datetime(2026, 11, 17, 13, 30, tzinfo=UTC)
PASSWORD = "quiet-window-42"
TARIFF: dict[str, Any] = {
    "format": "prewatt-tariff/1",
    "name": "Residential time-of-use",
    "currency": "EUR",
    "energy": {
        "unit": "kWh",
        "bands": {
            "night": {"price": "0.1720", "label": "Night"},
            "day": {"price": "0.2480", "label": "Day"},
            "peak": {"price": "0.3160", "label": "Peak"},
        },
        "schedule": [
            {
                "periods": [
                    {"from": "00:00", "until": "06:00", "band": "night"},
                    {"from": "06:00", "until": "17:00", "band": "day"},
                    {"from": "17:00", "until": "21:00", "band": "peak"},
                    {"from": "21:00", "until": "24:00", "band": "night"},
                ]
            }
        ],
    },
}
#: The password of every login role on the tests' server (see tests/conftest.py).
ROLE_PASSWORD = "throwaway"
NAMES = (
    "Orla Fenwick",
    "Dario Meunier",
    "Mira Solberg",
    "Anton Weiss",
    "Lena Brandt",
    "Ruth Amsel",
)


def _run(statement: str, *params: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return list(cursor.fetchall()) if cursor.description else []


def _one(statement: str, *params: Any) -> int:
    return int(_run(statement, *params)[0][0])


def quick_digest(password: str) -> str:
    """A password as it is stored, at a thousandth of the usual cost: tests sign in hundreds of times."""
    from django.contrib.auth.hashers import Argon2PasswordHasher

    hasher = Argon2PasswordHasher()
    hasher.time_cost, hasher.memory_cost, hasher.parallelism = 1, 8, 1
    return str(hasher.encode(password, hasher.salt()))


def web_login(owner_dsn: str) -> str:
    """The DSN of the web's own login on the same database."""
    return make_conninfo(owner_dsn, user="web", password=ROLE_PASSWORD)


class Fernmoor:
    """Builds the property; keeps the ids a test asks for."""

    #: Where it stands, as the owner; set by whoever copies the database.
    dsn: str = ""

    def __init__(self, *, empty: bool = False) -> None:
        organisation = _one("INSERT INTO organisation (name) VALUES ('Fernmoor') RETURNING id")
        self.entity = _one(
            """INSERT INTO legal_entity (organisation_id, name, tax_number)
               VALUES (%s, 'Fernmoor GmbH', '') RETURNING id""",
            organisation,
        )
        self.property_id = _one(
            """INSERT INTO property (organisation_id, legal_entity_id, code, name, currency,
                   minor_digits, time_zone, holiday_calendar, language)
               VALUES (%s, %s, 'FC', 'Fernmoor Court', 'EUR', 2, 'Europe/Berlin', '', 'en')
               RETURNING id""",
            organisation,
            self.entity,
        )
        self.accounts: dict[str, int] = {}
        self.meters: dict[str, int] = {}
        self.units: dict[str, int] = {}
        self.users = {duty: self._user(duty) for duty in ("administrator", "operator", "auditor")}
        from prewatt.supply.models import SupplyPolicy

        SupplyPolicy.objects.create(property_id=self.property_id, body={}, changed_at=NOW)
        if not empty:
            self._tariff()
            self._houses()
            self._history(self.accounts["N-305"], self.meters["N-305"])
            self._today()

    def _user(self, duty: str) -> int:
        name = {"administrator": "Ines Halvard", "operator": "Pell Adair"}.get(duty, "Tomas Reyl")
        return self.another_user(duty, name, duty)

    def another_user(self, who: str, name: str, duty: str) -> int:
        """A person with a duty here."""
        user = _one(
            """INSERT INTO app_user (email, name, language, is_active, password, created_at)
               VALUES (%s, %s, 'en', true, %s, %s) RETURNING id""",
            f"{who}@fernmoor.example",
            name,
            quick_digest(PASSWORD),
            NOW,
        )
        _run(
            "INSERT INTO duty_grant (user_id, property_id, duty, granted_at) VALUES (%s, %s, %s, %s)",
            user,
            self.property_id,
            duty,
            NOW,
        )
        return user

    def api_key(self, duty: str, permissions: Collection[str], **fields: Any) -> str:
        """A key of a program as two people make one; ``fields`` are those of its row that differ."""
        key = new_key()
        _, public_id, secret = key.split("_", 2)
        row = {
            "property_id": self.property_id, "public_id": public_id, "name": f"Program of the {duty}",
            "secret_sha256": hashlib.sha256(secret.encode()).digest(), "duty": duty,
            "permissions": sorted(permissions), "proposal_id": secrets.randbelow(2**40),
            "made_by": "user:1", "approved_by": "user:2", "made_at": NOW - timedelta(days=1),
            "expires_at": datetime.now(UTC) + timedelta(days=9), "ended_by": "", **fields,
        }  # fmt: skip
        self._as_owner(
            f"INSERT INTO api_key ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))}) RETURNING id",
            *row.values(),
        )
        return key

    def another(self, name: str) -> int:
        """Another property, without anybody's duty."""
        return _one(
            """INSERT INTO property (organisation_id, legal_entity_id, code, name, currency,
                   minor_digits, time_zone, holiday_calendar, language)
               SELECT organisation_id, legal_entity_id, %s, %s, currency, minor_digits, time_zone,
                   holiday_calendar, language
               FROM property WHERE id = %s RETURNING id""",
            name[:24], name, self.property_id,
        )  # fmt: skip

    def another_unit(self, property_id: int) -> int:
        """A unit of another property."""
        building = _one(
            """INSERT INTO building (property_id, code, name, position) VALUES (%s, 'E', 'East', 0)
               RETURNING id""",
            property_id,
        )
        return _one(
            """INSERT INTO unit (property_id, building_id, code, floor, position, kind)
               VALUES (%s, %s, '1', 0, 0, 'flat') RETURNING id""",
            property_id, building,
        )  # fmt: skip

    def settle(self, name: str) -> None:
        """Make an account's figures agree, so that real operations can go on from them."""
        account = self.accounts[name]

        _run(
            """UPDATE account_state SET posted = available, accrued_energy = 0,
                   posted_interval_no = interval_no
                   WHERE account_id = %s""",
            account,
        )

    def _as_owner(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as owner:
            return list(owner.execute(statement, params).fetchall())

    def counted(self, statement: str) -> tuple[int, ...]:
        """The one row of a statement, as the owner sees it now."""
        return tuple(int(each) for each in self._as_owner(statement)[0])

    def register(self, name: str) -> int:
        """The last accepted register of a unit's first meter, in Wh."""
        found = self._as_owner(
            "SELECT max(last_value_wh) FROM meter_state WHERE meter_id = %s", self.meters[name]
        )
        return int(found[0][0])

    def audited(self, code: str) -> list[tuple[Any, ...]]:
        """(reason, reference) of every audit event of a code."""
        return self._as_owner(
            "SELECT detail ->> 'reason', detail ->> 'reference' FROM audit_event WHERE code = %s",
            code,
        )

    def held_case(self) -> int:
        """One of the held readings."""
        found = self._as_owner("SELECT min(case_id) FROM vee_case WHERE state = 'held'")
        return int(found[0][0])

    def alert(self) -> int:
        """A new open alert about a meter that was tampered with."""
        found = self._as_owner(
            """INSERT INTO alert (property_id, code, subject, detail, opened_at)
               VALUES (%s, 'meter.tamper', %s, '{"event": "cover_open"}', %s) RETURNING id""",
            self.property_id, f"meter:{self.meters['N-404']}", NOW,
        )  # fmt: skip
        return int(found[0][0])

    def grant(self, who: str, property_id: int, duty: str) -> None:
        """Give one of the users a duty at another property."""
        _run(
            "INSERT INTO duty_grant (user_id, property_id, duty, granted_at) VALUES (%s, %s, %s, %s)",
            self.users[who], property_id, duty, NOW,
        )  # fmt: skip

    def _tariff(self) -> None:
        self.tariff = _one(
            "INSERT INTO tariff (property_id, code, name) VALUES (%s, 'R', %s) RETURNING id",
            self.property_id,
            TARIFF["name"],
        )
        self.version = _one(
            """INSERT INTO tariff_version (property_id, tariff_id, number, valid_from, content, digest,
                   made_by, approved_by, approved_at)
               VALUES (%s, %s, 6, %s, %s, %s, 'user:1', 'user:2', %s) RETURNING id""",
            self.property_id,
            self.tariff,
            NOW - timedelta(days=400),
            json.dumps(TARIFF),
            b"\0" * 32,
            NOW,
        )

    def _houses(self) -> None:
        north = self._building("N", "North House", 0)
        south = self._building("S", "South House", 1)
        arcade = self._building("A", "Arcade", 2)
        for floor in range(8, 0, -1):
            for number in range(1, 7):
                self._unit(
                    north,
                    f"N-{floor}0{number}",
                    f"{floor}0{number}",
                    floor,
                    number,
                    "flat",
                )
        for floor in range(6, 0, -1):
            for number in range(1, 7):
                self._unit(
                    south,
                    f"S-{floor}0{number}",
                    f"{floor}0{number}",
                    floor,
                    number,
                    "flat",
                )
        for number in range(1, 13):
            kind = "shop" if number < 9 else "booth"
            self._unit(arcade, f"A{number}", f"A{number}", 0, number, kind)

    def _building(self, code: str, name: str, position: int) -> int:
        return _one(
            """INSERT INTO building (property_id, code, name, position)
               VALUES (%s, %s, %s, %s) RETURNING id""",
            self.property_id,
            code,
            name,
            position,
        )

    #: What is special about some units: (balance, relay, minutes silent, tamper, protected, vacant).
    SPECIAL: dict[str, dict[str, Any]] = {
        "N-305": {"available": 5_960_000, "fired": 1},
        "N-206": {"available": 2_660_000, "fired": 1},
        "S-201": {"available": 3_900_000, "fired": 1},
        "A6": {"available": 1_120_000, "fired": 3},
        "N-603": {"available": -3_410_000, "fired": 7},
        "N-404": {"available": -5_100_000, "fired": 15, "relay": 2},
        "S-602": {"available": -5_020_000, "fired": 15, "relay": 2},
        "N-502": {"silent": 49},
        "N-503": {"silent": 49},
        "S-403": {"tamper": True},
        "N-104": {"protection": "medical"},
        "N-801": {"vacant": True},
        "A3": {"vacant": True},
    }

    def _unit(
        self, building: int, name: str, code: str, floor: int, position: int, kind: str
    ) -> None:
        special = self.SPECIAL.get(name, {})
        unit = _one(
            """INSERT INTO unit (property_id, building_id, code, floor, position, kind)
               VALUES (%s, %s, %s, %s, %s, %s) RETURNING id""",
            self.property_id, building, code, floor, position, kind,
        )  # fmt: skip
        serial = f"4410{len(self.meters) + 2001:04d}"
        account = self._account(unit, name, vacant=bool(special.get("vacant")))
        meter = self._meter(unit, name, serial, account, special)
        self.accounts[name], self.meters[name], self.units[name] = account, meter, unit
        pace = 2_650_000 + len(name) * 70_000 + position * 110_000
        available = special.get("available", pace * (3 + (len(self.meters) * 7) % 11))
        _run(
            """INSERT INTO account_state (account_id, property_id, legal_entity_id, posted,
                   accrued_energy, spend_per_day, last_interval_at, transfer_seq, updated_at)
               VALUES (%s, %s, %s, %s, 1270000, %s, %s, 0, %s)""",
            account, self.property_id, self.entity, available + 1_270_000, pace,
            NOW - timedelta(minutes=5), NOW,
        )  # fmt: skip
        from prewatt.supply.models import SupplyState

        SupplyState.objects.create(
            account_id=account,
            property_id=self.property_id,
            protection=special.get("protection", ""),
            emergency_micro=5_000_000,
            fired_mask=special.get("fired", 0),
            level_fired_at=NOW - timedelta(hours=30) if special.get("fired") else None,
        )

    def _account(self, unit: int, name: str, *, vacant: bool) -> int:
        number = f"20{len(self.meters) + 301}"
        if vacant:
            return _one(
                """INSERT INTO account (property_id, number, kind, unit_id, opened_at)
                   VALUES (%s, %s, 'vacancy', %s, %s) RETURNING id""",
                self.property_id, number, unit, NOW - timedelta(days=300),
            )  # fmt: skip
        person = NAMES[0] if name == "N-305" else NAMES[1 + len(self.meters) % 5]
        customer = _one(
            """INSERT INTO customer (property_id, name, email, phone, language)
               VALUES (%s, %s, %s, '', 'en') RETURNING id""",
            self.property_id, person, f"{name.lower()}@tenant.example",
        )  # fmt: skip
        account = _one(
            """INSERT INTO account (property_id, number, kind, customer_id, opened_at)
               VALUES (%s, %s, 'customer', %s, %s) RETURNING id""",
            self.property_id, number, customer, NOW - timedelta(days=300),
        )  # fmt: skip
        _run(
            """INSERT INTO tenancy (property_id, unit_id, customer_id, account_id, period)
               VALUES (%s, %s, %s, %s, tstzrange(%s, NULL))""",
            self.property_id, unit, customer, account, NOW - timedelta(days=261),
        )  # fmt: skip
        _run(
            """INSERT INTO tariff_assignment (property_id, account_id, tariff_id, valid_from)
               VALUES (%s, %s, %s, %s)""",
            self.property_id, account, self.tariff, NOW - timedelta(days=300),
        )  # fmt: skip
        return account

    def _meter(
        self, unit: int, name: str, serial: str, account: int, special: dict[str, Any]
    ) -> int:
        meter = _one(
            """INSERT INTO meter (property_id, serial, model, driver, multiplier, modulus_wh,
                   max_power_w, has_relay, expected_period_s)
               VALUES (%s, %s, 'S1', 'mqtt_senml', 1, 1000000000, 25000, true, 900) RETURNING id""",
            self.property_id, serial,
        )  # fmt: skip
        point = _one(
            """INSERT INTO metering_point (property_id, unit_id, code, role, source)
               VALUES (%s, %s, %s, 'supply', 'grid') RETURNING id""",
            self.property_id, unit, f"P-{name}",
        )  # fmt: skip
        began = NOW - timedelta(days=300)
        _run(
            """INSERT INTO installation (property_id, meter_id, metering_point_id, period,
                   start_value_wh) VALUES (%s, %s, %s, tstzrange(%s, NULL), 0)""",
            self.property_id, meter, point, began,
        )  # fmt: skip
        _run(
            """INSERT INTO meter_assignment (property_id, meter_id, account_id, period,
                   start_value_wh) VALUES (%s, %s, %s, tstzrange(%s, NULL), 0)""",
            self.property_id, meter, account, began,
        )  # fmt: skip
        seen = NOW - timedelta(minutes=special.get("silent", 1))
        tamper = NOW - timedelta(minutes=92) if special.get("tamper") else None
        _run(
            """INSERT INTO meter_link (meter_id, property_id, last_seen_at, relay, relay_read_at,
                   tamper_since) VALUES (%s, %s, %s, %s, %s, %s)""",
            meter, self.property_id, seen, special.get("relay", 1), seen, tamper,
        )  # fmt: skip
        _run(
            """INSERT INTO meter_state (account_id, meter_id, register_code, property_id, multiplier,
                   modulus_wh, max_power_w, expected_period_s, opened_at, opened_value_wh, last_at,
                   last_value_wh, received_at)
               VALUES (%s, %s, 1, %s, 1, 1000000000, 25000, 900, %s, 0, %s, %s, %s)""",
            account, meter, self.property_id, began, seen, 2_077_441 + meter * 1009, seen,
        )  # fmt: skip
        return meter

    def _interval(self, account: int, meter: int, number: int, at: datetime, wh: int) -> int:
        hour = at.astimezone(UTC).hour
        band, price = (1, 248) if 5 <= hour < 16 else (2, 316) if 16 <= hour < 20 else (0, 172)
        charge = wh * price
        _run(
            """INSERT INTO interval (account_id, meter_id, register_code, start_at, revision, segment,
                   property_id, interval_no, from_at, to_at, start_value_wh, end_value_wh, multiplier,
                   energy_wh, quality, source, received_at, tariff_version_id, band, price_nano,
                   charge_energy, charge_standing, charge_tax, charge_fee, charge_demand)
               VALUES (%s, %s, 1, %s, 0, 0, %s, %s, %s, %s, 0, %s, 1, %s, 1, 1, %s, %s, %s, %s, %s,
                   0, 0, 0, 0)""",
            account, meter, at, self.property_id, number, at, at + timedelta(hours=1), wh, wh, at,
            self.version, band, price * 1_000_000, charge,
        )  # fmt: skip
        return charge

    def _history(self, account: int, meter: int) -> None:
        """Two weeks of hours, a recharge, daily postings, orders, messages: N-305 tells a story."""
        begin = datetime(2026, 11, 3, 23, tzinfo=UTC)
        number, seq, balance = 0, 0, 13_000_000
        for day in range(13):
            used = [0, 0, 0]
            for hour in range(24):
                at = begin + timedelta(days=day, hours=hour)
                number += 1
                wh = 250 + (hour % 7) * 40 + (160 if 16 <= at.hour < 20 else 0) + day * 7
                charge = self._interval(account, meter, number, at, wh)
                band = 1 if 5 <= at.hour < 16 else 2 if 16 <= at.hour < 20 else 0
                used[band] += charge
            service = begin + timedelta(days=day)
            for band, charge in enumerate(used):
                seq, balance = seq + 1, balance - charge
                self._transfer(account, seq, 100 + day, 3, band, -charge, balance, service, 24)
            if day == 5:
                seq, balance = seq + 1, balance + 20_000_000
                paid = service + timedelta(hours=17)
                self._transfer(account, seq, 400, 2, 0, 20_000_000, balance, paid, 0)
                self._payment(account, 400, paid, 20_000_000, "online")
        _run(
            """UPDATE account_state SET transfer_seq = %s, interval_no = %s, posted_interval_no = %s
               WHERE account_id = %s""",
            seq, number, number, account,
        )  # fmt: skip
        self.decided(account, meter)

    def _transfer(
        self, account: int, seq: int, event: int, kind: int, band: int, amount: int, after: int,
        at: datetime, hours: int,
    ) -> None:  # fmt: skip
        until = at + timedelta(hours=hours)
        _run(
            """INSERT INTO transfer (account_id, seq, property_id, legal_entity_id, event_id, kind,
                   component, band, counter_account, amount, posted_after, currency, energy_wh,
                   service_from, service_to, booked_at, actor, reason)
               VALUES (%s, %s, %s, %s, %s, %s, 1, %s, %s, %s, %s, 'EUR', %s, %s, %s, %s,
                   'system:test', 'day')""",
            account, seq, self.property_id, self.entity, event, kind, band, 3 if kind == 3 else 2,
            amount, after, 3000 + band * 200 if kind == 3 else 0, at, until, until,
        )  # fmt: skip

    def _payment(self, account: int, event: int, at: datetime, amount: int, way: str) -> None:
        _run(
            """INSERT INTO payment (property_id, account_id, event_id, amount_micro, way, reference,
                   paid_at, accepted_at, taken_by) VALUES (%s, %s, %s, %s, %s, '', %s, %s, %s)""",
            self.property_id, account, event, amount, way, at, at, f"user:{self.users['operator']}",
        )  # fmt: skip
        _run(
            """INSERT INTO document (property_id, legal_entity_id, series, number, kind, account_id,
                   event_id, issued_at, amount_micro)
               VALUES (%s, %s, 'R', %s, 'receipt', %s, %s, %s, %s)""",
            self.property_id, self.entity, event, account, event, at, amount,
        )  # fmt: skip

    def decided(self, account: int, meter: int) -> None:
        """A held cut, a verified order and a delivered warning for one account."""
        self.decision(account, 2, "held_window_closed", NOW - timedelta(hours=40))
        decision = self.decision(account, 3, "all_gates_open", NOW - timedelta(hours=900))
        at = NOW - timedelta(days=5)
        self.order(account, meter, decision, kind=1, state=4, at=at, reason="balance_allows")
        self.message(account, "supply.warning", NOW - timedelta(hours=29), 2)

    def decision(self, account: int, outcome: int, reason: str, at: datetime) -> int:
        """A stored decision."""
        from prewatt.supply.models import SupplyDecision

        return int(
            SupplyDecision.objects.create(
                property_id=self.property_id,
                account_id=account,
                decided_at=at,
                outcome=outcome,
                reason=reason,
                gates=[],
                available_micro=0,
                trigger="test",
            ).pk
        )

    def order(
        self,
        account: int,
        meter: int,
        decision: int,
        *,
        kind: int,
        state: int,
        at: datetime,
        reason: str,
    ) -> int:
        """A supply order in any state."""
        from prewatt.supply.models import SupplyOrder

        return int(
            SupplyOrder.objects.create(
                property_id=self.property_id,
                account_id=account,
                meter_id=meter,
                kind=kind,
                state=state,
                decision_id=decision,
                reason=reason,
                decided_at=at,
                sent_at=at + timedelta(seconds=1),
                finished_at=at + timedelta(seconds=2) if state == 4 else None,
                attempts=1,
            ).pk
        )

    def message(self, account: int, code: str, at: datetime, state: int) -> int:
        """A message with one attempt."""
        from prewatt.notify.models import Attempt, Message

        message = Message.objects.create(
            property_id=self.property_id,
            account_id=account,
            code=code,
            detail={},
            language="en",
            dedupe_key=f"{code}-{at}",
            created_at=at,
            due_at=at,
            state=state,
            finished_at=at + timedelta(minutes=1) if state in (2, 4) else None,
        )
        Attempt.objects.create(
            property_id=self.property_id,
            message=message,
            channel="outbox",
            address="orla@tenant.example",
            number=1,
            tried_at=at,
            state=state,
            next_try_at=at + timedelta(hours=1) if state == 3 else None,
            subject="Your electricity credit is low",
            body="Dear Orla Fenwick,\nyour credit runs out Thursday about 18:00.\n"
            "At your usual use, supply is not cut before Monday 09:00.",
        )
        return int(message.pk)

    def _today(self) -> None:
        """Usage of every unit and a morning of recharges."""
        midnight = datetime(2026, 11, 16, 23, tzinfo=UTC)
        for name, account in self.accounts.items():
            for hour in range(14):
                wh = 90 + (hour * 37 + account * 13) % 420
                self._interval(
                    account,
                    self.meters[name],
                    1000 + hour,
                    midnight + timedelta(hours=hour),
                    wh,
                )
            _run(
                """UPDATE account_state SET interval_no = 1013, posted_interval_no = 999
                   WHERE account_id = %s""",
                account,
            )
        for number, name in enumerate(("N-101", "N-102", "S-106", "A2", "N-301", "S-304", "A5")):
            at = midnight + timedelta(hours=7 + number, minutes=10 * number)
            account = self.accounts[name]
            self._transfer(
                account,
                1,
                900 + number,
                2,
                0,
                20_000_000 + number * 5_000_000,
                30_000_000,
                at,
                0,
            )
            self._payment(
                account,
                900 + number,
                at,
                20_000_000 + number * 5_000_000,
                ("cash", "online")[number % 2],
            )
        failing = self.accounts["N-206"]
        self.message(failing, "supply.warning", NOW - timedelta(hours=20), 3)
        decision = self.decision(
            self.accounts["S-106"], 4, "balance_allows", NOW - timedelta(minutes=2)
        )
        self.waiting = self.order(
            self.accounts["S-106"], self.meters["S-106"], decision, kind=1, state=2,
            at=NOW - timedelta(minutes=2), reason="balance_allows",
        )  # fmt: skip


#: The database with the property in it, and its ids, once it was laid out.
_laid: list[tuple[str, Fernmoor]] = []


def lay_out_once(server_dsn: str, template: str) -> tuple[str, Fernmoor]:
    """The name of a database with the property in it, and its ids.

    It is laid out once for this process and all that are forked from it, whose servers are copies of one.
    """
    if not _laid:
        _laid.append(_lay_out(server_dsn, template))
    return _laid[0]


def _lay_out(server_dsn: str, template: str) -> tuple[str, Fernmoor]:
    from django.db import connections, transaction

    name = f"fernmoor_{secrets.token_hex(4)}"
    with psycopg.connect(server_dsn, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    dsn = make_conninfo(server_dsn, dbname=name)
    use_database(dsn)
    with transaction.atomic():
        place = Fernmoor()
    with connections["default"].cursor() as cursor:
        cursor.execute("ANALYZE")
    connections.close_all()
    keep_rows(dsn)
    return name, place


@pytest.fixture(scope="session")
def laid_out(postgres_dsn: str, template_database: str) -> Iterator[tuple[TestDatabases, Fernmoor]]:
    """Databases with the property in it, and its ids."""
    name, place = lay_out_once(postgres_dsn, template_database)
    with closing(TestDatabases(postgres_dsn, name)) as databases:
        yield databases, place


@pytest.fixture
def fernmoor(laid_out: tuple[TestDatabases, Fernmoor]) -> Iterator[Fernmoor]:
    """The property in a database of this test's own, with the web's clock at half past two."""
    from prewatt.web import clock
    from prewatt.web.ui import messages

    messages.compile_all()
    clock.use(lambda: NOW)
    databases, laid = laid_out
    place = copy.copy(laid)
    place.dsn = databases.take()
    # As in production: outside a scope the web's login sees no business row at all.
    use_database(web_login(place.dsn))
    yield place
    leave_database()
    databases.give_back(place.dsn)


@contextmanager
def lent(laid_out: tuple[TestDatabases, Fernmoor]) -> Iterator[Fernmoor]:
    """The property in a database for several tests, past the one that each may have of its own."""
    from prewatt.web.ui import messages

    messages.compile_all()
    databases, laid = laid_out
    place = copy.copy(laid)
    place.dsn = databases.take()
    yield place
    databases.drop(place.dsn)


@pytest.fixture
def as_owner() -> Callable[[Fernmoor], AbstractContextManager[None]]:
    """Write past the walls for a moment, as another process would have."""

    @contextmanager
    def past_the_walls(place: Fernmoor) -> Iterator[None]:
        use_database(place.dsn)
        yield
        use_database(web_login(place.dsn))

    return past_the_walls
