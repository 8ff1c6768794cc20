"""Which devices a network server's session may hear, and how each of them is heard, beside the register of meters.

The register is read again every few seconds, so that whoever hears an event waits for no database. What was heard is
added to `radio_link` in sets, in transactions of their own and in `meter_id` order, after the frames it stood in were
committed: a counter that is remembered before would lose what a crash leaves to be delivered again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Final

from django.db import connection, transaction

from prewatt.core.civil_time import utc_datetime
from prewatt.core.drivers import Driver
from prewatt.hes.drivers.lorawan.field import Known, Radio
from prewatt.hes.drivers.lorawan.models import model_of
from prewatt.hes.drivers.lorawan.session import Committed
from prewatt.hes.failures import AWAY
from prewatt.telemetry.pulse import PULSE

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Totals:
    """What of a device was counted since the start, in the order of the columns."""

    heard: int = 0
    lost: int = 0
    duplicates: int = 0
    replays: int = 0
    downlinks: int = 0
    downlinks_lost: int = 0

    def since(self, before: _Totals) -> tuple[int, ...]:
        return tuple(now - then for now, then in zip(astuple(self), astuple(before), strict=True))


class RadioBook:
    """The register of a session: `known` and `add` are called from its threads, and wait for nothing."""

    def __init__(self) -> None:
        self._known: Mapping[str, Known] = {}
        self._fresh: dict[str, Committed] = {}
        self._stored: dict[str, _Totals] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._looked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hes-radios", daemon=True)

    def start(self) -> None:
        """Read the register, again and again, and store what was heard."""
        self._thread.start()
        # Whoever is heard before the first look would be a stranger.
        while not self._looked.wait(0.1):
            if not self._thread.is_alive():
                raise RuntimeError("the register of devices cannot be read")

    def stop(self) -> None:
        """Store what has come, and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def known(self, eui: str) -> Known | None:
        """What the register says of a device; None for one that is no meter of this driver."""
        return self._known.get(eui)

    def add(self, committed: Committed) -> None:
        """An uplink is committed."""
        with self._lock:
            self._fresh[committed.eui] = committed

    def look(self) -> None:
        """Read the register. Raises what the database raises."""
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT m.serial, m.model, m.expected_period_s, r.f_cnt, coalesce(r.event_id, ''),
                          coalesce(l.firmware, ''), coalesce(r.address, '')
                   FROM meter m LEFT JOIN radio_link r ON r.meter_id = m.id
                                LEFT JOIN meter_link l ON l.meter_id = m.id
                   WHERE m.driver = %s""",
                [str(Driver.LORAWAN)],
            )
            rows = cursor.fetchall()
        found: dict[str, Known] = {}
        for serial, model, period_s, f_cnt, event_id, firmware, address in rows:
            plug_in = model_of(model)
            if plug_in is None:
                log.warning("meter %s is of no model that this driver can read: %r", serial, model)
                continue
            found[serial.lower()] = Known(
                plug_in, period_s * 1_000_000, f_cnt, event_id, firmware, address, serial
            )
        self._known = found

    def store(self) -> None:
        """Add what was heard since the last time; what cannot be stored now stays, and the failure is raised."""
        with self._lock:
            taken, self._fresh = self._fresh, {}
        if not taken:
            return
        totals = {eui: _totals(each.radio) for eui, each in taken.items()}
        try:
            _keep([(taken[eui], totals[eui].since(self._told(eui))) for eui in sorted(taken)])
        except BaseException:
            with self._lock:
                self._fresh = taken | self._fresh
            raise
        self._stored |= totals

    def _told(self, eui: str) -> _Totals:
        return self._stored.get(eui, _Totals())

    def _run(self) -> None:
        try:
            while True:
                PULSE.beat("radios")
                is_last = self._stopping.is_set()
                try:
                    self.store()
                    self.look()
                    self._looked.set()
                except AWAY as error:
                    log.warning("the database is away: %s", error)
                    connection.close()
                if is_last:
                    return
                self._stopping.wait(_LOOK_EVERY_S)
        finally:
            connection.close()


def _totals(radio: Radio) -> _Totals:
    return _Totals(
        radio.heard,
        radio.lost,
        radio.duplicates,
        radio.replays,
        radio.downlinks,
        radio.downlinks_lost,
    )


def _keep(rows: list[tuple[Committed, tuple[int, ...]]]) -> None:
    signals = [each.radio.signal for each, _ in rows]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO radio_link AS link
                   (meter_id, property_id, address, f_cnt, event_id, heard_at, gateway, gateways,
                    rssi_dbm, snr_db_tenths, spreading_factor,
                    heard, lost, duplicates, replays, downlinks, downlinks_lost)
               SELECT m.id, m.property_id, t.address, t.f_cnt, t.event_id, t.heard_at, t.gateway,
                      t.gateways, t.rssi, t.snr, t.factor, t.heard, t.lost, t.duplicates, t.replays,
                      t.downlinks, t.downlinks_lost
               FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::timestamptz[],
                           %s::text[], %s::smallint[], %s::smallint[], %s::smallint[], %s::smallint[],
                           %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
                           %s::bigint[])
                    AS t(eui, address, f_cnt, event_id, heard_at, gateway, gateways, rssi, snr, factor,
                         heard, lost, duplicates, replays, downlinks, downlinks_lost)
               JOIN meter m ON m.serial = t.eui
               ORDER BY m.id
               ON CONFLICT (meter_id) DO UPDATE SET
                   address = excluded.address, f_cnt = excluded.f_cnt, event_id = excluded.event_id,
                   heard_at = excluded.heard_at, gateway = excluded.gateway,
                   gateways = excluded.gateways, rssi_dbm = excluded.rssi_dbm,
                   snr_db_tenths = excluded.snr_db_tenths,
                   spreading_factor = excluded.spreading_factor,
                   heard = link.heard + excluded.heard, lost = link.lost + excluded.lost,
                   duplicates = link.duplicates + excluded.duplicates,
                   replays = link.replays + excluded.replays,
                   downlinks = link.downlinks + excluded.downlinks,
                   downlinks_lost = link.downlinks_lost + excluded.downlinks_lost""",
            [
                [each.serial for each, _ in rows],
                [each.address for each, _ in rows],
                [each.f_cnt for each, _ in rows],
                [each.event_id for each, _ in rows],
                [utc_datetime(each.radio.at_us) for each, _ in rows],
                ["" if each is None else each.gateway for each in signals],
                [0 if each is None else each.gateways for each in signals],
                [None if each is None else each.rssi_dbm for each in signals],
                [None if each is None else each.snr_db_tenths for each in signals],
                [None if each is None else each.spreading_factor for each in signals],
                *(list(column) for column in zip(*(counts for _, counts in rows), strict=True)),
            ],
        )
