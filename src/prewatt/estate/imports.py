"""Turns the tables of a property into a checked plan, or into a list of everything that is wrong.

Pure of the database: what exists already (serials, property codes) is handed in. A plan that comes
out can be written without a further question; a row that is wrong never hides the next one.

Who pays for a metering point follows from its role. ``supply``: the tenant of its unit, or the
unit's vacancy account. ``common``: the owner's account of the plant room it is in. ``feeder`` and
``sub`` have no account: the energy of a feeder is charged below it and that of a sub-meter above it,
and no kilowatt-hour is charged twice.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Container, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Generic, TypedDict, TypeVar
from zoneinfo import ZoneInfo

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from prewatt.core.civil_time import CivilTimeRefused, LocalCalendar
from prewatt.core.drivers import Driver
from prewatt.core.money import MICRO, AmountRefused, parse_amount
from prewatt.core.serials import LONGEST, is_serial
from prewatt.core.tariff import TariffRefused, parse_tariff
from prewatt.core.vocabulary import Protection
from prewatt.estate.calendars import UnknownCalendar, holiday_dates
from prewatt.estate.models import Account, MeteringPoint, Unit
from prewatt.estate.sheets import (
    SHEETS,
    ImportRefused,
    PropertySheets,
    RowError,
    SheetRow,
)
from prewatt.estate.worded import Worded, worded
from prewatt.signing.es256 import BadKey, ES256PublicKey

#: No wallet starts with more than this: a decimal point in the wrong place, not a balance.
OPENING_LIMIT_MICRO: Final = 1_000_000 * MICRO

#: Nor may anybody owe more in emergency credit than one recharge can pay back.
EMERGENCY_LIMIT_MICRO: Final = 100_000 * MICRO

CHARGED_ROLES: Final = frozenset({MeteringPoint.Role.SUPPLY, MeteringPoint.Role.COMMON})

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)

Plan = TypeVar("Plan")

UnitKey = tuple[str, str]
"""(building code, unit code)."""


@dataclass(frozen=True, slots=True)
class PropertyPlan:
    """The one row of ``property``."""

    organisation: str
    legal_entity: str
    tax_number: str
    code: str
    name: str
    currency: str
    minor_digits: int
    time_zone: str
    holiday_calendar: str
    language: str
    default_tariff: str


@dataclass(frozen=True, slots=True)
class TariffPlan:
    """A tariff version as its JSON document; ``core.tariff`` checks the content."""

    row: int
    code: str
    name: str
    document: Mapping[str, object]
    valid_from: datetime | None
    approved_by: str


@dataclass(frozen=True, slots=True)
class BuildingPlan:
    """A row of ``buildings``."""

    code: str
    name: str
    position: int


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """A row of ``units``."""

    key: UnitKey
    floor: int
    position: int
    kind: str


@dataclass(frozen=True, slots=True)
class PointPlan:
    """A row of ``metering_points``; parents come before children in a plan."""

    code: str
    unit: UnitKey | None
    parent: str
    role: str
    source: str
    #: Energy rightly flows backwards there.
    feeds_in: bool = False


@dataclass(frozen=True, slots=True)
class MeterPlan:
    """A row of ``meters``; ``account`` is the number of who pays from the opening register on."""

    serial: str
    point: str
    model: str
    driver: str
    multiplier: int
    modulus_wh: int
    max_power_w: int
    has_relay: bool
    expected_period_s: int
    installed_at: datetime
    opening_wh: int
    #: Who speaks for it, by serial number; and the public key by which its answers are believed (SPKI, DER).
    concentrator: str = ""
    instruction_key: bytes = b""
    account: str = ""


@dataclass(frozen=True, slots=True)
class CustomerPlan:
    """A row of ``customers``; ``code`` only ties the tables together."""

    code: str
    name: str
    email: str
    phone: str
    language: str


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """A row of ``accounts``, or the vacancy account of a unit that has no tenant."""

    number: str
    kind: str
    customer: str
    unit: UnitKey | None
    tariff: str
    opening_balance_micro: int
    emergency_micro: int
    protection: Protection
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class TenancyPlan:
    """A row of ``tenancies``."""

    unit: UnitKey
    customer: str
    account: str
    begins_at: datetime


@dataclass(frozen=True, slots=True)
class EstatePlan:
    """A whole property, checked: every reference resolves and every rule of the tables holds."""

    property: PropertyPlan
    tariffs: tuple[TariffPlan, ...]
    buildings: tuple[BuildingPlan, ...]
    units: tuple[UnitPlan, ...]
    points: tuple[PointPlan, ...]
    meters: tuple[MeterPlan, ...]
    customers: tuple[CustomerPlan, ...]
    accounts: tuple[AccountPlan, ...]
    tenancies: tuple[TenancyPlan, ...]


def plan_property(
    sheets: PropertySheets,
    *,
    known_property_codes: Collection[str],
    known_serials: Collection[str],
    importer: str,
    now: datetime,
) -> EstatePlan:
    """Check all tables and return the plan; raises ImportRefused with an error for every bad row.

    ``importer`` is the code of who imports, and so cannot have approved a tariff (invariant 8).
    """
    reader = _Reader(sheets, now)
    tables = _Tables(
        reader=reader,
        property=reader.property(known_property_codes),
        tariffs=reader.table("tariffs", _tariff, lambda each: each.code),
        buildings=reader.table("buildings", _building, lambda each: each.code),
        units=reader.table("units", _unit, lambda each: each.key),
        points=reader.table("metering_points", _point, lambda each: each.code),
        meters=reader.table("meters", _meter, lambda each: each.serial),
        customers=reader.table("customers", _customer, lambda each: each.code),
        accounts=reader.table("accounts", _account, lambda each: each.number),
        tenancies=reader.table("tenancies", _tenancy, lambda each: each.unit),
    )
    _check_approvals(tables, importer)
    _check_references(tables, known_serials)
    _check_payers(tables)
    plan = _plan(tables, _points_in_order(tables))
    if reader.errors:
        raise ImportRefused(
            sorted(reader.errors, key=lambda each: (_sheet_order(each.sheet), each.row))
        )
    return plan


def _sheet_order(sheet: str) -> int:
    return SHEETS.index(sheet) if sheet in SHEETS else len(SHEETS)


class Cells:
    """Reads the cells of one row; what is wrong is noted and a harmless value handed back."""

    def __init__(
        self,
        sheet: str,
        row: SheetRow,
        zone: ZoneInfo,
        now: datetime,
        errors: list[RowError],
        minor_digits: int = 2,
    ) -> None:
        self.row = row
        self._sheet = sheet
        self._zone = zone
        self._now = now
        self._errors = errors
        self._minor_digits = minor_digits

    def fault(self, column: str, code: str, problem: Worded, remedy: Worded) -> None:
        """Note one error of this row."""
        self._errors.append(RowError(self._sheet, self.row.number, column, code, problem, remedy))

    def text(self, column: str, limit: int, *, default: str | None = None) -> str:
        """A text of at most ``limit`` characters; required unless there is a default."""
        value = self.row.cells.get(column, "")
        if not value:
            if default is None:
                self.fault(
                    column, "cell.missing", worded("The cell is empty."), worded("Fill it in.")
                )
            return default or ""
        if len(value) > limit:
            self.fault(
                column,
                "cell.too_long",
                worded("Longer than %(n)s characters.", n=limit),
                worded("Shorten it."),
            )
            return value[:limit]
        return value

    def word(self, column: str, choices: Collection[str], *, default: str | None = None) -> str:
        """One of a few words, in any case."""
        value = self.text(column, 40, default=default).lower()
        if value and value not in choices:
            self.fault(
                column,
                "cell.unknown_word",
                worded("%(value)s is not known here.", value=repr(value)),
                worded(
                    "Use one of: %(what)s.",
                    what=", ".join(sorted(each for each in choices if each)),
                ),
            )
            return default or ""
        return value

    def integer(self, column: str, low: int, high: int, *, default: int | None = None) -> int:
        """A whole number within bounds."""
        value = self.text(column, 24, default=None if default is None else str(default))
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()):
            if value:
                self.fault(
                    column,
                    "cell.not_a_number",
                    worded("%(value)s is not a whole number.", value=repr(value)),
                    worded("Write digits only."),
                )
            return low
        number = int(value)
        if not low <= number <= high:
            self.fault(
                column,
                "cell.out_of_range",
                worded("%(number)s is out of range.", number=number),
                worded("It must lie between %(low)s and %(high)s.", low=low, high=high),
            )
            return low
        return number

    def flag(self, column: str, *, default: bool) -> bool:
        """Yes or no."""
        value = self.word(
            column,
            ("yes", "no", "true", "false", "1", "0"),
            default="yes" if default else "no",
        )
        return value in ("yes", "true", "1")

    def money(self, column: str, limit_micro: int, *, allow_negative: bool = False) -> int:
        """An amount in micro-units of at most ``limit_micro``, empty for zero."""
        value = self.row.cells.get(column, "")
        try:
            return parse_amount(
                value or "0",
                minor_digits=self._minor_digits,
                limit_micro=limit_micro,
                allow_zero=True,
                allow_negative=allow_negative,
            )
        except AmountRefused as refused:
            remedies = {
                "ambiguous": worded("Write it without a mark at the thousands."),
                "negative": worded("It must not be less than zero."),
                "over_limit": worded("It must be at most %(most)s.", most=limit_micro // MICRO),
            }
            self.fault(
                column,
                f"cell.amount_{refused.reason}",
                worded("%(value)s is not an amount here.", value=repr(value)),
                remedies.get(
                    refused.reason,
                    worded(
                        "Write it like 25.50, with at most %(n)s decimals.", n=self._minor_digits
                    ),
                ),
            )
            return 0

    def instant(self, column: str, *, required: bool = True) -> datetime | None:
        """An instant: ISO 8601; without an offset it is the local civil time of the property."""
        value = self.text(column, 40, default=None if required else "")
        if not value:
            return None
        try:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=self._zone)
            moment = moment.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fault(
                column,
                "cell.not_a_date",
                worded("%(value)s is not a date.", value=repr(value)),
                worded("Write it like 2026-08-19 or 2026-08-19T14:30."),
            )
            return None
        if moment > self._now:
            self.fault(
                column,
                "cell.in_the_future",
                worded("%(value)s has not come yet.", value=value),
                worded("Import what has happened; later changes are moves."),
            )
            return None
        if moment < EARLIEST:
            self.fault(
                column,
                "cell.too_early",
                worded("%(value)s lies before 2000.", value=value),
                worded("Check the year."),
            )
            return None
        return moment

    def unit(self, *, required: bool) -> UnitKey | None:
        """The columns ``building`` and ``unit`` together."""
        default = None if required else ""
        building = self.text("building", 12, default=default)
        unit = self.text("unit", 16, default=default)
        if bool(building) != bool(unit) and not required:
            self.fault(
                "unit" if building else "building",
                "cell.missing",
                worded("Building and unit belong together."),
                worded("Fill in both, or neither."),
            )
        return (building, unit) if building and unit else None


@dataclass(frozen=True, slots=True)
class Placed(Generic[Plan]):
    """A plan with the row it came from."""

    row: SheetRow
    plan: Plan


class _Reader:
    """Reads table after table; the property's own row first, as it decides zone and digits."""

    def __init__(self, sheets: PropertySheets, now: datetime) -> None:
        self.errors: list[RowError] = []
        self.now = now
        self._sheets = sheets
        self._zone = ZoneInfo("UTC")
        self._minor_digits = 2
        for sheet in SHEETS:
            self._check_columns(sheet)

    def fault(
        self,
        sheet: str,
        row: SheetRow,
        column: str,
        code: str,
        problem: Worded,
        remedy: Worded,
    ) -> None:
        """Note an error that shows only when tables are held against each other."""
        self.errors.append(RowError(sheet, row.number, column, code, problem, remedy))

    def _check_columns(self, sheet: str) -> None:
        rows = self._sheets.rows(sheet)
        known = _COLUMNS[sheet]
        for column in rows[0].cells if rows else ():
            if column not in known:
                self.errors.append(
                    RowError(
                        sheet,
                        1,
                        column,
                        "sheet.unknown_column",
                        worded("There is no such column."),
                        worded("Use %(what)s, or remove it.", what=", ".join(known)),
                    )
                )

    def property(self, known_codes: Collection[str]) -> PropertyPlan:
        rows = self._sheets.rows("property")
        if len(rows) != 1:
            self.errors.append(
                RowError(
                    "property",
                    0,
                    "",
                    "property.not_one",
                    worded("There are %(n)s rows.", n=len(rows)),
                    worded("Describe exactly one property."),
                )
            )
        row = rows[0] if rows else SheetRow(0, dict.fromkeys(_COLUMNS["property"], "?"))
        errors = self.errors if rows else []
        plan = _property(Cells("property", row, self._zone, self.now, errors), known_codes)
        try:
            LocalCalendar(plan.time_zone)
            self._zone = ZoneInfo(plan.time_zone)
        except CivilTimeRefused:
            if plan.time_zone and rows:
                self.fault(
                    "property",
                    row,
                    "time_zone",
                    "property.unknown_zone",
                    worded("%(time_zone)s is not a time zone.", time_zone=repr(plan.time_zone)),
                    worded("Write it like Europe/Berlin."),
                )
        self._minor_digits = plan.minor_digits
        return plan

    def table(
        self, sheet: str, read: Callable[[Cells], Plan], key: Callable[[Plan], Hashable]
    ) -> list[Placed[Plan]]:
        """Every row of a sheet; a repeated key is an error of the later row."""
        placed: list[Placed[Plan]] = []
        first: dict[Hashable, int] = {}
        for row in self._sheets.rows(sheet):
            cells = Cells(sheet, row, self._zone, self.now, self.errors, self._minor_digits)
            plan = read(cells)
            before = first.setdefault(key(plan), row.number)
            if before != row.number:
                cells.fault(
                    _KEY_COLUMN[sheet],
                    "row.repeated",
                    worded("Row %(row)s has the same.", row=before),
                    worded("Keep one of them."),
                )
            placed.append(Placed(row, plan))
        return placed


