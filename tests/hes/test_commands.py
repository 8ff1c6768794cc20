"""Orders to meters and back: what is stored, what is sent, in which order, and how fast in the whole."""

import itertools
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import psycopg
import pytest

from prewatt.core import orders as core_orders
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.drivers import Driver
from prewatt.core.orders import Fit, Order, OrderPolicy, Refusal
from prewatt.core.vocabulary import OrderKind, OrderState, RelayState
from prewatt.hes.commands import (
    Answer,
    CommandDesk,
    CommandLoop,
    ReadBack,
    Refused,
    command_id,
    parse_command_id,
)
from prewatt.hes.frames import (
    EVENT_LOG,
    AckToken,
    AnswerFrame,
    AnswerResult,
    Command,
    EventFrame,
    HelloFrame,
    MalformedSample,
    ReadingsFrame,
    Watermark,
)
from prewatt.hes.frames import RelayState as WireRelay
from prewatt.hes.links import (
    Device,
    Directory,
    Sighting,
    record_events,
    record_sightings,
    relay_seen_us,
)
from prewatt.hes.main import HeadEnd, mqtt_config, mqtt_opener
from prewatt.hes.rejected import reject
from prewatt.hes.session import probe_protocol
from prewatt.hes.sessions import Sessions
from prewatt.runtime.broker import Broker
from prewatt.sim.command import switch_fault
from prewatt.sim.process import SimConfig, SimMeter, SimProcess
from prewatt.supply.queries import DueOrder, KnownOrder

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
NOW_US = instant_us(NOW)
POLICY = OrderPolicy(first_retry_s=2, settle_s=1, attempts_max=2)


class MemoryOrders:
    """Orders in memory, moved by `core.orders` as supply moves them in the database."""

    def __init__(self) -> None:
        self.orders: dict[int, Order] = {}
        self.meters: dict[int, tuple[int, str]] = {}
        self.finished: dict[int, float] = {}
        self.refusals: list[dict[int, Refusal]] = []
        self.lock = threading.Lock()

    def add(
        self, order_id: int, meter_id: int, serial: str, kind: OrderKind, now: datetime = NOW
    ) -> None:
        self.meters[order_id] = (meter_id, serial)
        self.orders[order_id] = core_orders.new_order(kind, instant_us(now), POLICY)

    def state(self, order_id: int) -> OrderState:
        return self.orders[order_id].state

    def _move(self, order_ids: Iterable[int], step: Callable[[Order], Order]) -> None:
        for order_id in order_ids:
            if order_id in self.orders and not self.orders[order_id].is_final:
                self.orders[order_id] = step(self.orders[order_id])
                if self.orders[order_id].is_final:
                    self.finished[order_id] = time.monotonic()

    def due(self, *, now: datetime, limit: int, drivers: Collection[Driver]) -> Sequence[DueOrder]:
        return [
            DueOrder(order_id, 1, 1, *self.meters[order_id], order.kind, order.attempts, NOW, None)
            for order_id, order in list(self.orders.items())
            if core_orders.is_due(order, instant_us(now))
        ][:limit]

    def mark_sent(self, *, order_ids: Sequence[int], now: datetime) -> frozenset[int]:
        live = frozenset(each for each in order_ids if not self.orders[each].is_final)
        self._move(order_ids, lambda o: core_orders.mark_sent(o, instant_us(now), POLICY))
        return live

    def known(self, *, order_ids: Sequence[int]) -> Mapping[int, KnownOrder]:
        return {
            order_id: KnownOrder(
                self.meters[order_id][0],
                order.attempts,
                None if order.sent_at_us is None else utc_datetime(order.sent_at_us),
                not order.is_final,
            )
            for order_id, order in self.orders.items()
            if order_id in order_ids
        }

    def _counts(self, answer: Answer, *, is_accepted: bool = False) -> bool:
        known = self.known(order_ids=[answer.order_id]).get(answer.order_id)
        return known is not None and Fit.COUNTS is core_orders.fit_of(
            is_own=known.meter_id == answer.meter_id,
            is_live=known.is_live,
            attempts=known.attempts,
            attempt=answer.attempt,
            is_accepted=is_accepted,
        )

    def mark_acknowledged(self, *, answers: Sequence[Answer], now: datetime) -> None:
        counting = [each.order_id for each in answers if self._counts(each, is_accepted=True)]
        self._move(counting, core_orders.acknowledge)

    def mark_refused(self, *, refusals: Sequence[Refused], now: datetime) -> None:
        self.refusals.append({each.order_id: each.why for each in refusals})
        for each in filter(self._counts, refusals):
            self._move(
                [each.order_id], partial(core_orders.refuse, refusal=each.why, policy=POLICY)
            )

    def mark_read_back(self, *, read_backs: Sequence[ReadBack], now: datetime) -> None:
        for back in filter(self._counts, read_backs):
            step = partial(
                core_orders.read_back,
                relay=back.relay,
                seen_at_us=instant_us(back.seen_at),
                policy=POLICY,
            )
            self._move([back.order_id], step)

    def wake(self, *, meter_ids: Sequence[int], now: datetime) -> None:
        woken = [o for o, (meter_id, _) in self.meters.items() if meter_id in meter_ids]
        self._move(woken, lambda o: core_orders.wake(o, instant_us(now)))

    def expire(self, *, now: datetime) -> None:
        old = [o for o in self.orders if core_orders.has_expired(self.orders[o], instant_us(now))]
        self._move(old, lambda o: core_orders.expire(o, instant_us(now)))


