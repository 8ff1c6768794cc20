"""`prewatt hes`: the head-end process, with everything plugged in that `hes` leaves open."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prewatt import wiring
from prewatt.runtime.state import CannotRunError
from prewatt.vital_signs import start_probes

if TYPE_CHECKING:
    from prewatt.fleet.clocks import SignedClocks
    from prewatt.hes.drivers.lorawan.session import ServerConfig
    from prewatt.hes.frames import AnswerFrame, EventFrame, RenewalFrame
    from prewatt.hes.instructions import Forgery, InstructionDesk
    from prewatt.hes.links import Device
    from prewatt.hes.session import MqttConfig
    from prewatt.hes.sessions import OnMalformed, Opener, Sessions
    from prewatt.instructions.seals import Seals
    from prewatt.signing.keyring import Keyring

MQTT_VARIABLE: Final = "PREWATT_MQTT"
COAP_VARIABLE: Final = "PREWATT_COAP"
COAP_OPEN_VARIABLE: Final = "PREWATT_COAP_OPEN"
TLS_VARIABLE: Final = "PREWATT_MQTT_TLS"
SHARDS_VARIABLE: Final = "PREWATT_SHARDS"
LORAWAN_VARIABLE: Final = "PREWATT_LORAWAN"
LORAWAN_PASSWORD_VARIABLE: Final = "PREWATT_LORAWAN_PASSWORD"  # noqa: S105 - the variable's name
LORAWAN_AUTHORITY_VARIABLE: Final = "PREWATT_LORAWAN_CA"

_BROKER_WAIT_S: Final = 30.0
_PROBE_S: Final = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the broker's address, where LwM2M listens, and how many ingest at once."""
    parser.add_argument(
        "--mqtt",
        metavar="HOST:PORT",
        default=os.environ.get(MQTT_VARIABLE),
        help=f"the broker (default: {MQTT_VARIABLE})",
    )
    parser.add_argument(
        "--coap",
        metavar="HOST:PORT",
        default=os.environ.get(COAP_VARIABLE),
        help=f"where LwM2M devices register (default: {COAP_VARIABLE}, or nowhere)",
    )
    parser.add_argument(
        "--coap-open",
        action="store_true",
        default=bool(os.environ.get(COAP_OPEN_VARIABLE)),
        help="let devices without a key register: on a private network, or behind a DTLS terminator"
        f" (default: {COAP_OPEN_VARIABLE})",
    )
    parser.add_argument(
        "--mqtt-tls",
        type=Path,
        metavar="DIR",
        default=os.environ.get(TLS_VARIABLE) or None,
        help=f"ca.pem, head-end.pem and head-end.key for TLS 1.3 (default: {TLS_VARIABLE})",
    )
    parser.add_argument(
        "--lorawan",
        metavar="SERVER://HOST:PORT",
        default=os.environ.get(LORAWAN_VARIABLE),
        help=f"a LoRaWAN network server's broker, such as chirpstack+tls://name@host:8883 (default: {LORAWAN_VARIABLE})",
    )
    parser.add_argument(
        "--shards",
        type=int,
        default=int(os.environ.get(SHARDS_VARIABLE, "1")),
        help=f"how many batches are stored at once (default: {SHARDS_VARIABLE}, or 1)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run until told to stop; returns the exit status, 1 when a part has failed."""
    if not (arguments.mqtt or arguments.coap or arguments.lorawan):
        raise CannotRunError(
            f"none of {MQTT_VARIABLE}, {COAP_VARIABLE} and {LORAWAN_VARIABLE} is set: say how meters are reached"
        )
    wiring.start_django("hes")
    from prewatt.access.scope import system_actor
    from prewatt.fleet.requests import RequestBook
    from prewatt.hes.ingest import ShardedIngest
    from prewatt.hes.main import HeadEnd
    from prewatt.hes.main import run as run_head_end
    from prewatt.supply.orders import OrderBook

    head_end = HeadEnd(
        openers=_openers(arguments),
        dsn=os.environ["PREWATT_DSN"],
        clock=wiring.now,
        orders=OrderBook(system_actor("head_end")),
        raise_alert=raise_device_alert,
        make_ingest=lambda sessions: ShardedIngest(
            sessions, clock=wiring.now, shards=arguments.shards
        ),
        make_instructions=instruction_desk,
        renew=_renew if os.environ.get("PREWATT_DEVICE_SAFE") else None,
        requests=RequestBook(system_actor("head_end")),
        clocks=signed_clocks(),
    )
    start_probes({"broker": lambda: "" if head_end.sessions.is_connected else "is not connected"})
    return run_head_end(head_end, rehearse=_rehearse)


def lorawan_opener(address: str) -> Opener:
    """What opens the session of the devices behind a network server."""
    from prewatt.core.civil_time import instant_us
    from prewatt.hes.drivers.lorawan.address import parse_address
    from prewatt.hes.drivers.lorawan.session import LorawanSession
    from prewatt.hes.radios import RadioBook

    try:
        config, server = parse_address(
            address,
            password=os.environ.get(LORAWAN_PASSWORD_VARIABLE),
            authority=os.environ.get(LORAWAN_AUTHORITY_VARIABLE),
        )
    except (ValueError, OSError) as error:
        raise CannotRunError(f"{LORAWAN_VARIABLE}: {error}") from error
    if config.tls is None:
        config = _in_its_words(config)

    def open_session(on_malformed: OnMalformed) -> LorawanSession:
        return LorawanSession(
            config,
            server,
            clock_us=lambda: instant_us(wiring.now()),
            register=RadioBook(),
            on_malformed=on_malformed,
        )

    return open_session


def _in_its_words(config: ServerConfig) -> ServerConfig:
    """The configuration with the newest protocol that a broker on this machine speaks, where one listens yet."""
    from prewatt.hes.session import probe_protocol

    try:
        spoken = probe_protocol(config.host, config.port, timeout_s=_PROBE_S)
    except OSError:
        return config
    return config if spoken == "5" else replace(config, protocol="3.1.1")


def _renew(frame: RenewalFrame, now: datetime) -> bytes:
    """A device's next certificate, by the issuer of its property."""
    from prewatt.access.scope import system_actor
    from prewatt.devices.operations import DeviceRefused, renew
    from prewatt.devices.safe import SafeRefused, safe_of

    try:
        return renew(
            actor=system_actor("head_end"), serial=frame.serial, request=frame.request,
            signature=frame.signature, issuer_of=safe_of(os.environ).issuing, now=now,
        ).chain  # fmt: skip
    except SafeRefused as refused:
        raise DeviceRefused("no_issuer") from refused


def instruction_desk(sessions: Sessions) -> InstructionDesk:
    """What instructs meters that verify, by the keys that this process has at the moment of each instruction."""
    from prewatt.access.scope import system_actor
    from prewatt.fleet.clocks import SignedClocks
    from prewatt.hes.instructions import InstructionDesk
    from prewatt.instructions.operations import InstructionBook
    from prewatt.instructions.short_book import ShortBook
    from prewatt.instructions.turns import InstructionTurns
    from prewatt.instructions.wallets import Wallets
    from prewatt.instructions.wishes import Wishes
    from prewatt.signing.keyring import seals_of
    from prewatt.signing.sessions import SessionSeals

    actor, keys = system_actor("head_end"), InstructionKeys()
    book = InstructionBook(actor, seal=keys.seal)
    return InstructionDesk(
        book=book,
        carrier=sessions,
        raise_alert=raise_forgery_alert,
        wallets=Wallets(actor),
        turns=InstructionTurns(actor, book),
        short=ShortBook(actor, seals=lambda: SessionSeals(seals_of(os.environ))),
        wishes=Wishes(actor, seal=keys.seal),
        clocks=SignedClocks(actor, book),
    )


def signed_clocks() -> SignedClocks:
    """What moves clocks of meters that verify; of a thread of its own, so with keys of its own."""
    from prewatt.access.scope import system_actor
    from prewatt.fleet.clocks import SignedClocks
    from prewatt.instructions.operations import InstructionBook

    actor = system_actor("head_end")
    return SignedClocks(actor, InstructionBook(actor, seal=InstructionKeys().seal))


class InstructionKeys:
    """The keys that sign instructions. The store is read again once a minute, so that a rotation is seen."""

    _LOOK_AGAIN_S: Final = 60.0

    def __init__(self) -> None:
        self._keyring: Keyring | None = None
        self._looked_at = 0.0

    def seal(self, now: datetime) -> Seals:
        """Who signs at this instant, to which meter. Raises NoSigningKey."""
        from prewatt.instructions.operations import seals_of_keys
        from prewatt.signing.keyring import NoSigningKey, open_keyring
        from prewatt.signing.store import KeyStoreRefused

        if self._keyring is None or time.monotonic() - self._looked_at > self._LOOK_AGAIN_S:
            try:
                self._keyring = open_keyring()
            except KeyStoreRefused as refused:
                raise NoSigningKey(str(refused)) from refused
            self._looked_at = time.monotonic()
        return seals_of_keys(self._keyring, now=now)


def raise_forgery_alert(device: Device, forgery: Forgery, now: datetime) -> None:
    """Call a person to a meter in whose name, or to which, somebody speaks who has not the key.

    One alert for a meter while it is open, which keeps its first one; another where its session ended by it.
    """
    from prewatt.access.scope import scope, system_actor
    from prewatt.hes.instructions import SESSION
    from prewatt.notify.alerts import FORGED, SESSION_ENDED
    from prewatt.notify.operations import raise_alert

    with scope(system_actor("head_end", (device.property_id,))):
        raise_alert(
            property_id=device.property_id,
            code=SESSION_ENDED if forgery.what == SESSION else FORGED,
            subject=f"meter:{device.meter_id}",
            detail={
                "what": forgery.what,
                "why": forgery.why,
                "count": forgery.count,
                "received_at_us": forgery.received_at_us,
            },
            now=now,
            refresh=False,
        )


def _openers(arguments: argparse.Namespace) -> list[Opener]:
    """One for each driver that was asked for, MQTT first, whose meters are all that no other knows."""
    openers: list[Opener] = []
    if arguments.mqtt:
        from prewatt.hes.main import mqtt_opener

        openers.append(mqtt_opener(_broker(arguments.mqtt, arguments.mqtt_tls), clock=wiring.now))
    if arguments.coap:
        openers.append(_lwm2m(arguments.coap, takes_open=arguments.coap_open))
    if arguments.lorawan:
        openers.append(lorawan_opener(arguments.lorawan))
    return openers


def _lwm2m(address: str, *, takes_open: bool) -> Opener:
    from prewatt.hes.drivers.lwm2m.keys import DeviceKeysRefused, open_device_keys
    from prewatt.hes.drivers.lwm2m.roster import lwm2m_opener
    from prewatt.hes.drivers.lwm2m.session import Lwm2mConfig

    host, _, port = address.rpartition(":")
    try:
        config = Lwm2mConfig(host=host.strip("[]"), port=int(port), takes_open=takes_open)
        keys = open_device_keys(os.environ)
    except ValueError:
        raise CannotRunError(f"not HOST:PORT: {address!r}") from None
    except DeviceKeysRefused as refused:
        raise CannotRunError(str(refused)) from refused
    if keys is None and not takes_open:
        raise CannotRunError("no device could register: name a folder of keys, or --coap-open")
    return lwm2m_opener(config, clock=wiring.now, keys=keys)


def _rehearse() -> None:
    """Read the rules of supply ahead, in this thread, which has no other use for the database."""
    from django.db import connection

    from prewatt.access.scope import system_actor
    from prewatt.supply.rehearsal import rehearse

    try:
        rehearse(actor=system_actor("head_end"), now=wiring.now())
    finally:
        connection.close()


def raise_device_alert(device: Device, frame: EventFrame | AnswerFrame, now: datetime) -> None:
    """Call a person to a meter in whose name somebody speaks, or that answered what it was never asked.

    Either is one alert for a meter while it is open, and keeps its first one: who sends thousands shall not
    make the pages flicker. Tampering has cases, and the alert of those (`tamper.operations`).
    """
    from prewatt.access.scope import scope, system_actor
    from prewatt.hes.frames import FRAME_REPLAYED, EventFrame
    from prewatt.hes.instructions import Forgery
    from prewatt.notify.alerts import FOREIGN_ANSWER
    from prewatt.notify.operations import raise_alert

    if isinstance(frame, EventFrame):
        is_replay = frame.code == FRAME_REPLAYED
        which = ("frame", frame.detail) if is_replay else ("command", "refused_by_meter")
        forgery = Forgery(*which, 1, frame.received_at_us)
        raise_forgery_alert(device, forgery, now)
        return
    with scope(system_actor("head_end", (device.property_id,))):
        raise_alert(
            property_id=device.property_id,
            code=FOREIGN_ANSWER,
            subject=f"meter:{device.meter_id}",
            detail={
                "command": frame.command_id,
                "at_us": frame.at_us,
                "received_at_us": frame.received_at_us,
            },
            now=now,
            refresh=False,
        )


def _broker(address: str, tls: Path | None) -> MqttConfig:
    """The broker's configuration once it is there: in a demo both start at the same time."""
    from prewatt.hes.main import mqtt_config
    from prewatt.hes.wire import TlsFiles

    deadline = time.monotonic() + _BROKER_WAIT_S
    while True:
        try:
            return mqtt_config(address, None if tls is None else TlsFiles(tls))
        except ValueError:
            raise CannotRunError(f"not HOST:PORT: {address!r}") from None
        except OSError as error:
            if time.monotonic() > deadline:
                raise CannotRunError(f"no MQTT broker at {address}: {error}") from error
            time.sleep(0.1)
