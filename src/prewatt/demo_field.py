"""The field of a demo: what its meters, their keys and their radios need, made once and written anew at each start.

MQTT meters run in processes of their own, and so do the meters on LwM2M and the network server with its LoRaWAN
devices. What a meter keeps in a chip lies among the state directory's secrets, where its owner alone reads it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prewatt import wiring
from prewatt.runtime.broker import LOOPBACK, BrokerCommand
from prewatt.runtime.state import secret_text
from prewatt.runtime.supervisor import prewatt_command

if TYPE_CHECKING:
    from prewatt.demo_certificates import DemoCertificates

MQTT_PROCESSES: Final = 2
REPORT_PERIOD_S: Final = 15
#: What a device of LoRaWAN says takes the air for a while, of which it may have a hundredth.
LORA_PERIOD_S: Final = 60
#: After a start all of them speak within so many seconds, as after a power cut.
_LORA_BEGINS_WITHIN_S: Final = 2
_LORA_LOSS_PPM: Final = 20_000
#: As many as a head-end meets beside all else on a small machine.
_WAKES_PER_LOOK: Final = 4
_SPREADING_FACTORS: Final = (7, 8, 9, 10)
_SIGNING, _SESSIONS, _OSCORE = "signing", "sessions", "oscore"


@dataclass(frozen=True, slots=True)
class Brokers:
    """The meters' broker and the network server's, which are one where nobody is asked for a certificate."""

    meters: BrokerCommand
    network_server: BrokerCommand
    certificates: DemoCertificates | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A process of the field: its name, and how it is started."""

    name: str
    command: list[str]


