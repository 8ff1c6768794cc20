"""Messages reach people: every channel, in daylight, with patience, once, and never under a lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.db import connection, transaction

from conftest import role_dsn
from django_sessions import use_database
from notify.notify_estate import (
    ACTOR,
    NOON,
    ScriptedChannel,
    deliver,
    make_account,
    make_property,
    make_unit,
    put,
    receipt,
    warning,
)
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused
from prewatt.adapters.channels.outbox import OutboxChannel
from prewatt.core.vocabulary import DeliveryState
from prewatt.estate.models import Account, Customer
from prewatt.notify import tasks
from prewatt.notify.models import Alert, Attempt, Message
from prewatt.notify.operations import (
    ATTEMPTS_MAX,
    BACK_OFF,
    CLAIM_LASTS,
    NO_ADDRESS_LOOK,
    close_alert,
    deliver_due,
    raise_alert,
    withdraw,
)
from prewatt.notify.ports import Permanent, Sent, Temporary
from prewatt.notify.queries import (
    messages_of_account,
    next_due_at,
    open_alerts,
    outbox,
    warning_delivery,
)
from prewatt.notify.tasks import deliver_pass

MINUTE = timedelta(minutes=1)
pytestmark = pytest.mark.usefixtures("database")


@contextmanager
def listening(dsn: str, *names: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn, autocommit=True) as listener:
        for name in names:
            listener.execute(f"LISTEN {name}".encode())
        yield listener


def heard(listener: psycopg.Connection) -> set[tuple[str, str]]:
    return {(each.channel, each.payload) for each in listener.notifies(timeout=0.3)}


def test_every_channel_is_tried_and_one_delivery_is_enough() -> None:
    account = make_account(make_property())
    put(warning(account))
    email, outbox_channel = ScriptedChannel([Permanent("550 no such mailbox")]), OutboxChannel()
    assert deliver(email, outbox_channel) == 1
    assert Message.objects.get().state == DeliveryState.DELIVERED
    tries = dict(Attempt.objects.values_list("channel", "state"))
    assert tries == {"email": DeliveryState.EXHAUSTED, "outbox": DeliveryState.DELIVERED}
    assert deliver(email, outbox_channel) == 0
    found = warning_delivery([account.pk], NOON)[account.pk]
    assert found.delivered_at == NOON and found.all_channels_tried_since is None


def test_the_attempt_keeps_the_very_words_that_went_out() -> None:
    account = make_account(make_property())
    put(warning(account))
    email = ScriptedChannel()
    deliver(email)
    row = Attempt.objects.get()
    assert (row.subject, row.body) == (email.sent[0].subject, email.sent[0].body)
    assert "€4.20" in row.body and row.address == "ada@example.org"


def test_a_try_that_fails_for_now_is_repeated_after_its_back_off_and_then_succeeds() -> None:
    account = make_account(make_property())
    put(warning(account))
    email = ScriptedChannel([Temporary("451 busy"), Sent()])
    deliver(email)
    assert Message.objects.get().state == DeliveryState.RETRYING
    found = warning_delivery([account.pk], {account.pk: NOON})[account.pk]
    assert found.delivered_at is None and found.all_channels_tried_since == NOON
    assert deliver(email, now=NOON + BACK_OFF[0] - timedelta(seconds=1)) == 0
    later = NOON + BACK_OFF[0]
    assert next_due_at() == later
    assert deliver(email, now=later) == 1
    assert Message.objects.get().state == DeliveryState.DELIVERED
    assert warning_delivery([account.pk], NOON)[account.pk].delivered_at == later
    assert list(Attempt.objects.order_by("number").values_list("number", "error")) == [
        (1, "451 busy"),
        (2, ""),
    ]
    assert len({each.reference for each in email.sent}) == 1, (
        "a repeat can be told by its reference"
    )


def test_a_channel_is_given_up_after_its_last_try_and_a_person_is_called() -> None:
    account = make_account(make_property())
    put(warning(account, urgent=True))
    email, now = ScriptedChannel([Temporary("451 busy")]), NOON
    for _ in range(ATTEMPTS_MAX + 3):
        deliver(email, now=now)
        now = next_due_at() or now
    assert len(email.sent) == ATTEMPTS_MAX
    stored = Message.objects.get()
    assert stored.state == DeliveryState.EXHAUSTED and stored.finished_at is not None
    assert stored.finished_at - NOON > timedelta(hours=24), "tried for longer than a day"
    assert stored.all_tried_at == NOON, "the first time that every channel had been tried"
    (alert,) = open_alerts(property_id=account.property_id)
    assert (alert.code, alert.subject) == ("notify.unreachable", f"account:{account.pk}")
    put(warning(account, "level:2"), now=now)
    deliver(ScriptedChannel(), now=now + timedelta(hours=16))
    assert open_alerts(property_id=account.property_id) == []


def test_a_refused_address_is_never_written_to_again() -> None:
    account = make_account(make_property())
    put(warning(account))
    email = ScriptedChannel([Permanent("550 no such mailbox")])
    deliver(email)
    assert Message.objects.get().state == DeliveryState.EXHAUSTED
    deliver(email, now=NOON + timedelta(days=2))
    assert len(email.sent) == 1
    assert warning_delivery([account.pk], NOON)[account.pk].all_channels_tried_since == NOON


def test_one_channel_given_up_leaves_the_other_its_tries() -> None:
    account = make_account(make_property())
    put(warning(account))
    bad, slow = ScriptedChannel([Permanent("no")]), ScriptedChannel([Temporary("x")], name="sms")
    deliver(bad, slow)
    assert Message.objects.get().state == DeliveryState.RETRYING
    deliver(bad, slow, now=NOON + BACK_OFF[0])
    assert (len(bad.sent), len(slow.sent)) == (1, 2)


def test_a_dead_server_is_asked_once_a_pass_and_a_crashing_channel_stops_nobody() -> None:
    place = make_property()
    put(*(warning(make_account(place, f"{n}")) for n in range(30)))
    dead = ScriptedChannel([Temporary("connection refused", channel_down=True)])
    broken = ScriptedChannel([RuntimeError("bug")], name="sms")
    assert deliver(dead, broken, OutboxChannel()) == 30
    assert (len(dead.sent), len(broken.sent)) == (1, 1)
    assert set(Message.objects.values_list("state", flat=True)) == {DeliveryState.DELIVERED}
    errors = set(Attempt.objects.filter(channel="sms").values_list("error", flat=True))
    assert errors == {"unexpected RuntimeError"}


def test_quiet_hours_hold_the_first_try_and_every_repeat() -> None:
    account = make_account(make_property())
    evening = datetime(2026, 11, 17, 19, 58, tzinfo=UTC)
    put(warning(account), now=evening)
    email = ScriptedChannel([Temporary("451 busy"), Sent()])
    deliver(email, now=evening)
    night = evening + timedelta(hours=2)
    assert deliver(email, now=night) == 1
    assert len(email.sent) == 1, "nobody is woken by a repeat"
    morning = datetime(2026, 11, 18, 7, 0, tzinfo=UTC)
    assert next_due_at() == morning
    assert Message.objects.get().state == DeliveryState.RETRYING
    deliver(email, now=morning)
    assert Message.objects.get().state == DeliveryState.DELIVERED


NIGHT = datetime(2026, 11, 17, 23, 30, tzinfo=UTC)
MORNING = datetime(2026, 11, 18, 7, 0, tzinfo=UTC)


def test_a_receipt_goes_out_at_night_where_it_wakes_nobody() -> None:
    place = make_property()
    payer, sleeper = make_account(place, "1"), make_account(place, "2")
    put(receipt(payer), warning(sleeper), now=NIGHT)
    email, sms = ScriptedChannel(), ScriptedChannel(name="sms", wakes=True)
    deliver(email, sms, now=NIGHT)
    assert [each.subject for each in email.sent] == ["Your recharge of €20.00 has arrived"]
    assert sms.sent == []
    assert Message.objects.get(account_id=payer.pk).state == DeliveryState.DELIVERED
    deliver(email, sms, now=MORNING)
    assert (len(email.sent), len(sms.sent)) == (2, 1), "told once; the warning by both"


def test_a_receipt_by_a_channel_that_wakes_waits_for_the_morning() -> None:
    put(receipt(make_account(make_property())), now=NIGHT)
    failing = ScriptedChannel([Temporary("451 busy")])
    sms = ScriptedChannel(name="sms", wakes=True)
    deliver(failing, sms, now=NIGHT)
    stored = Message.objects.get()
    assert stored.all_tried_at is None, "one channel has not been tried yet"
    deliver(sms, now=NIGHT + MINUTE)
    assert sms.sent == [] and next_due_at() == MORNING
    deliver(sms, now=MORNING)
    assert len(sms.sent) == 1


def test_a_receipt_that_nobody_can_get_calls_no_person_and_is_given_up() -> None:
    put(receipt(make_account(make_property(), email="")))
    deliver(ScriptedChannel())
    assert Message.objects.get().state == DeliveryState.EXHAUSTED
    assert Alert.objects.count() == 0


def test_a_receipt_that_an_address_refuses_calls_a_person_before_a_warning_is_lost() -> None:
    put(receipt(make_account(make_property())))
    deliver(ScriptedChannel([Permanent("550 no such mailbox")]))
    assert Alert.objects.get().detail == {
        "message": "vending.recharged",
        "why": "all_channels_failed",
    }


def test_somebody_without_an_address_is_not_counted_as_warned_until_they_have_one() -> None:
    account = make_account(make_property(), email="")
    put(warning(account))
    email = ScriptedChannel()
    deliver(email)
    assert Attempt.objects.count() == 0
    found = warning_delivery([account.pk], NOON)[account.pk]
    assert found.delivered_at is None and found.all_channels_tried_since is None
    assert Alert.objects.get().detail["why"] == "no_address"
    Customer.objects.update(email="ada@example.org")
    deliver(email, now=NOON + NO_ADDRESS_LOOK)
    assert Message.objects.get().state == DeliveryState.DELIVERED
    assert Alert.objects.get().closed_at == NOON + NO_ADDRESS_LOOK


def test_a_vacant_unit_has_nobody_to_tell_and_calls_nobody() -> None:
    place = make_property()
    vacancy = Account.objects.create(
        property=place, number="V1", kind="vacancy", unit=make_unit(place, "V"), opened_at=NOON
    )
    put(warning(vacancy))
    deliver(ScriptedChannel(), OutboxChannel())
    assert Message.objects.get().state == DeliveryState.EXHAUSTED
    assert Alert.objects.count() == 0


def test_two_workers_at_once_deliver_each_message_once() -> None:
    place = make_property()
    put(*(warning(make_account(place, f"{n}")) for n in range(60)))
    together = threading.Barrier(2, timeout=20)
    first_send = threading.local()

    def meet() -> None:
        if not getattr(first_send, "done", False):
            first_send.done = True
            together.wait()

    email, taken = ScriptedChannel(pause=meet), []

    def work() -> None:
        try:
            taken.append(deliver(email))
        finally:
            connection.close()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(30)
    assert sum(taken) == 60 and all(taken), "both worked at the same time"
    assert len({each.reference for each in email.sent}) == len(email.sent) == 60
    assert Attempt.objects.filter(state=DeliveryState.DELIVERED).count() == 60


def test_a_message_that_another_worker_is_claiming_is_passed_over_without_waiting(
    database: str,
) -> None:
    place = make_property()
    put(warning(make_account(place, "1")), warning(make_account(place, "2")))
    with psycopg.connect(database) as other, connection.cursor() as cursor:
        other.execute("SELECT id FROM message ORDER BY id LIMIT 1 FOR UPDATE")
        cursor.execute("SET lock_timeout = '2s'")
        assert deliver(ScriptedChannel()) == 1
    assert Message.objects.filter(state=DeliveryState.PENDING).count() == 1


def test_no_lock_is_held_while_the_network_is_spoken_to(database: str) -> None:
    put(warning(make_account(make_property())))
    seen: list[object] = []

    def look() -> None:
        with psycopg.connect(database) as other:
            seen.append(other.execute("SELECT id FROM message FOR UPDATE NOWAIT").fetchall())

    deliver(ScriptedChannel(pause=look))
    assert len(seen) == 1
    with transaction.atomic(), pytest.raises(RuntimeError, match="must not run in a transaction"):
        deliver(ScriptedChannel())


def test_a_worker_that_dies_while_sending_leaves_its_try_behind_and_another_takes_over() -> None:
    account = make_account(make_property())
    put(warning(account))

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    with pytest.raises(Killed):
        deliver(ScriptedChannel(pause=die))
    assert Attempt.objects.get().state == DeliveryState.PENDING
    assert deliver(ScriptedChannel(), now=NOON + MINUTE) == 0, "the claim still stands"
    assert deliver(ScriptedChannel(), now=NOON + CLAIM_LASTS) == 1
    rows = list(Attempt.objects.order_by("number").values_list("number", "state", "error"))
    assert rows == [
        (1, DeliveryState.RETRYING, "interrupted, outcome unknown"),
        (2, DeliveryState.DELIVERED, ""),
    ]


def test_a_worker_that_is_told_to_stop_finishes_one_message_and_gives_the_others_back() -> None:
    place = make_property()
    put(*(warning(make_account(place, f"{n}")) for n in range(5)))
    told: list[bool] = []
    email = ScriptedChannel(pause=lambda: told.append(True))
    taken = deliver_due(actor=ACTOR, channels=[email], now=NOON, stopping=lambda: len(told) == 2)
    assert (taken, len(email.sent)) == (2, 2)
    errors = set(Attempt.objects.exclude(error="").values_list("error", flat=True))
    assert errors == {"not begun: the worker was stopping"}
    assert Message.objects.filter(all_tried_at__isnull=False).count() == 0
    assert deliver(email) == 3, "due at once, not when a claim runs out"
    assert Message.objects.filter(state=DeliveryState.DELIVERED).count() == 5
    assert deliver_due(actor=ACTOR, channels=[email], now=NOON, stopping=lambda: True) == 0


def test_a_pass_goes_on_until_nothing_is_due_and_asks_the_clock_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "PASS_LIMIT", 2)
    place = make_property()
    put(*(warning(make_account(place, f"{n}")) for n in range(4)))
    put(warning(make_account(place, "later")), now=NOON + MINUTE)
    instants = iter([NOON, NOON, NOON + MINUTE])
    assert deliver_pass(channels=[OutboxChannel()], clock=lambda: next(instants)) == 5


def test_a_slow_worker_does_not_undo_what_its_successor_delivered() -> None:
    account = make_account(make_property())
    put(warning(account))

    def overtaken() -> None:
        deliver(ScriptedChannel(), now=NOON + CLAIM_LASTS)

    deliver(ScriptedChannel([Temporary("451 late")], pause=overtaken))
    assert Message.objects.get().state == DeliveryState.DELIVERED
    assert Alert.objects.count() == 0


def test_a_slow_worker_does_not_hurry_its_successors_next_try() -> None:
    put(warning(make_account(make_property())))
    later = NOON + CLAIM_LASTS

    def overtaken() -> None:
        deliver(ScriptedChannel([Temporary("451 busy")]), now=later)

    deliver(ScriptedChannel([Temporary("451 late")], pause=overtaken))
    assert next_due_at() == later + BACK_OFF[1]


def test_a_message_withdrawn_while_it_fails_stays_withdrawn() -> None:
    account = make_account(make_property())
    put(warning(account))

    def recharge() -> None:
        with transaction.atomic():
            withdraw(account_ids=[account.pk], codes=["supply.warning"], now=NOON)

    deliver(ScriptedChannel([Temporary("451")], pause=recharge))
    assert Message.objects.get().state == DeliveryState.CANCELLED
    assert warning_delivery([account.pk], NOON) == {}


def test_supply_is_told_when_a_warning_arrives_or_has_been_tried(database: str) -> None:
    account = make_account(make_property())
    payload = str(account.property_id)
    with listening(database, "supply_due", "changed") as listener:
        put(warning(account))
        deliver(ScriptedChannel([Temporary("451")]))
        assert heard(listener) == {("supply_due", payload), ("changed", payload)}
        deliver(ScriptedChannel(), now=NOON + MINUTE)
        assert heard(listener) == {("supply_due", payload), ("changed", payload)}


def test_only_warnings_since_the_balance_became_low_count() -> None:
    place = make_property()
    warned, early, would = (make_account(place, f"{n}") for n in range(3))
    put(warning(warned), warning(early))
    put(warning(would))
    Message.objects.filter(account_id=would.pk).update(
        would_have=True, state=DeliveryState.WOULD_HAVE, finished_at=NOON
    )
    deliver(ScriptedChannel())
    ids = [warned.pk, early.pk, would.pk]
    since = {warned.pk: NOON, early.pk: NOON + MINUTE, would.pk: NOON}
    assert set(warning_delivery(ids, since)) == {warned.pk}
    assert warning_delivery([], {}) == {}


def test_urgent_messages_go_first_when_a_pass_cannot_take_all() -> None:
    place = make_property()
    put(warning(make_account(place, "1")), now=NOON - MINUTE)
    put(warning(make_account(place, "2", email="urgent@example.org"), urgent=True))
    email = ScriptedChannel()
    assert deliver_due(actor=ACTOR, channels=[email], now=NOON, limit=1) == 1
    assert [each.address for each in email.sent] == ["urgent@example.org"]


def test_nobody_but_the_system_delivers() -> None:
    operator = Actor("user:1", Duty.OPERATOR, (1,))
    with pytest.raises(PermissionRefused):
        deliver_due(actor=operator, channels=[], now=NOON)


def test_the_worker_delivers_under_its_own_login(database: str) -> None:
    account = make_account(make_property(), language="zh-hans", name="陈静")
    use_database(role_dsn(database, "clerk"))
    put(warning(account))
    assert deliver_pass(channels=[OutboxChannel()], clock=lambda: NOON) == 1
    use_database(database)
    (line,) = outbox(property_id=account.property_id)
    assert line.state == DeliveryState.DELIVERED and line.channel == "outbox"
    assert line.body.startswith("陈静，您好：") and "€4.20" in line.body
    assert line.unit == "U1001" and line.customer == "陈静"


def test_an_accounts_messages_show_the_delivery_or_else_the_latest_try() -> None:
    place = make_property()
    account, stranger = make_account(place, "1"), make_account(place, "2")
    put(warning(account), warning(stranger))
    deliver(OutboxChannel(), ScriptedChannel([Temporary("451 busy")]))
    put(warning(account, "level:2"), now=NOON + MINUTE)
    newest, oldest = messages_of_account(account_id=account.pk)
    assert (newest.state, newest.channel, newest.attempts) == (DeliveryState.PENDING, "", 0)
    assert (oldest.channel, oldest.error) == ("outbox", "")


def test_the_same_trouble_is_one_alert_until_it_is_closed() -> None:
    place = make_property()

    def raise_it(**detail: object) -> bool:
        return raise_alert(
            property_id=place.pk, code="supply.brake", subject="x", detail=detail, now=NOON
        )

    def close_it() -> bool:
        return close_alert(property_id=place.pk, code="supply.brake", subject="x", now=NOON)

    assert raise_it(wanted=30) is True
    assert raise_it(wanted=31) is False
    assert [each.detail for each in open_alerts(property_id=place.pk)] == [{"wanted": 31}]
    assert close_it() is True and close_it() is False
    assert raise_it(wanted=2) is True
    assert Alert.objects.count() == 2
