"""A whole property at once: estate, prices, wallets with their opening balances, registers.

All or nothing in one transaction. Afterwards the property runs: a meter's next reading is charged
from its opening register on, and a recharge finds its account.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.billing.operations import assign_tariff, create_tariff_version
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.rating import Component
from prewatt.core.readings import ReadingSource
from prewatt.estate.imports import AccountPlan, EstatePlan
from prewatt.estate.operations import CreatedEstate, check_plan, create_estate
from prewatt.estate.sheets import PropertySheets
from prewatt.instructions.operations import enrol_key
from prewatt.ledger.operations import Event, Leg, append_events, new_event_ids, open_accounts
from prewatt.moves.concentrators import put_behind, register_concentrator
from prewatt.moves.registers import Opening, link_meters, open_registers, store_opening_readings
from prewatt.supply import operations as supply


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import wrote. ``unpaid_serials`` are meters that no account pays by (feeder, sub)."""

    property_id: int
    counts: Mapping[str, int]
    vacancy_accounts: int
    opening_balance_micro: int
    unpaid_serials: tuple[str, ...]


def import_property(*, actor: Actor, sheets: PropertySheets, now: datetime) -> ImportReport:
    """Make a new property from its tables (``estate/README.md`` lists the columns).

    Raises ImportRefused with every error of every row, and then nothing was written.
    """
    require(actor, "estate.import")
    with scope(actor):
        plan = check_plan(sheets, importer=actor.code, now=now)
        made = create_estate(plan, by=actor.code)
        _create_tariffs(actor, plan, made, now)
        open_accounts(
            rows=[
                (each, made.property_id, made.legal_entity_id)
                for each in sorted(made.account_ids.values())
            ],
            now=now,
        )
        _assign_tariffs(actor, plan, made, now)
        _open_balances(actor, plan, made, now)
        _open_meters(plan, made, now)
        _enrol_keys(actor, plan, made, now)
        _put_behind(actor, plan, made, now)
        supply.open_accounts(
            rows=[
                supply.OpenSupply(
                    account_id=made.account_ids[each.number],
                    property_id=made.property_id,
                    emergency_micro=each.emergency_micro,
                    protection=each.protection,
                )
                for each in plan.accounts
                if each.kind == "customer" or each.protection
            ],
            now=now,
        )
        report = _report(plan, made)
        record(
            actor=actor.code,
            code="estate.property.imported",
            property_id=made.property_id,
            subject=f"property:{made.property_id}",
            now=now,
            **report.counts,
            opening_balance_micro=report.opening_balance_micro,
        )
    return report


def check_property(*, actor: Actor, sheets: PropertySheets, now: datetime) -> ImportReport:
    """What ``import_property`` would write, found by doing it and taking all of it back.

    So nothing passes here that the import itself would refuse. Raises as ``import_property``.
    """
    with transaction.atomic():
        report = import_property(actor=actor, sheets=sheets, now=now)
        connection.check_constraints()
        transaction.set_rollback(True)
    return report


@dataclass(frozen=True, slots=True)
class TablesSeen:
    """What the tables of a property hold, when nothing in them is wrong."""

    name: str
    code: str
    currency: str
    counts: Mapping[str, int]
    vacancy_accounts: int
    opening_balance_micro: int


def look_at_tables(*, actor: Actor, sheets: PropertySheets, now: datetime) -> TablesSeen:
    """Check the tables as an import begins with, by somebody who may not import.

    Writes nothing. Codes and serials that are taken at properties out of the actor's sight are
    found by the import itself only. Raises ImportRefused, PermissionRefused.
    """
    require(actor, "estate.check_import")
    with scope(actor):
        plan = check_plan(sheets, importer=actor.code, now=now)
    return TablesSeen(
        plan.property.name,
        plan.property.code,
        plan.property.currency,
        _counts(plan),
        sum(each.kind == "vacancy" for each in plan.accounts),
        sum(each.opening_balance_micro for each in plan.accounts),
    )


def _create_tariffs(actor: Actor, plan: EstatePlan, made: CreatedEstate, now: datetime) -> None:
    """A tariff without a date holds from the first account's opening on."""
    first = min((each.opened_at for each in plan.accounts), default=now)
    for tariff in plan.tariffs:
        create_tariff_version(
            actor=actor,
            property_id=made.property_id,
            code=tariff.code,
            name=tariff.name,
            document=tariff.document,
            valid_from=tariff.valid_from or first,
            approved_by=tariff.approved_by,
            now=now,
        )


