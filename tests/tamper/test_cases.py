"""One case per incident, with evidence that is never lost, closed by a person for ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from tests.supply.world import NOW, World, run_sql

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused
from prewatt.core.civil_time import instant_us
from prewatt.core.tampering import AHEAD_US, BACK_US, EVENTS, happened_us
from prewatt.core.vocabulary import TamperKind
from prewatt.moves.alerts import AlertRefused, close_alert
from prewatt.tamper.feeding import FeedInRefused, begin_feed_in, end_feed_in
from prewatt.tamper.operations import (
    EVIDENCE_KEPT,
    CaseRefused,
    Evidence,
    close_case,
    look_at_case,
    note_evidence,
    of_event,
)

NOW_US = instant_us(NOW)


def test_an_event_is_dated_by_its_meter_only_where_that_can_be() -> None:
    assert happened_us(NOW_US - 5, NOW_US) == NOW_US - 5
    assert happened_us(NOW_US + AHEAD_US, NOW_US) == NOW_US, "never in the future"
    assert happened_us(NOW_US + AHEAD_US + 1, NOW_US) == NOW_US
    assert happened_us(2**62, NOW_US) == NOW_US
    assert happened_us(NOW_US - BACK_US - 1, NOW_US) == NOW_US
    assert {each.kind for each in EVENTS.values() if each.begins} == set(TamperKind) - {
        TamperKind.BYPASS, TamperKind.RELAY_WELDED,
    }  # fmt: skip


def someone(world: World, duty: Duty = Duty.ADMINISTRATOR, number: int = 7) -> Actor:
    return Actor(f"user:{number}", duty, (world.property_id,), "Ines", number)


def event(world: World, code: str = "cover_open", back_s: int = 5, meter: int = 0) -> Evidence:
    found = of_event(
        property_id=world.property_id, meter_id=world.meter_ids[meter], code=code,
        told_us=NOW_US - back_s * 1_000_000, received_us=NOW_US,
    )  # fmt: skip
    assert found is not None
    return found


def note(*found: Evidence) -> list[int]:
    return [each.case_id for each in note_evidence(found=found, by="system:head_end", now=NOW)]


def rows(statement: str, *params: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return list(cursor.fetchall())


@pytest.mark.usefixtures("database")
def test_an_incident_is_one_case_from_its_first_event_to_its_reason() -> None:
    world = World(2)
    me, meter = someone(world), world.meter_ids[0]
    flood = [event(world, back_s=each) for each in range(1, 1001)]
    (case,) = note(*flood[:500], *flood[:500])
    for _ in range(2):
        assert note(*flood[500:], *flood[:500]) == [], "the same incident, told again, is no other"
    assert rows("SELECT id, evidence_count, account_id, first_at FROM tamper_case") == [
        (case, 1000, world.account_ids[0], NOW - timedelta(seconds=1000))
    ]
    assert rows("SELECT count(*) FROM tamper_evidence") == [(EVIDENCE_KEPT,)]
    assert rows("SELECT code, subject, detail ->> 'kind' FROM alert") == [
        ("meter.tamper", f"meter:{meter}", "cover")
    ]
    assert note(event(world, "cover_closed", 0)) == []
    assert note(event(world, "phase_restored", 0)) == [], "an end opens no case"
    (other,) = note(event(world, "phase_loss", 0, meter=1))
    assert rows("SELECT meter_id FROM meter_link WHERE tamper_since IS NOT NULL") == [(meter,)]
    (second,) = note(event(world, "magnetic_field", 2))

    alert = rows("SELECT id FROM alert WHERE subject = %s", f"meter:{meter}")[0][0]
    with pytest.raises(AlertRefused, match="by itself"):
        close_alert(actor=me, alert_id=alert, note="Nothing there", now=NOW)
    look_at_case(actor=me, case_id=case, now=NOW)
    close_case(actor=me, case_id=case, reason="work", note="The caretaker", now=NOW)
    assert rows("SELECT closed_at FROM alert WHERE id = %s", alert) == [(None,)], "one is open"
    close_case(actor=me, case_id=second, reason="proved", note="A magnet", now=NOW)
    assert rows("SELECT closed_by, close_note FROM alert WHERE id = %s", alert) == [
        ("user:7", "A magnet")
    ]
    assert rows(
        "SELECT code FROM audit_event WHERE code LIKE 'tamper%%' AND subject = %s ORDER BY id",
        f"meter:{meter}",
    ) == [
        ("tamper.case.opened",), ("tamper.case.opened",), ("tamper.case.looked_at",),
        ("tamper.case.closed",), ("tamper.case.closed",),
    ]  # fmt: skip

    assert note(flood[499]) == [], "what comes again after its case was closed is still of it"
    (anew,) = note(event(world, back_s=0))
    assert anew not in (case, second, other)
    for statement in (_EDIT, _REOPEN, _ADD):
        with (
            pytest.raises(IntegrityError, match="case"),
            transaction.atomic(),
        ):
            run_sql(statement, case)


_HANG = """WITH made AS (INSERT INTO metering_point (property_id, code, role, source)
               SELECT property_id, 'P-' || id, 'sub', 'grid' FROM meter WHERE property_id = %s RETURNING *)
           INSERT INTO installation (property_id, meter_id, metering_point_id, period, start_value_wh)
           SELECT property_id, substr(code, 3)::bigint, id, '[2020-01-01,)', 0 FROM made"""
_EDIT = "UPDATE tamper_case SET close_note = 'Nothing' WHERE id = %s"
_REOPEN = """UPDATE tamper_case SET state = 1, closed_by = '', closed_at = NULL, close_reason = '',
    close_note = '' WHERE id = %s"""
_ADD = """INSERT INTO tamper_evidence (property_id, meter_id, case_id, source, code, happened_at, received_at,
        detail, digest)
    SELECT property_id, meter_id, id, 'event', 'x', now(), now(), '{}', '' FROM tamper_case WHERE id = %s"""


@pytest.mark.usefixtures("database")
def test_what_flows_back_rightly_is_no_case_from_then_on_and_nothing_else_is_excused() -> None:
    world = World(2)
    me, meter = someone(world), world.meter_ids[0]
    run_sql(_HANG, world.property_id)
    given: Any = {
        "actor": me, "property_id": world.property_id, "now": NOW - timedelta(hours=2),
        "serial": rows("SELECT serial FROM meter WHERE id = %s", meter)[0][0], "reason": "A roof",
    }  # fmt: skip
    for duty in (Duty.OPERATOR, Duty.AUDITOR, Duty.INSTALLER):
        with pytest.raises(PermissionRefused):
            begin_feed_in(**given | {"actor": someone(world, duty)})
    fed = begin_feed_in(**given)
    for serial, why in ((given["serial"], "is_so"), ("NOBODY", "unknown")):
        with pytest.raises(FeedInRefused, match=why):
            begin_feed_in(**given | {"serial": serial})

    assert note(event(world, "reverse_flow", 3_600)) == [], "it feeds in rightly"
    assert len(note(event(world, "reverse_flow", 3_600, meter=1))) == 1, "another does not"
    opened = note(event(world), event(world, "reverse_flow", 3 * 3_600))
    assert len(opened) == 2, (
        "its cover is another matter; what was before it was said is not explained"
    )
    close_case(actor=me, case_id=opened[1], reason="other", note="Before the roof", now=NOW)
    ended: Any = {"actor": me, "property_id": world.property_id, "feed_in_id": fed}
    end_feed_in(**ended, now=NOW - timedelta(minutes=30))
    with pytest.raises(FeedInRefused, match="ended"):
        end_feed_in(**ended, now=NOW)
    day = Evidence(
        world.property_id, meter, TamperKind.REVERSE_FLOW, "readings", "fed_back", NOW_US,
        over_us=86_400_000_000,
    )  # fmt: skip
    assert note(day) == [], "it did for a part of that day"
    assert len(note(event(world, "reverse_flow", 60))) == 1, "no longer"
    assert rows("SELECT code, subject FROM audit_event WHERE code LIKE 'estate.feed%%' ORDER BY id") == [
        ("estate.feed_in.begun", f"meter:{meter}"), ("estate.feed_in.ended", f"meter:{meter}"),
    ]  # fmt: skip
    for statement in (
        "UPDATE feed_in SET period = tstzrange(lower(period), NULL) WHERE id = %s",
        "UPDATE feed_in SET period = tstzrange(lower(period) - interval '1 year', upper(period)) WHERE id = %s",
    ):
        with pytest.raises(IntegrityError, match="feed-in"), transaction.atomic():
            run_sql(statement, fed)


@pytest.mark.usefixtures("database")
def test_a_case_is_closed_by_who_may_and_nobody_elses() -> None:
    world = World()
    (case,) = note(event(world))
    for duty in (Duty.OPERATOR, Duty.AUDITOR, Duty.TENANT, Duty.INSTALLER, Duty.OWNER):
        for act in (
            lambda who: look_at_case(actor=who, case_id=case, now=NOW),
            lambda who: close_case(actor=who, case_id=case, reason="work", note="No", now=NOW),
        ):
            with pytest.raises(PermissionRefused):
                act(someone(world, duty))
    stranger = replace(someone(world), property_ids=(world.property_id + 1,))
    for who, reason, text, why in (
        (stranger, "work", "Mine", "unknown"),
        (someone(world), "because", "Mine", "no_reason"),
        (someone(world), "work", "  ", "no_note"),
        (someone(world), "work", "two\nlines", "no_note"),
    ):
        with pytest.raises(CaseRefused, match=why):
            close_case(actor=who, case_id=case, reason=reason, note=text, now=NOW)
    close_case(actor=someone(world), case_id=case, reason="other", note="Seen", now=NOW)
    with pytest.raises(CaseRefused, match="closed"):
        close_case(actor=someone(world), case_id=case, reason="work", note="Again", now=NOW)
