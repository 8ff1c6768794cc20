"""Lets when something goes wrong: another move, closed books, a late beginning, a payment taken back.

Nobody's tenancy ends with another's let, no deposit stays behind, and one property's trouble is its own.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from tests.conftest import role_dsn
from tests.estate.tables import NOW
from tests.invariants.places import signed_in
from tests.moves.test_lets import BOOTH, EURO, announce, begin, counters, market
from tests.moves.world import World, available, hours, rows, snapshot, tenant

from agreements import taking_back_agreed
from prewatt.access.scope import system_actor
from prewatt.billing.operations import create_tariff_version
from prewatt.core.accounts import CounterAccount
from prewatt.estate.operations import NewCustomer
from prewatt.ledger.operations import close_period
from prewatt.moves import lets
from prewatt.moves import operations as moves
from prewatt.moves.alerts import AlertRefused, close_alert
from prewatt.moves.lets import begin_announced_lets, close_ended_lets, close_let
from prewatt.moves.words import FirstRecharge, LetRunning, NewTenant, TenantChanged
from prewatt.reports.books import check_books
from prewatt.vending.taking_back import reverse_recharge

pytestmark = pytest.mark.usefixtures("database")

#: When the let of `begin` was to end, and when that of `announce` begins.
END = hours(33 + 50)
BEGINS = NOW + timedelta(days=2)


def books_hold(here: World) -> None:
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []


def open_alerts() -> list[tuple[Any, ...]]:
    """(property, code, why) of each."""
    return rows(
        "SELECT property_id, code, detail->>'why' FROM alert WHERE closed_at IS NULL ORDER BY id"
    )


def moved_on(here: World, monkeypatch: pytest.MonkeyPatch) -> TenantChanged:
    """Somebody else from the 40th hour on: as a release did that let any move end a let's tenancy."""
    with monkeypatch.context() as before:
        before.setattr(moves, "_refuse_let", lambda _account, _let: None)
        here.read("M-102", hours(40), 3_000)
        return moves.tenant_change(
            actor=here.administrator, unit_id=here.units["102"], registers=here.register("M-102", 3_000),
            tenant=tenant("Ines Brandt"), at=hours(40), key="tc", now=NOW, book_refund=True,
            first_recharge=FirstRecharge(500 * EURO),
        )  # fmt: skip