def _assign_tariffs(actor: Actor, plan: EstatePlan, made: CreatedEstate, now: datetime) -> None:
    """One assignment per tariff, from its first account's opening: no account is older."""
    groups: defaultdict[str, list[AccountPlan]] = defaultdict(list)
    for account in plan.accounts:
        groups[account.tariff].append(account)
    for code, accounts in groups.items():
        assign_tariff(
            actor=actor,
            property_id=made.property_id,
            account_ids=[made.account_ids[each.number] for each in accounts],
            tariff_code=code,
            valid_from=min(each.opened_at for each in accounts),
            now=now,
        )


def _open_balances(actor: Actor, plan: EstatePlan, made: CreatedEstate, now: datetime) -> None:
    """What the old system owed the customers, or they it, one event for each account."""
    opening = [each for each in plan.accounts if each.opening_balance_micro]
    append_events(
        actor_code=actor.code,
        events=[
            Event(event_id, (_opening_leg(account, made),))
            for event_id, account in zip(new_event_ids(len(opening)), opening, strict=True)
        ],
        now=now,
    )


def _opening_leg(account: AccountPlan, made: CreatedEstate) -> Leg:
    return Leg(
        account_id=made.account_ids[account.number],
        kind=TransferKind.OPENING,
        component=int(Component.ENERGY),
        counter_account=CounterAccount.OPENING_BALANCES,
        amount=account.opening_balance_micro,
        service_from=account.opened_at,
        service_to=account.opened_at,
        reason="opening_balance",
    )


def _open_meters(plan: EstatePlan, made: CreatedEstate, now: datetime) -> None:
    openings = [
        Opening(
            made.account_ids[each.account],
            made.meter_ids[each.serial],
            each.installed_at,
            each.opening_wh,
        )
        for each in plan.meters
        if each.account
    ]
    open_registers(openings=openings, now=now)
    store_opening_readings(openings=openings, source=ReadingSource.IMPORT, now=now)
    link_meters(
        meter_ids=[made.meter_ids[each.serial] for each in plan.meters],
        seen_at=[each.installed_at for each in plan.meters],
    )


def _enrol_keys(actor: Actor, plan: EstatePlan, made: CreatedEstate, now: datetime) -> None:
    """Meters that sign are instructed by signature from the import on."""
    for each in plan.meters:
        if each.instruction_key:
            enrol_key(
                actor=actor, property_id=made.property_id, meter_id=made.meter_ids[each.serial],
                public_key=each.instruction_key, now=now,
            )  # fmt: skip


def _put_behind(actor: Actor, plan: EstatePlan, made: CreatedEstate, now: datetime) -> None:
    """Register the concentrators that meters name; each speaks for a meter from its opening register on."""
    behind: defaultdict[tuple[str, datetime], list[str]] = defaultdict(list)
    for each in plan.meters:
        if each.concentrator:
            behind[each.concentrator, each.installed_at].append(each.serial)
    for serial in sorted({serial for serial, _ in behind}):
        register_concentrator(actor=actor, property_id=made.property_id, serial=serial, now=now)
    for (serial, at), meters in sorted(behind.items()):
        put_behind(
            actor=actor, property_id=made.property_id, serial=serial, meters=meters, at=at, now=now
        )


def _counts(plan: EstatePlan) -> dict[str, int]:
    return {
        "tariffs": len(plan.tariffs),
        "buildings": len(plan.buildings),
        "units": len(plan.units),
        "metering_points": len(plan.points),
        "meters": len(plan.meters),
        "customers": len(plan.customers),
        "accounts": len(plan.accounts),
        "tenancies": len(plan.tenancies),
    }


def _report(plan: EstatePlan, made: CreatedEstate) -> ImportReport:
    return ImportReport(
        property_id=made.property_id,
        counts=_counts(plan),
        vacancy_accounts=sum(each.kind == "vacancy" for each in plan.accounts),
        opening_balance_micro=sum(each.opening_balance_micro for each in plan.accounts),
        unpaid_serials=tuple(each.serial for each in plan.meters if not each.account),
    )