class MemoryTransport:
    """Writes down what is sent, in one list with what is acknowledged, so that the order shows."""

    def __init__(self) -> None:
        self.happened: list[object] = []
        self.connected = {Driver.MQTT_SENML}

    def ack(self, tokens: Iterable[AckToken]) -> None:
        self.happened += tokens

    def send_command(self, serial: str, command: Command) -> bool:
        self.happened.append((serial, command))
        return True

    def publish_watermarks(self, marks: Sequence[Watermark]) -> None:
        self.happened += marks

    def commands(self) -> list[tuple[str, str, str | None]]:
        sent = [each for each in self.happened if isinstance(each, tuple)]
        self.happened.clear()
        return [(serial, command.command_id, command.state) for serial, command in sent]


@pytest.fixture
def meter(database: str) -> Device:
    """One meter of one property, serial PW-1."""
    from prewatt.estate.models import LegalEntity, Meter, Organisation, Property

    organisation = Organisation.objects.create(name="Org")
    entity = LegalEntity.objects.create(organisation=organisation, name="Entity")
    estate = Property.objects.create(
        organisation=organisation,
        legal_entity=entity,
        code="P",
        name="P",
        currency="EUR",
        time_zone="Europe/Berlin",
    )
    return Device(Meter.objects.create(property=estate, serial="PW-1").pk, estate.pk)


class Desk:
    """A desk over memory orders and transport, and the alerts it raised."""

    def __init__(self) -> None:
        self.orders = MemoryOrders()
        self.transport = MemoryTransport()
        self.alerts: list[tuple[int, str]] = []
        self.desk = CommandDesk(
            orders=self.orders,
            transport=self.transport,
            directory=Directory(),
            raise_alert=lambda device, frame, now: self.alerts.append(
                (device.meter_id, frame.code if isinstance(frame, EventFrame) else frame.command_id)
            ),
        )

    def answer(
        self,
        id_: str,
        relay: WireRelay,
        result: AnswerResult = "ok",
        at: datetime = NOW,
        serial: str = "PW-1",
        clock: timedelta = timedelta(seconds=-3),
    ) -> None:
        at_us, meter_us = instant_us(at), instant_us(at + clock)
        frame = AnswerFrame(serial, at_us, AckToken(1, 5), id_, result, relay, 7, meter_us)
        self.desk.submit(frame)


def one(sql: str) -> tuple[object, ...]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql)
        (row,) = cursor.fetchall()
    return tuple(row)


def test_command_ids_are_ours_or_nobodys() -> None:
    assert parse_command_id(command_id(12, 3, "read")) == (12, 3, "read")
    for foreign in ("12", "12.3.cut", "a.1.read", "1.²3.read", "1." + "9" * 30 + ".read", ""):
        assert parse_command_id(foreign) is None


