"""Clocks that fall back and clocks that drift, and the versions that devices tell."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tests.supply.world import CLERK, NOW, World, run_sql
from tests.tamper.test_cases import rows

from prewatt.access.scope import system_actor
from prewatt.core.civil_time import instant_us
from prewatt.core.drivers import Driver
from prewatt.core.instructions import Operation, Worth
from prewatt.fleet.clocks import SignedClocks
from prewatt.fleet.requests import RequestBook
from prewatt.hes.drivers.mqtt_senml import codec
from prewatt.hes.drivers.mqtt_senml.topics import Uplink
from prewatt.hes.frames import AckToken, HelloFrame
from prewatt.hes.links import Device, Sighting, record_sightings
from prewatt.instructions.operations import InstructionBook, SignerSeal, Told, enrol_key
from prewatt.moves.clocks import PER_DAY, correct_clocks
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.signing.keys import KeyRole, PublicKey, SoftwareSigner
from prewatt.sim.loads import load_profile
from prewatt.sim.meter import MeterConfig, SimulatedMeter

H, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def tell(world: World, at: datetime, meter: int = 0, **said: object) -> None:
    device = Device(world.meter_ids[meter], world.property_id)
    record_sightings([Sighting(device, at, **said)])  # type: ignore[arg-type]  # a table of facts


@pytest.mark.usefixtures("database")
def test_a_clock_that_falls_behind_at_once_is_a_case_and_a_drift_is_put_right() -> None:
    world = World(3)
    first, second, third = world.meter_ids
    run_sql("DELETE FROM meter_link WHERE meter_id = %s", third)
    tell(world, NOW, meter=2, clock_drift_s=-9_000)
    for hour, drift in enumerate((5, -300, -590, 3_600, 0, -500)):
        tell(world, NOW + hour * H, clock_drift_s=drift)
    assert rows("SELECT count(*) FROM tamper_case") == [(0,)], "drifts, corrections, strangers"
    for minute, drift in ((0, -4_000), (1, -500), (2, -4_000), (2, -4_000)):
        tell(world, NOW + 6 * H + timedelta(minutes=minute), clock_drift_s=drift)
    assert rows("SELECT count(*) FROM tamper_case") == [(0,)], "a message came late, once and twice"
    tell(world, NOW + 6 * H + timedelta(minutes=3), clock_drift_s=-3_990)
    assert rows("SELECT c.meter_id, c.kind, e.detail FROM tamper_case c JOIN tamper_evidence e ON e.case_id = c.id") == [
        (first, 8, '{"after_s": -3990, "before_s": -500}')
    ]  # fmt: skip

    now = NOW + 7 * H
    tell(world, now, meter=1, clock_drift_s=400)
    run_sql("UPDATE meter_link SET last_seen_at = %s", now - H)
    assert correct_clocks(actor=CLERK, now=now) == 0, "nothing has said so since"
    for number in range(3):
        world.count(1_000, at=now, meter=number)
    run_sql("UPDATE meter SET driver = 'lorawan' WHERE id = %s", third)
    stored = rows("SELECT count(*), sum(value_wh) FROM register_reading")
    assert correct_clocks(actor=CLERK, now=now) == 2
    assert correct_clocks(actor=CLERK, now=now + H) == 0, "the last asking has to come to something"
    assert rows("SELECT meter_id, kind, move_s FROM meter_request ORDER BY meter_id") == [
        (first, 3, 3_990), (second, 3, -400),
    ]  # fmt: skip
    run_sql("UPDATE meter_request SET state = 3, next_try_at = NULL, ended_at = %s", now + H)
    tell(world, now + 2 * H, meter=1, clock_drift_s=1)
    alarmed = []
    for turn in range(1, 12):
        at = now + turn * 2 * H
        tell(world, at, clock_drift_s=-4_000)
        run_sql("UPDATE meter_state SET received_at = %s", at + H)
        run_sql(
            "UPDATE meter_request SET state = 5, ended_at = %s, next_try_at = NULL WHERE state < 3",
            at,
        )
        correct_clocks(actor=CLERK, now=at)
        alarmed += [turn for _ in rows("SELECT FROM alert WHERE code = 'meter.clock_unmended'")]
    # The third was asked in the fourth of these turns; what three did not put right calls a person once.
    assert alarmed[0] == 5 and rows(
        "SELECT count(*), min(detail ->> 'drift_s') FROM alert WHERE closed_at IS NULL"
        " AND code = 'meter.clock_unmended'"
    ) == [(1, "-4000")]  # fmt: skip
    tell(world, at + H, clock_drift_s=2)
    correct_clocks(actor=CLERK, now=at + 2 * H)
    assert rows(
        "SELECT count(closed_at), count(*) FROM alert WHERE code = 'meter.clock_unmended'"
    ) == [(1, 1)]
    assert rows("SELECT before_s, after_s FROM clock_correction WHERE meter_id = %s", second) == [
        (400, 1)
    ]
    assert rows("SELECT count(*) FROM clock_correction WHERE meter_id = %s", first) == [(PER_DAY,)]
    assert rows("SELECT count(*), sum(value_wh) FROM register_reading") == stored


@pytest.mark.usefixtures("database")
def test_a_clock_of_a_meter_that_signs_is_measured_by_what_it_signs_and_moved_by_signature() -> (
    None
):
    world = World(2)
    key, own = (ES256PrivateKey.from_scalar(bytes([n] * 32)) for n in (1, 20))
    ours = SignerSeal(SoftwareSigner(PublicKey(KeyRole.INSTRUCTION, key.point, NOW - H), key))
    head_end, (first, second) = system_actor("head_end"), world.meter_ids
    book, requests = InstructionBook(head_end, seal=lambda _: ours), RequestBook(head_end)
    clocks = SignedClocks(head_end, book)
    ((serial,),) = rows("SELECT serial FROM meter WHERE id = %s", first)
    enrol_key(
        actor=system_actor("test", (world.property_id,)), property_id=world.property_id,
        meter_id=first, public_key=own.spki, now=NOW - H,
    )  # fmt: skip
    meter = SimulatedMeter(
        MeterConfig(
            serial, load_profile("H0-A", utc_offset_s=0), 1, 0, instant_us(NOW), 900_000_000,
            private_key=own, trusts={ours.key_id: key.point},
        )
    )  # fmt: skip
    meter.set_fault("clock_drift", 3_000, instant_us(NOW))
    # Its readings, which nobody signed, say something else, and so says somebody who forges them.
    for number in (0, 1):
        tell(world, NOW, meter=number, clock_drift_s=-500)
        world.count(1_000, at=NOW, meter=number)
    now = NOW + 11 * MINUTE
    run_sql("UPDATE meter_state SET received_at = %s", now)
    assert correct_clocks(actor=CLERK, now=now) == 2

    def claim(at: datetime) -> dict[int, bool]:
        due = requests.claim(now=at, drivers={Driver.MQTT_SENML})
        for sent in clocks.tell([each for each in due if each.by_instruction], now=at):
            said = meter.receive_instruction(sent.payload, instant_us(at))
            payload = next(each for channel, each in said if channel is Uplink.SEALED)
            told = Told(first, world.property_id, serial, payload, at)
            (outcome,) = book.take([told], now=at + took)
            assert outcome.worth is Worth.COUNTS and outcome.answer is not None
            if outcome.operation is Operation.CLOCK:
                clocks.moved(first, outcome.answer.result, now=at + took)
        return {each.meter_id: each.by_instruction for each in due}

    # An answer that took a minute says too little of the clock; the next is asked for, and then it is moved.
    took = MINUTE
    assert claim(now) == {first: True, second: False}
    took = timedelta(seconds=4)
    claim(now + MINUTE)
    assert meter.faults["clock_drift"] == 3_000
    claim(now + 2 * MINUTE)
    assert abs(meter.faults["clock_drift"]) <= 2
    assert rows("SELECT state, result FROM meter_request WHERE meter_id = %s", first) == [(3, "ok")]


@pytest.mark.usefixtures("database")
def test_versions_are_kept_with_since_when_and_a_change_is_noted() -> None:
    world = World(1)
    for hour, (firmware, configuration) in enumerate(
        (("1.0", None), ("1.0", "a7"), ("1.1", "a7"), ("1.0", None))
    ):
        tell(world, NOW + hour * H, firmware=firmware, configuration=configuration)
    assert rows("SELECT part, version, since FROM meter_version ORDER BY part, since") == [
        ("configuration", "a7", NOW + H), ("firmware", "1.0", NOW), ("firmware", "1.1", NOW + 2 * H),
        ("firmware", "1.0", NOW + 3 * H),
    ]  # fmt: skip
    assert rows("SELECT count(*) FROM audit_event WHERE code = 'mdm.version.changed'") == [(2,)]
    for number in range(50):
        tell(world, NOW + 4 * H + timedelta(minutes=number), firmware=f"2.{number}")
    assert rows("SELECT count(*) FROM meter_version WHERE part = 'firmware'") == [(20,)]


def test_a_hello_tells_the_version_of_a_configuration_or_none() -> None:
    for configuration in ("", "prices 7"):
        payload = codec.encode_hello(
            clock_us=1_790_000_000_000_000,
            relay="open",
            firmware="1.0",
            configuration=configuration,
        )
        frame = codec.decode("pw/PW-1/up/hello", payload, received_at_us=0, token=AckToken(0, 0))
        assert isinstance(frame, HelloFrame) and frame.configuration == configuration
