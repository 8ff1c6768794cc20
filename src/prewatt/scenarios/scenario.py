"""What a scenario file says: groups of meters, what happens when, who sells and who attacks. Pure: text in, values out.

TOML, every key checked: what is wrong is said with the place where it stands and with what to do about it. Shares are in
percent, times in seconds from the start of the run. `README.md` has each key.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

from prewatt.sim.meter import FAULTS

METERS_MAX: Final = 100_000
_PPM_OF_PERCENT: Final = 10_000

Radio = Literal["mqtt", "concentrator", "lwm2m", "lorawan"]
Happening = Literal[
    "broker_restart", "broker_crash", "head_end_restart", "gateway_outage", "meters_outage"
]
AttackKind = Literal[
    "no_certificate", "foreign_certificate", "another_meters_topic", "forged_bundle", "bit_flip",
    "coap_unprotected", "coap_replay", "lora_replay", "stolen_key", "another_property", "network_server",
]  # fmt: skip


class ScenarioRefused(ValueError):
    """A scenario cannot be run as it is written; each line says what is wrong, where, and what to do."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fault of some meters of a group, by name as `prewatt sim fault` has it, from when until when."""

    name: str
    percent: float
    value: int = 1
    from_s: int = 0
    until_s: int | None = None


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Meters of one radio. What a radio does not know must be left out."""

    name: str
    radio: Radio
    count: int
    period_s: int
    processes: int = 1
    #: Half of all messages are faster than the first, one in a hundred is slower than the second.
    latency_ms: tuple[int, int] = (0, 0)
    loss_percent: float = 0.0
    #: Connections that break for a while, by chance.
    breaks_per_hour: float = 0.0
    break_s: int = 10
    #: Of a concentrator: how many meters stand behind each, and how long it gathers.
    behind: int = 100
    gather_s: int = 5
    #: Of LwM2M: how long a meter sleeps (0: never), and which share speaks OSCORE.
    sleeps_s: int = 0
    oscore_percent: float = 0.0
    #: Of LoRaWAN.
    gateways: int = 2
    in_reach: int = 2
    spreading_factors: tuple[int, ...] = (7, 8, 9)
    duty_percent: float = 1.0
    #: So many verify what they are told and sign what they answer; of these, so many hold their credit themselves.
    signed_percent: float = 0.0
    holds_credit_percent: float = 0.0
    #: So many hold little and draw much: they are cut, recharged and connected, again and again.
    poor_percent: float = 0.0
    faults: tuple[Fault, ...] = ()


class Recharges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many recharges a second, poor accounts in turn; each lasts for about so long."""

    per_second: float
    lasts_s: int = 40


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that happens to the whole field, or to a share of a group."""

    what: Happening
    at_s: int
    for_s: int = 5
    group: str = ""
    percent: float = 100.0


class Attack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who tries something again and again."""

    what: AttackKind
    per_minute: int = 60


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole scenario. ``drain_s`` is how long the field has, after its last reading, until all is accounted for."""

    title: str
    duration_s: int
    meters: tuple[Group, ...]
    drain_s: int = 60
    seed: str = "1"
    tls: bool = False
    shards: int = 1
    recharges: Recharges | None = None
    events: tuple[Event, ...] = ()
    attacks: tuple[Attack, ...] = ()

    @property
    def count(self) -> int:
        """How many meters there are."""
        return sum(each.count for each in self.meters)


def read_scenario(text: str) -> Scenario:
    """The scenario in a TOML text. Raises ScenarioRefused with everything that is wrong and was found."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioRefused(
            [f"the file is not TOML: {error}; put texts in quotes and tables in [[ ]]"]
        ) from None
    if unknown := list(_unknown(raw, Scenario, "")):
        raise ScenarioRefused(unknown)
    try:
        scenario = msgspec.convert(raw, type=Scenario, strict=False)
    except msgspec.ValidationError as error:
        raise ScenarioRefused([_in_words(str(error))]) from None
    if wrong := list(_wrong(scenario)):
        raise ScenarioRefused(wrong)
    return scenario


def ppm(percent: float) -> int:
    """A share in millionths."""
    return round(percent * _PPM_OF_PERCENT)


# --- what is wrong ---------------------------------------------------------------------------------------

_TABLES: Final[dict[type, dict[str, type]]] = {
    Scenario: {"meters": Group, "recharges": Recharges, "events": Event, "attacks": Attack},
    Group: {"faults": Fault},
}


