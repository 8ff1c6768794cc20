"""LwM2M meters through the whole head-end: readings charged, orders verified, signed where the meter has a key, by the
real database.
"""

import argparse
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet
from tests.conftest import role_dsn
from tests.hes.drivers.lwm2m.test_lwm2m_line import LOOPBACK, MeterKeys, device
from tests.hes.test_bundles import names
from tests.hes.test_head_end import add_order
from tests.invariants.places import NOW, World, one, pay, place, rows

from prewatt.access.scope import system_actor
from prewatt.core.civil_time import instant_us
from prewatt.core.drivers import Driver
from prewatt.core.vocabulary import OrderKind, OrderState
from prewatt.estate.models import Meter
from prewatt.head_end import _lwm2m, add_arguments, instruction_desk, raise_device_alert, run
from prewatt.hes.drivers.lwm2m.keys import DeviceKeys
from prewatt.hes.drivers.lwm2m.roster import lwm2m_opener
from prewatt.hes.drivers.lwm2m.session import Lwm2mConfig, Lwm2mSession
from prewatt.hes.ingest import ShardedIngest
from prewatt.hes.main import HeadEnd
from prewatt.instructions.operations import enrol_key
from prewatt.instructions.wallets import hold_credit
from prewatt.runtime.state import CannotRunError
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.signing.keyring import SEALS_VARIABLE, STORE_VARIABLE, open_keyring
from prewatt.signing.keys import KeyRole
from prewatt.signing.store import KeyStore
from prewatt.sim.lwm2m import _free_port
from prewatt.supply.orders import OrderBook
from waiting import eventually

BEGAN = time.monotonic()
#: By how much the clock of this file was put forward: wallets are looked for once a minute.
AHEAD: list[timedelta] = []


def now() -> datetime:
    """The real clock's pace, in the property's month."""
    return NOW + timedelta(seconds=time.monotonic() - BEGAN) + sum(AHEAD, timedelta())


def now_us() -> int:
    return instant_us(now())


def add_order_now(
    owner: psycopg.Connection, here: World, meter_id: int, kind: OrderKind = OrderKind.DISCONNECT
) -> int:
    """An order that is due by the clock of this file, and the bell."""
    order = add_order(owner, meter_id, here.property_id, kind, here.accounts["1001"])
    owner.execute(
        """UPDATE supply_order SET decided_at = %s, next_try_at = %s, expires_at = %s WHERE id = %s""",
        [now(), now(), now() + timedelta(hours=1), order],
    )
    owner.execute("SELECT pg_notify('supply_order', %s)", [str(here.property_id)])
    return order


def enrolled(here: World, meter_id: int, number: int) -> ES256PrivateKey:
    """A meter's own key, enrolled."""
    own = ES256PrivateKey.from_scalar(bytes([number] * 32))
    actor = system_actor("test", (here.property_id,))
    place_of = {"property_id": here.property_id, "meter_id": meter_id}
    enrol_key(actor=actor, **place_of, public_key=own.spki, now=NOW - timedelta(days=1))
    return own


def signs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[bytes, bytes]:
    """A head-end with a key for instructions; returns whom its meters trust."""
    seal = Fernet.generate_key().decode()
    store = KeyStore(folder / "keys.json", [seal])
    store.make(KeyRole.INSTRUCTION, signs_from=NOW - timedelta(days=1))
    monkeypatch.setenv(STORE_VARIABLE, str(store.path))
    monkeypatch.setenv(SEALS_VARIABLE, seal)
    made = open_keyring().signer(KeyRole.INSTRUCTION, now=now()).public
    return {bytes.fromhex(made.key_id): made.value}


