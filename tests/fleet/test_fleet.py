"""The fleet: days counted once, gaps found, asked for and filled; bulks that keep their pace, stop and begin by agreement."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import DatabaseError, connection
from tests.approvals.test_two_people import Office
from tests.conftest import role_dsn
from tests.invariants.places import NOW, World, one, place, rows, send, signed_in

from cases import cases
from prewatt.access.models import Duty
from prewatt.access.scope import PermissionRefused, scope, system_actor
from prewatt.core.drivers import Driver
from prewatt.core.fleet import allowance, gap_wait_us, gateway_window
from prewatt.core.vocabulary import BulkState, GapState, RequestKind, RequestState
from prewatt.fleet.bulks import BulkOrder, BulkRefused, move_bulk, wanted_bulk
from prewatt.fleet.gaps import follow_up
from prewatt.fleet.looking import look
from prewatt.fleet.requests import RequestBook, RequestRefused, ask_meter, cancel_request
from prewatt.hes.requests import Reply
from prewatt.reports.fleet import fleet

CLERK = system_actor("fleet")
HEAD_END = system_actor("head_end")
QUARTER = timedelta(minutes=15)
BERLIN = ZoneInfo("Europe/Berlin")
MQTT = (Driver.MQTT_SENML,)


def report(here: World, serial: str, instants: Iterable[datetime]) -> None:
    """Readings of one meter, a Wh for each two minutes since the month began."""
    began = datetime(2026, 11, 1, tzinfo=BERLIN)
    send(here, [(serial, each, int((each - began).total_seconds()) // 120) for each in instants])


def days_of(meter_id: int) -> dict[Any, tuple[int, int]]:
    return {
        day: (stored, promised)
        for day, stored, promised in rows(
            "SELECT day, stored, promised FROM fleet_day WHERE meter_id = %s", meter_id
        )
    }


def looked(dsn: str, now: datetime) -> None:
    """A worker's turn, under its own login."""
    with signed_in(role_dsn(dsn, "clerk"), dsn):
        look(actor=CLERK, now=now)
        follow_up(actor=CLERK, now=now)


def claimed(dsn: str, now: datetime) -> list[Any]:
    """What the head-end would send, under its own login."""
    with signed_in(role_dsn(dsn, "head_end"), dsn):
        return list(RequestBook(HEAD_END).claim(now=now, drivers=MQTT))


def answered(dsn: str, now: datetime, *replies: Reply) -> frozenset[int]:
    with signed_in(role_dsn(dsn, "head_end"), dsn):
        return RequestBook(HEAD_END).answered(answers=replies, now=now)