_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "property": (
        "organisation",
        "legal_entity",
        "tax_number",
        "code",
        "name",
        "currency",
        "minor_digits",
        "time_zone",
        "holiday_calendar",
        "language",
        "default_tariff",
    ),
    "tariffs": ("code", "name", "document", "valid_from", "approved_by"),
    "buildings": ("code", "name", "position"),
    "units": ("building", "code", "floor", "position", "kind"),
    "metering_points": ("code", "building", "unit", "parent", "role", "source", "feeds_in"),
    "meters": (
        "serial",
        "metering_point",
        "model",
        "driver",
        "multiplier",
        "modulus_wh",
        "max_power_w",
        "has_relay",
        "expected_period_s",
        "installed_at",
        "opening_wh",
        "concentrator",
        "instruction_key",
    ),
    "customers": ("code", "name", "email", "phone", "language"),
    "accounts": (
        "number",
        "kind",
        "customer",
        "building",
        "unit",
        "tariff",
        "opening_balance",
        "emergency_credit",
        "protection",
    ),
    "tenancies": ("building", "unit", "customer", "account", "begins_at"),
}
_KEY_COLUMN: Final = {
    "tariffs": "code",
    "buildings": "code",
    "units": "code",
    "metering_points": "code",
    "meters": "serial",
    "customers": "code",
    "accounts": "number",
    "tenancies": "unit",
}