def test_an_order_is_done_only_by_the_relay_read_back(meter: Device) -> None:
    desk = Desk()
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.DISCONNECT)
    desk.desk.turn(NOW)
    assert desk.transport.commands() == [("PW-1", "9.1.relay", "open")]
    assert desk.orders.state(9) is OrderState.SENT
    desk.answer("9.1.relay", "open")
    desk.desk.turn(NOW)
    assert desk.orders.state(9) is OrderState.ACKNOWLEDGED
    # Stored, then acknowledged to the broker, then asked for the relay.
    assert isinstance(desk.transport.happened[0], AckToken)
    assert desk.transport.commands() == [("PW-1", "9.1.read", None)]
    desk.answer("9.1.read", "open")
    desk.desk.turn(NOW)
    assert desk.orders.state(9) is OrderState.VERIFIED
    assert one("SELECT relay, clock_drift_s FROM meter_link") == (2, -3)


def test_a_stuck_relay_is_tried_again_and_then_failed(meter: Device) -> None:
    desk = Desk()
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.DISCONNECT)
    now = NOW
    for attempt in (1, 2):
        desk.desk.turn(now)
        assert desk.transport.commands() == [("PW-1", f"9.{attempt}.relay", "open")]
        now += timedelta(seconds=1)
        desk.answer(f"9.{attempt}.relay", "closed", at=now, clock=timedelta())
        desk.answer(f"9.{attempt}.read", "closed", at=now, clock=timedelta())
        desk.desk.turn(now)
        desk.transport.commands()
        now += timedelta(seconds=1)
    assert desk.orders.state(9) is OrderState.FAILED
    assert one("SELECT relay FROM meter_link") == (1,)


def test_a_refused_command_never_verifies(meter: Device) -> None:
    desk = Desk()
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.CONNECT)
    desk.desk.turn(NOW)
    desk.answer("9.1.relay", "closed", "expired")
    desk.desk.turn(NOW)
    assert desk.orders.state(9) is OrderState.SENT
    desk.answer("999.1.read", "closed")
    desk.answer("nonsense", "closed")
    desk.desk.turn(NOW)
    assert desk.orders.state(9) is OrderState.SENT
    assert desk.alerts == [(meter.meter_id, "nonsense")], "once a turn, whatever came"


@pytest.mark.parametrize(
    ("result", "clock_min", "refusal"),
    [
        ("expired", 16, Refusal.CLOCK_AHEAD),
        ("expired", 14, Refusal.CLOCK_AHEAD),
        ("expired", 13, Refusal.LATE),
        ("expired", -20, Refusal.LATE),
        ("unsupported", 16, Refusal.UNSUPPORTED),
        ("failed", 16, Refusal.FAILED),
    ],
)
def test_a_refusal_says_whether_the_meters_own_clock_is_the_reason(
    meter: Device, result: AnswerResult, clock_min: int, refusal: Refusal
) -> None:
    desk = Desk()
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.CONNECT)
    desk.desk.turn(NOW)
    desk.answer("9.1.relay", "open", result, clock=timedelta(minutes=clock_min))
    desk.desk.turn(NOW)
    assert desk.orders.refusals == [{9: refusal}]


def test_without_a_broker_an_order_stays_due(meter: Device) -> None:
    desk = Desk()
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.CONNECT)
    desk.transport.connected.clear()
    desk.desk.turn(NOW)
    assert desk.orders.state(9) is OrderState.DECIDED
    desk.transport.connected.add(Driver.MQTT_SENML)
    desk.desk.turn(NOW)
    assert desk.transport.commands() == [("PW-1", "9.1.relay", "closed")]


