"""What the worker finds by itself, once a day and as one case, and what it rightly leaves alone."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tests.supply.world import CLERK, NOW, World, run_sql
from tests.tamper.test_cases import rows, someone

from prewatt.core.readings import ACTIVE_IMPORT
from prewatt.core.tampering import DayAtMeter, bypass_suspicions
from prewatt.core.vee import Verdict
from prewatt.core.vocabulary import RelayState
from prewatt.tamper.detection import look_for_tampering
from prewatt.tamper.operations import close_case

H, DAY = timedelta(hours=1), timedelta(days=1)


def test_a_silent_meter_is_suspected_only_of_what_its_feeder_misses() -> None:
    honest, silent, away = (
        DayAtMeter(1, 9_000, 9_000),
        DayAtMeter(2, 500, 8_000),
        DayAtMeter(3, 0, 90),
    )
    (found,) = bypass_suspicions(17_500, 300, [honest, silent, away])
    assert (found.meter_id, found.missing_wh) == (2, 7_700)
    assert bypass_suspicions(10_000, 300, [honest, silent]) == [], "nobody is at home"
    assert bypass_suspicions(17_500, 7_900, [honest, silent]) == [], "the cable loses that much"
    assert bypass_suspicions(11_400, 0, [honest, silent]) == [], "under two kilowatt-hours"
    assert bypass_suspicions(60_000, 0, [honest, silent]) == [], "somebody else's, that is more"
    big = DayAtMeter(4, 90_000, 90_000)
    assert bypass_suspicions(94_500, 0, [big, DayAtMeter(5, 0, 4_400)]) == [], "under a twentieth"
    # A silent meter that draws all the same, and one that does not: the nearer comes first.
    two = [DayAtMeter(6, 0, 5_000), DayAtMeter(7, 0, 3_100)]
    assert [each.meter_id for each in bypass_suspicions(3_000, 0, two)] == [7, 6]


def read(
    world: World, meter: int, at: datetime, value_wh: int, register: int = ACTIVE_IMPORT
) -> None:
    run_sql(
        """INSERT INTO register_reading (account_id, meter_id, property_id, register_code, read_at,
               revision, value_wh, quality, source, received_at)
           VALUES (0, %s, %s, %s, %s, 0, %s, 1, 1, %s)""",
        world.meter_ids[meter], world.property_id, register, at, value_wh, at,
    )  # fmt: skip


def hang(world: World, meter: int, code: str, feeder: str | None) -> None:
    """Hang a meter at a point of its own: the feeder, or what it feeds."""
    run_sql(
        """WITH made AS (
               INSERT INTO metering_point (property_id, code, role, source, parent_id)
               VALUES (%s, %s, %s, 'grid', (SELECT id FROM metering_point WHERE code = %s)) RETURNING id, property_id)
           INSERT INTO installation (property_id, meter_id, metering_point_id, period, start_value_wh)
           SELECT property_id, %s, id, tstzrange('2026-01-01', NULL), 0 FROM made""",
        world.property_id, code, "supply" if feeder else "feeder", feeder, meter,
    )  # fmt: skip


def kinds() -> list[tuple[int, int, str]]:
    """(meter, kind, code) of each piece of evidence."""
    return [
        (row[0], row[1], row[2])
        for row in rows(
            """SELECT e.meter_id, c.kind, e.code FROM tamper_evidence e
               JOIN tamper_case c ON c.id = e.case_id ORDER BY c.kind, e.id"""
        )
    ]


@pytest.mark.usefixtures("database")
def test_relays_registers_and_feeders_tell_of_what_no_meter_says() -> None:
    world = World(5)
    feeder, honest, silent, welded, backwards = world.meter_ids
    for number, days in ((0, 20_000), (1, 9_000), (2, 10_500)):
        for day in range(10):
            at = NOW - 10 * H - (9 - day) * DAY  # midnight in Berlin, and none on the last day
            passed = number == 2 and day == 9
            read(world, number, at, 50_000 + day * days - (10_000 if passed else 0))
    hang(world, feeder, "F", None)
    for meter, code in ((honest, "A"), (silent, "B")):
        hang(world, meter, code, "F")
    run_sql(
        "UPDATE meter_link SET relay = %s, relay_since = %s WHERE meter_id = %s",
        int(RelayState.OPEN), NOW - 3 * H, welded,
    )  # fmt: skip
    world.count(70_000, at=NOW - 2 * H, meter=3)
    world.count(71_300, at=NOW, meter=3)
    run_sql(
        """INSERT INTO vee_case (property_id, meter_id, account_id, register_code, read_at, value_wh, source,
               received_at, verdict, reason, watermark_at, watermark_wh)
           VALUES (%s, %s, %s, 1, %s, 9000, 1, %s, %s, 'x', %s, 9500)""",
        world.property_id, backwards, world.account_ids[4], NOW, NOW, int(Verdict.BACKWARDS), NOW,
    )  # fmt: skip
    read(world, 4, NOW - 20 * H - DAY, 0, register=2)
    read(world, 4, NOW - H, 5_000, register=2)

    def look(now: datetime = NOW) -> int:
        return look_for_tampering(actor=CLERK, now=now, by_day=True)

    assert look() == 3, kinds()
    assert kinds() == [
        (backwards, 4, "register_fell"), (backwards, 4, "fed_back"), (silent, 6, "feeder_misses"),
        (welded, 7, "used_while_open"),
    ]  # fmt: skip
    assert look(NOW + H) == 0 and len(kinds()) == 4, "what lasts is evidence once a day"
    case = rows("SELECT id FROM tamper_case WHERE kind = 7")[0][0]
    close_case(actor=someone(world), case_id=case, reason="other", note="Seen", now=NOW)
    assert look() == 0, "what was looked at is no new incident"
    world.count(72_900, at=NOW + DAY, meter=3)
    assert look(NOW + DAY) == 1, "it goes on after somebody said that it was over"
    assert rows(
        "SELECT detail ->> 'missing_wh' FROM tamper_evidence WHERE code = 'feeder_misses'"
    ) == [("10000",)]