def _property(cells: Cells, known_codes: Collection[str]) -> PropertyPlan:
    currency = cells.text("currency", 3)
    if currency and not (len(currency) == 3 and currency.isascii() and currency.isupper()):
        cells.fault(
            "currency",
            "property.currency",
            worded("%(currency)s is not a currency code.", currency=repr(currency)),
            worded("Write it like EUR."),
        )
    calendar = cells.text("holiday_calendar", 12, default="")
    try:
        holiday_dates(calendar, 2026, 2026)
    except UnknownCalendar:
        cells.fault(
            "holiday_calendar",
            "property.unknown_calendar",
            worded("No public holidays are known for %(calendar)s.", calendar=repr(calendar)),
            worded("Write an ISO 3166 code such as DE-HE, or leave it empty."),
        )
    code = cells.text("code", 24)
    if code in known_codes:
        cells.fault(
            "code",
            "property.exists",
            worded("There is a property %(code)s already.", code=repr(code)),
            worded("Choose another code; an import only makes new properties."),
        )
    return PropertyPlan(
        organisation=cells.text("organisation", 120),
        legal_entity=cells.text("legal_entity", 120),
        tax_number=cells.text("tax_number", 40, default=""),
        code=code,
        name=cells.text("name", 120),
        currency=currency,
        minor_digits=cells.integer("minor_digits", 0, 6, default=2),
        time_zone=cells.text("time_zone", 40),
        holiday_calendar=calendar,
        language=cells.text("language", 12, default="en"),
        default_tariff=cells.text("default_tariff", 24, default=""),
    )


