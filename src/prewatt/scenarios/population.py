"""The meters of a scenario, and everything that will happen to them: drawn from the seed alone, so always the same. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from prewatt.scenarios.scenario import Event, Group, Radio, Scenario, ppm
from prewatt.sim.turns import Turn, Way

_S: Final = 1_000_000
_HOUR_S: Final = 3600
_PROFILES: Final = ("H0-A", "H0-B", "H0-C", "G1-A", "G4-A")
_ANNUAL_KWH: Final = (1_500, 9_000)
#: So much a poor meter draws on top of its shape, so that little money lasts for seconds.
POOR_LOAD_W: Final = 60_000
_EUI: Final = "24e124"
_GATEWAY: Final = "0016c001"


@dataclass(frozen=True, slots=True)
class VirtualMeter:
    """One meter of the field. ``faults`` are there from the start; what comes later is a turn."""

    serial: str
    group: str
    radio: Radio
    period_s: int
    profile: str
    annual_kwh: int
    opening_wh: int
    way: Way
    is_poor: bool = False
    concentrator: str = ""
    has_key: bool = False
    #: Its own instruction key, 32 bytes in hexadecimal digits, of one that verifies and signs.
    secret: str = ""
    holds_credit: bool = False
    sleeps_s: int = 0
    in_reach: tuple[str, ...] = ()
    spreading_factor: int = 9
    faults: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What one process simulates: meters of one group, and the turns of them and of their concentrators."""

    name: str
    group: Group
    meters: tuple[VirtualMeter, ...]
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """All parts. Instants of turns are µs after the start; ``gateway_outages`` are (gateway, from µs, until µs)."""

    parts: tuple[Part, ...]
    gateway_outages: tuple[tuple[str, int, int], ...]

    @property
    def meters(self) -> list[VirtualMeter]:
        """All meters, part by part."""
        return [meter for part in self.parts for meter in part.meters]


def populate(scenario: Scenario, seed: str) -> Field:
    """The field of a scenario under a seed."""
    parts: list[Part] = []
    outages: list[tuple[str, int, int]] = []
    for at, group in enumerate(scenario.meters):
        random = Random(f"{seed} group {group.name}")  # noqa: S311 - a simulation is repeated by its seed
        meters = _meters(group, at, random)
        turns = [
            *_faults(group, meters, random),
            *_breaks(group, meters, scenario.duration_s, random),
            *_outages(group, meters, scenario.events, random),
        ]
        outages += _gateways_out(group, at, scenario.events, random)
        parts += _divided(group, meters, sorted(turns, key=lambda each: each.at_us))
    return Field(tuple(parts), tuple(outages))


def gateways_of(group: Group, at: int) -> tuple[str, ...]:
    """The gateways of a group of LoRaWAN meters, which is the ``at``-th of its scenario."""
    return tuple(f"{_GATEWAY}{at:04x}{number:04x}" for number in range(group.gateways))


# --- who there is ----------------------------------------------------------------------------------------


def _meters(group: Group, at: int, random: Random) -> list[VirtualMeter]:
    poor = _share(group.count, group.poor_percent, random)
    keyed = _share(group.count, group.oscore_percent, random)
    signing = sorted(_share(group.count, group.signed_percent, random))
    holding = {signing[n] for n in _share(len(signing), group.holds_credit_percent, random)}
    gateways = gateways_of(group, at) if group.radio == "lorawan" else ()
    way = Way(*group.latency_ms, ppm(group.loss_percent))
    made = [
        VirtualMeter(
            serial=_serial(group, at, number),
            group=group.name,
            radio=group.radio,
            period_s=group.period_s,
            profile=random.choice(_PROFILES),
            annual_kwh=random.randint(*_ANNUAL_KWH),
            opening_wh=random.randint(1_000_000, 40_000_000),
            way=way,
            is_poor=number in poor,
            concentrator=_concentrator(group, number),
            has_key=number in keyed,
            secret=_secret(random) if number in signing else "",
            holds_credit=number in holding,
            sleeps_s=group.sleeps_s,
            in_reach=tuple(sorted(random.sample(gateways, group.in_reach))) if gateways else (),
            spreading_factor=random.choice(group.spreading_factors),
        )
        for number in range(group.count)
    ]
    return _with_faults(group, made, random)


def _secret(random: Random) -> str:
    """A key of P-256 by the seed, below the order of the curve by its first byte: of a meter that nobody has."""
    return f"01{random.randbytes(31).hex()}"