def test_days_are_counted_once_and_a_gap_is_asked_for_until_it_is_filled(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place()
    (serial, meter_id), *others = here.meters.items()
    all_of_them = [NOW - timedelta(hours=40) + n * QUARTER for n in range(160)]
    missing = set(all_of_them[75:82]) | {all_of_them[90]}
    report(here, serial, [each for each in all_of_them[:70] if each not in missing])
    # Looked at in two rounds, with what came between them, and once more for nothing.
    looked(database, all_of_them[70])
    report(here, serial, [each for each in all_of_them[70:] if each not in missing])
    for _ in range(3):
        looked(database, NOW + timedelta(hours=1))
    came = Counter(each.astimezone(BERLIN).date() for each in all_of_them if each not in missing)
    counted = days_of(meter_id)
    assert {day: stored for day, (stored, _) in counted.items() if stored} == came
    # A whole day promises as many as the period says, and days of others that never spoke are silent.
    yesterday = (NOW - timedelta(days=1)).astimezone(BERLIN).date()
    assert counted[yesterday][1] == 96
    assert days_of(others[0][1])[yesterday] == (0, 96), days_of(others[0][1])
    ((devices, silent, complete),) = rows(
        "SELECT devices, silent, complete FROM fleet_total WHERE day = %s", yesterday
    )
    assert (devices, silent, complete) == (len(here.meters), len(others), 0)

    # The page looks at that and counts no reading; beyond its bounds groups are summed up, and devices counted.
    rows("UPDATE meter SET model = 'm' || id RETURNING id")
    monkeypatch.setattr("prewatt.reports.fleet.GROUPS_MAX", 1)
    seen = fleet(actor=here.administrator, now=NOW, by="model", sort="meter", most=2)
    assert [(each.name is None, each.names, each.devices) for each in seen.groups] == [
        (False, 1, 1), (True, len(others), len(others)),
    ]  # fmt: skip
    assert (len(seen.devices), seen.count) == (2, len(here.meters))
    assert [each.day for each in seen.days] == sorted(each.day for each in seen.days)
    assert {each.day: each.stored for each in seen.days if each.stored} == came
    everyone = fleet(actor=here.administrator, now=NOW, most=None).devices
    two_days = sum(came[yesterday + timedelta(days=each)] for each in (0, 1))
    assert {each.stored for each in everyone} == {two_days, 0}

    gaps = rows("SELECT from_at, to_at, missing, state FROM meter_gap ORDER BY from_at")
    assert gaps == [
        (all_of_them[74], all_of_them[82], 7, GapState.OPEN),
        (all_of_them[89], all_of_them[91], 1, GapState.OPEN),
    ]
    # Not at once, since it may come by itself; then the youngest first, one of a meter at a time.
    assert claimed(database, NOW + timedelta(hours=1, minutes=5)) == []
    later = NOW + timedelta(hours=1, minutes=11)
    looked(database, later)
    (due,) = claimed(database, later)
    assert (due.kind, due.meter_id) == (RequestKind.HISTORY, meter_id)
    assert (due.from_at, due.to_at) == (all_of_them[89], all_of_them[91])
    assert claimed(database, later) == []
    # Another meter's answer changes nothing; its own does, and the readings fill the gap and their day.
    assert answered(database, later, Reply(due.request_id, others[0][1], "ok", 1)) == {
        due.request_id
    }
    before = one("SELECT available FROM account_state WHERE account_id = %s", here.accounts["1001"])
    report(here, serial, [all_of_them[90]])
    assert answered(database, later, Reply(due.request_id, meter_id, "ok", 1)) == frozenset()
    looked(database, later + timedelta(minutes=2))
    state, left, asked = rows(
        "SELECT state, missing, asked FROM meter_gap WHERE from_at = %s", all_of_them[89]
    )[0]
    assert (state, left, asked) == (GapState.FILLED, 0, 1)
    day = all_of_them[90].astimezone(BERLIN).date()
    assert days_of(meter_id)[day][0] == came[day] + 1
    # It is billed as backfill is: the same energy, split anew.
    after = one("SELECT available FROM account_state WHERE account_id = %s", here.accounts["1001"])
    assert abs(before - after) <= 2

    # The other is asked for with a longer wait each time and given up; if it comes after all, it is filled.
    now, waits = later + timedelta(minutes=2), []
    for _ in range(8):
        looked(database, now)
        if one("SELECT state FROM meter_gap WHERE from_at = %s", all_of_them[74]) != GapState.OPEN:
            break
        (due,) = claimed(database, now)
        for _ in range(3):
            now += timedelta(seconds=61)
            claimed(database, now)
            with signed_in(role_dsn(database, "head_end"), database):
                RequestBook(HEAD_END).settle(now=now)
        before_at, now = (
            now,
            one("SELECT next_at FROM meter_gap WHERE from_at = %s", all_of_them[74]),
        )
        waits.append(now - before_at)
    assert waits == sorted(waits) and len(waits) == 6
    assert rows("SELECT state, reason FROM meter_gap WHERE from_at = %s", all_of_them[74]) == [
        (GapState.GIVEN_UP, "no_answer")
    ]
    report(here, serial, sorted(missing - {all_of_them[90]}))
    looked(database, now + timedelta(days=1, minutes=1))
    assert one("SELECT count(*) FROM meter_gap WHERE state <> %s", int(GapState.FILLED)) == 0


def test_a_meter_without_history_is_said_so_and_never_asked(database: str) -> None:
    here = place()
    serial, meter_id = next(iter(here.meters.items()))
    rows("UPDATE meter SET driver = 'lorawan' WHERE id = %s RETURNING id", meter_id)
    report(here, serial, [NOW - 20 * QUARTER, NOW - 10 * QUARTER, NOW - 9 * QUARTER])
    for hours in (1, 2, 30):
        looked(database, NOW + timedelta(hours=hours))
    assert rows("SELECT missing, state, reason, asked FROM meter_gap") == [
        (9, GapState.GIVEN_UP, "no_history", 0)
    ]
    assert one("SELECT count(*) FROM meter_request") == 0
    actor = here.administrator
    with pytest.raises(RequestRefused, match="driver"):
        ask_meter(
            actor=actor, property_id=here.property_id, meter_id=meter_id, kind=RequestKind.READ,
            reason="look", now=NOW,
        )  # fmt: skip


def test_a_bulk_begins_by_agreement_keeps_its_pace_and_stops(database: str) -> None:
    office = Office()
    here, now = office.property_id, office.now
    ids = sorted(key for (key,) in rows("SELECT id FROM meter WHERE property_id = %s", here))
    order = BulkOrder(RequestKind.READ, {"driver": "mqtt_senml"}, per_s=2, bound_percent=20)
    wanted = wanted_bulk(actor=office.actor("ines"), property_id=here, order=order, now=now)
    assert (wanted.amount, wanted.effect["cannot"]) == (len(ids), 0)
    with pytest.raises(PermissionRefused):
        wanted_bulk(
            actor=office.actor("tomas", Duty.OPERATOR), property_id=here, order=order, now=now
        )
    with pytest.raises(BulkRefused, match="pace"):
        wanted_bulk(
            actor=office.actor("ines"), property_id=here, order=BulkOrder(RequestKind.READ, per_s=0),
            now=now,
        )  # fmt: skip
    # Above the ladder somebody else agrees: here above three meters.
    rows(
        """INSERT INTO amount_limit (property_id, kind, above, approvers)
           VALUES (%s, 'fleet.bulk', 0, 0), (%s, 'fleet.bulk', %s, 1) RETURNING id""",
        here, here, len(ids) - 1,
    )  # fmt: skip
    with signed_in(role_dsn(database, "web"), database):
        proposal = office.ask("ines", wanted)
        assert one_as_admin(office, "SELECT count(*) FROM fleet_bulk") == 0
        office.approve(proposal, "jonas")
    ((bulk_id, made_by),) = rows("SELECT id, made_by FROM fleet_bulk")
    assert made_by == office.actor("ines").code
    now = office.now
    # Two a second, whoever asks however often, and each meter once.
    sent = []
    for tenth in range(21):
        sent += claimed(database, now + timedelta(seconds=tenth / 10))
    assert 4 <= len(sent) <= min(len(ids), 5)
    assert len({each.meter_id for each in sent}) == len(sent)
    # One press, and nothing more leaves; another person's property is out of reach.
    admin = office.actor("jonas")
    with signed_in(role_dsn(database, "web"), database):
        move_bulk(actor=admin, property_id=here, bulk_id=bulk_id, deed="pause", now=now)
        with pytest.raises(BulkRefused, match="state"):
            move_bulk(actor=admin, property_id=here, bulk_id=bulk_id, deed="pause", now=now)
    assert claimed(database, now + timedelta(seconds=30)) == []
    with signed_in(role_dsn(database, "web"), database):
        move_bulk(actor=admin, property_id=here, bulk_id=bulk_id, deed="resume", now=now)
        move_bulk(actor=admin, property_id=here, bulk_id=bulk_id, deed="stop", now=now)
        # Nobody writes a bulk past its function, nor moves what was agreed to.
        for statement in (
            "INSERT INTO meter_request (property_id, meter_id, kind) SELECT property_id, id, 1 FROM meter",
            "UPDATE fleet_bulk SET per_s = 200",
            f"SELECT begin_bulk({here}, 'fleet:read', 1, 'x', 'x', '{{{ids[0]}}}', '{{x}}', '{{0}}', now())",
        ):
            with pytest.raises(DatabaseError), scope(admin), connection.cursor() as cursor:
                cursor.execute(statement)
    states = Counter(dict(rows("SELECT state, count(*) FROM meter_request GROUP BY 1")))
    assert states[RequestState.CANCELLED] == len(ids) - len(sent)
    assert one("SELECT state FROM fleet_bulk") == BulkState.STOPPED
    assert {code for (code,) in rows("SELECT code FROM audit_event WHERE subject = %s", f"bulk:{bulk_id}")} == {
        "fleet.bulk.begun", "fleet.bulk.pause", "fleet.bulk.resume", "fleet.bulk.stop",
    }  # fmt: skip


def one_as_admin(office: Office, statement: str) -> Any:
    with scope(office.actor("ines")):
        return one(statement)


def test_a_bulk_that_fails_too_often_stops_by_itself(database: str) -> None:
    """Forty meters: of the first twenty that answer five refuse, where one in five may."""
    here = place()
    rows(
        """WITH made AS (INSERT INTO meter (property_id, serial, model, driver, multiplier, modulus_wh, max_power_w,
                                            has_relay, expected_period_s)
                         SELECT %s, 'B-' || n, '', 'mqtt_senml', 1, 1000000, 1000, true, 900
                         FROM generate_series(1, 40) n RETURNING id),
              bulk AS (INSERT INTO fleet_bulk (property_id, kind, chosen, meters, proposal_id, made_by, reason, begun_at,
                                               per_s, per_gateway_min, bound_percent, state_at, used_to)
                       VALUES (%s, 1, '{}', 40, 1, 'x', 'x', %s, 200, 120, 20, %s, %s) RETURNING id)
           INSERT INTO meter_request (property_id, meter_id, kind, bulk_id, gateway, made_at, made_by, reason,
                                      expires_at, next_try_at)
           SELECT %s, made.id, 1, bulk.id, 'gw' || made.id %% 2, %s, 'x', 'x', %s, %s FROM made, bulk RETURNING id""",
        here.property_id, here.property_id, NOW, NOW, NOW, here.property_id, NOW,
        NOW + timedelta(days=7), NOW,
    )  # fmt: skip
    # Two gateways, two commands a second each, though the whole would let two hundred go.
    sent: list[Any] = []
    for tenth in range(1, 61):
        now = NOW + timedelta(seconds=tenth / 10)
        sent += claimed(database, now)
        assert len(sent) <= 4 * (tenth // 10 + 1)
    assert len(sent) == 24
    replies = [
        Reply(each.request_id, each.meter_id, "failed" if at % 4 == 3 else "ok", 7)
        for at, each in enumerate(sent[:20])
    ]
    answered(database, now, *replies[:19])
    with signed_in(role_dsn(database, "head_end"), database):
        RequestBook(HEAD_END).settle(now=now)
        assert one("SELECT state FROM fleet_bulk") == BulkState.RUNNING
    # Asked again, an answer counts once; one that comes for what was never sent is nobody's.
    answered(database, now, *replies)
    with signed_in(role_dsn(database, "head_end"), database):
        RequestBook(HEAD_END).settle(now=now)
    assert one("SELECT state FROM fleet_bulk") == BulkState.BRAKED
    assert rows("SELECT code, subject, detail ->> 'failed' FROM alert") == [
        ("fleet.bulk_braked", f"bulk:{one('SELECT id FROM fleet_bulk')}", "5")
    ]
    assert claimed(database, now + timedelta(seconds=60)) == []
    assert (
        one("SELECT count(*) FROM meter_request WHERE state = %s", int(RequestState.ANSWERED)) == 15
    )


def test_no_way_of_asking_gets_more_than_the_pace() -> None:
    draw = random.Random(7)
    for _ in range(cases(500)):
        per_s, wants = draw.randint(1, 200), draw.choice([1, 2, 5, 300])
        used = now = taken = 0
        for _ in range(draw.randint(1, 30)):
            now += draw.randint(0, draw.choice([200_000, 3_000_000]))
            allowed = allowance(used_to_us=used, now_us=now, per_s=per_s)
            if took := min(allowed.count, wants):
                used, taken = allowed.used_to_us(took), taken + took
        # A ten-thousandth more, since the time of each is in whole microseconds.
        assert taken <= per_s * (now / 1_000_000 * 1.0001 + 0.25) + 1


def test_waits_double_to_six_hours_and_a_gateways_window_lets_one_go() -> None:
    waits = [gap_wait_us(each) // 60_000_000 for each in range(1, 9)]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 360]
    assert [gateway_window(each) for each in (1, 6, 60, 90, 600)] == [
        (60, 1), (10, 1), (1, 1), (1, 1), (1, 10),
    ]  # fmt: skip


def test_what_has_not_left_can_be_taken_back_and_few_wait_for_one_meter(database: str) -> None:
    office = Office()
    admin, here = office.actor("ines"), office.property_id
    (meter_id,) = rows("SELECT min(id) FROM meter WHERE property_id = %s", here)[0]
    given = {
        "actor": admin,
        "property_id": here,
        "meter_id": meter_id,
        "reason": "look",
        "now": NOW,
    }
    with signed_in(role_dsn(database, "web"), database):
        first = ask_meter(kind=RequestKind.READ, **given)
        cancel_request(actor=admin, property_id=here, request_id=first, now=NOW)
        with pytest.raises(RequestRefused, match="ended"):
            cancel_request(actor=admin, property_id=here, request_id=first, now=NOW)
        second, _, _ = [ask_meter(kind=RequestKind.VERSION, **given) for _ in range(3)]
        with pytest.raises(RequestRefused, match="many"):
            ask_meter(kind=RequestKind.READ, **given)
        with pytest.raises(RequestRefused, match="clock"):
            ask_meter(kind=RequestKind.CLOCK, **given)
        with pytest.raises(RequestRefused, match="span"):
            ask_meter(kind=RequestKind.HISTORY, from_at=NOW, to_at=NOW, **given)
    assert len(claimed(database, NOW)) == 3
    with signed_in(role_dsn(database, "web"), database), pytest.raises(RequestRefused):
        cancel_request(actor=admin, property_id=here, request_id=second, now=NOW)
    codes = Counter(
        code for (code,) in rows("SELECT code FROM audit_event WHERE code LIKE 'fleet.%%'")
    )
    assert codes == {"fleet.asked": 4, "fleet.cancelled": 1}
