"""A small estate for supply's tests: accounts whose balance and readings are set by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from prewatt.access.scope import system_actor
from prewatt.core.vocabulary import DeliveryState, Protection, RelayState
from prewatt.hes.links import Device, Sighting, record_sightings
from prewatt.ledger.operations import lock_accounts
from prewatt.ledger.operations import open_accounts as open_ledger
from prewatt.supply import operations
from prewatt.supply.operations import OpenSupply

EUR = 1_000_000
#: A Tuesday, 10:00 in Berlin: the default window is open.
NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
CLERK = system_actor("worker")


class World:
    """One property with as many customer accounts as asked for; account n pays meter n."""

    def __init__(self, accounts: int = 1, *, emergency_micro: int = 0, **policy: Any) -> None:
        self.account_ids = _estate(accounts)
        self.property_id = int(_one("SELECT id FROM property"))
        self.meter_ids = [int(row[0]) for row in _all("SELECT id FROM meter ORDER BY id")]
        with transaction.atomic():
            legal = int(_one("SELECT legal_entity_id FROM property"))
            open_ledger(
                rows=[(each, self.property_id, legal) for each in self.account_ids], now=NOW
            )
            operations.open_accounts(
                rows=[
                    OpenSupply(each, self.property_id, emergency_micro, Protection.NONE)
                    for each in self.account_ids
                ],
                now=NOW,
            )
        for number in range(accounts):
            self.relay(RelayState.CLOSED, meter=number)
        # Most tests are about other gates: here a warning that was delivered is enough.
        operations.set_policy(
            actor=CLERK, property_id=self.property_id, body={"notice_s": 0} | policy, now=NOW
        )

    def read(
        self,
        available: int,
        *,
        now: datetime = NOW,
        read_at: datetime | None = None,
        fresh: bool = True,
        accounts: Sequence[int] | None = None,
    ) -> list[int]:
        """Bring balances to an amount as ingest does; decide the crossed ones and return them."""
        ids = list(accounts or self.account_ids)
        with transaction.atomic():
            lock_accounts(ids)
            rows = _all(
                """UPDATE account_state SET posted = %s, last_interval_at = %s
                   WHERE account_id = ANY(%s)
                   RETURNING account_id, available < watch_below""",
                available,
                read_at or now,
                ids,
            )
            crossed = [row[0] for row in rows if row[1]]
            if crossed:
                operations.decide_for_crossings(account_ids=crossed, now=now, fresh=fresh)
        return crossed

    def pay(self, amount: int, *, now: datetime = NOW, account: int | None = None) -> None:
        """Put money into a wallet as vending does."""
        account = account or self.account_ids[0]
        with transaction.atomic():
            lock_accounts([account])
            run_sql(
                "UPDATE account_state SET posted = posted + %s WHERE account_id = %s",
                amount,
                account,
            )
            operations.decide_after_credit(account_ids=[account], now=now)

    def deliver(self, *, now: datetime = NOW) -> None:
        """Let every pending message arrive."""
        run_sql(
            "UPDATE message SET state = %s, finished_at = %s WHERE finished_at IS NULL",
            DeliveryState.DELIVERED.value,
            now,
        )

    def relay(self, state: RelayState, *, meter: int = 0) -> None:
        """Let the head-end have read a relay."""
        run_sql(
            """INSERT INTO meter_link (meter_id, property_id, last_seen_at, relay, relay_read_at)
               VALUES (%s, %s, %s, %s, %s)
               ON CONFLICT (meter_id) DO UPDATE SET relay = excluded.relay""",
            self.meter_ids[meter],
            self.property_id,
            NOW,
            state.value,
            NOW,
        )

    def see(self, state: RelayState, *, at: datetime, meter: int = 0, drift_s: int = 0) -> None:
        """Let the head-end write down a relay that it read, as it does."""
        device = Device(self.meter_ids[meter], self.property_id)
        record_sightings([Sighting(device, at, state, drift_s)])

    def count(self, register_wh: int, *, at: datetime, meter: int = 0) -> None:
        """Let a reading of the active import register have been accepted."""
        given = (self.account_ids[meter], self.meter_ids[meter], self.property_id)
        run_sql(
            """INSERT INTO meter_state (account_id, meter_id, property_id, register_code, multiplier,
                   modulus_wh, max_power_w, expected_period_s, opened_at, opened_value_wh, last_at,
                   last_value_wh, received_at)
               VALUES (%s, %s, %s, 1, 1, 1000000000, 14000, 900, %s, 0, %s, %s, %s)
               ON CONFLICT (account_id, meter_id, register_code) DO UPDATE
               SET last_at = excluded.last_at, last_value_wh = excluded.last_value_wh""",
            *given,
            NOW - timedelta(days=100),
            at,
            register_wh,
            at,
        )
        run_sql(
            """INSERT INTO register_reading (account_id, meter_id, property_id, register_code, read_at,
                   revision, value_wh, quality, source, received_at)
               VALUES (%s, %s, %s, 1, %s, 0, %s, 1, 1, %s)""",
            *given,
            at,
            register_wh,
            at,
        )

    def reconsider(self, *, now: datetime = NOW, woken: bool = True) -> int:
        """Let the worker look at what is held."""
        properties = [self.property_id] if woken else []
        return operations.reconsider_due(actor=CLERK, now=now, woken=properties)

    def cut(self, *, now: datetime = NOW) -> None:
        """Bring every account to zero with a delivered warning, and decide: a cut is ordered."""
        self.read(0, now=now)
        self.deliver(now=now)
        self.reconsider(now=now)

    def decisions(self) -> list[dict[str, Any]]:
        """Return every stored decision, oldest first."""
        return _dicts("SELECT * FROM supply_decision ORDER BY id")

    def orders(self) -> list[dict[str, Any]]:
        """Return every order, oldest first."""
        return _dicts("SELECT * FROM supply_order ORDER BY id")

    def messages(self) -> list[dict[str, Any]]:
        """Return every message, oldest first."""
        return _dicts("SELECT * FROM message ORDER BY id")

    def state(self, account: int | None = None) -> dict[str, Any]:
        """Return one account's standing."""
        return _dicts(
            "SELECT * FROM supply_state WHERE account_id = %s", account or self.account_ids[0]
        )[0]

    def alerts(self) -> list[str]:
        """Return the codes of the open alerts."""
        return [row[0] for row in _all("SELECT code FROM alert WHERE closed_at IS NULL ORDER BY 1")]


