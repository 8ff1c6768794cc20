"""The demo's property: three buildings, about 240 units, invented people, real load shapes.

Each building's meters are reached by a radio of its own: North House's over 4G by MQTT, South House's over NB-IoT by
LwM2M, the Arcade's over LoRaWAN. A part of each does nothing that is not signed, or sealed by the short form where the
air is narrow, and two booths' meters hold their credit themselves.

Everything follows from the unit's place in the list, so the same size gives the same property
every time. The tables are the ones that any property manager would import.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prewatt.estate.sheets import PropertySheets

PROPERTY_CODE = "FERN"
#: What every tenant may use beyond zero, in whole units of the currency.
EMERGENCY_CREDIT = 5
TIME_ZONE = "Europe/Berlin"
HOLIDAYS = "DE-HE"
#: Standard time's offset; the load shapes know no daylight saving.
UTC_OFFSET_S = 3600
MQTT, LWM2M, LORAWAN = "mqtt_senml", "lwm2m", "lorawan"
#: Their meters count their credit down themselves, by the booths' one price.
HOLDS_CREDIT = ("PWAK1", "PWAK2")
BOOTH_PRICE = "0.2890"

_DRIVERS = {"N": MQTT, "S": LWM2M, "A": LORAWAN}
#: Meters up to this floor have a key. The Arcade's first floor is its number 0.
_SIGNING_FLOORS = {"N": 8, "S": 4, "A": 0}
#: Locally administered, so no maker's device has it.
_EUI = "025057"

_FIRST = (
    "Orla",
    "Tomas",
    "Ines",
    "Mei",
    "Jonas",
    "Amara",
    "Luca",
    "Sofie",
    "Wei",
    "Nadia",
    "Emil",
    "Priya",
    "Hanna",
    "Omar",
    "Klara",
    "Yusuf",
    "Lin",
    "Marta",
    "Felix",
    "Aiko",
    "Rosa",
    "Anton",
)
_LAST = (
    "Fenwick",
    "Reyl",
    "Halvard",
    "Zhang",
    "Brandt",
    "Okafor",
    "Moretti",
    "Lindqvist",
    "Chen",
    "Haddad",
    "Vogel",
    "Raman",
    "Keller",
    "Farouk",
    "Sommer",
    "Demir",
    "Wang",
    "Nowak",
    "Arnold",
    "Tanaka",
    "Silva",
    "Petrov",
    "Ekberg",
    "Duval",
    "Horvat",
    "Janssen",
    "Meyer",
    "Costa",
    "Liu",
)
_FIRMS = (
    "Bakery",
    "Books",
    "Florist",
    "Tailor",
    "Tea House",
    "Cycles",
    "Optics",
    "Print",
    "Noodles",
)


@dataclass(frozen=True, slots=True)
class DemoUnit:
    """One unit of the demo: where it is, what it is, what it draws, and who lives there."""

    building: str
    code: str
    floor: int
    position: int
    kind: str
    profile: str
    annual_kwh: int
    tariff: str
    tenant: str
    protection: str = ""
    language: str = "en"

    @property
    def key(self) -> str:
        """What the demo knows the unit by, whatever meter it has."""
        return f"PW{self.building}{self.code}"

    @property
    def holds_credit(self) -> bool:
        """Whether its meter has a balance of its own."""
        return self.key in HOLDS_CREDIT

    @property
    def driver(self) -> str:
        """How its meter is reached."""
        if self.holds_credit:
            return MQTT
        return _DRIVERS[self.building]

    @property
    def signs(self) -> bool:
        """Whether its meter verifies what it is told, and signs what it answers."""
        is_low = self.driver != LORAWAN and self.floor <= _SIGNING_FLOORS[self.building]
        return self.holds_credit or is_low

    @property
    def has_session(self) -> bool:
        """Whether it is behind LoRaWAN and told nothing but by the short form."""
        return self.driver == LORAWAN and self.floor <= _SIGNING_FLOORS[self.building]

    @property
    def serial(self) -> str:
        """The meter's serial number: of a LoRaWAN device its EUI."""
        if self.driver != LORAWAN:
            return self.key
        return f"{_EUI}{zlib.crc32(self.key.encode()):010x}"

    @property
    def model(self) -> str:
        """What the meter is. Booths have a socket, and the others of the Arcade a meter on a rail."""
        if self.driver != LORAWAN:
            return "Prewatt simulator"
        return "ws52x" if self.kind == "booth" else "em2101"


@dataclass(frozen=True, slots=True)
class _House:
    code: str
    name: str
    floors: int
    per_floor: int
    share: int


_HOUSES = (
    _House("N", "North House", 16, 6, 96),
    _House("S", "South House", 14, 6, 84),
    _House("A", "Arcade", 4, 15, 60),
)


