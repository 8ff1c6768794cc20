"""Writes what each process of a field needs, and says how it is started."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from random import Random
from typing import Final

import msgspec
from cryptography.fernet import Fernet

from prewatt.hes.drivers.lwm2m.keys import (
    FOLDER_VARIABLE,
    SEALS_VARIABLE,
    DeviceKey,
    DeviceKeys,
)
from prewatt.runtime.supervisor import prewatt_command
from prewatt.scenarios.estate import PRICE_NANO
from prewatt.scenarios.population import POOR_LOAD_W, Field, Part, VirtualMeter, gateways_of
from prewatt.scenarios.scenario import Scenario, ppm
from prewatt.sim.attackers import Attack, AttackersConfig
from prewatt.sim.devices_process import DevicesConfig, SimDevice
from prewatt.sim.loads import load_profile, scale_ppm_for
from prewatt.sim.lorawan import Air, LoraMeter, Outage
from prewatt.sim.lorawan_process import LoraConfig
from prewatt.sim.process import SimConfig, SimFault, SimMeter
from prewatt.sim.turns import Turn

_LATE_US: Final = 400_000
_HEATER: Final = "heater"
_TAPE: Final = "tape"
ATTACKERS: Final = "attackers"
STOLEN: Final = "STOLEN-1"
"""A meter that attackers have, with its certificate and its instruction key: of another property of the installation."""
STOLEN_SECRET: Final = "02" * 32


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everybody is: the broker (with the folder of certificates, or none), CoAP, the network server's broker."""

    mqtt: tuple[str, int]
    tls: str
    coap: str
    network_server: tuple[str, int] | None
    #: A folder with a certificate that nobody believes, where there are attackers.
    foreign: str = ""
    #: By whose keys meters verify: points by their ids, in hexadecimal digits.
    trusts: Mapping[str, str] = dataclass_field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A part that can be started: its folder gets its counts and records."""

    name: str
    folder: Path
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Keys:
    """OSCORE keys by serial number, and what the head-end's environment has to say of them."""

    of: Mapping[str, DeviceKey]
    environ: Mapping[str, str]


def make_keys(field: Field, folder: Path) -> Keys:
    """A key for each meter that has one; the head-end reads the folder as it starts."""
    seal = Fernet.generate_key().decode()
    made = DeviceKeys(folder, [seal])
    keys = {each.serial: made.make(each.serial) for each in field.meters if each.has_key}
    return Keys(keys, {FOLDER_VARIABLE: str(folder), SEALS_VARIABLE: seal})


def prepare(
    field: Field,
    *,
    scenario: Scenario,
    seed: str,
    folder: Path,
    addresses: Addresses,
    opened_us: int,
    start_us: int,
    keys: Mapping[str, DeviceKey],
) -> list[Prepared]:
    """Write a configuration for each part into a folder of its own. Registers begin at ``opened_us``."""
    made = []
    tape = str(folder / _TAPE) if scenario.attacks else ""
    for part in field.parts:
        own = folder / part.name
        own.mkdir(parents=True)
        config: msgspec.Struct
        if part.group.radio == "lwm2m":
            kind = "devices"
            config = _devices(part, addresses, own, seed, opened_us, start_us, keys, tape)
        elif part.group.radio == "lorawan":
            kind = "lora"
            at = scenario.meters.index(part.group)
            config = _lora(part, at, field, addresses, own, seed, start_us)
        else:
            kind = "meters"
            config = _meters(part, addresses, own, seed, opened_us, start_us)
        path = own / "config.json"
        path.touch(mode=0o600)
        path.write_bytes(msgspec.json.encode(config))
        command = tuple(prewatt_command("sim", kind, "--config", str(path)))
        made.append(Prepared(part.name, own, command))
    if scenario.attacks:
        made.append(_attackers(field, scenario, seed, folder, addresses, start_us))
    return made


def _attackers(
    field: Field,
    scenario: Scenario,
    seed: str,
    folder: Path,
    addresses: Addresses,
    start_us: int,
) -> Prepared:
    """The process of all attackers. Of meters on LwM2M those with a key are their victims."""
    victims: dict[str, list[str]] = defaultdict(list)
    for meter in field.meters:
        if meter.radio != "lwm2m" or meter.has_key:
            victims[meter.radio].append(meter.serial)
    own = folder / ATTACKERS
    own.mkdir(parents=True)
    config = AttackersConfig(
        attacks=tuple(Attack(each.what, each.per_minute) for each in scenario.attacks),
        victims={radio: tuple(serials) for radio, serials in victims.items()},
        seed=seed,
        start_us=start_us,
        records=str(own),
        mqtt=addresses.mqtt,
        tls=addresses.tls,
        stolen=STOLEN if addresses.tls else "",
        stolen_secret=STOLEN_SECRET,
        foreign=addresses.foreign,
        coap=addresses.coap,
        tape=str(folder / _TAPE) if scenario.attacks else "",
        network_server=addresses.network_server,
    )
    path = own / "config.json"
    path.write_bytes(msgspec.json.encode(config))
    return Prepared(ATTACKERS, own, tuple(prewatt_command("sim", "attack", "--config", str(path))))