def test_a_meter_on_nb_iot_is_charged_and_obeys(
    database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from django.db import connections

    from prewatt.settings import _database

    here = place()
    serial, meter_id = names(here)["M-101"], here.meters["M-101"]
    asleep = here.meters["M-102"]
    for each in (meter_id, asleep):
        one("UPDATE meter SET driver = %s WHERE id = %s RETURNING 1", str(Driver.LWM2M), each)
    Meter.objects.create(property_id=here.property_id, serial="MQ-1")
    trusts = signs(tmp_path, monkeypatch)
    keys = DeviceKeys(tmp_path / "devices", [Fernet.generate_key().decode()])
    dsn = role_dsn(database, "head_end")
    changed = {**connections.settings["default"], **_database(dsn)}
    monkeypatch.setitem(connections.settings, "default", changed)
    port = _free_port(LOOPBACK)
    head_end = HeadEnd(
        openers=[
            lwm2m_opener(
                Lwm2mConfig(LOOPBACK, port, takes_open=True, awake_s=0, roster_every_s=0.2),
                clock=now,
                keys=keys,
            )
        ],
        dsn=dsn,
        clock=now,
        orders=OrderBook(system_actor("head_end")),
        raise_alert=raise_device_alert,
        make_ingest=lambda sessions: ShardedIngest(sessions, clock=now, shards=2),
        make_instructions=instruction_desk,
    )
    server = f"{LOOPBACK}:{port}"
    head_end.start()
    try:
        assert head_end.sessions.wait_connected(10)
        with device(server, serial, clock_us=now_us, register_wh=10_000) as there:
            eventually(lambda: there.sent > 0 and there.meter.backlog == 0, "sent and let go")
            read = "SELECT value_wh FROM register_reading WHERE meter_id = %s AND read_at >= %s"
            assert rows(read, meter_id, NOW)[0] == (10_000,)
            with psycopg.connect(database, autocommit=True) as owner:
                order = add_order_now(owner, here, meter_id)
            state = "SELECT state FROM supply_order WHERE id = %s"
            eventually(lambda: one(state, order) == OrderState.VERIFIED, "read back as open")
            assert there.meter.relay == "open"
            link = "SELECT relay, firmware FROM meter_link WHERE meter_id = %s"
            assert rows(link, meter_id) == [(2, "prewatt-sim 1.0")]
        with device(server, "MQ-1", clock_us=now_us) as stranger:
            eventually(lambda: stranger.refusals[:1] == ["4.03"], "MQTT's meter")
        # From here on it has keys: it is heard under OSCORE alone, and told by signature alone.
        own, own_asleep = (enrolled(here, each, each % 200 + 1) for each in (meter_id, asleep))
        key = keys.make(serial)
        with (
            psycopg.connect(database, autocommit=True) as owner,
            device(
                server, serial, now_us, 10_000, signing=MeterKeys(own, trusts), key=key
            ) as verifying,
            device(
                server,
                names(here)["M-102"],
                now_us,
                20_000,
                signing=MeterKeys(own_asleep, trusts),
                sleeps_s=0.5,
                awake_s=0.3,
            ) as sleeper,
        ):
            eventually(lambda: head_end.sessions.all[0].registered() == 2, "both are there")
            eventually(lambda: sleeper.port == 0, "one sleeps")
            orders = [add_order_now(owner, here, each) for each in (meter_id, asleep)]
            for each, there in zip(orders, (verifying, sleeper), strict=True):
                eventually(
                    lambda each=each: one(state, each) == OrderState.VERIFIED, "by its answer"
                )
                assert there.meter.relay == "open" and there.meter.instructed.sequence == 1
            told = """SELECT array_agg(operation), array_agg(state), count(answer), count(DISTINCT order_id)
                      FROM instruction WHERE order_id = ANY(%s)"""
            assert rows(told, orders) == [([1, 1], [3, 3], 2, 2)]
            unprotected = (
                "UPDATE supply_state SET protection = '' WHERE account_id = %s RETURNING 1"
            )
            one(unprotected, here.accounts["1001"])
            held = {"property_id": here.property_id, "account_id": here.accounts["1001"]}
            hold_credit(
                actor=system_actor("test", (here.property_id,)),
                meter_id=meter_id,
                **held,
                now=now(),
            )
            monkeypatch.setattr(f"{__name__}.AHEAD", [timedelta(minutes=1)])
            before_micro = one(
                "SELECT credit_micro FROM meter_wallet WHERE meter_id = %s", meter_id
            )
            machine = verifying.meter
            pay(here, "by NB-IoT")
            paid_micro = before_micro + 5_000_000
            eventually(lambda: machine.instructed.credit_micro == paid_micro, "a recharge")
            # What nobody signed, an old answer of its own, and one of the other meter: seen, and nothing moves.
            before = rows("SELECT id, state, attempts FROM supply_order ORDER BY id")
            good = verifying.signed
            forged = good[:-1] + bytes([good[-1] ^ 1])
            session = head_end.sessions.all[0]
            assert isinstance(session, Lwm2mSession)
            known = session._registrations.of(serial)
            assert known is not None
            for said in (forged, good, sleeper.signed):
                verifying.signed = said
                eventually(lambda said=said: known.answered == said, "heard")
            seen = {"unknown_meter", "forged_forged", "repeated_answer", "forged_unknown_key"}
            reasons = "SELECT DISTINCT reason FROM rejected_frame"
            eventually(lambda: seen <= {each for (each,) in rows(reasons)}, "each counted")
            alerts = "SELECT subject, detail ->> 'what' FROM alert WHERE code = 'meter.forged'"
            assert rows(alerts) == [(f"meter:{meter_id}", "answer")]
            assert rows("SELECT id, state, attempts FROM supply_order ORDER BY id") == before
            assert rows("SELECT relay FROM meter_link WHERE meter_id = %s", meter_id) == [(2,)]
        assert head_end.failure is None
    finally:
        head_end.stop()
    assert not any(each.name.startswith("hes-lwm2m") for each in threading.enumerate())


def test_a_head_end_that_no_device_could_register_with_does_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in (
        "PREWATT_LWM2M_KEYS",
        "PREWATT_LWM2M_SEALS",
        "PREWATT_MQTT",
        "PREWATT_COAP",
        "PREWATT_LORAWAN",
    ):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(CannotRunError, match="no device could register"):
        _lwm2m(f"{LOOPBACK}:5683", takes_open=False)
    with pytest.raises(CannotRunError, match="not HOST:PORT"):
        _lwm2m("five", takes_open=True)
    monkeypatch.setenv("PREWATT_LWM2M_KEYS", str(tmp_path))
    with pytest.raises(CannotRunError, match="PREWATT_LWM2M_SEALS"):
        _lwm2m(f"{LOOPBACK}:5683", takes_open=True)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(CannotRunError, match="say how meters are reached"):
        run(parser.parse_args([]))