def _tariff(cells: Cells) -> TariffPlan:
    text = cells.text("document", 20_000)
    document: object = {}
    try:
        document = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        cells.fault(
            "document",
            "tariff.not_json",
            worded("The document is not JSON."),
            worded("Paste the whole tariff document."),
        )
    if not isinstance(document, dict):
        cells.fault(
            "document",
            "tariff.not_json",
            worded("The document is not a JSON object."),
            worded("Paste the whole tariff document."),
        )
        document = {}
    if document:
        _check_tariff(cells, document)
    return TariffPlan(
        row=cells.row.number,
        code=cells.text("code", 24),
        name=cells.text("name", 120),
        document=document,
        valid_from=cells.instant("valid_from", required=False),
        approved_by=cells.text("approved_by", 80),
    )


def _check_tariff(cells: Cells, document: Mapping[str, object]) -> None:
    try:
        parse_tariff(document)
    except TariffRefused as refused:
        cells.fault(
            "document",
            "tariff.refused",
            worded("%(place)s: %(reason)s.", place=refused.place, reason=refused.reason),
            worded("Correct the tariff document there."),
        )


def _building(cells: Cells) -> BuildingPlan:
    return BuildingPlan(
        code=cells.text("code", 12),
        name=cells.text("name", 80),
        position=cells.integer("position", 0, 32_767, default=0),
    )