def test_a_cut_that_a_recharge_overtakes_opens_no_relay(
    meter: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at what is due and its command the desk may have taken its place."""
    desk = Desk()
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.DISCONNECT)
    look = desk.orders.due

    def overtaken(**asked: object) -> Sequence[DueOrder]:
        found = look(**asked)  # type: ignore[arg-type]  # handed on as it came
        desk.orders._move([9], core_orders.supersede)
        return found

    monkeypatch.setattr(desk.orders, "due", overtaken)
    desk.desk.turn(NOW)
    assert desk.transport.commands() == []


def test_a_returning_meter_gets_its_order_at_once(meter: Device) -> None:
    desk = Desk()
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.CONNECT)
    desk.desk.turn(NOW)
    desk.transport.commands()
    soon = NOW + timedelta(milliseconds=500)
    desk.desk.turn(soon)
    assert desk.transport.commands() == []
    desk.desk.submit(HelloFrame("PW-1", NOW_US, AckToken(1, 1), NOW_US, "open", "fw"))
    desk.desk.turn(soon)
    assert desk.transport.commands() == [("PW-1", "9.2.relay", "closed")]
    # By a reading as well, but only after the meter had time to answer.
    desk.orders.orders[9] = replace(desk.orders.orders[9], next_try_at_us=NOW_US + 10**9)
    assert not desk.desk.saw("PW-1", instant_us(soon))
    assert not desk.desk.saw("PW-2", instant_us(soon))
    later = NOW + timedelta(seconds=5)
    assert desk.desk.saw("PW-1", instant_us(later))
    desk.desk.turn(later)
    assert desk.transport.commands() == [("PW-1", "9.3.relay", "closed")]


def test_a_flood_of_hellos_does_not_skip_the_back_off_of_retries(meter: Device) -> None:
    desk = Desk()
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.CONNECT)
    sent: list[int] = []
    for second in range(120):
        now = NOW + timedelta(seconds=second)
        # Retries of their own are left out: all that is sent is for the hellos.
        order = desk.orders.orders[9]
        if order.attempts:
            far = NOW_US + 10**12
            desk.orders.orders[9] = replace(order, next_try_at_us=far)
        for number in range(20):
            at_us = instant_us(now) + number
            desk.desk.submit(HelloFrame("PW-1", at_us, AckToken(1, 1), at_us, "open", "fw"))
        desk.desk.turn(now)
        sent += [second] * len(desk.transport.commands())
    assert len(sent) <= 8 and sent[1] <= 2
    waits = [after - before for before, after in itertools.pairwise(sent[1:])]
    assert waits == sorted(waits) and waits[-1] >= 32


def test_tampering_is_kept_alarmed_and_only_then_acknowledged(meter: Device) -> None:
    desk = Desk()
    event = EventFrame("PW-1", NOW_US, AckToken(1, 3), "cover_open", NOW_US - 5, "")
    desk.desk.submit(event)
    desk.desk.turn(NOW)
    assert desk.transport.happened == [
        AckToken(1, 3),
        Watermark("PW-1", EVENT_LOG, NOW_US - 5, NOW_US - 5, None),
    ]
    assert one("SELECT code, detail ->> 'event' FROM alert") == ("meter.tamper", "cover_open")
    assert one("SELECT kind, state, evidence_count FROM tamper_case") == (1, 1, 1)
    assert one("SELECT tamper_since FROM meter_link") == (NOW,)
    again, closed = replace(event, received_at_us=NOW_US + 9), replace(event, code="cover_closed")
    record_events([(meter, again)], NOW)
    assert one("SELECT tamper_since, evidence_count FROM meter_link, tamper_case") == (NOW, 1)
    record_events([(meter, closed), (meter, closed)], NOW)
    assert one("SELECT tamper_since, evidence_count FROM meter_link, tamper_case") == (None, 2)


def test_an_event_that_nobody_knows_is_kept_before_its_meter_may_forget_it(meter: Device) -> None:
    desk = Desk()
    for number, code in enumerate(("power_down", "clock_set")):
        desk.desk.submit(EventFrame("PW-1", NOW_US, AckToken(1, number), code, NOW_US - 5, ""))
    desk.desk.turn(NOW)
    assert (
        desk.transport.happened.count(Watermark("PW-1", EVENT_LOG, NOW_US - 5, NOW_US - 5, None))
        == 2
    )
    count, sample = one("SELECT count, sample FROM rejected_frame WHERE reason = 'unknown_event'")
    assert count == 2 and b"clock_set" in bytes(sample)
    assert desk.alerts == []


def test_a_frame_that_cannot_be_stored_does_not_stop_the_others(meter: Device) -> None:
    desk = Desk()
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.DISCONNECT)
    desk.desk.turn(NOW)
    refuse = desk.orders.mark_refused

    desk.orders.add(13, meter.meter_id, "PW-1", OrderKind.DISCONNECT)
    desk.desk.turn(NOW)

    def fail(*, refusals: Sequence[Refused], now: datetime) -> None:
        if any(each.order_id == 13 for each in refusals):
            raise LookupError("no order 13")
        refuse(refusals=refusals, now=now)

    desk.orders.mark_refused = fail  # type: ignore[method-assign]  # one order is poison
    desk.answer("13.1.relay", "open", "failed")
    desk.answer("9.1.relay", "open")
    desk.desk.turn(NOW)
    assert desk.orders.state(9) is OrderState.ACKNOWLEDGED
    assert desk.transport.happened.count(AckToken(1, 5)) == 2
    assert one("SELECT reason FROM rejected_frame") == ("LookupError: no order 13",)


def test_unknown_meters_and_malformed_frames_are_counted_and_kept(meter: Device) -> None:
    desk = Desk()
    for _ in range(2):
        desk.answer("9.1.read", "open", serial="PW-404")
    desk.desk.submit_malformed(MalformedSample("pw/PW-1/up/x", NOW_US, "json", "bad", b"\x00\xff"))
    desk.desk.submit_malformed(MalformedSample("\x00" * 99, NOW_US, "topic", "bad", b""))
    desk.desk.turn(NOW)
    assert AckToken(1, 5) in desk.transport.happened
    assert one("SELECT count, reason FROM rejected_frame WHERE serial = 'PW-404'") == (
        2,
        "unknown_meter",
    )
    assert one("SELECT property_id FROM rejected_frame WHERE serial = 'PW-1'") == (
        meter.property_id,
    )


def test_a_sighting_never_goes_back_in_time(meter: Device) -> None:
    record_sightings([Sighting(meter, NOW, RelayState.OPEN, 4, "fw 1")])
    record_sightings([Sighting(meter, NOW - timedelta(hours=1), RelayState.CLOSED)])
    record_sightings([Sighting(meter, NOW + timedelta(seconds=1))])
    assert one(
        "SELECT relay, relay_read_at, clock_drift_s, firmware, last_seen_at FROM meter_link"
    ) == (
        2,
        NOW,
        4,
        "fw 1",
        NOW + timedelta(seconds=1),
    )
    reject([])
    record_sightings([])


class MemoryIngest:
    """In place of the ingest loop: acknowledges at once."""

    def __init__(self, session: Sessions) -> None:
        self.failure: Exception | None = None
        self._session = session
        self.frames: queue.Queue[ReadingsFrame] = queue.Queue()
        self.is_stopped = False

    def start(self) -> None:
        pass

    def watch(self, serial: str, at_us: int) -> None:
        """Nothing to look at."""

    def submit(self, frame: ReadingsFrame) -> None:
        self.frames.put(frame)
        self._session.ack([frame.token])

    def stop(self) -> None:
        self.is_stopped = True


def now() -> datetime:
    return datetime.now(UTC)


def test_recharge_bell_to_relay_verified_takes_less_than_a_second(
    broker: Broker, database: str, meter: Device, tmp_path: Path
) -> None:
    """The whole way over PostgreSQL, broker and meter, twenty orders; p95 far below one second."""
    orders = MemoryOrders()
    ingests: list[MemoryIngest] = []

    def make_ingest(session: Sessions) -> MemoryIngest:
        ingests.append(MemoryIngest(session))
        return ingests[0]

    address = f"{broker.command.host}:{broker.command.port}"
    assert probe_protocol(broker.command.host, broker.command.port) == broker.command.protocol
    head_end = HeadEnd(
        openers=[mqtt_opener(mqtt_config(address), clock=now)],
        dsn=database,
        clock=now,
        orders=orders,
        raise_alert=lambda device, event, at: None,
        make_ingest=make_ingest,
    )
    process = SimProcess(
        SimConfig(
            name="test",
            host=broker.command.host,
            port=broker.command.port,
            state_file=str(tmp_path / "state.json"),
            report_period_s=60,
            meters=(SimMeter("PW-1", "H0-A", 1_000_000, 0, instant_us(NOW)),),
        ),
        now_us=lambda: instant_us(now()),
    )
    thread = threading.Thread(target=process.run, daemon=True)
    head_end.start()
    assert head_end.sessions.wait_connected(10)
    time.sleep(0.3)
    thread.start()
    ingests[0].frames.get(timeout=10)
    time.sleep(0.3)
    waits: list[float] = []
    with psycopg.connect(database, autocommit=True) as ringer:
        for number in range(1, 21):
            kind = OrderKind.DISCONNECT if number % 2 else OrderKind.CONNECT
            orders.add(number, meter.meter_id, "PW-1", kind, now())
            began = time.monotonic()
            ringer.execute("SELECT pg_notify('supply_order', '1')")
            while number not in orders.finished:
                assert time.monotonic() < began + 10
                time.sleep(0.002)
            assert orders.state(number) is OrderState.VERIFIED
            waits.append(orders.finished[number] - began)
        assert sorted(waits)[18] < 0.5

        switch_fault("PW-1", "outage", 1, address)
        while process.meter("PW-1").is_online:
            time.sleep(0.02)
        orders.add(99, meter.meter_id, "PW-1", OrderKind.DISCONNECT, now())
        ringer.execute("SELECT pg_notify('supply_order', '1')")
        time.sleep(0.5)
        assert orders.state(99) is OrderState.SENT
        switch_fault("PW-1", "outage", 0, address)
        deadline = time.monotonic() + 10
        while 99 not in orders.finished and time.monotonic() < deadline:
            time.sleep(0.02)
        assert orders.state(99) is OrderState.VERIFIED
    assert process.meter("PW-1").relay == "open"
    process.stop()
    thread.join(10)
    head_end.stop()
    assert ingests[0].is_stopped and head_end.failure is None
    print("order to verified:", [f"{wait * 1000:.0f} ms" for wait in sorted(waits)])


def test_the_loop_outlives_the_database_going_away(database: str, meter: Device) -> None:
    desk = Desk()
    loop = CommandLoop(desk.desk, dsn=database, clock=lambda: NOW)
    loop.start()
    with psycopg.connect(database, autocommit=True) as killer:
        time.sleep(0.5)
        killer.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE pid <> pg_backend_pid() AND datname = current_database()"""
        )
        desk.desk.submit(HelloFrame("PW-1", NOW_US, AckToken(1, 1), NOW_US, "open", "fw"))
        loop.ring()
        deadline = time.monotonic() + 10
        while not desk.transport.happened and time.monotonic() < deadline:
            time.sleep(0.05)
    loop.stop()
    assert loop.failure is None
    assert AckToken(1, 1) in desk.transport.happened