def _concentrator(group: Group, number: int) -> str:
    if group.radio != "concentrator":
        return ""
    return f"DTU-{group.name.upper()}-{number // group.behind + 1}"


def _serial(group: Group, at: int, number: int) -> str:
    if group.radio == "lorawan":
        return f"{_EUI}{at:02x}{number:08x}"
    return f"{group.name.upper()}-{number + 1:05}"


def _share(count: int, percent: float, random: Random) -> frozenset[int]:
    """So many of ``count``, by chance; one at least where there shall be any."""
    wanted = round(count * percent / 100)
    if percent > 0:
        wanted = max(1, wanted)
    return frozenset(random.sample(range(count), min(wanted, count)))


def _with_faults(group: Group, meters: list[VirtualMeter], random: Random) -> list[VirtualMeter]:
    had: dict[int, list[tuple[str, int]]] = {}
    for fault in group.faults:
        chosen = _share(group.count, fault.percent, random)
        if fault.from_s == 0 and fault.until_s is None:
            for number in sorted(chosen):
                had.setdefault(number, []).append((fault.name, fault.value))
    return [
        replace(meter, faults=tuple(had.get(number, ()))) for number, meter in enumerate(meters)
    ]


# --- what happens to them --------------------------------------------------------------------------------


def _faults(group: Group, meters: Sequence[VirtualMeter], random: Random) -> Iterator[Turn]:
    """Faults that come, and perhaps go, while the field is at work."""
    for fault in group.faults:
        if fault.from_s == 0 and fault.until_s is None:
            continue
        for number in sorted(_share(group.count, fault.percent, random)):
            serial = meters[number].serial
            yield Turn(fault.from_s * _S, serial, fault.name, fault.value)
            if fault.until_s is not None:
                yield Turn(fault.until_s * _S, serial, fault.name, 0)


def _breaks(
    group: Group, meters: Sequence[VirtualMeter], duration_s: int, random: Random
) -> Iterator[Turn]:
    """Connections that break by chance, each by itself."""
    if group.breaks_per_hour <= 0:
        return
    for meter in meters:
        at_us = 0
        while True:
            at_us += round(random.expovariate(group.breaks_per_hour / _HOUR_S) * _S)
            if at_us >= duration_s * _S:
                break
            yield Turn(at_us, meter.serial, "outage", 1)
            at_us += group.break_s * _S
            yield Turn(at_us, meter.serial, "outage", 0)


def _outages(
    group: Group, meters: Sequence[VirtualMeter], events: Iterable[Event], random: Random
) -> Iterator[Turn]:
    """Outages of meters, or of the concentrators before them."""
    for event in events:
        if event.group != group.name or group.radio == "lorawan":
            continue
        names = (
            list(dict.fromkeys(each.concentrator for each in meters))
            if event.what == "gateway_outage"
            else [each.serial for each in meters]
        )
        for number in sorted(_share(len(names), event.percent, random)):
            yield Turn(event.at_s * _S, names[number], "outage", 1)
            yield Turn((event.at_s + event.for_s) * _S, names[number], "outage", 0)


def _gateways_out(
    group: Group, at: int, events: Iterable[Event], random: Random
) -> Iterator[tuple[str, int, int]]:
    if group.radio != "lorawan":
        return
    gateways = gateways_of(group, at)
    for event in events:
        if event.what == "gateway_outage" and event.group == group.name:
            for number in sorted(_share(len(gateways), event.percent, random)):
                yield (gateways[number], event.at_s * _S, (event.at_s + event.for_s) * _S)


# --- who simulates whom ----------------------------------------------------------------------------------


def _divided(group: Group, meters: list[VirtualMeter], turns: list[Turn]) -> Iterator[Part]:
    """A group among its processes; a concentrator stays whole."""
    homes: dict[str, int] = {}
    shares: list[list[VirtualMeter]] = [[] for _ in range(group.processes)]
    for meter in meters:
        home = homes.setdefault(meter.concentrator or meter.serial, len(homes) % group.processes)
        shares[home].append(meter)
    for number, share in enumerate(shares, 1):
        if share:
            own = {each.serial for each in share} | {each.concentrator for each in share}
            yield Part(
                f"{group.name}-{number}",
                group,
                tuple(share),
                tuple(each for each in turns if each.serial in own),
            )
