"""The JSON of the API: every field with its unit, every instant in UTC, money and energy as whole numbers.

Money is in micro-units of the property's currency (1 EUR = 1,000,000), energy in watt-hours: no float is
ever read or written.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Final, Literal

from ninja import Schema
from pydantic import Field

from prewatt.core.money import MICRO
from prewatt.core.vocabulary import BoardState, RelayState
from prewatt.reports.account import AccountPage
from prewatt.reports.alerts import AlertRow
from prewatt.reports.estate import PropertyPage, UnitRow
from prewatt.reports.lists import AccountRow, MeterRow, MoneyRow
from prewatt.reports.recharge import RechargeResult
from prewatt.reports.tariff_pages import TariffRow
from prewatt.vending.operations import LIMIT_MICRO, REFERENCE_MAX

BIGINT_MAX: Final = 2**63 - 1
Id = Annotated[int, Field(ge=1, le=BIGINT_MAX)]
Micro = Annotated[int, Field(description="Micro-units of the currency: 1,000,000 are one.")]
WattHours = Annotated[int, Field(description="Watt-hours.")]
State = Annotated[str, Field(json_schema_extra={"enum": [each.word for each in BoardState]})]
Relay = Annotated[str, Field(json_schema_extra={"enum": [each.word for each in RelayState]})]
#: A text that people and printers can read: no control character stands in it.
PLAIN: Final = r"^[^\x00-\x1f\x7f]*$"


class Problem(Schema):
    """Nothing was done. ``code`` is stable and for programs, ``message`` for people."""

    code: str
    message: str


class Page(Schema):
    """The frame of a list: how many rows there are in all, and by which mark the next page is asked for."""

    total: int
    next: Annotated[str, Field(description="Give it as `after`; empty on the last page.")]


class Property(Schema):
    """The property that the key is for."""

    property_id: int
    code: str
    name: str
    currency: str
    time_zone: str
    language: str
    accounts: int

    @classmethod
    def of(cls, page: PropertyPage) -> Property:
        """As the page of the property says."""
        return cls(
            property_id=page.place.property_id, code=page.code, name=page.place.name,
            currency=page.place.currency, time_zone=page.place.time_zone, language=page.language,
            accounts=page.accounts,
        )  # fmt: skip


class Unit(Schema):
    """A unit, and who and what is there now."""

    unit_id: int
    name: str
    building: str
    kind: str
    floor: int
    customer: str
    account_id: int | None
    state: State
    meter_id: int | None
    serial: str

    @classmethod
    def of(cls, row: UnitRow) -> Unit:
        """As the list of units says."""
        return cls(
            unit_id=row.unit_id, name=row.name, building=row.building, kind=row.kind, floor=row.floor,
            customer=row.customer, account_id=row.account_id, state=row.state.word,
            meter_id=row.meter_id, serial=row.serial,
        )  # fmt: skip


class Units(Page):
    """Units of a selection."""

    rows: list[Unit]


class Account(Schema):
    """An account in a list. ``runs_out_at`` is null when usage is too small to say."""

    account_id: int
    number: str
    unit: str
    customer: str
    meter: str
    state: State
    balance_micro: Micro
    runs_out_at: datetime | None

    @classmethod
    def of(cls, row: AccountRow) -> Account:
        """As the list of accounts says."""
        return cls(
            account_id=row.account_id, number=row.number, unit=row.unit, customer=row.customer,
            meter=row.meter, state=row.state.word, balance_micro=row.balance_micro,
            runs_out_at=row.runs_out_at,
        )  # fmt: skip


class Accounts(Page):
    """Accounts of a selection, with the sum of all their balances."""

    sum_micro: Micro
    rows: list[Account]


class Day(Schema):
    """One local day: energy by band of the tariff, what it cost, and the balance at its end."""

    day: date
    energy_wh: dict[str, int]
    charge_micro: Micro
    recharged_micro: Micro
    balance_micro: Micro
    estimated: bool


class OneAccount(Schema):
    """An account with its wallet, its supply and its last days.

    ``balance_micro`` is what is left after all usage that was read; ``emergency_limit_micro`` may be used
    below zero. ``earliest_cut_at`` is before when supply is not cut off, as far as is known now.
    """

    account_id: int
    number: str
    unit: str
    customer: str
    since: datetime | None
    closed_at: datetime | None
    meters: list[str]
    tariff: str
    state: State
    relay: Relay
    currency: str
    balance_micro: Micro
    emergency_limit_micro: Micro
    as_of: datetime | None
    runs_out_at: datetime | None
    earliest_cut_at: datetime | None
    days: list[Day]

    @classmethod
    def of(cls, page: AccountPage) -> OneAccount:
        """As the page of the account says."""
        holder, balance = page.holder, page.balance
        return cls(
            account_id=holder.account_id, number=holder.number, unit=holder.unit,
            customer=holder.customer, since=holder.since, closed_at=holder.closed_at,
            meters=list(holder.meters), tariff=holder.tariff, state=page.state.word,
            relay=page.relay.word, currency=page.place.currency,
            balance_micro=balance.available_micro,
            emergency_limit_micro=balance.emergency_limit_micro, as_of=balance.as_of,
            runs_out_at=page.outlook.runs_out_at, earliest_cut_at=page.outlook.earliest_cut_at,
            days=[
                Day(
                    day=day.day, energy_wh=day.wh, charge_micro=day.charge_micro,
                    recharged_micro=day.recharged_micro, balance_micro=day.balance_micro,
                    estimated=day.estimated,
                )
                for day in page.days
            ],
        )  # fmt: skip


class Meter(Schema):
    """A meter: when it was last heard and read, and how its relay was read back."""

    meter_id: int
    serial: str
    unit: str
    account_id: int | None
    seen_at: datetime | None
    reading_at: datetime | None
    register_wh: int | None
    relay: Relay
    held_readings: int

    @classmethod
    def of(cls, row: MeterRow) -> Meter:
        """As the list of meters says."""
        return cls(
            meter_id=row.meter_id, serial=row.serial, unit=row.unit, account_id=row.account_id,
            seen_at=row.seen_at, reading_at=row.reading_at, register_wh=row.register_wh,
            relay=row.relay.word, held_readings=row.held,
        )  # fmt: skip


class Meters(Page):
    """Meters of a selection."""

    rows: list[Meter]


class Sale(Schema):
    """A recharge as it was accepted. ``taken_back`` says that its money does not stand any more."""

    recharge_id: int
    account_id: int
    unit: str
    customer: str
    accepted_at: datetime
    amount_micro: Micro
    way: str
    reference: str
    receipt: str
    taken_back: bool

    @classmethod
    def of(cls, row: MoneyRow) -> Sale:
        """As the page of money says."""
        return cls(
            recharge_id=row.event_id, account_id=row.account_id, unit=row.unit, customer=row.customer,
            accepted_at=row.at, amount_micro=row.amount_micro, way=row.method,
            reference=row.reference, receipt=row.receipt, taken_back=row.went is not None,
        )  # fmt: skip


class Sales(Page):
    """The recharges of the last days, newest first, and what they come to together."""

    sum_micro: Micro
    rows: list[Sale]


class Alert(Schema):
    """Something that somebody has to look at."""

    alert_id: int
    code: str
    opened_at: datetime
    closed_at: datetime | None
    meter: str
    account_id: int | None
    unit: str

    @classmethod
    def of(cls, row: AlertRow) -> Alert:
        """As the list of alerts says."""
        return cls(
            alert_id=row.alert_id, code=row.code, opened_at=row.opened_at, closed_at=row.closed_at,
            meter=row.serial, account_id=row.account_id, unit=row.unit,
        )  # fmt: skip


class Alerts(Page):
    """Alerts that are open, the latest first."""

    rows: list[Alert]


class Tariff(Schema):
    """A tariff and the version that holds now; ``next_from`` is when another one begins."""

    code: str
    name: str
    version: int | None
    since: datetime | None
    next_from: datetime | None
    accounts: int

    @classmethod
    def of(cls, row: TariffRow) -> Tariff:
        """As the list of tariffs says."""
        return cls(
            code=row.code, name=row.name, version=row.number, since=row.since,
            next_from=row.next_from, accounts=row.accounts,
        )  # fmt: skip


class Tariffs(Page):
    """All tariffs of the property."""

    rows: list[Tariff]


class NewRecharge(Schema):
    """Money that was paid and shall be credited. It is whole cents: a multiple of 10,000 micro-units."""

    amount_micro: Annotated[int, Field(gt=0, le=LIMIT_MICRO, multiple_of=MICRO // 100)]
    way: Literal["cash", "online", "transfer"]
    reference: Annotated[str, Field(max_length=REFERENCE_MAX, pattern=PLAIN)] = ""


class Recharge(Schema):
    """A recharge that stands. ``repeated`` says that it did already: the same key, the same answer.

    ``balance_micro`` is what the account had after it; of the amount, ``debt_micro`` went to agreed debts and
    ``collected_micro`` to charges that the tariff collects with a recharge.
    """

    recharge_id: int
    account_id: int
    amount_micro: Micro
    debt_micro: Micro
    collected_micro: Micro
    balance_micro: Micro
    receipt_number: int
    accepted_at: datetime
    repeated: bool


class Reconnection(Schema):
    """How far a recharge has come. Supply is back when ``done``: the relay was read back."""

    recharge_id: int
    account_id: int
    unit: str
    receipt: str
    paid_at: datetime
    amount_micro: Micro
    balance_micro: Micro
    needs_order: bool
    relay: Relay
    sent_at: datetime | None
    verified_at: datetime | None
    taken_back_at: datetime | None
    done: bool

    @classmethod
    def of(cls, result: RechargeResult) -> Reconnection:
        """As the page after a recharge says."""
        return cls(
            recharge_id=result.event_id, account_id=result.account_id, unit=result.unit,
            receipt=result.receipt, paid_at=result.paid_at, amount_micro=result.effect.amount_micro,
            balance_micro=result.balance_micro, needs_order=result.needs_order,
            relay=result.relay.word, sent_at=result.sent_at, verified_at=result.verified_at,
            taken_back_at=result.taken_back_at, done=result.done,
        )  # fmt: skip