def test_a_failing_turn_ends_the_loop_and_is_reported(database: str) -> None:
    desk = Desk()
    desk.orders.expire = None  # type: ignore[method-assign, assignment]  # any fault of ours will do
    loop = CommandLoop(desk.desk, dsn=database, clock=lambda: NOW)
    loop.start()
    deadline = time.monotonic() + 10
    while loop.failure is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert isinstance(loop.failure, TypeError)


# --- answers that do not belong ---


def rejected(serial: str = "PW-1") -> dict[object, object]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT reason, count FROM rejected_frame WHERE serial = %s", [serial])
        return dict(cursor.fetchall())


def second_meter(meter: Device) -> Device:
    from prewatt.estate.models import Meter

    other = Meter.objects.create(property_id=meter.property_id, serial="PW-2")
    return Device(other.pk, meter.property_id)


def test_a_read_of_an_earlier_order_told_again_ends_no_later_one(meter: Device) -> None:
    desk = Desk()
    desk.orders.add(8, meter.meter_id, "PW-1", OrderKind.CONNECT)
    desk.desk.turn(NOW)
    desk.answer("8.1.relay", "closed")
    desk.answer("8.1.read", "closed", at=NOW + timedelta(seconds=1))
    desk.desk.turn(NOW)
    assert desk.orders.state(8) is OrderState.VERIFIED
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.DISCONNECT)
    desk.desk.turn(NOW)
    desk.answer("9.1.relay", "open", at=NOW + timedelta(seconds=2))
    desk.desk.turn(NOW)
    desk.orders.add(10, meter.meter_id, "PW-1", OrderKind.CONNECT)
    desk.desk.turn(NOW)
    later = NOW + timedelta(seconds=9)
    desk.answer("8.1.read", "closed", at=later, clock=timedelta())
    desk.desk.turn(later)
    assert desk.orders.state(10) is OrderState.SENT
    assert one("SELECT relay, last_seen_at FROM meter_link") == (2, NOW + timedelta(seconds=2))
    assert rejected() == {"late_answer": 1} and desk.alerts == []