def moved_out(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The let's customer out at the 40th hour, as such a release did."""
    with monkeypatch.context() as before:
        before.setattr(moves, "_refuse_let", lambda _account, _let: None)
        here.read("M-102", hours(40), 3_000)
        moves.move_out(
            actor=here.administrator, unit_id=here.units["102"], closing=here.register("M-102", 3_000),
            at=hours(40), key="out", now=NOW, book_refund=True,
        )  # fmt: skip


# --- other moves ---


def test_a_let_ends_as_a_let_and_by_no_other_move() -> None:
    here = market()
    let = begin(here)
    here.read("M-102", hours(40), 3_000)
    before = snapshot()
    closing = here.register("M-102", 3_000)
    with pytest.raises(LetRunning) as out:
        moves.move_out(
            actor=here.administrator, unit_id=here.units["102"], closing=closing, at=hours(40),
            key="o", now=NOW,
        )  # fmt: skip
    with pytest.raises(LetRunning):
        moves.tenant_change(
            actor=here.administrator, unit_id=here.units["102"], registers=closing, at=hours(40),
            tenant=tenant(), key="c", now=NOW,
        )  # fmt: skip
    assert (out.value.let_id, out.value.ends_at) == (let.let_id, END)
    assert snapshot() == before
    close_let(actor=here.administrator, let_id=let.let_id, closing=closing, at=hours(40), now=NOW)
    assert counters(let.account_id)[CounterAccount.DEPOSITS] == 0


def test_a_let_that_closes_leaves_whoever_lives_there_now(monkeypatch: pytest.MonkeyPatch) -> None:
    here = market()
    let = begin(here)
    new = moved_on(here, monkeypatch)
    here.read("M-102", END, 5_000)
    here.read("M-102", END + timedelta(minutes=15), 5_100)
    before = available(new.account_id)
    assert close_ended_lets(now=END + timedelta(minutes=20)) == 1
    assert rows("SELECT closed_at FROM account WHERE id = %s", new.account_id) == [(None,)]
    assert rows(
        "SELECT account_id FROM tenancy WHERE unit_id = %s AND upper_inf(period)", here.units["102"]
    ) == [(new.account_id,)]
    assert available(new.account_id) == before
    # What was left when they moved is a refund already; deposit and two days that had not begun follow.
    assert rows("SELECT close_reason, closed_at FROM temporary_let") == [("left", hours(40))]
    assert rows(
        "SELECT reason, amount_micro FROM refund WHERE account_id = %s ORDER BY id", let.account_id
    ) == [("moved_out", 19_750_000), ("let.left", 70 * EURO)]
    assert counters(let.account_id)[CounterAccount.DEPOSITS] == 0
    assert available(let.account_id) == 0
    books_hold(here)


@pytest.mark.parametrize("who", ["a person", "the worker"])
def test_a_let_whose_customer_was_moved_out_closes_and_gives_back_the_deposit(
    who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = market()
    let = begin(here)
    moved_out(here, monkeypatch)
    if who == "a person":
        done = close_let(
            actor=here.administrator, let_id=let.let_id, closing=here.register("M-102", 9_999),
            at=None, now=NOW,
        )  # fmt: skip
        assert (done.fee_back_micro, done.refund_micro, done.reason) == (
            20 * EURO,
            70 * EURO,
            "left",
        )
        assert close_let(
            actor=here.administrator, let_id=let.let_id, closing=None, at=None, now=NOW
        ).repeated
    else:
        # It waits neither for its end nor for a reading: nobody is there any more.
        assert close_ended_lets(now=hours(41)) == 1
    assert counters(let.account_id)[CounterAccount.DEPOSITS] == 0
    assert rows("SELECT sum(amount_micro)::bigint FROM refund") == [(89_750_000,)]
    assert available(let.account_id) == 0
    books_hold(here)


# --- one property's trouble is its own ---


def stuck(here: World) -> None:
    """Close the books beyond the let's end: with a silent meter it can then not be closed."""
    later = END + timedelta(days=2)
    close_period(
        actor=here.administrator, property_id=here.property_id, open_from=later.date(), now=later
    )


def test_a_let_that_cannot_close_stops_no_other_and_calls_a_person() -> None:
    bad, good = market(), market("-B")
    let, other = begin(bad), begin(good, until=hours(33 + 51), key="b")
    stuck(bad)
    later = END + timedelta(days=2)
    assert close_ended_lets(now=later) == 1
    assert rows("SELECT account_id FROM temporary_let WHERE closed_at IS NOT NULL") == [
        (other.account_id,)
    ]
    assert open_alerts() == [(bad.property_id, "moves.let_not_closed", "PeriodClosed")]
    assert close_ended_lets(now=later) == 0
    ((alert_id, subject),) = rows("SELECT id, subject FROM alert")
    assert subject == f"account:{let.account_id}"
    with pytest.raises(AlertRefused) as lasts:
        close_alert(actor=bad.administrator, alert_id=alert_id, note="seen", now=later)
    assert lasts.value.reason == "cause_lasts"
    # A person reads the register and ends it; so ends the alert.
    later += timedelta(hours=1)
    close_let(
        actor=bad.administrator, let_id=let.let_id, closing=bad.register("M-102", 2_500), at=None,
        now=later,
    )  # fmt: skip
    assert open_alerts() == []
    books_hold(bad)
    books_hold(good)


def test_lets_that_cannot_close_are_tried_after_those_that_were_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lets, "_LETS_MAX", 1)
    bad, good = market(), market("-B")
    begin(bad)
    begin(good, until=hours(33 + 51), key="b")
    stuck(bad)
    later = END + timedelta(days=2)
    assert [close_ended_lets(now=later + timedelta(minutes=n)) for n in range(3)] == [0, 1, 0]


def test_an_error_that_nobody_foresaw_is_told_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = market(), market("-B")
    let = begin(bad)
    begin(good, key="b")
    real = lets.refund_balance

    def failing(*, account_id: int, **given: Any) -> Any:
        assert account_id != let.account_id, "a ledger that does not add up"
        return real(account_id=account_id, **given)

    for each in (bad, good):
        each.read("M-102", END, 5_000)
    with monkeypatch.context() as broken:
        broken.setattr(lets, "refund_balance", failing)
        assert close_ended_lets(now=NOW) == 1
    assert open_alerts() == [(bad.property_id, "moves.let_not_closed", "AssertionError")]
    assert rows("SELECT count(*) FROM temporary_let WHERE closed_at IS NULL") == [(1,)]
    assert close_ended_lets(now=NOW) == 1
    assert open_alerts() == []


def test_a_meter_that_never_reported_calls_a_person() -> None:
    here = market()
    begin(here)
    rows("DELETE FROM meter_state WHERE meter_id = %s", here.meters["M-102"])
    assert close_ended_lets(now=END + lets.SILENCE - timedelta(seconds=1)) == 0
    assert open_alerts() == []
    assert close_ended_lets(now=END + lets.SILENCE) == 0
    assert open_alerts() == [(here.property_id, "moves.let_not_closed", "RegisterMissing")]


# --- announced lets that cannot begin in time ---


def lived_in(here: World, until: datetime) -> None:
    """Somebody else in flat 102 from now until an instant at which the meter stands at 3,000."""
    moves.move_in(
        actor=here.administrator, unit_id=here.units["102"], at=NOW, key="m", now=NOW,
        tenant=tenant(), opening=here.register("M-102", 2_000),
    )  # fmt: skip
    assert begin_announced_lets(now=BEGINS + timedelta(hours=1)) == 0
    assert open_alerts() == [(here.property_id, "moves.let_not_begun", "UnitOccupied")]
    here.read("M-102", until, 3_000, now=until)
    moves.move_out(
        actor=here.administrator, unit_id=here.units["102"], closing=here.register("M-102", 3_000),
        at=until, key="mo", now=until,
    )  # fmt: skip


@pytest.mark.parametrize("seen_before", [False, True])
def test_a_let_that_cannot_begin_before_its_end_is_cancelled_and_charges_nothing(
    seen_before: bool,
) -> None:
    here = market()
    let = announce(here)
    ends = datetime.fromisoformat(let.ends_at)
    gone = ends + timedelta(days=5)
    moves.move_in(
        actor=here.administrator, unit_id=here.units["102"], at=NOW, key="m", now=NOW,
        tenant=tenant(), opening=here.register("M-102", 2_000),
    )  # fmt: skip
    if seen_before:
        assert begin_announced_lets(now=ends - timedelta(seconds=1)) == 0
        assert open_alerts() == [(here.property_id, "moves.let_not_begun", "UnitOccupied")]
        assert begin_announced_lets(now=ends) == 0
    else:
        here.read("M-102", gone, 3_000, now=gone)
        moves.move_out(
            actor=here.administrator, unit_id=here.units["102"], at=gone, key="mo", now=gone,
            closing=here.register("M-102", 3_000),
        )  # fmt: skip
        here.read("M-102", gone + timedelta(hours=1), 3_100, now=gone + timedelta(hours=1))
        assert begin_announced_lets(now=gone + timedelta(hours=2)) == 0
    assert rows("SELECT begun_at, close_reason FROM temporary_let") == [(None, "cancelled")]
    assert rows("SELECT amount_micro, reason FROM refund") == [(100 * EURO, "let.cancelled")]
    assert counters(let.account_id) == {
        CounterAccount.CASH: 100 * EURO,
        CounterAccount.REFUNDS_PAYABLE: -100 * EURO,
    }
    assert open_alerts() == []
    books_hold(here)


def test_a_let_that_begins_late_pays_for_the_days_that_are_left() -> None:
    here = market()
    let = announce(here)
    # Announced from the 19th, 13:00 in Berlin, to the 21st, 15:00: on the 20th two days are left of three.
    free = BEGINS + timedelta(hours=20)
    lived_in(here, free)
    here.read("M-102", free + timedelta(minutes=15), 3_000, now=free + timedelta(minutes=15))
    assert begin_announced_lets(now=free + timedelta(minutes=15)) == 1
    assert open_alerts() == []
    assert rows("SELECT units, fee_micro FROM temporary_let") == [(2, 20 * EURO)]
    assert available(let.account_id) == (100 - 20 - 50) * EURO
    # Who leaves on the day on which it began gets back the other one.
    leaves = free + timedelta(hours=1)
    here.read("M-102", leaves, 3_000, now=leaves)
    done = close_let(
        actor=here.administrator, let_id=let.let_id, closing=here.register("M-102", 3_000), at=leaves,
        now=leaves,
    )  # fmt: skip
    assert (done.fee_back_micro, done.refund_micro) == (10 * EURO, 90 * EURO)
    books_hold(here)


def test_a_late_beginning_by_the_hour_pays_for_the_hours_that_are_left() -> None:
    here = market()
    create_tariff_version(
        actor=system_actor("import"), property_id=here.property_id, code="hourly", name="Hourly",
        document=BOOTH | {"temporary": {"unit": "hour", "fee": "1.00", "deposit": "5.00"}},
        valid_from=hours(0), approved_by="user:2", now=NOW,
    )  # fmt: skip
    let = lets.let_unit(
        actor=here.administrator, unit_id=here.units["102"], opening=None, at=BEGINS,
        tenant=NewTenant(NewCustomer("Mara Ruiz"), "hourly"),
        until=BEGINS + timedelta(hours=50), payment=FirstRecharge(100 * EURO), key="h", now=NOW,
    )  # fmt: skip
    lived_in(here, BEGINS + timedelta(hours=20))
    later = BEGINS + timedelta(hours=20, minutes=15)
    here.read("M-102", later, 3_000, now=later)
    assert begin_announced_lets(now=later) == 1
    assert rows("SELECT units, fee_micro FROM temporary_let") == [(30, 30 * EURO)]
    assert available(let.account_id) == (100 - 30 - 5) * EURO


def test_lets_of_a_place_begin_one_after_another_whichever_is_looked_at_first() -> None:
    here = market()
    first, second = announce(here), announce(here, days=5, key="s")
    rows("UPDATE temporary_let SET tried_at = %s WHERE id = %s", NOW, first.let_id)
    # Nothing was heard of the meter until the second had to begin.
    late = NOW + timedelta(days=5, hours=4)
    here.read("M-102", late, 2_400, now=late)
    assert begin_announced_lets(now=late) == 1
    assert rows("SELECT id FROM temporary_let WHERE begun_at IS NOT NULL") == [(first.let_id,)]
    assert close_ended_lets(now=late) == 1
    later = late + timedelta(minutes=15)
    here.read("M-102", later, 2_400, now=later)
    assert begin_announced_lets(now=later) == 1
    assert counters(second.account_id)[CounterAccount.DEPOSITS] == -50 * EURO
    assert open_alerts() == []
    books_hold(here)


def test_a_let_whose_payment_was_taken_back_does_not_begin() -> None:
    here = market()
    let = announce(here)
    ((event_id,),) = rows("SELECT event_id FROM payment WHERE account_id = %s", let.account_id)
    with taking_back_agreed(event_id):
        reverse_recharge(
            actor=here.administrator, event_id=event_id, why="bounced", key="rv",
            now=NOW + timedelta(hours=1),
        )  # fmt: skip
    due = BEGINS + timedelta(minutes=10)
    here.read("M-102", due, 4_500, now=due)
    assert begin_announced_lets(now=due) == 0
    assert open_alerts() == [(here.property_id, "moves.let_not_begun", "PaidTooLittle")]
    assert rows("SELECT begun_at FROM temporary_let") == [(None,)]
    assert rows("SELECT count(*) FROM tenancy WHERE account_id = %s", let.account_id) == [(0,)]
    assert counters(let.account_id).get(CounterAccount.DEPOSITS, 0) == 0
    ends = datetime.fromisoformat(let.ends_at)
    assert begin_announced_lets(now=ends) == 0
    assert rows("SELECT close_reason, refund_id FROM temporary_let") == [("cancelled", None)]
    assert open_alerts() == [] and available(let.account_id) == 0
    books_hold(here)


def test_the_worker_may_do_all_of_it(database: str) -> None:
    bad, good = market(), market("-B")
    begin(bad)
    let = announce(good)
    stuck(bad)
    free = BEGINS + timedelta(hours=20)
    lived_in(good, free)
    here = free + timedelta(minutes=15)
    good.read("M-102", here, 3_000, now=here)
    with signed_in(role_dsn(database, "clerk"), database):
        assert close_ended_lets(now=here) == 0
        assert begin_announced_lets(now=here) == 1
    assert open_alerts() == [(bad.property_id, "moves.let_not_closed", "PeriodClosed")]
    assert rows("SELECT units FROM temporary_let WHERE account_id = %s", let.account_id) == [(2,)]