def _unknown(raw: dict[str, Any], kind: Any, where: str) -> Iterator[str]:
    """Keys that nobody knows, each with the one that was probably meant."""
    known = [each.name for each in msgspec.structs.fields(kind)]
    for key, value in raw.items():
        at = f"{where}{key}"
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            meant = f"did you mean {near[0]}?" if near else f"known here are {', '.join(known)}"
            yield f"{at}: no such key; {meant}"
            continue
        below = _TABLES.get(kind, {}).get(key)
        if below is None:
            continue
        for number, each in enumerate(value if isinstance(value, list) else [value], 1):
            if isinstance(each, dict):
                place = f"{at}[{number}]" if isinstance(value, list) else at
                yield from _unknown(each, below, f"{place}.")


def _in_words(error: str) -> str:
    """msgspec's message with the place first, counted from one, and what to do."""
    message, _, path = error.partition(" - at `$")
    where = re.sub(r"\[(\d+)\]", lambda found: f"[{int(found[1]) + 1}]", path.rstrip("`"))
    missing = re.search(r"required field `(\w+)`", message)
    if missing:
        return f"{where.lstrip('.') or 'the file'}: {missing[1]} is missing; write it, as {missing[1]} = …"
    return f"{where.lstrip('.') or 'the file'}: {message[:1].lower()}{message[1:]}; put it right"


_ONLY: Final[dict[str, tuple[Radio, ...]]] = {
    "behind": ("concentrator",),
    "gather_s": ("concentrator",),
    "sleeps_s": ("lwm2m",),
    "oscore_percent": ("lwm2m",),
    "gateways": ("lorawan",),
    "in_reach": ("lorawan",),
    "spreading_factors": ("lorawan",),
    "duty_percent": ("lorawan",),
    "breaks_per_hour": ("mqtt",),
    "break_s": ("mqtt",),
    "signed_percent": ("mqtt", "concentrator", "lwm2m"),
    "holds_credit_percent": ("mqtt", "concentrator"),
}
_LORA_FAULTS: Final = ("stuck_relay",)


def _wrong(scenario: Scenario) -> Iterator[str]:
    if scenario.duration_s < 1:
        yield "duration_s: a run takes a second at least; write how many"
    if not scenario.meters:
        yield "meters: there are none; add a [[meters]] table"
    if scenario.count > METERS_MAX:
        yield f"meters: {scenario.count:,} are more than the {METERS_MAX:,} of one run; make them fewer"
    names = [each.name for each in scenario.meters]
    for number, group in enumerate(scenario.meters, 1):
        where = f"meters[{number}]"
        if names.count(group.name) > 1:
            yield f"{where}.name: {group.name!r} is there twice; give each group its own"
        yield from _wrong_group(group, where)
    for number, event in enumerate(scenario.events, 1):
        yield from _wrong_event(event, f"events[{number}]", scenario)
    for number, attack in enumerate(scenario.attacks, 1):
        yield from _wrong_attack(attack, f"attacks[{number}]", scenario)
    if scenario.recharges is not None:
        if not 0 < scenario.recharges.per_second <= 1_000:
            yield "recharges.per_second: between 0 and 1,000; choose one"
        if not any(each.poor_percent for each in scenario.meters):
            yield "recharges: nobody needs any; give a group a poor_percent"


def _wrong_group(group: Group, where: str) -> Iterator[str]:
    if re.fullmatch(r"[a-z0-9-]{1,20}", group.name) is None:
        yield f"{where}.name: {group.name!r}; use 1 to 20 small letters, digits and hyphens"
    if group.count < 1 or group.period_s < 1 or group.processes < 1:
        yield f"{where}: count, period_s and processes begin at 1; raise them"
    if not 0 <= group.latency_ms[0] <= group.latency_ms[1] <= 60_000:
        yield f"{where}.latency_ms: the usual and the slow one, in this order, up to 60000; write [80, 900]"
    for name in (
        "loss_percent",
        "poor_percent",
        "oscore_percent",
        "duty_percent",
        "signed_percent",
        "holds_credit_percent",
    ):
        if not 0 <= getattr(group, name) <= 100:
            yield f"{where}.{name}: a share is from 0 to 100; choose one"
    if group.holds_credit_percent and not group.signed_percent:
        yield f"{where}.holds_credit_percent: is of meters that verify; write signed_percent, too"
    for name, radios in _ONLY.items():
        default = next(f.default for f in msgspec.structs.fields(Group) if f.name == name)
        if group.radio not in radios and getattr(group, name) != default:
            yield f"{where}.{name}: is of {' and '.join(radios)} alone; leave it out for {group.radio}"
    if group.radio == "concentrator" and not 1 <= group.behind <= 1_000:
        yield f"{where}.behind: a bundle holds 1,000 meters at most; choose from 1 to 1000"
    if group.radio == "lorawan":
        yield from _wrong_lora(group, where)
    for number, fault in enumerate(group.faults, 1):
        yield from _wrong_fault(fault, f"{where}.faults[{number}]", group)