def demo_units(count: int) -> list[DemoUnit]:
    """``count`` units (240 for the whole property), the three buildings in proportion."""
    units: list[DemoUnit] = []
    for house in _HOUSES:
        wanted = count * house.share // 240
        places = (
            (floor, place) for floor in range(house.floors) for place in range(house.per_floor)
        )
        for number, (floor, place) in zip(range(wanted), places, strict=False):
            units.append(_unit(house, floor, place, number, len(units)))
    return units


def _unit(house: _House, floor: int, place: int, number: int, index: int) -> DemoUnit:
    vacant = index % 23 == 17
    first, last = _FIRST[index * 7 % len(_FIRST)], _LAST[index * 11 % len(_LAST)]
    language = "zh-hans" if last in {"Zhang", "Chen", "Wang", "Liu"} else "en"
    if house.code == "A":
        return _arcade_unit(
            number, index, f"{last} {_FIRMS[index % len(_FIRMS)]}", vacant, language
        )
    office = house.code == "S" and floor < 4
    profiles = ("G1-A", "G1-B", "G1-C") if office else ("H0-A", "H0-B", "H0-C", "H0-G", "H0-L")
    return DemoUnit(
        building=house.code,
        code=f"{floor + 1}{place + 1:02d}",
        floor=floor + 1,
        position=place,
        kind="office" if office else "flat",
        profile=profiles[index % len(profiles)],
        annual_kwh=80 if vacant else (3_800 if office else 1_900) + index * 137 % 2_100,
        tariff="BUS" if office else "RES",
        tenant="" if vacant else (f"{last} & {first} Partners" if office else f"{first} {last}"),
        protection="medical" if index in {3, 57} else "",
        language=language,
    )


def _arcade_unit(number: int, index: int, firm: str, vacant: bool, language: str) -> DemoUnit:
    floor, place = divmod(number, 15)
    if number < 4:
        return DemoUnit(
            "A",
            f"P{number + 1}",
            floor,
            place,
            "plant",
            "G3-A",
            6_000,
            "BUS",
            "Fernmoor Estates",
            "lift" if number % 2 else "fire",
        )
    booth = number >= 32
    # Some booths are free from the first minute on, so that one can be let.
    vacant = vacant or number in (38, 51)
    profiles = ("G0-A", "G0-M", "G2-A") if booth else ("G4-A", "G4-B", "G5-A", "G1-B")
    return DemoUnit(
        building="A",
        code=f"{'K' if booth else 'A'}{number - (31 if booth else 3)}",
        floor=floor,
        position=place,
        kind="booth" if booth else "shop",
        profile=profiles[index % len(profiles)],
        annual_kwh=60 if vacant else (900 if booth else 5_200) + index * 211 % 3_000,
        tariff="BOOTH" if booth else "BUS",
        tenant="" if vacant else firm,
        language=language,
    )


def property_sheets(
    units: list[DemoUnit],
    *,
    opened_at: datetime,
    today: date,
    opening_wh: Mapping[str, int],
    opening_balances: Mapping[str, str],
) -> PropertySheets:
    """The import tables of the property as it stood at ``opened_at``, for a visitor of ``today``.

    ``opening_balances`` names amounts, as a table has them, for those units (by ``key``) that have another than
    the usual one.
    """
    # Imported here: each start needs this module's constants, and only the first one the tables.
    from prewatt.estate.sheets import PropertySheets

    opened = opened_at.isoformat()
    tenants = [unit for unit in units if unit.tenant]
    return PropertySheets.of(
        {
            "property": [
                {
                    "organisation": "Fernmoor Estates",
                    "legal_entity": "Fernmoor Estates GmbH",
                    "tax_number": "DE000000000",
                    "code": PROPERTY_CODE,
                    "name": "Fernmoor Court",
                    "currency": "EUR",
                    "minor_digits": 2,
                    "time_zone": TIME_ZONE,
                    "holiday_calendar": HOLIDAYS,
                    "language": "en",
                    "default_tariff": "RES",
                }
            ],
            "tariffs": [
                {
                    "code": code,
                    "name": document["name"],
                    "document": json.dumps(document),
                    "valid_from": opened,
                    "approved_by": "demo:second-administrator",
                }
                for code, document in tariffs(today).items()
            ],
            "buildings": [
                {"code": house.code, "name": house.name, "position": number}
                for number, house in enumerate(_HOUSES)
            ],
            "units": [
                {
                    "building": u.building,
                    "code": u.code,
                    "floor": u.floor,
                    "position": u.position,
                    "kind": u.kind,
                }
                for u in units
            ],
            "metering_points": list(_points(units)),
            "meters": [
                {
                    "serial": u.serial,
                    "metering_point": f"{u.building}-{u.code}",
                    "model": u.model,
                    "driver": u.driver,
                    "multiplier": 1,
                    "modulus_wh": 1_000_000_000,
                    "max_power_w": 60_000,
                    "has_relay": "yes",
                    "expected_period_s": 900,
                    "installed_at": opened,
                    "opening_wh": opening_wh[u.serial],
                }
                for u in units
            ],
            "customers": [
                {
                    "code": f"C{u.key}",
                    "name": u.tenant,
                    "email": f"{u.key.lower()}@tenants.example",
                    "phone": "",
                    "language": u.language,
                }
                for u in tenants
            ],
            "accounts": [
                {
                    "number": account_number(number),
                    "kind": "customer",
                    "customer": f"C{u.key}",
                    "building": "",
                    "unit": "",
                    "tariff": u.tariff,
                    "opening_balance": opening_balances.get(u.key, f"{20 + number * 13 % 60}.00"),
                    "emergency_credit": EMERGENCY_CREDIT,
                    "protection": u.protection,
                }
                for number, u in enumerate(tenants)
            ],
            "tenancies": [
                {
                    "building": u.building,
                    "unit": u.code,
                    "customer": f"C{u.key}",
                    "account": account_number(number),
                    "begins_at": opened,
                }
                for number, u in enumerate(tenants)
            ],
        }
    )


