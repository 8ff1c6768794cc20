"""Sockets behind a network server, over a real broker: readings to the balance, orders to the relay and back."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from datetime import datetime, timedelta

import psycopg
import pytest
from cryptography.fernet import Fernet
from django.db import connection
from tests.hes.test_head_end import add_order
from tests.invariants.places import NOW, one, place, rows

from prewatt.access.scope import system_actor
from prewatt.core.civil_time import instant_us
from prewatt.core.vocabulary import OrderKind, OrderState
from prewatt.fleet.looking import look
from prewatt.head_end import instruction_desk, lorawan_opener, raise_device_alert
from prewatt.hes.drivers.lorawan.chirpstack import ChirpStack
from prewatt.hes.drivers.lorawan.events import Downlink
from prewatt.hes.drivers.lorawan.field import INSTRUCTION_PORT
from prewatt.hes.ingest import ShardedIngest
from prewatt.hes.main import HeadEnd
from prewatt.hes.probe import probe
from prewatt.instructions.operations import SignerSeal
from prewatt.instructions.sessions import begin_session
from prewatt.reports.books import check_books
from prewatt.reports.fleet import fleet
from prewatt.runtime.broker import Broker
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.signing.keyring import SEALS_VARIABLE
from prewatt.signing.keys import KeyRole, PublicKey, SoftwareSigner
from prewatt.signing.sessions import SessionSeals
from prewatt.sim.lorawan import Air, LoraField, LoraMeter
from prewatt.sim.lorawan_process import LoraProcess
from prewatt.supply.orders import OrderBook
from waiting import eventually

EUI = "24e124148b234567"
BEGAN = time.monotonic()
OURS, METERS = (ES256PrivateKey.from_scalar(bytes([n] * 32)) for n in (1, 2))


def now() -> datetime:
    """The real clock's pace, in the property's month."""
    return NOW + timedelta(seconds=time.monotonic() - BEGAN)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the head-end is wired with keeps this test's time."""
    monkeypatch.setattr("prewatt.wiring.now", now)


@pytest.fixture
def seal(monkeypatch: pytest.MonkeyPatch) -> str:
    """What the head-end opens session keys with."""
    key = Fernet.generate_key().decode()
    monkeypatch.setenv(SEALS_VARIABLE, key)
    return key


def head_end(broker: Broker, dsn: str) -> HeadEnd:
    command = broker.command
    return HeadEnd(
        openers=[lorawan_opener(f"chirpstack://{command.host}:{command.port}")],
        dsn=dsn,
        clock=now,
        orders=OrderBook(system_actor("head_end")),
        raise_alert=raise_device_alert,
        make_ingest=lambda sessions: ShardedIngest(sessions, clock=now),
        make_instructions=instruction_desk,
    )


def begin_session_with(field: LoraField, meter_id: int, property_id: int, seal: str) -> None:
    """Agree on a session with the device of the field, as whoever commissions it would."""
    signer = SoftwareSigner(PublicKey(KeyRole.INSTRUCTION, OURS.point, NOW), OURS)
    field.commission(
        EUI,
        begin_session(
            actor=system_actor("test", (property_id,)), property_id=property_id,
            meter_id=meter_id, meter_point=METERS.point, by=SignerSeal(signer),
            seals=SessionSeals([seal]), now=now(),
        ),
    )  # fmt: skip


def down(payload: bytes) -> tuple[str, bytes]:
    """Topic and bytes that put an instruction into the server's queue, whoever publishes them."""
    server = ChirpStack()
    expires_at_us = instant_us(now()) + 900_000_000
    name = str(uuid.uuid4())
    return server.encode(Downlink(EUI, "1", name, INSTRUCTION_PORT, payload, expires_at_us))


def bent(message: bytes) -> bytes:
    """The message with its last bit turned."""
    return message[:-1] + bytes([message[-1] ^ 1])


