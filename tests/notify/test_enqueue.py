"""Messages are owed once, set by set, in the customer's language and out of the night."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from conftest import role_dsn
from notify.notify_estate import (
    NOON,
    make_account,
    make_property,
    make_unit,
    put,
    receipt,
    warning,
)
from prewatt.core.vocabulary import DeliveryState
from prewatt.estate.models import Account
from prewatt.notify.models import Message
from prewatt.notify.operations import (
    NewMessage,
    UnknownAccount,
    enqueue,
    restate,
    withdraw,
)
from prewatt.notify.queries import waiting
from prewatt.notify.sentences import UnsayableMessage
from prewatt.runtime import bells
from prewatt.runtime.prepared import execute

pytestmark = pytest.mark.usefixtures("database")


def test_the_same_message_is_owed_once_within_a_set_and_between_sets() -> None:
    account = make_account(make_property())
    assert put(warning(account), warning(account), warning(account, "level:2")) == 2
    assert put(warning(account)) == 0
    assert Message.objects.count() == 2


def test_what_would_have_been_said_is_stored_finished_and_does_not_silence_the_real_one() -> None:
    account = make_account(make_property())
    then = NOON - timedelta(days=30)
    assert put(replace(warning(account), would_have=True), now=then) == 1
    stored = Message.objects.get()
    assert stored.state == DeliveryState.WOULD_HAVE
    assert stored.created_at == stored.finished_at == then
    assert put(warning(account)) == 1


def test_the_database_itself_refuses_to_deliver_what_would_have_been_said() -> None:
    account = make_account(make_property())
    with transaction.atomic():
        enqueue(messages=[warning(account)], now=NOON, would_have=True)
    with pytest.raises(IntegrityError, match="would_have_is_never_sent"), transaction.atomic():
        Message.objects.update(state=DeliveryState.DELIVERED)


def test_a_set_of_thousands_takes_two_statements_and_one_where_no_night_can_hold_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = make_account(make_property())
    asked: list[str] = []

    def counted(statement: str, parameters: Any, **how: Any) -> Any:
        asked.append(statement)
        return execute(statement, parameters, **how)

    def statements(*messages: NewMessage) -> int:
        asked.clear()
        with CaptureQueriesContext(connection) as context:
            assert put(*messages) == len(messages)
        # One bell, once what it tells of is committed.
        begin, commit, bell = [q["sql"] for q in context.captured_queries]
        assert (begin, commit) == ("BEGIN", "COMMIT") and "pg_notify" in bell
        return len(asked)

    monkeypatch.setattr("prewatt.runtime.prepared.execute", counted)
    assert statements(*(warning(account, f"level:{n}") for n in range(5_000))) == 2
    assert statements(*(receipt(account, f"recharge:{n}") for n in range(5_000))) == 1
    assert statements(warning(account, "urgent", urgent=True)) == 1


def test_night_holds_a_warning_until_the_morning_of_that_place_and_lets_urgent_ones_pass() -> None:
    shanghai = make_account(make_property("SHA", "Asia/Shanghai", "CNY"), "2001")
    berlin = make_account(make_property("BER", "Europe/Berlin"), "3001")
    late_in_shanghai = datetime(2026, 11, 17, 15, 30, tzinfo=UTC)
    put(
        warning(shanghai),
        warning(shanghai, "urgent", urgent=True),
        receipt(shanghai, "receipt"),
        warning(berlin),
        now=late_in_shanghai,
    )
    due = {(m.account_id, m.dedupe_key): m.due_at for m in Message.objects.all()}
    assert due == {
        (shanghai.pk, "level:1"): datetime(2026, 11, 18, 0, 0, tzinfo=UTC),
        (shanghai.pk, "urgent"): late_in_shanghai,
        (shanghai.pk, "receipt"): late_in_shanghai,
        (berlin.pk, "level:1"): late_in_shanghai,
    }


def test_language_is_the_customers_and_a_vacant_unit_speaks_its_propertys() -> None:
    place = make_property()
    chinese = make_account(place, "1001", language="zh-hans")
    unset = make_account(place, "1002", language="")
    vacancy = Account.objects.create(
        property=place, number="V1", kind="vacancy", unit=make_unit(place, "V"), opened_at=NOON
    )
    put(*(warning(each) for each in (chinese, unset, vacancy)))
    found = dict(Message.objects.values_list("account_id", "language"))
    assert found == {chinese.pk: "zh-hans", unset.pk: "en", vacancy.pk: "en"}
    assert Message.objects.get(account_id=vacancy.pk).customer_id is None


def test_an_account_of_another_property_or_of_none_refuses_the_whole_set() -> None:
    mine, other = make_account(make_property("A1")), make_property("B1")
    for bad in (
        replace(warning(mine), property_id=other.pk),
        replace(warning(mine), account_id=mine.pk + 1_000),
    ):
        with pytest.raises(UnknownAccount):
            put(warning(mine), bad)
    assert Message.objects.count() == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"code": "supply.unheard_of"},
        {"detail": {"available_micro": "4.20"}},
        {"detail": {"available_micro": 4.2}},
        {"detail": {"days_left_h": True}},
    ],
)
def test_what_cannot_be_said_is_refused_when_it_is_enqueued(bad: dict[str, object]) -> None:
    account = make_account(make_property())
    with pytest.raises(UnsayableMessage):
        put(replace(warning(account), **bad))  # type: ignore[arg-type]  # bad on purpose
    assert Message.objects.count() == 0


def test_the_bell_rings_once_for_each_property_after_the_commit(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = make_account(make_property())
    with psycopg.connect(database, autocommit=True) as listener:
        listener.execute("LISTEN message")
        with transaction.atomic():
            enqueue(messages=[warning(account, f"{n}") for n in range(3)], now=NOON)
            assert list(listener.notifies(timeout=0.1, stop_after=1)) == []
        heard = list(listener.notifies(timeout=2, stop_after=1))
        assert [each.payload for each in heard] == [str(account.property_id)]
        put(warning(account, "0"))
        put(replace(warning(account, "9"), would_have=True))
        with transaction.atomic():
            enqueue(messages=[warning(account, "10")], now=NOON)
            transaction.set_rollback(True)
        assert list(listener.notifies(timeout=0.2)) == []

    def breaks(*_: object) -> None:
        raise psycopg.OperationalError

    # What stands is not undone, nor called undone, for want of a bell.
    monkeypatch.setattr(bells, "_ring", breaks)
    assert put(warning(account, "11")) == 1


def test_a_warning_that_is_no_longer_true_is_withdrawn() -> None:
    place = make_property()
    mine, other = make_account(place, "1"), make_account(place, "2")
    put(warning(mine), warning(other))
    with transaction.atomic():
        assert withdraw(account_ids=[mine.pk], codes=["supply.warning"], now=NOON) == 1
    states = dict(Message.objects.values_list("account_id", "state"))
    assert states == {mine.pk: DeliveryState.CANCELLED, other.pk: DeliveryState.PENDING}
    with transaction.atomic():
        withdraw(account_ids=[other.pk], codes=["supply.warning"], now=NOON - timedelta(hours=1))
    assert set(Message.objects.values_list("finished_at", flat=True)) == {NOON}, "by any clock"


def test_what_is_kept_is_not_withdrawn_and_says_the_figures_of_now() -> None:
    account = make_account(make_property())
    put(warning(account, "level:1"), warning(account, "level:2"))
    codes = ["supply.warning"]
    old, kept = waiting([account.pk], codes)
    with transaction.atomic():
        withdraw(account_ids=[account.pk], codes=codes, now=NOON, keep=[kept.message_id])
        now_true = replace(kept, detail={"available_micro": 7})
        assert restate(messages=[now_true, replace(old, detail={"available_micro": 8})]) == 1
    assert waiting([account.pk], codes) == [now_true]
    with pytest.raises(UnsayableMessage):
        restate(messages=[replace(kept, detail={"available_micro": "7.00"})])


def test_every_writer_may_enqueue_under_its_own_login(database: str) -> None:
    account = make_account(make_property())
    from django_sessions import use_database

    for role in ("head_end", "clerk"):
        use_database(role_dsn(database, role))
        assert put(warning(account, role)) == 1
    use_database(database)