def account_number(number: int) -> str:
    """The account number of the n-th tenant."""
    return str(20_101 + number)


def _points(units: list[DemoUnit]) -> Iterator[dict[str, object]]:
    """The main feeder, a feeder per building, and a unit's supply below that."""
    yield {
        "code": "MAIN",
        "building": "",
        "unit": "",
        "parent": "",
        "role": "feeder",
        "source": "grid",
    }
    for house in _HOUSES:
        yield {
            "code": f"F-{house.code}",
            "building": "",
            "unit": "",
            "parent": "MAIN",
            "role": "feeder",
            "source": "grid",
        }
    for unit in units:
        yield {
            "code": f"{unit.building}-{unit.code}",
            "building": unit.building,
            "unit": unit.code,
            "parent": f"F-{unit.building}",
            "role": "supply",
            "source": "grid",
        }


def tariffs(today: date) -> dict[str, dict[str, object]]:
    """Residential and business time of use, a flat price for booths, and two plans that let a place.

    Those two are the worked examples; the season is one that ``today`` is in, whenever that is.
    """
    season = _example("merchant-season")
    over = date(today.year + (today.month > 10), (today.month + 1) % 12 + 1, 1)
    season["name"] = "Market season"
    season["temporary"]["season"] = {"from": f"{today:%m}-01", "until": f"{over:%m-%d}"}
    season["note"] = "Two months, and the place is given back by itself; the days cost nothing but the electrician on call."  # fmt: skip
    return {
        "BOOTH-DAY": _example("market-booth-day"),
        "SEASON": season,
        "RES": _time_of_use("Residential time-of-use", "0.1720", "0.2480", "0.3160"),
        "BUS": _time_of_use("Business time-of-use", "0.1640", "0.2390", "0.2980"),
        "BOOTH": {
            "format": "prewatt-tariff/1",
            "name": "Market booth",
            "currency": "EUR",
            "energy": {"unit": "kWh", "bands": {"all": {"price": BOOTH_PRICE, "label": "All day"}}},
        },
    }


def _example(name: str) -> dict[str, Any]:
    """A worked example that comes with Prewatt."""
    text = (resources.files("prewatt") / "data/tariffs" / f"{name}.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def _time_of_use(name: str, night: str, day: str, peak: str) -> dict[str, object]:
    bands = {
        "night": {"price": night, "label": "Night"},
        "day": {"price": day, "label": "Day"},
        "peak": {"price": peak, "label": "Peak"},
    }
    work = (
        ("00:00", "06:00", "night"),
        ("06:00", "17:00", "day"),
        ("17:00", "21:00", "peak"),
        ("21:00", "24:00", "night"),
    )
    rest = (("00:00", "08:00", "night"), ("08:00", "24:00", "day"))
    return {
        "format": "prewatt-tariff/1",
        "name": name,
        "currency": "EUR",
        "energy": {
            "unit": "kWh",
            "bands": bands,
            "day_classes": {
                "workday": ["mon", "tue", "wed", "thu", "fri"],
                "restday": ["sat", "sun", "holiday"],
            },
            "schedule": [
                {
                    "days": days,
                    "periods": [
                        {"from": start, "until": end, "band": band} for start, end, band in periods
                    ],
                }
                for days, periods in (("workday", work), ("restday", rest))
            ],
        },
    }