def _unit(cells: Cells) -> UnitPlan:
    return UnitPlan(
        key=(cells.text("building", 12), cells.text("code", 16)),
        floor=cells.integer("floor", -20, 500, default=0),
        position=cells.integer("position", 0, 32_767, default=0),
        kind=cells.word("kind", Unit.Kind.values),
    )


def _point(cells: Cells) -> PointPlan:
    role = cells.word("role", MeteringPoint.Role.values)
    return PointPlan(
        code=cells.text("code", 24),
        unit=cells.unit(required=role in CHARGED_ROLES),
        parent=cells.text("parent", 24, default=""),
        role=role,
        source=cells.word("source", MeteringPoint.Source.values, default="grid"),
        feeds_in=cells.flag("feeds_in", default=False),
    )


class DeviceCells(TypedDict):
    """What a row says of the device itself."""

    serial: str
    model: str
    driver: str
    multiplier: int
    modulus_wh: int
    max_power_w: int
    has_relay: bool
    expected_period_s: int


def device_in(cells: Cells) -> DeviceCells:
    """The device of a row, of an import or of the table by which meters are fitted later."""
    return DeviceCells(
        serial=cells.text("serial", 32),
        model=cells.text("model", 60, default=""),
        driver=cells.word("driver", list(Driver), default=Driver.MQTT_SENML),
        multiplier=cells.integer("multiplier", 1, 100_000, default=1),
        modulus_wh=cells.integer("modulus_wh", 1_000, 10**15, default=1_000_000_000),
        max_power_w=cells.integer("max_power_w", 1, 10**10, default=25_000),
        has_relay=cells.flag("has_relay", default=True),
        expected_period_s=cells.integer("expected_period_s", 1, 86_400, default=900),
    )


def _meter(cells: Cells) -> MeterPlan:
    device = device_in(cells)
    return MeterPlan(
        **device,
        point=cells.text("metering_point", 24),
        installed_at=cells.instant("installed_at") or EARLIEST,
        opening_wh=cells.integer("opening_wh", 0, device["modulus_wh"] - 1),
        concentrator=_concentrator(cells),
        instruction_key=_instruction_key(cells),
    )


def _concentrator(cells: Cells) -> str:
    serial = cells.text("concentrator", LONGEST, default="")
    if serial and not is_serial(serial):
        cells.fault(
            "concentrator", "meter.concentrator",
            worded("%(serial)s cannot be a serial number.", serial=repr(serial)),
            worded("Use letters, digits, dots and dashes."),
        )  # fmt: skip
    return serial


def _instruction_key(cells: Cells) -> bytes:
    """The key in base64, as a PEM file has it between its first and last line."""
    written = cells.text("instruction_key", 400, default="")
    if not written:
        return b""
    try:
        key = base64.b64decode("".join(written.split()), validate=True)
        ES256PublicKey.from_spki(key)
    except (ValueError, BadKey):
        cells.fault(
            "instruction_key", "meter.key", worded("That is no public key of P-256."),
            worded("Give its SubjectPublicKeyInfo in base64, on one line."),
        )  # fmt: skip
        return b""
    return key


def _customer(cells: Cells) -> CustomerPlan:
    email = cells.text("email", 254, default="")
    try:
        validate_email(email or "nobody@example.org")
    except ValidationError:
        cells.fault(
            "email",
            "customer.email",
            worded("%(email)s is not an e-mail address.", email=repr(email)),
            worded("Correct it, or leave it empty."),
        )
    return CustomerPlan(
        code=cells.text("code", 24),
        name=cells.text("name", 120),
        email=email,
        phone=cells.text("phone", 32, default=""),
        language=cells.text("language", 12, default="en"),
    )