@pytest.mark.usefixtures("clock")
def test_a_socket_behind_a_network_server_is_charged_obeys_and_lets_no_recording_in(
    mosquitto: Broker, database: str, head_end_login: str, seal: str
) -> None:
    here = place()
    meter_id = here.meters["M-101"]
    with psycopg.connect(database, autocommit=True) as owner:
        # Written as its label has it: in capitals.
        owner.execute(
            "UPDATE meter SET serial = %s, driver = 'lorawan', model = 'WS52x' WHERE id = %s",
            [EUI.upper(), meter_id],
        )
        meter = LoraMeter(
            EUI, "ws52x", "H0-A", 20_000, period_s=1, spreading_factor=5,
            agreement=METERS.scalar, trusts=(OURS.point,),
        )  # fmt: skip
        field = LoraField(
            [meter], air=Air(late_us_max=0, duty_ppm=1_000_000), seed=1, start_us=instant_us(now())
        )
        command = mosquitto.command
        process = LoraProcess(
            field, host=command.host, port=command.port, now_us=lambda: instant_us(now())
        )
        running = head_end(mosquitto, head_end_login)
        running.start()
        # What is said before the head-end first listens nobody keeps.
        assert running.sessions.wait_connected(10)
        process.start()
        try:
            stored = "SELECT count(*) FROM register_reading WHERE meter_id = %s AND read_at >= %s"
            eventually(lambda: one(stored, meter_id, NOW) >= 2, "readings come")
            # An installer who listens beside the head-end hears the same, and asks nothing.
            found = probe(f"chirpstack://{command.host}:{command.port}/{EUI}/ws52x", timeout_s=20)
            assert found.registers["1.8.0"][0] > 0 and found.problems == []
            assert found.resources and found.as_row().endswith(",lorawan,ws52x,yes")
            state = "SELECT state FROM supply_order WHERE id = %s"

            def give(kind: OrderKind) -> int:
                order = add_order(owner, meter_id, here.property_id, kind, here.accounts["1001"])
                owner.execute(
                    "UPDATE supply_order SET decided_at = %s, next_try_at = %s, expires_at = %s WHERE id = %s",
                    [now(), now(), now() + timedelta(hours=1), order],
                )
                owner.execute("SELECT pg_notify('supply_order', %s)", [str(here.property_id)])
                return order

            order = give(OrderKind.DISCONNECT)
            eventually(lambda: one(state, order) == OrderState.VERIFIED, "the order is done")
            assert not field.is_closed(EUI)
            # With a session it is instructed by that alone: read first, then told, and its sealed answer ends the order.
            begin_session_with(field, meter_id, here.property_id, seal)
            order = give(OrderKind.CONNECT)
            eventually(lambda: one(state, order) == OrderState.VERIFIED, "the sealed order is done")
            assert field.is_closed(EUI)
            told = "SELECT operation, state, order_id, length(command) <= 51 FROM instruction ORDER BY sequence"
            assert rows(told) == [(0, 3, None, True), (1, 3, order, True)]
            # Somebody at the broker tells it the same again: it answers as before. They bend its answer, and the command.
            device = field.short_device(EUI)
            assert device is not None and device.state.forged == 0
            (command_sent,) = rows("SELECT command FROM instruction WHERE operation = 1")[0]
            reasons = "SELECT DISTINCT reason FROM rejected_frame ORDER BY 1"
            process.publish(*down(bent(command_sent)))
            process.publish(*down(command_sent))
            eventually(lambda: rows(reasons) == [("repeated_answer",)], "a repeat is known for it")
            assert device.state.forged == 1, "the device counts what nobody sealed"
            device.state = replace(device.state, answer=bent(device.state.answer))
            process.publish(*down(command_sent))
            alert = (
                "SELECT detail ->> 'what' FROM alert WHERE code = 'meter.forged' AND subject = %s"
            )
            eventually(
                lambda: rows(alert, f"meter:{meter_id}") == [("answer",)], "a forgery is told of"
            )
            assert len(rows(told)) == 2 and field.is_closed(EUI)
            # Somebody at the broker says that the relay is closed, in a frame that is too old.
            older = replace(meter, start_register_wh=19_000)
            recorded = LoraField([older], seed=2, start_us=instant_us(now()) - 2_000_000)
            (up, *_) = recorded.advance(instant_us(now()))
            process.publish(up.topic, up.payload)
            eventually(lambda: ("replay",) in rows(reasons), "a recording is told of")
            before = one(stored, meter_id, NOW)
            eventually(lambda: one(stored, meter_id, NOW) > before, "and the meter goes on")
        finally:
            process.stop()
            running.stop()
        assert running.failure is None
        link = "SELECT relay FROM meter_link WHERE meter_id = %s"
        assert one(link, meter_id) == 1
        radio = rows(
            """SELECT f_cnt, address <> '', gateways, spreading_factor, heard, lost, replays, downlinks
               FROM radio_link WHERE meter_id = %s""",
            meter_id,
        )
        ((f_cnt, has_address, gateways, factor, heard, lost, replays, downlinks),) = radio
        assert (has_address, gateways, factor, lost, replays, downlinks) == (True, 2, 5, 0, 1, 3)
        assert heard == f_cnt + 1
        look(actor=system_actor("fleet"), now=now() + timedelta(hours=1))
        seen = fleet(actor=system_actor("test", (here.property_id,)), now=now(), by="gateway")
        ours = next(each for each in seen.groups if each.name.startswith("0016c001f153"))
        assert (ours.devices, ours.silent, ours.lost_percent) == (1, 0, 0)
        assert ours.weakest_dbm is not None and -120 <= ours.weakest_dbm <= -60
        device = next(each for each in seen.devices if each.meter_id == meter_id)
        # Of yesterday's and today's quarter-hours no more than was stored.
        kept = one(stored, meter_id, NOW)
        assert (device.unit, device.stored) == ("A-101", kept)
        assert device.success == 100 * kept // device.promised and device.promised > 96
        # The others' meters never reported.
        assert sum(each.devices for each in seen.groups) == len(seen.devices) == len(here.meters)
        assert seen.devices[0].success == 0 and seen.devices[0].silent
        seen_as = [(EUI.upper(), each) for each in ("forged_forged", "repeated_answer", "replay")]
        assert rows("SELECT serial, reason FROM rejected_frame ORDER BY reason") == seen_as
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def test_a_network_servers_address_is_looked_at() -> None:
    from prewatt.runtime.state import CannotRunError

    for wrong in (
        "chirpstack://10.0.0.7:1883",
        "mqtt://localhost:1883",
        "chirpstack+ssl://localhost:1883",
        "chirpstack://localhost",
        "chirpstack://me:secret@localhost:1883",
    ):
        with pytest.raises(CannotRunError):
            lorawan_opener(wrong)
    assert lorawan_opener("the-things-stack+tls://app%40owner@eu1.example:8883")