class DemoField:
    """The field that the facts of a demo tell of; of one that was made before it had radios, MQTT meters alone."""

    def __init__(self, state_dir: Path, facts: Mapping[str, Any]) -> None:
        self._state_dir = state_dir
        self._facts = facts
        self._folder = state_dir / "meters"
        self._secrets = state_dir / "secrets" / "meters"
        self._coap = f"{LOOPBACK}:{_free_udp_port()}"

    @property
    def size(self) -> int:
        """How many meters there are."""
        return sum(len(self._meters(kind)) for kind in ("meters", "devices", "lora"))

    @property
    def on_mqtt(self) -> list[str]:
        """The serial numbers of those with a connection to the broker."""
        return [each["serial"] for each in self._meters("meters")]

    # --- once ---

    def make_keys(self) -> None:
        """Make the keys that meters have, and have the public halves enrolled; as the owner of the database."""
        import msgspec

        from prewatt.hes.drivers.lwm2m.keys import DeviceKeys
        from prewatt.instructions.operations import SignerSeal
        from prewatt.signing.es256 import ES256PrivateKey
        from prewatt.signing.keyring import open_keyring, seals_of
        from prewatt.signing.keys import KeyRole
        from prewatt.signing.sessions import SessionSeals
        from prewatt.sim.onboarding import SessionSide, give_keys

        signing, agreeing = (
            {
                each["serial"]: ES256PrivateKey.generate()
                for kind in kinds
                for each in self._meters(kind)
                if each.get("signs")
            }
            for kinds in (("meters", "devices"), ("lora",))
        )
        store = wiring.signing_keys(self._state_dir)
        # Not before the first key signs, which may have been made just now.
        now = wiring.now()
        signer = open_keyring(store).signer(KeyRole.INSTRUCTION, now=now)
        offers = give_keys(
            property_id=self._facts["property_id"],
            public_keys={serial: key.spki for serial, key in signing.items()},
            agreements={serial: key.point for serial, key in agreeing.items()},
            by=SessionSide(SignerSeal(signer), SessionSeals(seals_of(store))),
            now=now,
        )
        self._keep(_SIGNING, {serial: key.scalar.hex() for serial, key in signing.items()})
        self._keep(
            _SESSIONS,
            {
                serial: msgspec.to_builtins({"agreement": agreeing[serial].scalar, "offer": offer})
                for serial, offer in offers.items()
            },
        )
        keys = DeviceKeys(self._oscore_folder, [self._oscore_seal()])
        # Again: of an earlier property there may be keys, whose devices are gone.
        shared = {
            each["serial"]: keys.make(each["serial"], again=True)
            for each in self._meters("devices")
        }
        self._keep(_OSCORE, {serial: msgspec.to_builtins(key) for serial, key in shared.items()})

    # --- at each start ---

    def environ(self, brokers: Brokers) -> dict[str, str]:
        """What the head-end is told: where its radios are, and the keys that it has."""
        environ = {
            "PREWATT_MQTT": f"{brokers.meters.host}:{brokers.meters.port}",
            **wiring.signing_keys(self._state_dir),
        }
        if brokers.certificates is not None:
            environ |= brokers.certificates.environ()
        if self._meters("devices"):
            environ |= {
                "PREWATT_COAP": self._coap,
                "PREWATT_LWM2M_KEYS": str(self._oscore_folder),
                "PREWATT_LWM2M_SEALS": self._oscore_seal(),
            }
        if self._meters("lora"):
            server = brokers.network_server
            environ["PREWATT_LORAWAN"] = f"chirpstack://{server.host}:{server.port}"
        return environ

    def prepare(self, brokers: Brokers) -> list[Part]:
        """Write the configuration of each process, and say how it is started."""
        self._folder.mkdir(exist_ok=True)
        parts = [self._mqtt_part(number, brokers) for number in range(MQTT_PROCESSES)]
        if self._meters("devices"):
            parts.append(self._lwm2m_part())
        if self._meters("lora"):
            parts.append(self._lora_part(brokers.network_server))
        return parts

    def _mqtt_part(self, number: int, brokers: Brokers) -> Part:
        shown, broker = brokers.certificates, brokers.meters
        mine = self._meters("meters")[number::MQTT_PROCESSES]
        config = self._time() | {
            "name": f"demo-{number}",
            "host": broker.host,
            "port": broker.port,
            "state_file": str(self._folder / f"state-{number}.json"),
            "report_period_s": REPORT_PERIOD_S,
            "meters": self._with_secrets(mine),
            "faults": self._faults(mine),
            "tls": "" if shown is None else str(shown.clients),
            "trusts": wiring.instruction_keys(self._state_dir),
        }
        return self._part(f"meters-{number}", "meters", config)

    def _lwm2m_part(self) -> Part:
        known, mine = self._kept(_OSCORE), self._meters("devices")
        keeps = self._folder / "devices"
        keeps.mkdir(mode=0o700, exist_ok=True)
        config = self._time() | {
            "server": self._coap,
            "devices": [
                {
                    "meter": each | {"report_period_s": REPORT_PERIOD_S},
                    "key": known[each["serial"]],
                }
                for each in self._with_secrets(mine)
            ],
            "faults": self._faults(mine),
            "trusts": wiring.instruction_keys(self._state_dir),
            "keeps": str(keeps),
            "wakes_per_look": _WAKES_PER_LOOK,
        }
        return self._part("meters-lwm2m", "devices", config)

    def _lora_part(self, broker: BrokerCommand) -> Part:
        """The devices hear nothing of a broker, so that a load on top is all of the faults that they have."""
        mine, known = self._meters("lora"), self._kept(_SESSIONS)
        trusts = [
            b64encode(bytes.fromhex(point)).decode()
            for point in wiring.instruction_keys(self._state_dir).values()
        ]
        loads = {serial: value for serial, name, value in self._faults(mine) if name == "heater"}
        config = self._time() | {
            "host": broker.host,
            "port": broker.port,
            "state_file": str(self._folder / "state-lorawan.json"),
            "meters": [
                {
                    "eui": each["serial"],
                    **{name: each[name] for name in each if name not in ("serial", "signs")},
                    **({"trusts": trusts, **known[each["serial"]]} if each.get("signs") else {}),
                    "period_s": LORA_PERIOD_S,
                    "spreading_factor": _SPREADING_FACTORS[at % len(_SPREADING_FACTORS)],
                    "load_w": loads.get(each["serial"], 0),
                }
                for at, each in enumerate(mine)
            ],
            "air": {"uplink_loss_ppm": _LORA_LOSS_PPM, "downlink_loss_ppm": _LORA_LOSS_PPM},
            "seed": secrets.randbits(32),
            "begins_within_s": _LORA_BEGINS_WITHIN_S,
        }
        return self._part("meters-lorawan", "lora", config)

    # --- inside ---

    def _meters(self, kind: str) -> list[dict[str, Any]]:
        meters: list[dict[str, Any]] = self._facts.get(kind, [])
        return meters

    def _with_secrets(self, mine: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The meters with what each of them alone has."""
        known = self._kept(_SIGNING)
        return [
            {name: each[name] for name in each if name != "signs"}
            | ({"secret": known[each["serial"]]} if each.get("signs") else {})
            for each in mine
        ]

    def _faults(self, mine: list[dict[str, Any]]) -> list[list[Any]]:
        """What makes the demo worth watching: a heater here, an open cover there."""
        serials = {each["serial"] for each in mine}
        return [list(fault) for fault in self._facts["faults"] if fault[0] in serials]

    def _time(self) -> dict[str, Any]:
        from prewatt.sim.property import UTC_OFFSET_S

        return {
            "clock_offset_us": self._facts["clock_offset_us"],
            "utc_offset_s": UTC_OFFSET_S,
        }

    def _part(self, name: str, kind: str, config: Mapping[str, Any]) -> Part:
        path = self._folder / f"{name}.json"
        _write_secret(path, config)
        return Part(name, prewatt_command("sim", kind, "--config", str(path)))

    @property
    def _oscore_folder(self) -> Path:
        return self._state_dir / "secrets" / "lwm2m"

    def _oscore_seal(self) -> str:
        from cryptography.fernet import Fernet

        return secret_text(
            self._state_dir / "secrets" / "lwm2m.seal",
            lambda: Fernet.generate_key().decode("ascii"),
        )

    def _keep(self, name: str, values: Mapping[str, Any]) -> None:
        self._secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_secret(self._secrets / f"{name}.json", values)

    def _kept(self, name: str) -> dict[str, Any]:
        try:
            kept = json.loads((self._secrets / f"{name}.json").read_text())
        except FileNotFoundError:
            return {}
        assert isinstance(kept, dict), "it was written here"
        return kept


def _write_secret(path: Path, content: Mapping[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file)
    draft.replace(path)


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