def test_one_meters_answer_moves_no_other_meters_order(meter: Device) -> None:
    other = second_meter(meter)
    desk = Desk()
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.DISCONNECT)
    desk.orders.add(10, other.meter_id, "PW-2", OrderKind.DISCONNECT)
    desk.desk.turn(NOW)
    for _ in range(2):
        for op in ("relay", "read"):
            desk.answer(f"9.1.{op}", "open", serial="PW-2")
        desk.answer("9.1.relay", "open", result="unsupported", serial="PW-2")
        desk.desk.turn(NOW)
    assert [desk.orders.state(each) for each in (9, 10)] == [OrderState.SENT] * 2
    assert rejected("PW-2") == {"foreign_answer": 6}
    assert one("SELECT count(*) FROM meter_link") == (0,), "nothing of it is believed"
    assert {meter_id for meter_id, _ in desk.alerts} == {other.meter_id}
    assert len(desk.alerts) == 2, "once a turn; the alert itself is one while it is open"
    assert AckToken(1, 5) in desk.transport.happened, "or it would come for ever"


@pytest.mark.parametrize("ahead_of_us", ["9.2.read", "9.2.relay", "9.0.read", "77.1.read", "gate"])
def test_an_answer_to_a_command_that_was_never_sent_is_foreign(
    meter: Device, ahead_of_us: str
) -> None:
    desk = Desk()
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.DISCONNECT)
    desk.desk.turn(NOW)
    desk.answer(ahead_of_us, "open")
    desk.desk.turn(NOW)
    assert desk.orders.state(9) is OrderState.SENT
    assert rejected() == {"foreign_answer": 1}
    assert desk.alerts == [(meter.meter_id, ahead_of_us)]


