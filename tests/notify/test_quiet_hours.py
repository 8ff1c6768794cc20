"""Quiet hours are each property's own, on the clock on its own walls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from conftest import role_dsn
from django_sessions import use_database
from notify.notify_estate import (
    NOON,
    ScriptedChannel,
    deliver,
    make_account,
    make_property,
    put,
    warning,
)
from notify.test_delivery import heard, listening
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, scope, system_actor
from prewatt.audit.models import AuditEvent
from prewatt.core.vocabulary import DeliveryState
from prewatt.notify.models import Message, NotifyPolicy
from prewatt.notify.operations import enqueue, set_quiet_hours
from prewatt.notify.policy import QuietHoursRefused
from prewatt.notify.ports import Sent, Temporary
from prewatt.notify.queries import next_due_at
from prewatt.runtime.prepared import execute

pytestmark = pytest.mark.usefixtures("database")
CLERK = system_actor("clerk")
HOUR = 60


def utc(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def set_hours(property_id: int, starts_min: int, ends_min: int, now: datetime = NOON) -> None:
    set_quiet_hours(
        actor=CLERK, property_id=property_id, starts_min=starts_min, ends_min=ends_min, now=now
    )


def test_each_property_of_a_set_is_held_by_its_own_hours_on_its_own_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 22:30 in Berlin, 16:30 in New York, and 05:30 of the next day in Shanghai.
    now = utc(17, 21, 30)
    table = [
        ("B1", "Europe/Berlin", None, utc(18, 7)),
        ("B2", "Europe/Berlin", (23 * HOUR, 6 * HOUR), now),
        ("B3", "Europe/Berlin", (22 * HOUR, 6 * HOUR + 15), utc(18, 5, 15)),
        ("B4", "Europe/Berlin", (0, 0), now),
        ("S1", "Asia/Shanghai", None, utc(18, 0)),
        ("S2", "Asia/Shanghai", (22 * HOUR, 5 * HOUR + 30), now),
        ("S3", "Asia/Shanghai", (22 * HOUR, 5 * HOUR + 31), now + timedelta(minutes=1)),
        ("N1", "America/New_York", None, now),
        ("N2", "America/New_York", (12 * HOUR, 17 * HOUR), utc(17, 22)),
    ]
    messages, wanted = [], {}
    for code, zone, hours, due_at in table:
        account = make_account(make_property(code, zone), code)
        if hours is not None:
            set_hours(account.property_id, *hours)
        messages.append(warning(account))
        wanted[account.pk] = due_at
    asked: list[str] = []

    def counted(statement: str, parameters: Any, **how: Any) -> Any:
        asked.append(statement)
        return execute(statement, parameters, **how)

    with CaptureQueriesContext(connection) as said, monkeypatch.context() as patch:
        patch.setattr("prewatt.runtime.prepared.execute", counted)
        put(*messages, now=now)
    assert dict(Message.objects.values_list("account_id", "due_at")) == wanted
    assert len(asked) == 2
    begin, commit, bell = [q["sql"] for q in said.captured_queries]
    assert (begin, commit) == ("BEGIN", "COMMIT") and "pg_notify" in bell


def test_a_repeat_is_held_by_the_propertys_own_hours() -> None:
    account = make_account(make_property())
    set_hours(account.property_id, 15 * HOUR, 16 * HOUR)
    before = utc(17, 13, 59)
    put(warning(account), now=before)
    email = ScriptedChannel([Temporary("451 busy"), Sent()])
    deliver(email, now=before)
    deliver(email, now=before + timedelta(minutes=1))
    assert len(email.sent) == 1 and next_due_at() == utc(17, 15)
    deliver(email, now=utc(17, 15))
    assert Message.objects.get().state == DeliveryState.DELIVERED


def test_what_waits_for_the_old_morning_follows_the_new_hours(database: str) -> None:
    account = make_account(make_property())
    night = utc(17, 21)
    put(warning(account), now=night)
    with listening(database, "message") as listener:
        set_hours(account.property_id, 22 * HOUR, 9 * HOUR, now=night)
        assert heard(listener) == {("message", str(account.property_id))}
    email = ScriptedChannel()
    deliver(email, now=night)
    assert email.sent == [] and next_due_at() == utc(18, 8), "longer: until the new morning"
    set_hours(account.property_id, 23 * HOUR, 6 * HOUR, now=night)
    deliver(email, now=night)
    assert len(email.sent) == 1, "shorter: at once"


def test_a_message_that_a_worker_holds_keeps_its_claim() -> None:
    account = make_account(make_property())
    put(warning(account))

    taken: list[int] = []

    def change() -> None:
        set_hours(account.property_id, 0, 0)
        taken.append(deliver(ScriptedChannel()))

    deliver(ScriptedChannel(pause=change))
    assert taken == [0], "nobody else takes it meanwhile"
    assert Message.objects.get().state == DeliveryState.DELIVERED


def test_a_change_is_versioned_and_audited_and_only_the_system_makes_it() -> None:
    here, there = make_property("H1"), make_property("T1")
    set_hours(here.pk, 1, 2)
    set_hours(here.pk, 22 * HOUR, 7 * HOUR)
    assert list(NotifyPolicy.objects.values_list("property_id", "version", "quiet_starts_min")) == [
        (here.pk, 2, 22 * HOUR)
    ]
    event = AuditEvent.objects.order_by("-pk")[0]
    assert (event.code, event.actor, event.property_id, event.subject) == (
        "notify.quiet_hours.set",
        "system:clerk",
        here.pk,
        f"property:{here.pk}",
    )
    assert event.detail == {
        "before": {"starts_min": 1, "ends_min": 2},
        "after": {"starts_min": 22 * HOUR, "ends_min": 7 * HOUR},
    }
    for duty in (Duty.OPERATOR, Duty.ADMINISTRATOR, Duty.AUDITOR):
        with pytest.raises(PermissionRefused):
            set_quiet_hours(
                actor=Actor("user:1", duty, (here.pk,)),
                property_id=here.pk, starts_min=0, ends_min=0, now=NOON,
            )  # fmt: skip
    assert not NotifyPolicy.objects.filter(property_id=there.pk).exists()


@pytest.mark.parametrize("hours", [(-1, 0), (0, 1440), (1440, 0), (0, -1)])
def test_hours_outside_a_day_and_unknown_properties_are_refused(hours: tuple[int, int]) -> None:
    here = make_property()
    with pytest.raises(QuietHoursRefused, match="within a day"):
        set_hours(here.pk, *hours)
    with pytest.raises(QuietHoursRefused, match="no property"):
        set_hours(here.pk + 1, 0, 0)
    assert NotifyPolicy.objects.count() == 0 and AuditEvent.objects.count() == 0


def test_the_clerk_sets_them_and_every_writer_of_messages_keeps_them(database: str) -> None:
    account = make_account(make_property())
    place, night = account.property_id, utc(17, 23)
    use_database(role_dsn(database, "clerk"))
    set_hours(place, 20 * HOUR, 10 * HOUR)
    use_database(role_dsn(database, "head_end"))
    put(warning(account, "head_end"), now=night)
    use_database(role_dsn(database, "web"))
    with scope(Actor("user:1", Duty.OPERATOR, (place,))), transaction.atomic():
        enqueue(messages=[warning(account, "operator")], now=night)
    use_database(database)
    assert set(Message.objects.values_list("due_at", flat=True)) == {utc(18, 9)}
