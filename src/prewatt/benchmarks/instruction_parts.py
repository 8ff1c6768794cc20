"""The processes around `prewatt bench instructions`: meters that verify, and tellers at a desk."""

from __future__ import annotations

import itertools
import os
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any, Final

AMOUNT_MICRO: Final = 5_000_000
_TELLERS: Final = 8


def secret_of(number: int) -> bytes:
    """The private key of a meter, from its number: of meters that nobody has."""
    return (number + 1).to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class Field:
    """How many meters there are, whom they trust, and where the broker is."""

    meters: int
    trusts: dict[bytes, bytes]
    port: int
    now_us: int


def answer(pipe: Connection, field: Field) -> None:
    """Meters C1 … that verify, do and answer, behind one connection; until told to stop."""
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.enums import CallbackAPIVersion

    from prewatt.hes.drivers.mqtt_senml.topics import uplink_topic
    from prewatt.signing.es256 import ES256PrivateKey
    from prewatt.sim.loads import load_profile
    from prewatt.sim.meter import MeterConfig, SimulatedMeter

    profile = load_profile("H0-A", utc_offset_s=0)
    meters = {
        serial: SimulatedMeter(
            MeterConfig(
                serial=serial,
                profile=profile,
                scale_ppm=1,
                start_register_wh=0,
                start_at_us=field.now_us,
                report_period_us=3_600_000_000,
                private_key=ES256PrivateKey.from_scalar(secret_of(number)),
                trusts=field.trusts,
                holds_credit=True,
            )
        )
        for number, serial in enumerate((f"C{n}" for n in range(1, field.meters + 1)), start=1)
    }
    client = Client(CallbackAPIVersion.VERSION2, client_id="bench-meters")

    def hear(_client: Client, _userdata: object, message: MQTTMessage) -> None:
        serial = message.topic.split("/")[1]
        now_us = time.time_ns() // 1_000
        for channel, payload in meters[serial].receive_instruction(bytes(message.payload), now_us):
            client.publish(uplink_topic(serial, channel), payload, qos=1)

    subscribed = threading.Event()
    client.on_message = hear
    client.on_subscribe = lambda *_: subscribed.set()
    client.max_inflight_messages_set(0)
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", field.port)
    client.loop_start()
    while not client.is_connected():
        time.sleep(0.01)
    client.subscribe("pw/+/down/instruction", qos=1)
    if not subscribed.wait(30):
        raise TimeoutError("no subscription")
    pipe.send("ready")
    pipe.recv()
    client.disconnect()
    client.loop_stop()
    pipe.send(sum(each.instructed.sequence > 0 for each in meters.values()))


def sell(pipe: Connection, web_dsn: str, accounts: int, of_property: int) -> None:
    """Sell recharges at the rate that the pipe says, accounts in turn; sends when each was accepted."""
    os.environ["PREWATT_DSN"] = web_dsn
    os.environ.setdefault("PREWATT_SECRET_KEY", "a benchmark signs nothing")
    from prewatt import wiring

    wiring.start_django()
    from prewatt.vending.desk import Desk

    desk = Desk(lanes=1)
    desk.start()
    pipe.send("ready")
    try:
        while True:
            rate, seconds = pipe.recv()
            pipe.send(_sold(desk, accounts, of_property, rate, seconds))
    except EOFError:
        desk.stop()


def _sold(
    desk: Any, accounts: int, of_property: int, rate: int, seconds: float
) -> list[tuple[int, float]]:
    from prewatt.access.models import Duty
    from prewatt.access.scope import Actor
    from prewatt.vending.words import Recharge, RechargeRefused

    accepted: list[tuple[int, float]] = []
    turns = itertools.count()
    began = time.monotonic()

    def teller(number: int) -> None:
        while (turn := next(turns)) < rate * seconds:
            time.sleep(max(0.0, began + turn / rate - time.monotonic()))
            account = turn % accounts + 1
            place = (account - 1) // of_property + 1
            now = datetime.now(UTC)
            wish = Recharge(f"{began}-{turn}", account, AMOUNT_MICRO, "cash", "", now)
            said = desk.recharge(
                actor=Actor(f"user:{number + 1}", Duty.OPERATOR, (place,)), wish=wish, now=now
            )
            if isinstance(said, RechargeRefused):
                raise AssertionError(f"a recharge was refused: {said.code}")
            accepted.append((account, time.time()))

    threads = [threading.Thread(target=teller, args=(number,)) for number in range(_TELLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return accepted