def _account(cells: Cells) -> AccountPlan:
    kind = cells.word("kind", Account.Kind.values, default="customer")
    customer = cells.text("customer", 24, default=None if kind == "customer" else "")
    if kind == "vacancy" and customer:
        cells.fault(
            "customer",
            "account.vacancy_customer",
            worded("A vacancy account has no customer."),
            worded("Leave it empty."),
        )
    unit = cells.unit(required=kind == "vacancy")
    if kind == "customer" and unit:
        cells.fault(
            "unit",
            "account.customer_unit",
            worded("A customer's account names no unit."),
            worded("Leave it empty here; the tenancy says which unit it pays for."),
        )
    opening = cells.money("opening_balance", OPENING_LIMIT_MICRO, allow_negative=True)
    emergency = cells.money("emergency_credit", EMERGENCY_LIMIT_MICRO)
    if kind == "vacancy" and emergency:
        cells.fault(
            "emergency_credit",
            "account.vacancy_emergency",
            worded(
                "A vacancy account has no emergency credit, as its owner is not cut off for money."
            ),
            worded("Leave it empty."),
        )
    protection = cells.word("protection", [each.word for each in Protection], default="none")
    return AccountPlan(
        number=cells.text("number", 24),
        kind=kind,
        customer=customer,
        unit=unit,
        tariff=cells.text("tariff", 24, default=""),
        opening_balance_micro=opening,
        emergency_micro=emergency,
        protection=Protection[protection.upper()],
        opened_at=EARLIEST,
    )


def _tenancy(cells: Cells) -> TenancyPlan:
    return TenancyPlan(
        unit=cells.unit(required=True) or ("", ""),
        customer=cells.text("customer", 24),
        account=cells.text("account", 24),
        begins_at=cells.instant("begins_at") or EARLIEST,
    )


@dataclass(slots=True)
class _Tables:
    """All tables, to be held against each other."""

    reader: _Reader
    property: PropertyPlan
    tariffs: list[Placed[TariffPlan]]
    buildings: list[Placed[BuildingPlan]]
    units: list[Placed[UnitPlan]]
    points: list[Placed[PointPlan]]
    meters: list[Placed[MeterPlan]]
    customers: list[Placed[CustomerPlan]]
    accounts: list[Placed[AccountPlan]]
    tenancies: list[Placed[TenancyPlan]]

    def known(
        self,
        sheet: str,
        row: SheetRow,
        column: str,
        value: object,
        among: Container[object],
    ) -> None:
        """Note an error unless the reference resolves; an empty one has its error already."""
        if value and value not in among:
            shown = "/".join(value) if isinstance(value, tuple) else value
            self.reader.fault(
                sheet,
                row,
                column,
                "reference.unknown",
                worded("There is no %(shown)s.", shown=repr(shown)),
                worded("Add it, or correct the %(column)s.", column=column),
            )


def _check_approvals(tables: _Tables, importer: str) -> None:
    """No price comes in on the word of the one who imports it."""
    for tariff in tables.tariffs:
        if tariff.plan.approved_by == importer:
            tables.reader.fault(
                "tariffs",
                tariff.row,
                "approved_by",
                "tariff.self_approved",
                worded("The importer cannot approve the tariff."),
                worded("Name the person who approved it."),
            )


def _check_references(tables: _Tables, known_serials: Collection[str]) -> None:
    """Every name that one table takes from another must be there."""
    buildings = {each.plan.code for each in tables.buildings}
    units = {each.plan.key for each in tables.units}
    points = {each.plan.code for each in tables.points}
    customers = {each.plan.code for each in tables.customers}
    tariffs = {each.plan.code for each in tables.tariffs}
    for unit in tables.units:
        tables.known("units", unit.row, "building", unit.plan.key[0], buildings)
    for point in tables.points:
        tables.known("metering_points", point.row, "unit", point.plan.unit, units)
        tables.known("metering_points", point.row, "parent", point.plan.parent, points)
    for meter in tables.meters:
        tables.known("meters", meter.row, "metering_point", meter.plan.point, points)
        if meter.plan.serial in known_serials:
            tables.reader.fault(
                "meters",
                meter.row,
                "serial",
                "meter.exists",
                worded(
                    "The meter %(serial)s is installed elsewhere.", serial=repr(meter.plan.serial)
                ),
                worded("Check the serial number."),
            )
    _check_devices(tables, known_serials)
    for account in tables.accounts:
        tables.known("accounts", account.row, "customer", account.plan.customer, customers)
        tables.known("accounts", account.row, "unit", account.plan.unit, units)
        tables.known("accounts", account.row, "tariff", account.plan.tariff, tariffs)
        if not account.plan.tariff and not tables.property.default_tariff:
            tables.reader.fault(
                "accounts",
                account.row,
                "tariff",
                "account.no_tariff",
                worded("The account has no tariff."),
                worded("Fill it in, or default_tariff of the property."),
            )
    for tenancy in tables.tenancies:
        tables.known("tenancies", tenancy.row, "unit", tenancy.plan.unit, units)
        tables.known("tenancies", tenancy.row, "customer", tenancy.plan.customer, customers)
    default = tables.property.default_tariff
    if default and default != "?" and default not in tariffs:
        tables.reader.errors.append(
            RowError(
                "property",
                2,
                "default_tariff",
                "reference.unknown",
                worded("There is no tariff %(default)s.", default=repr(default)),
                worded("Add it to tariffs."),
            )
        )


