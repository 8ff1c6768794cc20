"""An LwM2M meter through the whole head-end: its readings charged, its order verified, by the real database."""

import argparse
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from tests.conftest import role_dsn
from tests.hes.drivers.lwm2m.test_lwm2m_line import LOOPBACK, device
from tests.hes.test_bundles import names
from tests.hes.test_head_end import add_order
from tests.invariants.places import NOW, one, place, rows

from prewatt.access.scope import system_actor
from prewatt.core.civil_time import instant_us
from prewatt.core.drivers import Driver
from prewatt.core.vocabulary import OrderKind, OrderState
from prewatt.head_end import _lwm2m, add_arguments, raise_device_alert, run
from prewatt.hes.drivers.lwm2m.roster import lwm2m_opener
from prewatt.hes.drivers.lwm2m.session import Lwm2mConfig
from prewatt.hes.ingest import ShardedIngest
from prewatt.hes.main import HeadEnd
from prewatt.runtime.state import CannotRunError
from prewatt.sim.lwm2m import _free_port
from prewatt.supply.orders import OrderBook
from waiting import eventually

BEGAN = time.monotonic()


def now() -> datetime:
    """The real clock's pace, in the property's month."""
    return NOW + timedelta(seconds=time.monotonic() - BEGAN)


def now_us() -> int:
    return instant_us(now())


def test_a_meter_on_nb_iot_is_charged_and_obeys(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections

    from prewatt.settings import _database

    here = place()
    serial, meter_id = names(here)["M-101"], here.meters["M-101"]
    one("UPDATE meter SET driver = %s WHERE id = %s RETURNING 1", str(Driver.LWM2M), meter_id)
    dsn = role_dsn(database, "head_end")
    changed = {**connections.settings["default"], **_database(dsn)}
    monkeypatch.setitem(connections.settings, "default", changed)
    port = _free_port(LOOPBACK)
    head_end = HeadEnd(
        openers=[lwm2m_opener(Lwm2mConfig(LOOPBACK, port, takes_open=True), clock=now, keys=None)],
        dsn=dsn,
        clock=now,
        orders=OrderBook(system_actor("head_end")),
        raise_alert=raise_device_alert,
        make_ingest=lambda sessions: ShardedIngest(sessions, clock=now, shards=2),
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
                order = add_order(
                    owner, meter_id, here.property_id, OrderKind.DISCONNECT, here.accounts["1001"]
                )
                owner.execute(
                    """UPDATE supply_order SET decided_at = %s, next_try_at = %s, expires_at = %s
                       WHERE id = %s""",
                    [now(), now(), now() + timedelta(hours=1), order],
                )
                owner.execute("SELECT pg_notify('supply_order', %s)", [str(here.property_id)])
            state = "SELECT state FROM supply_order WHERE id = %s"
            eventually(lambda: one(state, order) == OrderState.VERIFIED, "read back as open")
            assert there.meter.relay == "open"
            link = "SELECT relay, firmware FROM meter_link WHERE meter_id = %s"
            assert rows(link, meter_id) == [(2, "prewatt-sim 1.0")]
        with device(server, names(here)["M-102"], clock_us=now_us) as stranger:
            eventually(lambda: stranger.refusals[:1] == ["4.03"], "MQTT's meter")
        eventually(
            lambda: rows("SELECT reason FROM rejected_frame") == [("unknown_meter",)], "kept"
        )
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
