"""Reads what a move needs before it, and the hand-over that is left of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from prewatt.access.scope import Actor, require, scope
from prewatt.billing.queries import HOLDS
from prewatt.core.accounts import CounterAccount
from prewatt.estate.imports import CHARGED_ROLES
from prewatt.moves.boundary import SILENT_AFTER_PERIODS
from prewatt.reports.customers import Find, customers_to_choose
from prewatt.reports.estate_query import unit_page
from prewatt.reports.lists_query import actor_names
from prewatt.reports.moves import (
    Choice,
    FormMeter,
    HandedParty,
    HandedRegister,
    HandOver,
    MoveForm,
)
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.reports.units import unit_name


def move_form(*, actor: Actor, unit_id: int, now: datetime, find: Find | None = None) -> MoveForm:
    """The unit before a move, and customers to choose from. Raises NoSuchThing, PermissionRefused."""
    require(actor, "moves.tenant")
    with scope(actor):
        unit = unit_page(actor=actor, unit_id=unit_id, now=now)
        property_id = unit.place.property_id
        meters = rows(
            """SELECT m.id, m.serial, s.last_at, s.last_value_wh, m.expected_period_s
               FROM meter m
               JOIN installation i ON i.meter_id = m.id AND upper_inf(i.period)
               JOIN metering_point n ON n.id = i.metering_point_id
               LEFT JOIN meter_assignment a ON a.meter_id = m.id AND upper_inf(a.period)
               LEFT JOIN meter_state s ON s.meter_id = m.id AND s.account_id = a.account_id
                   AND s.register_code = 1
               WHERE n.unit_id = %s AND n.role = ANY(%s) ORDER BY m.id""",
            [unit_id, sorted(CHARGED_ROLES)],
        )
        tariffs = rows(
            """SELECT t.code, t.name FROM tariff t
               JOIN LATERAL (SELECT content FROM tariff_version v WHERE v.tariff_id = t.id
                   AND v.valid_from <= %s ORDER BY v.valid_from DESC, v.number DESC LIMIT 1) v ON true
               WHERE t.property_id = %s AND NOT v.content::jsonb ? 'temporary'
               ORDER BY t.code""",
            [now, property_id],
        )
        picker = customers_to_choose(unit.place, find or Find())
        current = rows(
            f"""SELECT t.code FROM tariff_assignment s JOIN tariff t ON t.id = s.tariff_id
               WHERE s.account_id = %s AND s.valid_from <= %s AND {HOLDS}
               ORDER BY s.valid_from DESC LIMIT 1""",  # noqa: S608 - our own constants
            [unit.account_id or unit.vacancy_account_id, now],
        )
        account = rows(
            """SELECT a.number, coalesce(s.available, 0), p.minor_digits
               FROM property p LEFT JOIN account a ON a.id = %s
               LEFT JOIN account_state s ON s.account_id = a.id WHERE p.id = %s""",
            [unit.account_id, property_id],
        )[0]
    codes = tuple(Choice(*row) for row in tariffs)
    known = {each.code for each in codes}
    tariff = current[0][0] if current and current[0][0] in known else ""
    return MoveForm(
        unit=unit,
        charged_meters=tuple(_meter(row, now) for row in meters),
        tariffs=codes,
        picker=picker,
        tariff=tariff,
        available_micro=account[1] or 0,
        number=account[0] or "",
        minor_digits=account[2],
    )


def _meter(row: tuple[Any, ...], now: datetime) -> FormMeter:
    meter_id, serial, last_at, last_wh, period_s = row
    longest = timedelta(seconds=period_s * SILENT_AFTER_PERIODS)
    return FormMeter(meter_id, serial, last_at, last_wh, last_at is None or now - last_at > longest)


_PARTY = """
SELECT a.id, a.number, coalesce(c.name, ''), lower(t.period), upper(t.period),
       coalesce(s.available, 0),
       coalesce((SELECT sum(r.amount_micro) FROM refund r
                 WHERE r.account_id = a.id AND r.state = 'due'), 0)::bigint,
       (SELECT max(r.number) FROM refund r WHERE r.account_id = a.id AND r.state = 'due'),
       coalesce((SELECT sum(x.amount) FROM transfer x
                 WHERE x.account_id = a.id AND x.counter_account = %s), 0)::bigint,
       a.closed_at IS NOT NULL
FROM account a
LEFT JOIN customer c ON c.id = a.customer_id
LEFT JOIN account_state s ON s.account_id = a.id
LEFT JOIN tenancy t ON t.account_id = a.id AND t.unit_id = %s AND {} = %s
WHERE {}
"""


def hand_over(*, actor: Actor, unit_id: int, at: datetime, now: datetime) -> HandOver:
    """What two payers of a unit shared at an instant. Raises NoSuchThing where none ended or began."""
    with scope(actor):
        place = place_of(actor)
        unit = rows(
            """SELECT b.code, u.code, b.name, (SELECT id FROM account v WHERE v.unit_id = u.id
                   AND v.kind = 'vacancy')
               FROM unit u JOIN building b ON b.id = u.building_id
               WHERE u.id = %s AND u.property_id = %s""",
            [unit_id, place.property_id],
        )
        if not unit:
            raise NoSuchThing(f"no unit {unit_id} in scope")
        building, code, building_name, vacancy_id = unit[0]
        former = _tenant(unit_id, "upper(t.period)", at)
        coming = _tenant(unit_id, "lower(t.period)", at)
        if former is None and coming is None:
            raise NoSuchThing(f"nobody moved in or out of unit {unit_id} at {at}")
        owner = _owner(vacancy_id, unit_id, at)
        registers = rows(
            """SELECT DISTINCT m.serial, a.start_value_wh
               FROM meter_assignment a
               JOIN meter m ON m.id = a.meter_id
               JOIN installation i ON i.meter_id = m.id AND i.period @> %s::timestamptz
               JOIN metering_point e ON e.id = i.metering_point_id
               WHERE e.unit_id = %s AND lower(a.period) = %s ORDER BY m.serial""",
            [at, unit_id, at],
        )
        subject = coming or former
        assert subject is not None
        deed = rows(
            """SELECT actor, happened_at FROM audit_event
               WHERE property_id = %s AND subject = %s AND code = ANY(%s)
                 AND detail ->> 'effective_at' = %s
               ORDER BY happened_at DESC LIMIT 1""",
            [
                place.property_id,
                f"account:{subject.account_id}",
                ["moves.tenant.in", "moves.tenant.out", "moves.tenant.changed"],
                at.isoformat(),
            ],
        )
        names = actor_names([deed[0][0]]) if deed else {}
    return HandOver(
        place=place,
        now=now,
        unit_id=unit_id,
        unit=unit_name(building, code),
        building=building_name,
        at=at,
        registers=tuple(HandedRegister(*row) for row in registers),
        former=former or owner,
        next=coming or owner,
        done_by=names.get(deed[0][0], deed[0][0]) if deed else "",
        done_at=deed[0][1] if deed else None,
    )


def _tenant(unit_id: int, edge: str, at: datetime) -> HandedParty | None:
    found = rows(_PARTY.format(edge, "t.id IS NOT NULL"), [int(CounterAccount.DEBTS), unit_id, at])
    return HandedParty(*found[0]) if found else None


def _owner(vacancy_id: int | None, unit_id: int, at: datetime) -> HandedParty | None:
    found = rows(
        _PARTY.format("lower(t.period)", "a.id = %s"),
        [int(CounterAccount.DEBTS), unit_id, at, vacancy_id],
    )
    return HandedParty(*found[0]) if found else None