def _check_devices(tables: _Tables, known_serials: Collection[str]) -> None:
    """A serial number is one device's, a meter's or a concentrator's, and a key one meter's."""
    serials = {each.plan.serial for each in tables.meters}
    keys: dict[bytes, int] = {}
    for meter in tables.meters:
        gathering, key = meter.plan.concentrator, meter.plan.instruction_key
        if gathering and (gathering in serials or gathering in known_serials):
            tables.reader.fault(
                "meters", meter.row, "concentrator", "meter.concentrator",
                worded("A device with the serial number %(serial)s is there already.", serial=repr(gathering)),
                worded("Give the concentrator's own serial number; one that is there gets meters on its page."),
            )  # fmt: skip
        before = keys.setdefault(key, meter.row.number)
        if key and before != meter.row.number:
            tables.reader.fault(
                "meters", meter.row, "instruction_key", "row.repeated",
                worded("Row %(row)s has the same.", row=before), worded("Each meter has a key of its own."),
            )  # fmt: skip


def _check_payers(tables: _Tables) -> None:
    """A tenancy's account exists, is the customer's, and pays one tenancy; one meter per point."""
    accounts = {each.plan.number: each.plan for each in tables.accounts}
    for tenancy in tables.tenancies:
        wanted = tenancy.plan.account
        account = accounts.get(wanted)
        if account is None:
            tables.known("tenancies", tenancy.row, "account", wanted, accounts)
        elif account.kind != "customer" or account.customer != tenancy.plan.customer:
            tables.reader.fault(
                "tenancies",
                tenancy.row,
                "account",
                "tenancy.foreign_account",
                worded("The account %(wanted)s belongs to somebody else.", wanted=repr(wanted)),
                worded("Name an account of this customer."),
            )
    vacancies: dict[UnitKey, int] = {}
    for each in tables.accounts:
        if each.plan.kind == "vacancy" and each.plan.unit:
            before = vacancies.setdefault(each.plan.unit, each.row.number)
            if before != each.row.number:
                tables.reader.fault(
                    "accounts",
                    each.row,
                    "unit",
                    "account.second_vacancy",
                    worded("Row %(row)s is the vacancy account of this unit.", row=before),
                    worded("Keep one of them."),
                )
    let = {each.plan.unit for each in tables.tenancies}
    for point in tables.points:
        if point.plan.role == MeteringPoint.Role.COMMON and point.plan.unit in let:
            tables.reader.fault(
                "metering_points",
                point.row,
                "unit",
                "point.common_is_let",
                worded("A common point cannot be in a unit that has a tenant."),
                worded("Put it into a plant room, whose owner's account pays."),
            )
    metered: dict[str, int] = {}
    for meter in tables.meters:
        before = metered.setdefault(meter.plan.point, meter.row.number)
        if before != meter.row.number and meter.plan.point:
            tables.reader.fault(
                "meters",
                meter.row,
                "metering_point",
                "meter.point_taken",
                worded("Row %(row)s measures at this point.", row=before),
                worded("Give each meter its own point."),
            )