def test_a_read_back_counts_only_of_the_latest_attempt_and_a_yes_of_any(meter: Device) -> None:
    desk = Desk()
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.DISCONNECT)
    desk.desk.turn(NOW)
    later = NOW + timedelta(seconds=3)
    desk.desk.turn(later)
    desk.transport.commands()
    desk.answer("9.1.read", "open", at=later, clock=timedelta())
    desk.answer("9.1.relay", "open", result="failed", at=later, clock=timedelta())
    desk.desk.turn(later)
    assert desk.orders.state(9) is OrderState.SENT
    desk.answer("9.1.relay", "open", at=later, clock=timedelta())
    desk.desk.turn(later)
    assert desk.orders.state(9) is OrderState.ACKNOWLEDGED
    assert desk.transport.commands() == [], "its latest command is under way and will be read"
    desk.answer("9.2.read", "open", at=later, clock=timedelta())
    desk.desk.turn(later)
    assert desk.orders.state(9) is OrderState.VERIFIED
    assert desk.alerts == []


def test_what_the_broker_delivers_again_is_no_attack(meter: Device) -> None:
    """After a crash before the PUBACK, and from a meter that says everything twice."""
    desk = Desk()
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.DISCONNECT)
    desk.desk.turn(NOW)
    desk.transport.commands()
    for _ in range(3):
        desk.answer("9.1.relay", "open")
        desk.answer("9.1.relay", "open")
        desk.desk.turn(NOW)
    assert desk.transport.commands() == [("PW-1", "9.1.read", None)]
    for seconds in range(3):
        desk.answer("9.1.read", "open", at=NOW + timedelta(seconds=seconds), clock=-timedelta(seconds=seconds))  # fmt: skip
        desk.desk.turn(NOW)
    assert desk.orders.state(9) is OrderState.VERIFIED
    assert rejected() == {} and desk.alerts == []
    # A head-end that has started afresh does not remember it, and calls nobody for it.
    anew = Desk()
    anew.orders = desk.orders
    anew.desk._orders = desk.orders
    anew.answer("9.1.read", "open")
    anew.desk.turn(NOW)
    assert rejected() == {"late_answer": 1} and anew.alerts == []


# --- how a relay state is dated ---


