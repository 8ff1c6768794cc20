"""Attackers of a simulated field: they try again and again what nobody may get away with, and count what they got.

| attack | who does what | what must happen |
|---|---|---|
| `no_certificate` | a stranger knocks at the broker under TLS | is not let in |
| `foreign_certificate` | one with a meter's name by another authority | is not let in |
| `another_meters_topic` | one with a certificate of ours speaks as other meters: readings, hellos, answers | the broker hands none of it on |
| `forged_bundle` | the same as a concentrator, for meters that are not behind it | is refused, and kept as a sample |
| `bit_flip` | bundles with one bit turned | are refused by their checksum |
| `coap_unprotected` | registers and sends as a meter that has a key, without it | 4.01 or 4.04 |
| `coap_replay` | sends again what a meter has sent, byte for byte, and with a bit turned | nothing is answered with yes |
| `lora_replay` | tells the network server's events again, later, and with another register | is dropped by its counter |
| `stolen_key` | has a meter's instruction key: signs answers in other meters' names, and to commands that never were | is counted as forged, and a person is called |
| `another_property` | has a device of another property: speaks of the meters here on topics of its own, and answers their orders | is refused, and kept as a sample |
| `network_server` | has the network server's login: tells of devices that nobody registered, and of meters on other radios | is refused, and kept as a sample |

What is tried here is what an attacker at a line, or with one stolen identity, can try against others. Whoever has the network server's own login
speaks for its devices (`hes/drivers/lorawan/README.md`), and whoever has a meter's own key for that meter.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final

import aiocoap
import msgspec
import numpy as np
from aiocoap.numbers.codes import Code
from aiocoap.numbers.types import Type
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from prewatt.core.instructions import Answer, Result, sealed_answer
from prewatt.core.vocabulary import RelayState as RelayCode
from prewatt.hes.drivers.lwm2m import links, objects, senml
from prewatt.hes.drivers.lwm2m.values import Item
from prewatt.hes.drivers.mqtt_bundle import codec as bundles
from prewatt.hes.drivers.mqtt_senml import codec
from prewatt.hes.drivers.mqtt_senml.topics import Uplink, uplink_topic
from prewatt.hes.frames import ACTIVE_IMPORT
from prewatt.hes.wire import TlsFiles
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.sim.meter import MeterSeal
from prewatt.sim.records import Counts, Notes, PartRecords

#: What is said by the counts of an attack that got through; whoever reads them looks for this word.
LET_IN: Final = "let in by"
TRIED: Final = "tried"
#: As what the head-end counts an attack that reaches it (`rejected_frame.reason`): one of these at least.
SEEN_AS: Final[Mapping[str, tuple[str, ...]]] = {
    "forged_bundle": ("unknown_concentrator",),
    "bit_flip": ("checksum",),
    "coap_unprotected": ("unprotected",),
    "lora_replay": ("replay",),
    "stolen_key": ("forged_foreign", "forged_forged"),
    "another_property": ("serial", "unsigned_answer"),
    "network_server": ("unknown_meter",),
}

_TIMEOUT_S: Final = 2.0
_LOOK_S: Final = 0.02
_TAPE_MAX: Final = 2_000
_FORGED_WH: Final = 123_456_789
_BY_STOLEN: Final = frozenset(
    {"another_meters_topic", "forged_bundle", "bit_flip", "stolen_key", "another_property"}
)
_BY_SERVER: Final = frozenset({"lora_replay", "network_server"})
_EVENTS: Final = "application/+/device/+/event/up"
#: CONNECT of MQTT 3.1.1, clean session, a minute's keep-alive, client "x".
_CONNECT: Final = bytes.fromhex("100d00044d5154540402003c000178")


class Attack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the table's, so often."""

    what: str
    per_minute: int


class AttackersConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration of one process of attackers, JSON. ``victims`` are serials by radio, ``tape`` where datagrams lie.

    ``stolen`` is the name of a certificate in ``tls`` by which nobody else speaks, ``stolen_secret`` the instruction key of that
    device; ``foreign`` a folder with one of another authority, by the name of the first victim.
    """

    attacks: tuple[Attack, ...]
    victims: dict[str, tuple[str, ...]]
    seed: str
    start_us: int
    records: str
    mqtt: tuple[str, int]
    tls: str = ""
    stolen: str = ""
    stolen_secret: str = ""
    foreign: str = ""
    coap: str = ""
    tape: str = ""
    network_server: tuple[str, int] | None = None


class Attackers:
    """All attackers of a field, in one thread, each in its turn."""

    def __init__(self, config: AttackersConfig) -> None:
        self._config = config
        self._random = Random(f"{config.seed} attackers")  # noqa: S311 - a simulation is repeated by its seed
        self._deeds: dict[str, Callable[[], bool]] = {
            "no_certificate": self._no_certificate,
            "foreign_certificate": self._foreign_certificate,
            "another_meters_topic": self._another_meters_topic,
            "forged_bundle": self._forged_bundle,
            "bit_flip": self._bit_flip,
            "coap_unprotected": self._coap_unprotected,
            "coap_replay": self._coap_replay,
            "lora_replay": self._lora_replay,
            "stolen_key": self._stolen_key,
            "another_property": self._another_property,
            "network_server": self._network_server_login,
        }
        self.counts: Counter[str] = Counter()
        self._stolen: Client | None = None
        self._network_server: Client | None = None
        self._heard: deque[tuple[str, bytes]] = deque(maxlen=_TAPE_MAX)
        if config.stolen_secret:
            self._seal = MeterSeal(ES256PrivateKey.from_scalar(bytes.fromhex(config.stolen_secret)))
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.settimeout(_TIMEOUT_S)

    def run(self, stopping: threading.Event, quiet: threading.Event) -> None:
        """Attack until ``quiet``; then do nothing more until ``stopping``."""
        self._connect()
        begins_s = time.monotonic() + max(
            0.0, self._config.start_us / 1_000_000 - time.time_ns() / 1_000_000_000
        )
        due = {each.what: begins_s for each in self._config.attacks}
        pace_s = {each.what: 60 / each.per_minute for each in self._config.attacks}
        notes = Notes(self._config.records)
        while not stopping.wait(_LOOK_S):
            now_s = time.monotonic()
            notes.count(now_s, lambda: Counts(is_draining=quiet.is_set()))
            if quiet.is_set():
                continue
            for what, at_s in due.items():
                if at_s <= now_s:
                    due[what] = max(at_s + pace_s[what], now_s - 1.0)
                    self._try(what)
        for client in (self._stolen, self._network_server):
            if client is not None:
                client.disconnect()
                client.loop_stop()
        self._udp.close()

    def _try(self, what: str) -> None:
        """One attempt; a broker that is away lets nobody in."""
        is_let_in = False
        with contextlib.suppress(OSError):
            is_let_in = self._deeds[what]()
        self.counts[f"{TRIED} {what}"] += 1
        if is_let_in:
            self.counts[f"{LET_IN} {what}"] += 1

    def _connect(self) -> None:
        config = self._config
        names = {each.what for each in config.attacks}
        if config.stolen and names & _BY_STOLEN:
            self._stolen = Client(CallbackAPIVersion.VERSION2, client_id=config.stolen)
            self._stolen.tls_set_context(TlsFiles(Path(config.tls), config.stolen).context())
            self._stolen.connect_async(*config.mqtt)
            self._stolen.loop_start()
        if config.network_server is not None and names & _BY_SERVER:
            self._network_server = Client(CallbackAPIVersion.VERSION2, client_id="somebody")
            self._network_server.on_connect = lambda client, *_: client.subscribe(_EVENTS)
            self._network_server.on_message = self._hear
            self._network_server.connect_async(*config.network_server)
            self._network_server.loop_start()

    def _hear(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._heard.append((message.topic, bytes(message.payload)))

    # --- at the broker of the meters ---

    def _no_certificate(self) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(Path(self._config.tls) / "ca.pem")
        return _is_let_in(self._config.mqtt, context)

    def _foreign_certificate(self) -> bool:
        name = self._config.victims["mqtt"][0]
        return _is_let_in(self._config.mqtt, TlsFiles(Path(self._config.foreign), name).context())

    def _another_meters_topic(self) -> bool:
        """Nothing is answered to a meter that speaks out of turn; the books show whether anybody believed it."""
        serial = self._random.choice(self._config.victims["mqtt"])
        channel, payload = self._random.choice(
            (
                (Uplink.READINGS, self._reading(serial)),
                (Uplink.HELLO, codec.encode_hello(clock_us=_now_us(), relay="open", firmware="1")),
                (Uplink.ANSWER, self._answer()),
            )
        )
        return self._say(uplink_topic(serial, channel), payload)

    def _reading(self, serial: str) -> bytes:
        rows = [(_now_us(), ACTIVE_IMPORT, _FORGED_WH)]
        return codec.encode_readings(serial, rows, meter_clock_us=_now_us(), relay="closed")

    def _answer(self) -> bytes:
        order = self._random.randint(1, 1_000)
        return codec.encode_answer(
            command_id=f"{order}.1.read", result="ok", relay="closed",
            register_wh=_FORGED_WH, at_us=_now_us(),
        )  # fmt: skip

    def _forged_bundle(self) -> bool:
        return self._say(bundles.bundle_topic(self._config.stolen), self._bundle())

    def _bit_flip(self) -> bool:
        return self._say(
            bundles.bundle_topic(self._config.stolen), _turned(self._bundle(), self._random)
        )

    def _bundle(self) -> bytes:
        meters = np.zeros(1, dtype=bundles.METER)
        meters[0]["serial"] = self._random.choice(self._config.victims["concentrator"])
        meters[0]["heard_at_us"], meters[0]["relay"] = _now_us(), RelayCode.CLOSED
        readings = np.zeros(1, dtype=bundles.READING)
        readings[0] = (0, ACTIVE_IMPORT, 0, _now_us(), _FORGED_WH)
        return bundles.encode(
            sequence=_now_us(), sent_at_us=_now_us(), meters=meters, readings=readings
        )

    def _say(self, topic: str, payload: bytes) -> bool:
        if self._stolen is not None and self._stolen.is_connected():
            self._stolen.publish(topic, payload, qos=1)
        return False

    def _stolen_key(self) -> bool:
        """Signed by a key that is believed, of a meter that has it; said of others, and of what nobody asked."""
        own = self._config.stolen
        of = self._random.choice((own, self._random.choice(self._config.victims["mqtt"])))
        answer = Answer(
            meter=of, command_hash=self._random.randbytes(32), sequence=self._random.randint(1, 9),
            result=Result.OK, last_sequence=10**9, last_hash=bytes(32), relay=RelayCode.OPEN, balance_micro=0,
            credit_micro=10**12, register_wh=_FORGED_WH, at_us=_now_us(), refused=0,
        )  # fmt: skip
        signed, _ = sealed_answer(answer, by=self._seal)
        return self._say(uplink_topic(self._random.choice((own, of)), Uplink.SEALED), signed)

    def _another_property(self) -> bool:
        """On its own topics, where the broker lets it speak: readings in another's name, and answers to others' orders."""
        serial = self._random.choice(self._config.victims["mqtt"])
        channel, payload = self._random.choice(
            ((Uplink.READINGS, self._reading(serial)), (Uplink.ANSWER, self._answer()))
        )
        return self._say(uplink_topic(self._config.stolen, channel), payload)

    # --- over CoAP ---

    def _coap_unprotected(self) -> bool:
        serial = self._random.choice(self._config.victims["lwm2m"])
        if self._random.random() < 0.5:
            message = aiocoap.Message(
                code=Code.POST, payload=links.format_links(((objects.ENERGY, 0),), (senml.CBOR,))
            )
            message.opt.uri_path = ("rd",)
            message.opt.uri_query = (f"ep={serial}", "lt=600", "lwm2m=1.1", "b=U")
            message.opt.content_format = links.CONTENT_FORMAT
        else:
            item = Item(objects.ENERGY_DRAWN, _FORGED_WH, _now_us())
            message = aiocoap.Message(code=Code.POST, payload=senml.encode(senml.CBOR, [item]))
            message.opt.uri_path = ("dp",)
            message.opt.content_format = senml.CBOR
        message.mtype, message.mid = Type.CON, self._random.randrange(65_536)
        message.token = self._random.randbytes(4)
        return self._is_granted(message.encode())

    def _coap_replay(self) -> bool:
        """What a tap on the line has heard, as it was or nearly so: a yes to it would be a repeated effect."""
        tape = _tape(Path(self._config.tape))
        if not tape:
            return False
        datagram = self._random.choice(tape)
        if self._random.random() < 0.5:
            datagram = _turned(datagram, self._random)
        return self._is_granted(datagram)

    def _is_granted(self, datagram: bytes) -> bool:
        """Send it to the head-end; whether it is answered with a code of success."""
        host, _, port = self._config.coap.rpartition(":")
        self._udp.sendto(datagram, (host, int(port)))
        self._udp.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            answer = self._udp.recv(2_048)
            # OSCORE hides its codes; whoever has not the key reads 2.04 of it, with the option, or a plain refusal.
            return len(answer) > 1 and answer[1] >> 5 == 2 and not _is_protected(answer)
        return False

    # --- at the network server's broker ---

    def _lora_replay(self) -> bool:
        if self._network_server is None or not self._heard:
            return False
        topic, payload = self._random.choice(list(self._heard))
        event = json.loads(payload)
        event["deduplicationId"] = f"{self._random.getrandbits(128):032x}"
        if self._random.random() < 0.5:
            event["data"] = "BoP///8PCHAB"
        self._network_server.publish(topic, json.dumps(event).encode(), qos=1)
        return False

    def _network_server_login(self) -> bool:
        """An uplink of a device that is none: of a number that nobody registered, or of a meter on another radio."""
        if self._network_server is None or not self._heard:
            return False
        topic, payload = self._random.choice(list(self._heard))
        event, parts = json.loads(payload), topic.split("/")
        others = [
            each
            for radio, own in self._config.victims.items()
            if radio != "lorawan"
            for each in own
        ]
        parts[3] = self._random.choice((f"{self._random.getrandbits(64):016x}", *others[:1]))
        event["deviceInfo"]["devEui"] = parts[3]
        event["deduplicationId"] = f"{self._random.getrandbits(128):032x}"
        event["fCnt"] = self._random.randint(1, 60_000)
        self._network_server.publish("/".join(parts), json.dumps(event).encode(), qos=1)
        return False


def _is_let_in(address: tuple[str, int], context: ssl.SSLContext) -> bool:
    """Whether the broker takes a CONNECT over such a connection; raises OSError where it breaks it off."""
    with (
        socket.create_connection(address, timeout=_TIMEOUT_S) as opened,
        context.wrap_socket(opened, server_hostname=address[0]) as line,
    ):
        line.sendall(_CONNECT)
        answer = line.recv(4)
        return len(answer) == 4 and answer[0] == 0x20 and answer[3] == 0


def _turned(payload: bytes, random: Random) -> bytes:
    """The same with one bit turned."""
    at = random.randrange(8 * len(payload))
    changed = bytearray(payload)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


def _is_protected(datagram: bytes) -> bool:
    """Whether an answer is an OSCORE message, which says nothing to whoever has not its key."""
    with contextlib.suppress(Exception):
        return aiocoap.Message.decode(datagram).opt.oscore is not None
    return False


def _tape(path: Path) -> Sequence[bytes]:
    with contextlib.suppress(OSError):
        return [bytes.fromhex(line) for line in path.read_text().splitlines() if len(line) > 8]
    return []


def _now_us() -> int:
    return time.time_ns() // 1_000


def run_attackers(config: AttackersConfig) -> None:
    """Attack until SIGUSR1, and leave the counts at SIGTERM or SIGINT."""
    stopping, quiet = threading.Event(), threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: quiet.set())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    attackers = Attackers(config)
    attackers.run(stopping, quiet)
    Notes(config.records).leave(lambda: PartRecords([], dict(attackers.counts)))