def _sim_meter(meter: VirtualMeter, opened_us: int) -> SimMeter:
    return SimMeter(
        meter.serial,
        meter.profile,
        scale_ppm_for(load_profile(meter.profile), meter.annual_kwh),
        meter.opening_wh,
        opened_us,
        concentrator=meter.concentrator,
        report_period_s=meter.period_s,
        way=meter.way,
        secret=meter.secret,
        holds_credit=meter.holds_credit,
        price_nano=PRICE_NANO if meter.holds_credit else 0,
    )


def _sim_faults(meters: Sequence[VirtualMeter]) -> tuple[SimFault, ...]:
    """What they have from the start; who is poor draws much."""
    return tuple(
        SimFault(meter.serial, name, value)
        for meter in meters
        for name, value in (*meter.faults, *([(_HEATER, POOR_LOAD_W)] if meter.is_poor else []))
    )


def _from(turns: Sequence[Turn], start_us: int) -> tuple[Turn, ...]:
    return tuple(msgspec.structs.replace(each, at_us=start_us + each.at_us) for each in turns)


def _meters(
    part: Part, addresses: Addresses, own: Path, seed: str, opened_us: int, start_us: int
) -> SimConfig:
    return SimConfig(
        name=part.name,
        host=addresses.mqtt[0],
        port=addresses.mqtt[1],
        state_file=str(own / "state.json"),
        meters=tuple(_sim_meter(each, opened_us) for each in part.meters),
        report_period_s=part.group.period_s,
        faults=_sim_faults(part.meters),
        gather_s=part.group.gather_s,
        trusts=dict(addresses.trusts),
        # A part is not killed: what its meters know is in its records.
        saves_late=True,
        tls=addresses.tls,
        schedule=_from(part.turns, start_us),
        seed=seed,
        records=str(own),
    )


def _devices(
    part: Part,
    addresses: Addresses,
    own: Path,
    seed: str,
    opened_us: int,
    start_us: int,
    keys: Mapping[str, DeviceKey],
    tape: str,
) -> DevicesConfig:
    return DevicesConfig(
        server=addresses.coap,
        devices=tuple(
            SimDevice(
                _sim_meter(each, opened_us),
                key=keys.get(each.serial),
                sleeps_s=each.sleeps_s,
            )
            for each in part.meters
        ),
        records=str(own),
        seed=seed,
        faults=_sim_faults(part.meters),
        schedule=_from(part.turns, start_us),
        tape=tape,
        trusts=dict(addresses.trusts),
    )


def _lora(
    part: Part, at: int, field: Field, addresses: Addresses, own: Path, seed: str, start_us: int
) -> LoraConfig:
    assert addresses.network_server is not None, "there is one for its devices"
    group = part.group
    host, port = addresses.network_server
    loss_ppm = ppm(group.loss_percent)
    return LoraConfig(
        host=host,
        port=port,
        meters=tuple(
            LoraMeter(
                each.serial,
                "ws52x",
                each.profile,
                each.opening_wh,
                period_s=each.period_s,
                spreading_factor=each.spreading_factor,
                load_w=POOR_LOAD_W if each.is_poor else 0,
                is_welded=("stuck_relay", 1) in each.faults,
                in_reach=each.in_reach,
            )
            for each in part.meters
        ),
        air=Air(
            gateways=gateways_of(group, at),
            uplink_loss_ppm=loss_ppm,
            downlink_loss_ppm=loss_ppm,
            late_us_max=_LATE_US,
            duty_ppm=ppm(group.duty_percent),
            gateway_duty_ppm=min(1_000_000, 10 * ppm(group.duty_percent)),
            outages=tuple(
                Outage(gateway, start_us + since, start_us + until)
                for gateway, since, until in field.gateway_outages
            ),
        ),
        seed=Random(f"{seed} {part.name}").getrandbits(32),  # noqa: S311 - repeated by its seed
        start_us=start_us,
        records=str(own),
    )