@pytest.mark.parametrize(
    ("made", "seen"),
    [(0, 5), (30, 30), (60, 60), (90, 60), (-50, 5), (-1_000, 60), (1_000, 60)],
)
def test_a_read_back_is_dated_by_the_meter_within_what_can_be(
    meter: Device, made: int, seen: int
) -> None:
    """Sent at 5 s, received at 60 s: seconds of the meter's clock, and of what is believed."""
    desk = Desk()
    backs: list[ReadBack] = []
    real = desk.orders.mark_read_back

    def watch(*, read_backs: Sequence[ReadBack], now: datetime) -> None:
        backs.extend(read_backs)
        real(read_backs=read_backs, now=now)

    desk.orders.mark_read_back = watch  # type: ignore[method-assign]  # to see what is handed over
    desk.orders.add(9, meter.meter_id, "PW-1", OrderKind.DISCONNECT)
    desk.desk.turn(NOW + timedelta(seconds=5))
    received = NOW + timedelta(seconds=60)
    desk.answer("9.1.read", "open", at=received, clock=timedelta(seconds=made - 60))
    desk.desk.turn(NOW + timedelta(seconds=5))
    assert [each.seen_at for each in backs] == [NOW + timedelta(seconds=seen)]
    assert one("SELECT relay_read_at, clock_drift_s FROM meter_link") == (
        NOW + timedelta(seconds=seen),
        made - 60,
    )


def test_a_replayed_hello_or_reading_tells_no_relay_and_the_meter_is_asked(meter: Device) -> None:
    desk = Desk()
    record_sightings([Sighting(meter, NOW, RelayState.OPEN)])
    old = NOW_US - 86_400 * 10**6
    desk.desk.submit(HelloFrame("PW-1", NOW_US, AckToken(1, 1), old, "closed", "fw"))
    desk.desk.turn(NOW)
    assert one("SELECT relay, clock_drift_s FROM meter_link") == (2, -86_400)
    (asked,) = desk.transport.commands()
    assert asked == ("PW-1", f"0.{NOW_US}.read", None)
    for _ in range(3):
        desk.desk.submit(HelloFrame("PW-1", NOW_US, AckToken(1, 2), old, "closed", "fw"))
    desk.desk.turn(NOW + timedelta(seconds=30))
    assert desk.transport.commands() == [], "a meter is asked once a minute at most"
    later = NOW + timedelta(seconds=31)
    desk.answer("0.1.read", "closed", at=later, clock=timedelta(days=-1))
    desk.desk.turn(later)
    assert one("SELECT relay FROM meter_link") == (2,), "an answer to no question of ours"
    desk.answer(asked[1], "closed", at=later, clock=timedelta(days=-1))
    desk.desk.turn(later)
    assert one("SELECT relay, relay_read_at FROM meter_link") == (1, later)
    assert desk.alerts == []


@pytest.mark.parametrize(
    ("clock_s", "newest_s", "expected"),
    [(0, -7_200, 0), (-60, -9, -60), (60, 0, 0), (None, -9, -9), (None, -7_200, None), (-7_200, 0, None)],
)  # fmt: skip
def test_a_relay_state_of_readings_is_dated_by_the_clock_or_by_the_newest_reading(
    clock_s: int | None, newest_s: int, expected: int | None
) -> None:
    frame = ReadingsFrame(
        "PW-1",
        NOW_US,
        AckToken(1, 1),
        np.array([NOW_US - 86_400 * 10**6, NOW_US + newest_s * 10**6]),
        np.array([1, 1], dtype=np.int16),
        np.array([1, 2]),
        None if clock_s is None else NOW_US + clock_s * 10**6,
        "open",
    )
    seen = relay_seen_us(frame)
    assert seen == (None if expected is None else NOW_US + expected * 10**6)


def test_of_two_messages_in_one_set_each_fact_is_the_newest(meter: Device) -> None:
    second = timedelta(seconds=1)
    record_sightings(
        [
            Sighting(meter, NOW, RelayState.OPEN, 4, "fw 1", relay_at=NOW),
            Sighting(meter, NOW + second, RelayState.CLOSED, relay_at=NOW - second),
            Sighting(meter, NOW - second, None, 7),
        ]
    )
    assert one(
        "SELECT relay, relay_read_at, clock_drift_s, firmware, last_seen_at FROM meter_link"
    ) == (2, NOW, 7, "fw 1", NOW + second)