def _points_in_order(tables: _Tables) -> tuple[PointPlan, ...]:
    """Metering points, parents first; whoever is in a ring of parents is an error."""
    waiting = {each.plan.code: each for each in tables.points}
    done: dict[str, PointPlan] = {}
    while waiting:
        ready = [each for each in waiting.values() if each.plan.parent not in waiting]
        if not ready:
            for each in waiting.values():
                tables.reader.fault(
                    "metering_points",
                    each.row,
                    "parent",
                    "point.ring",
                    worded("The parents of this point lead back to it."),
                    worded("Name the point that feeds it."),
                )
            break
        for each in ready:
            done[each.plan.code] = waiting.pop(each.plan.code).plan
    for placed in tables.points:
        parent = done.get(placed.plan.parent)
        while parent and parent.role not in CHARGED_ROLES:
            parent = done.get(parent.parent)
        if parent and placed.plan.role in CHARGED_ROLES:
            tables.reader.fault(
                "metering_points",
                placed.row,
                "parent",
                "point.charged_twice",
                worded("Its energy is charged at %(code)s already.", code=repr(parent.code)),
                worded("Make it a sub point, or name the feeder that it hangs on."),
            )
    return tuple(done.values())


def _plan(tables: _Tables, points: tuple[PointPlan, ...]) -> EstatePlan:
    """Add vacancy accounts, and give every charged meter its payer and every account its opening."""
    default = tables.property.default_tariff
    tenancies = {each.plan.unit: each.plan for each in tables.tenancies}
    accounts = {
        each.plan.number: replace(each.plan, tariff=each.plan.tariff or default)
        for each in tables.accounts
    }
    payer = {each.unit: each.number for each in accounts.values() if each.unit}
    for unit in tables.units:
        if unit.plan.key not in tenancies and unit.plan.key not in payer:
            vacancy = _vacancy(tables, unit, accounts)
            accounts[vacancy.number] = vacancy
            payer[unit.plan.key] = vacancy.number
    payer.update({key: each.account for key, each in tenancies.items()})
    unit_of = {each.code: each.unit for each in points if each.role in CHARGED_ROLES}
    meters: list[MeterPlan] = []
    for placed in tables.meters:
        key = unit_of.get(placed.plan.point)
        meters.append(replace(placed.plan, account=payer.get(key, "") if key else ""))
        tenancy = tenancies.get(key) if key else None
        if tenancy and tenancy.begins_at > placed.plan.installed_at:
            tables.reader.fault(
                "meters",
                placed.row,
                "installed_at",
                "meter.before_tenancy",
                worded(
                    "The opening register is older than the tenancy, so what was used in between "
                    "would be the new tenant's."
                ),
                worded("Give the register at the beginning of the tenancy."),
            )
    return EstatePlan(
        property=tables.property,
        tariffs=tuple(each.plan for each in tables.tariffs),
        buildings=tuple(each.plan for each in tables.buildings),
        units=tuple(each.plan for each in tables.units),
        points=points,
        meters=tuple(meters),
        customers=tuple(each.plan for each in tables.customers),
        accounts=_opened(accounts.values(), meters, tenancies.values(), tables.reader.now),
        tenancies=tuple(each.plan for each in tables.tenancies),
    )


def _vacancy(tables: _Tables, unit: Placed[UnitPlan], taken: Container[str]) -> AccountPlan:
    """The owner's account of a unit without a tenant."""
    number = vacancy_number(*unit.plan.key)
    if number in taken:
        tables.reader.fault(
            "units",
            unit.row,
            "code",
            "account.number_taken",
            worded(
                "Its vacancy account would be %(number)s, which another account has.",
                number=repr(number),
            ),
            worded("Rename that account."),
        )
    if not tables.property.default_tariff:
        tables.reader.fault(
            "units",
            unit.row,
            "code",
            "account.no_tariff",
            worded("Nobody lives here and the vacancy account has no tariff."),
            worded("Fill in default_tariff of the property."),
        )
    return AccountPlan(
        number,
        "vacancy",
        "",
        unit.plan.key,
        tables.property.default_tariff,
        0,
        0,
        Protection.NONE,
        EARLIEST,
    )


def vacancy_number(building: str, unit: str) -> str:
    """The number of a vacancy account that nobody has numbered otherwise: ``V-A-101``."""
    return f"V-{building}-{unit}"[:24]


def _opened(
    accounts: Iterable[AccountPlan],
    meters: Iterable[MeterPlan],
    tenancies: Iterable[TenancyPlan],
    now: datetime,
) -> tuple[AccountPlan, ...]:
    """An account is opened by its first register, else by its tenancy, else now."""
    first: dict[str, datetime] = {}
    for meter in meters:
        if meter.account:
            first[meter.account] = min(first.get(meter.account, now), meter.installed_at)
    for tenancy in tenancies:
        first.setdefault(tenancy.account, tenancy.begins_at)
    return tuple(replace(each, opened_at=first.get(each.number, now)) for each in accounts)
