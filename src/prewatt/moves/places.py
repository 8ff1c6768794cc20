"""What a move looks at: a unit or a meter, who pays there now, with the accounts locked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from prewatt.core.readings import ACTIVE_IMPORT
from prewatt.estate.imports import CHARGED_ROLES
from prewatt.ledger.operations import lock_accounts


@dataclass(frozen=True, slots=True)
class MeterAt:
    """An installed meter with its payer's watermark; all None where nobody pays by it."""

    meter_id: int
    serial: str
    modulus_wh: int
    metering_point_id: int
    property_id: int
    account_id: int | None
    opened_at: datetime | None
    last_at: datetime | None
    last_value_wh: int | None
    expected_period_s: int


@dataclass(frozen=True, slots=True)
class UnitAt:
    """A unit now: its open tenancy, its vacancy account, and the meters it pays by."""

    unit_id: int
    property_id: int
    legal_entity_id: int
    building: str
    code: str
    tenancy_id: int | None
    tenant_account_id: int | None
    tenancy_begins_at: datetime | None
    vacancy_account_id: int | None
    tenancies: int
    meters: tuple[MeterAt, ...]

    @property
    def account_ids(self) -> set[int]:
        """Every account the unit has to do with."""
        known = {self.tenant_account_id, self.vacancy_account_id}
        known |= {each.account_id for each in self.meters}
        return {each for each in known if each is not None}


def locked_unit(unit_id: int) -> UnitAt | None:
    """The unit with all its accounts locked in ``account_id`` order; None if there is none in scope.

    Another move may change who pays while we wait for the locks, so we look again until they fit.
    """
    locked: set[int] = set()
    while True:
        unit = _unit(unit_id)
        if unit is None or unit.account_ids <= locked:
            return unit
        locked |= unit.account_ids
        lock_accounts(sorted(locked))


def seen_unit(unit_id: int) -> UnitAt | None:
    """The unit as it is seen without any lock."""
    return _unit(unit_id)


def locked_meter(meter_id: int) -> MeterAt | None:
    """The installed meter with its payer locked; None if it is not installed in scope."""
    locked: set[int] = set()
    while True:
        found = _meters(meter_id=meter_id)
        if not found:
            return None
        account_id = found[0].account_id
        if account_id is None or account_id in locked:
            return found[0]
        locked.add(account_id)
        lock_accounts(sorted(locked))


def _unit(unit_id: int) -> UnitAt | None:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT u.id, u.property_id, p.legal_entity_id, b.code, u.code, t.id, t.account_id,
                      lower(t.period), v.id, (SELECT count(*) FROM tenancy x WHERE x.unit_id = u.id)
               FROM unit u
               JOIN building b ON b.id = u.building_id
               JOIN property p ON p.id = u.property_id
               LEFT JOIN tenancy t ON t.unit_id = u.id AND upper_inf(t.period)
               LEFT JOIN account v ON v.unit_id = u.id AND v.kind = 'vacancy'
               WHERE u.id = %s""",
            [unit_id],
        )
        row = cursor.fetchone()
    if row is None:
        return None
    return UnitAt(*(*row, tuple(_meters(unit_id=unit_id))))


def _meters(*, unit_id: int | None = None, meter_id: int | None = None) -> list[MeterAt]:
    """The installed meters that a unit pays by, or one installed meter wherever it is."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT m.id, m.serial, m.modulus_wh, n.id, m.property_id, a.account_id, s.opened_at,
                      s.last_at, s.last_value_wh, m.expected_period_s
               FROM meter m
               JOIN installation i ON i.meter_id = m.id AND upper_inf(i.period)
               JOIN metering_point n ON n.id = i.metering_point_id
               LEFT JOIN meter_assignment a ON a.meter_id = m.id AND upper_inf(a.period)
               LEFT JOIN meter_state s ON s.meter_id = m.id AND s.account_id = a.account_id
                   AND s.register_code = %s
               WHERE m.id = %s OR (n.unit_id = %s AND n.role = ANY(%s))
               ORDER BY m.id""",
            [int(ACTIVE_IMPORT), meter_id, unit_id, sorted(CHARGED_ROLES)],
        )
        return [MeterAt(*row) for row in cursor.fetchall()]