def _wrong_lora(group: Group, where: str) -> Iterator[str]:
    if not 1 <= group.in_reach <= group.gateways:
        yield f"{where}.in_reach: from 1 to the number of gateways; change one of them"
    if not all(5 <= each <= 12 for each in group.spreading_factors):
        yield f"{where}.spreading_factors: LoRa has 5 to 12; leave the others out"
    if group.duty_percent == 0:
        yield f"{where}.duty_percent: who may never send is no meter; 1 is Europe's"


def _wrong_fault(fault: Fault, at: str, group: Group) -> Iterator[str]:
    known = _LORA_FAULTS if group.radio == "lorawan" else FAULTS
    if fault.name not in known:
        yield f"{at}.name: {group.radio} meters have no {fault.name!r}; there are {', '.join(known)}"
    if not 0 < fault.percent <= 100:
        yield f"{at}.percent: a share is over 0 and up to 100; choose one"
    if fault.until_s is not None and fault.until_s <= fault.from_s:
        yield f"{at}.until_s: ends before it begins; write it later than from_s"
    if group.radio == "lorawan" and (fault.from_s or fault.until_s is not None):
        yield f"{at}: a fault of LoRaWAN is there from the start to the end; leave from_s and until_s out"


def _wrong_event(event: Event, where: str, scenario: Scenario) -> Iterator[str]:
    groups = {each.name: each for each in scenario.meters}
    if not 0 <= event.at_s <= scenario.duration_s:
        yield f"{where}.at_s: {event.at_s} is not within the run's {scenario.duration_s} s; move it"
    if event.for_s < 0:
        yield f"{where}.for_s: cannot be negative; write how long it lasts"
    if event.what not in ("gateway_outage", "meters_outage"):
        if event.group:
            yield f"{where}.group: {event.what} is of everybody; leave it out"
        return
    group = groups.get(event.group)
    if group is None:
        yield f"{where}.group: no group {event.group!r}; there are {', '.join(groups)}"
        return
    fits = (
        ("lorawan", "concentrator")
        if event.what == "gateway_outage"
        else ("mqtt", "lwm2m", "concentrator")
    )
    if group.radio not in fits:
        yield f"{where}.group: {event.what} is of {' and '.join(fits)}, and {group.name} is {group.radio}; name another"
    if not 0 < event.percent <= 100:
        yield f"{where}.percent: a share is over 0 and up to 100; choose one"


_NEEDS: Final[dict[str, Radio]] = {
    "no_certificate": "mqtt",
    "foreign_certificate": "mqtt",
    "another_meters_topic": "mqtt",
    "forged_bundle": "concentrator",
    "bit_flip": "concentrator",
    "coap_unprotected": "lwm2m",
    "coap_replay": "lwm2m",
    "lora_replay": "lorawan",
    "stolen_key": "mqtt",
    "another_property": "mqtt",
    "network_server": "lorawan",
}


def _wrong_attack(attack: Attack, where: str, scenario: Scenario) -> Iterator[str]:
    if not 1 <= attack.per_minute <= 6_000:
        yield f"{where}.per_minute: from 1 to 6000; choose one"
    radio = _NEEDS[attack.what]
    if all(each.radio != radio for each in scenario.meters):
        yield f"{where}.what: {attack.what} needs a group with radio {radio}; add one or leave it out"
    if radio in ("mqtt", "concentrator") and not scenario.tls:
        yield (
            f"{where}.what: without certificates everybody at the broker speaks for every meter, so that {attack.what} "
            "proves nothing; write tls = true"
        )
    if attack.what == "stolen_key" and not any(each.signed_percent for each in scenario.meters):
        yield f"{where}.what: stolen_key is tried on meters that verify; give a group a signed_percent"
    if radio == "lwm2m" and not any(each.oscore_percent == 100 for each in scenario.meters):
        yield f"{where}.what: {attack.what} is tried against keys; write oscore_percent = 100"