def _estate(accounts: int) -> list[int]:
    from prewatt.estate import models

    organisation = models.Organisation.objects.create(name="Test")
    entity = models.LegalEntity.objects.create(organisation=organisation, name="Test")
    place = models.Property.objects.create(
        organisation=organisation,
        legal_entity=entity,
        code="T",
        name="Test",
        currency="EUR",
        time_zone="Europe/Berlin",
    )
    customer = models.Customer.objects.create(property=place, name="N. N.", email="n@example.org")
    ids = []
    for number in range(accounts):
        account = models.Account.objects.create(
            property=place,
            number=f"A{number:03}",
            kind="customer",
            customer=customer,
            opened_at=NOW - timedelta(days=100),
        )
        meter = models.Meter.objects.create(property=place, serial=f"M{number:03}")
        models.MeterAssignment.objects.create(
            property=place,
            meter=meter,
            account=account,
            period=(NOW - timedelta(days=100), None),
            start_value_wh=0,
        )
        ids.append(account.pk)
    return ids


def run_sql(sql: str, *params: Any) -> None:
    """Run one statement as the owner."""
    with connection.cursor() as cursor:
        cursor.execute(sql, list(params))


def _all(sql: str, *params: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(params))
        return list(cursor.fetchall())


def _one(sql: str) -> Any:
    return _all(sql)[0][0]


def _dicts(sql: str, *params: Any) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(params))
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
