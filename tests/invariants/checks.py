"""One check for each invariant of the design. A check builds what it needs and fails if it is broken.

The same checks are run twice: on the code as it is, where they pass, and on a mutation of it, where
they must not. Each takes the owner's DSN of a migrated database that Django is connected to.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from math import ceil
from typing import Any

import numpy as np
import psycopg
import pytest
from django.db import DatabaseError, OperationalError, connection, transaction
from tests.conftest import role_dsn
from tests.core.exact_model import exact_charges
from tests.invariants.places import (
    MINUTE,
    NOW,
    OPENED,
    OPENING_MICRO,
    PRICES,
    World,
    at,
    one,
    pay,
    place,
    post,
    rows,
    send,
    wish,
)
from tests.moves.world import tenant

import prewatt.hes.ingest as ingest
import prewatt.moves.operations as moves
from agreements import agreed
from prewatt import walls
from prewatt.access.models import Duty
from prewatt.access.scope import Actor, system_actor
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.civil_time import instant_us
from prewatt.core.vee import Verdict
from prewatt.core.vocabulary import DeliveryState, Gate, OrderState, Outcome, Protection, Reason
from prewatt.hes.frames import AckToken, ReadingsFrame, Watermark
from prewatt.ledger.operations import (
    Event,
    Leg,
    PeriodClosed,
    append_events,
    close_period,
    new_event_ids,
)
from prewatt.reports.books import check_books
from prewatt.supply import operations as supply
from prewatt.vending.operations import Recharge, Recharged, RechargeRefused, recharge


def books_hold(*places: World) -> None:
    """Recompute the books of these places in SQL."""
    with connection.cursor() as cursor:
        assert check_books(cursor, [each.property_id for each in places]) == []


def in_threads(*works: Callable[[], object]) -> list[object]:
    """Run all at once, each with a connection of its own; returns answers or what was raised."""
    answers: list[object] = [None] * len(works)
    ready = threading.Barrier(len(works))

    def run(number: int, work: Callable[[], object]) -> None:
        try:
            ready.wait(timeout=30)
            answers[number] = work()
        except Exception as error:
            answers[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return answers


def leg(account_id: int, amount: int, **other: Any) -> Leg:
    """An adjustment dated now, unless told otherwise."""
    given: dict[str, Any] = {
        "account_id": account_id,
        "kind": TransferKind.ADJUSTMENT,
        "component": 1,
        "counter_account": CounterAccount.ADJUSTMENTS,
        "amount": amount,
        "service_from": NOW,
        "service_to": NOW,
        "reason": "test",
    }
    return Leg(**(given | other))


def append(*legs: Leg) -> int:
    """Append one event and return its id."""
    with transaction.atomic():
        (event,) = new_event_ids(1)
        append_events(actor_code="test", events=[Event(event, legs)], now=NOW)
    return event


# --- 1: transfers never change and never vanish; corrections name what they correct ---


def invariant_1(dsn: str) -> None:
    here = place()
    account = here.accounts["1001"]
    send(here, [("M-101", at(1), 2_000)])
    post(here)
    pay(here, "one")
    before = rows("SELECT t::text FROM transfer t WHERE account_id = %s ORDER BY seq", account)
    for role, duty in (*((each, "") for each in walls.LOGINS), *(("web", d) for d in walls.DUTIES)):
        with psycopg.connect(role_dsn(dsn, role), autocommit=True) as session:
            if duty:
                session.execute(f"SET ROLE {duty}")
                session.execute(f"SET prewatt.properties = '{{{here.property_id}}}'")
            for table in walls.APPEND_ONLY:
                _cannot_change(session, f"{duty or role} changed {table}", table)
    after = rows("SELECT t::text FROM transfer t WHERE account_id = %s ORDER BY seq", account)
    assert after == before
    _corrections_name_their_row(account)
    books_hold(here)


def _cannot_change(session: psycopg.Connection[Any], breach: str, table: str) -> None:
    (column,) = session.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum = 1", [table]
    ).fetchone() or ("",)
    for statement in (
        f"UPDATE {table} SET {column} = {column}",
        f"DELETE FROM {table}",
        f"TRUNCATE {table}",
    ):
        try:
            session.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            continue
        raise AssertionError(breach)


def _corrections_name_their_row(account: int) -> None:
    event, seq = rows(
        "SELECT event_id, seq FROM transfer WHERE account_id = %s ORDER BY seq LIMIT 1", account
    )[0]
    reversal = leg(account, -1_000, kind=TransferKind.REVERSAL)
    for wrong in (
        reversal,
        replace(reversal, corrects_event_id=event),
        replace(reversal, corrects_event_id=event, corrects_seq=10**6),
    ):
        with pytest.raises(DatabaseError):
            append(wrong)
    append(replace(reversal, corrects_event_id=event, corrects_seq=seq))


# --- 2: sums are balances, and the counter-accounts agree with an independent model ---


def invariant_2(dsn: str) -> None:
    here = place()
    account = here.accounts["1001"]
    history = [(at(number * 0.75), 1_000 + number * 377 + number % 5) for number in range(49)]
    send(here, [("M-101", *each) for each in history[1:30]])
    paid = [pay(here, "a", 7_000_001), pay(here, "b", 13)]
    post(here, until=at(12))
    send(here, [("M-101", *each) for each in history[30:]])
    books_hold(here)
    _agrees_with_model(here, account, history, paid)
    post(here)
    books_hold(here)
    _agrees_with_model(here, account, history, paid)
    assert one("SELECT available = posted FROM account_state WHERE account_id = %s", account)


def _agrees_with_model(
    here: World, account: int, history: Sequence[tuple[Any, int]], paid: Sequence[object]
) -> None:
    """Cash is what was acknowledged as paid; revenue and accrual are registers times price."""
    acknowledged = sum(each.amount for each in paid if isinstance(each, Recharged))
    cash, revenue = rows(
        """SELECT coalesce(sum(amount) FILTER (WHERE counter_account = %s), 0),
                  coalesce(-sum(amount) FILTER (WHERE counter_account = %s), 0)
           FROM transfer WHERE property_id = %s""",
        int(CounterAccount.CASH), int(CounterAccount.ENERGY_REVENUE), here.property_id,
    )[0]  # fmt: skip
    accrued, available = rows(
        "SELECT accrued_energy, available FROM account_state WHERE account_id = %s", account
    )[0]
    owed = exact_charges([(instant_us(when), value) for when, value in history], PRICES)
    assert cash == acknowledged
    assert revenue + accrued == int(owed)
    assert available == ceil(OPENING_MICRO + acknowledged - owed)


# --- 3: seq and interval_no are gapless, also under concurrent writers ---


def invariant_3(dsn: str) -> None:
    here = place()
    account = here.accounts["1001"]

    def sell(name: str) -> Callable[[], object]:
        return lambda: [pay(here, f"{name}{each}", 1_000 + each) for each in range(5)]

    def read(first: int) -> Callable[[], object]:
        # Both meters' readers overlap, so that the same readings come from two sides at once.
        return lambda: [
            send(here, [(serial, at(each), base + 100 * each) for serial, base in _BASES])
            for each in range(first, first + 8)
        ]

    answers = in_threads(
        sell("a"), sell("b"), read(1), read(4), lambda: [post(here) for _ in range(4)]
    )
    assert not [each for each in answers if isinstance(each, Exception)], answers
    books_hold(here)
    assert one("SELECT transfer_seq FROM account_state WHERE account_id = %s", account) >= 11
    numbers = rows("SELECT interval_no FROM interval WHERE account_id = %s ORDER BY 1", account)
    assert [each[0] for each in numbers] == list(range(1, len(numbers) + 1))


_BASES = (("M-101", 1_000), ("M-102", 2_000))


# --- 4: one key, one effect ---


def invariant_4(dsn: str) -> None:
    here = place()
    mine, other = here.accounts["1001"], here.accounts["OWN-LIFT"]
    first = wish(here, f"k{here.property_id}")

    def ask(*wishes: Recharge, actor: Actor = here.operator) -> list[Any]:
        return recharge(actor=actor, recharges=wishes, now=NOW)

    def refused(answer: object) -> bool:
        return isinstance(answer, RechargeRefused) and answer.code == "vending.recharge.key_reused"

    def effects() -> tuple[Any, ...]:
        return tuple(
            one(f"SELECT count(*) FROM {table} WHERE property_id = %s", here.property_id)
            for table in ("transfer", "payment", "document", "idempotency")
        )

    # 1, 2: a first time books; the same again gets the same answer and books nothing.
    (answer,) = ask(first)
    assert isinstance(answer, Recharged) and not answer.repeated
    stood = effects()
    later = recharge(actor=here.operator, recharges=[first], now=NOW + 90 * 24 * 60 * MINUTE)
    assert later == [replace(answer, repeated=True)]
    # 3, 4, 5: another amount, another account, another way: refused, whatever account it names.
    for changed in (
        replace(first, amount=first.amount + 1),
        replace(first, account_id=other),
        replace(first, way="online"),
    ):
        assert refused(ask(changed)[0]), changed
    assert effects() == stood
    # 6: another caller's key is another key.
    (theirs,) = ask(first, actor=Actor("user:77", Duty.OPERATOR, (here.property_id,)))
    assert isinstance(theirs, Recharged) and theirs.event_id != answer.event_id
    # 7: what was refused leaves its key free.
    free = replace(first, key=f"free{here.property_id}", amount=0)
    assert isinstance(ask(free)[0], RechargeRefused)
    assert isinstance(ask(replace(free, amount=1))[0], Recharged)
    # 8: twice in one set is once; with another body it is refused and the first stands.
    twice = replace(first, key=f"twice{here.property_id}")
    one_, two, three = ask(twice, twice, replace(twice, account_id=other))
    assert isinstance(one_, Recharged) and two == replace(one_, repeated=True) and refused(three)
    _invariant_4_at_once(here, mine, other)
    books_hold(here)


def _invariant_4_at_once(here: World, mine: int, other: int) -> None:
    """9: the same key at the same moment, for the same account and for two different ones."""
    for accounts in ((mine,) * 4, (mine, other, mine, other)):
        key = f"race{here.property_id}:{accounts[1]}"
        wishes = [Recharge(key, each, 1_000_000, "cash", "", NOW) for each in accounts]
        answers = in_threads(
            *(
                lambda each=each: recharge(actor=here.operator, recharges=[each], now=NOW)[0]
                for each in wishes
            )
        )
        done = [each for each in answers if isinstance(each, Recharged)]
        turned = [each for each in answers if isinstance(each, RechargeRefused)]
        assert len(done) + len(turned) == 4, answers
        assert len({each.event_id for each in done}) == 1
        assert sum(not each.repeated for each in done) == 1
        assert len(turned) == sum(each != done[0].account_id for each in accounts)


# --- 5: no energy twice ---


def invariant_5(dsn: str) -> None:
    here = place()
    account = here.accounts["1001"]
    truth = [("M-101", at(each / 4), 1_000 + 130 * each) for each in range(1, 41)]
    send(here, truth[:8])
    send(here, truth[4:12][::-1])
    # A jump over a gap is charged once, backfill inside it re-splits, and both come again.
    send(here, [truth[30]])
    jumped = one("SELECT sum(energy_wh) FROM interval WHERE account_id = %s", account)
    late = [truth[25], truth[15], truth[20]]
    assert send(here, late) == [Verdict.BACKFILL] * 3
    assert one("SELECT sum(energy_wh) FROM interval WHERE account_id = %s", account) == jumped
    assert send(here, late) == [Verdict.DUPLICATE] * 3
    send(here, [truth[17], truth[31], truth[17], truth[18]])
    # What cannot be believed is held with its reason and charges nothing.
    held = send(here, [("M-101", at(9), 1_000), ("M-101", at(9.1), 900_000_000)])
    assert held == [Verdict.BACKWARDS, Verdict.IMPLAUSIBLE]
    assert rows("SELECT verdict FROM vee_case WHERE account_id = %s ORDER BY read_at", account) == [
        (int(Verdict.BACKWARDS),),
        (int(Verdict.IMPLAUSIBLE),),
    ]
    send(here, truth)
    send(here, truth)
    charged = one("SELECT sum(energy_wh) FROM interval WHERE account_id = %s", account)
    assert charged == truth[-1][2] - 1_000
    owed = exact_charges(
        [(instant_us(OPENED), 1_000), *((instant_us(when), wh) for _, when, wh in truth)], PRICES
    )
    assert one("SELECT accrued_energy FROM account_state WHERE account_id = %s", account) == int(
        owed
    )
    books_hold(here)


# --- 6: a new tenant starts at zero ---


def invariant_6(dsn: str) -> None:
    here = place()
    former, meter = here.accounts["1001"], here.meters["M-101"]
    send(here, [("M-101", at(100), 1_000 + 123_457)])
    pay(here, "old", 1_000_003)
    changed = moves.tenant_change(
        actor=here.administrator, unit_id=here.units["101"], at=at(101), now=NOW,
        key=f"change{here.property_id}",
        tenant=tenant(), registers=here.register("M-101", 1_000 + 130_001),
    )  # fmt: skip
    new = changed.account_id
    numbers = one(
        """SELECT to_jsonb(s) - 'account_id' - 'property_id' - 'legal_entity_id' - 'watch_below'
                  - 'updated_at' - 'last_interval_at' FROM account_state s WHERE account_id = %s""",
        new,
    )
    numbers = json.loads(numbers) if isinstance(numbers, str) else numbers
    assert {name: value for name, value in numbers.items() if value not in (0, [])} == {}
    for table in ("transfer", "interval", "posting", "payment", "vee_case", "register_reading",
                  "message", "supply_order", "supply_decision"):  # fmt: skip
        assert one(f"SELECT count(*) FROM {table} WHERE account_id = %s", new) == 0, table
    was = one("SELECT available FROM account_state WHERE account_id = %s", former)
    # A late reading of the old time is theirs, the first of the new time starts from nothing.
    assert send(here, [("M-101", at(50), 1_000 + 60_000)]) == [Verdict.BACKFILL]
    assert one("SELECT available FROM account_state WHERE account_id = %s", new) == 0
    send(here, [("M-101", at(102), 1_000 + 130_002)])
    owed = exact_charges([(instant_us(at(101)), 131_001), (instant_us(at(102)), 131_002)], PRICES)
    assert rows(
        "SELECT accrued_energy, interval_no FROM account_state WHERE account_id = %s", new
    ) == [(int(owed), 1)]
    assert (
        abs(one("SELECT available FROM account_state WHERE account_id = %s", former) - was) < 10**7
    )
    assert one(
        "SELECT count(*) FROM meter_state WHERE meter_id = %s AND account_id = %s", meter, new
    )
    books_hold(here)


# --- 7: no cut unless every gate holds ---


class Supplied:
    """The tenant's account of a place, unprotected, with a warning level and live readings."""

    def __init__(self) -> None:
        self.here = place()
        self.account = self.here.accounts["1001"]
        self.system = system_actor("worker", (self.here.property_id,))
        self.register, self.when = 1_000, OPENED
        self.now = NOW
        # A gate is opened within minutes of the warning here, so a warning that was delivered is enough.
        supply.set_policy(
            actor=system_actor("worker"), property_id=self.here.property_id, body={"notice_s": 0},
            now=NOW,
        )  # fmt: skip
        self.protect(Protection.NONE)
        rows(
            """INSERT INTO meter_link (meter_id, property_id, last_seen_at, relay, relay_read_at)
               VALUES (%s, %s, %s, 1, %s)
               ON CONFLICT (meter_id) DO UPDATE SET relay = 1""",
            self.here.meters["M-101"], self.here.property_id, NOW, NOW,
        )  # fmt: skip

    def protect(self, protection: Protection) -> None:
        supply.set_protection(
            actor=self.system, property_id=self.here.property_id, account_id=self.account,
            protection=protection, now=NOW,
        )  # fmt: skip

    def use(self, micro: int, *, age: timedelta = timedelta(0)) -> None:
        """A reading after which the account has used about so much money more."""
        self.register += ceil(micro / 173)
        (verdict,) = send(self.here, [("M-101", self.now - age, self.register)], now=self.now)
        assert verdict is Verdict.ACCEPTED

    def deliver(self) -> None:
        rows(
            """UPDATE message SET state = %s, finished_at = %s
               WHERE property_id = %s AND finished_at IS NULL""",
            DeliveryState.DELIVERED.value, self.now, self.here.property_id,
        )  # fmt: skip

    def reconsider(self) -> None:
        supply.reconsider_due(actor=self.system, now=self.now, woken=[self.here.property_id])

    def cuts(self) -> int:
        """Real disconnect orders so far."""
        return int(
            one(
                """SELECT count(*) FROM supply_order
                   WHERE account_id = %s AND kind = 2 AND state <> %s""",
                self.account, OrderState.WOULD_HAVE.value,
            )
        )  # fmt: skip

    def outcomes(self) -> list[tuple[Any, ...]]:
        return rows(
            """SELECT outcome, reason, gates FROM supply_decision
               WHERE account_id = %s ORDER BY id""",
            self.account,
        )


def invariant_7(dsn: str, gate: Gate) -> None:
    """Everything is open but one gate: no cut, and the reason stored. It opens: one cut."""
    case = Supplied()
    shut, unlock = _GATES[gate]
    shut(case)
    case.deliver() if gate is not Gate.WARNING_DELIVERED else None
    case.reconsider()
    assert case.cuts() == 0, f"cut although {gate.word} is closed"
    if gate is not Gate.BALANCE_EXHAUSTED:
        outcome, reason, _ = case.outcomes()[-1]
        assert (outcome, reason) == (Outcome.HOLD.value, Reason(10 + gate).word)
    unlock(case)
    assert case.cuts() == 1, f"{gate.word} opened and the held cut was not decided again"
    outcome, reason, _ = case.outcomes()[-1]
    assert (outcome, reason) == (Outcome.CUT.value, Reason.ALL_GATES_OPEN.word)


def _spend_all(case: Supplied) -> None:
    case.use(40_000_000)


def _reconsider(case: Supplied) -> None:
    case.deliver()
    case.reconsider()


def _leave_credit(case: Supplied) -> None:
    """Below zero, above the end of emergency credit."""
    case.now = NOW - timedelta(days=1)
    rows("UPDATE supply_state SET emergency_micro = 30000000 WHERE account_id = %s", case.account)
    case.use(30_000_000)
    left = one("SELECT available FROM account_state WHERE account_id = %s", case.account)
    assert -30_000_000 < left < 0


def _spend_credit(case: Supplied) -> None:
    case.now = NOW
    case.use(40_000_000)
    _reconsider(case)


def _spend_stale(case: Supplied) -> None:
    case.use(40_000_000, age=100 * MINUTE)


def _live_again(case: Supplied) -> None:
    case.now += 5 * MINUTE
    case.use(1_000)
    _reconsider(case)


def _spend_at_night(case: Supplied) -> None:
    case.now = NOW - 12 * 60 * MINUTE
    case.use(40_000_000)


def _morning(case: Supplied) -> None:
    case.now = NOW - 3 * 60 * MINUTE
    case.use(1_000)
    case.reconsider()


def _shield(case: Supplied) -> None:
    case.protect(Protection.MEDICAL)
    _spend_all(case)


def _unshield(case: Supplied) -> None:
    case.protect(Protection.NONE)
    case.reconsider()


def _hold_payment(case: Supplied) -> None:
    supply.place_payment_hold(
        actor=case.system, property_id=case.here.property_id, account_ids=[case.account],
        until=NOW + 60 * MINUTE, now=NOW,
    )  # fmt: skip
    _spend_all(case)


def _release_payment(case: Supplied) -> None:
    supply.release_payment_hold(
        actor=case.system, property_id=case.here.property_id, account_ids=[case.account], now=NOW
    )
    case.reconsider()


def _brake(case: Supplied) -> None:
    rows(
        "UPDATE supply_policy SET brake_since = %s WHERE property_id = %s",
        NOW, case.here.property_id,
    )  # fmt: skip
    _spend_all(case)


def _release_brake(case: Supplied) -> None:
    place = case.here.property_id
    person = Actor("user:2", Duty.ADMINISTRATOR, (place,))
    with agreed("supply.brake", place, "brake:release", {"since": NOW.isoformat()}):
        supply.release_brake(actor=person, property_id=place, now=NOW)
    case.reconsider()


_GATES: dict[Gate, tuple[Callable[[Supplied], None], Callable[[Supplied], None]]] = {
    Gate.BALANCE_EXHAUSTED: (_leave_credit, _spend_credit),
    Gate.READING_FRESH: (_spend_stale, _live_again),
    Gate.WARNING_DELIVERED: (_spend_all, _reconsider),
    Gate.WINDOW_OPEN: (_spend_at_night, _morning),
    Gate.NOT_PROTECTED: (_shield, _unshield),
    Gate.NO_PAYMENT_IN_FLIGHT: (_hold_payment, _release_payment),
    Gate.BRAKE_OFF: (_brake, _release_brake),
}


# --- 9: nothing is acknowledged before it is committed ---


class RecordingTransport:
    """Looks, at each acknowledgement, at what another session sees committed."""

    def __init__(self, dsn: str, meter_id: int) -> None:
        self._dsn, self._meter_id = dsn, meter_id
        self.acked: list[AckToken] = []
        self.marks: list[Watermark] = []
        self.too_early: list[object] = []

    def _committed(self) -> int:
        with psycopg.connect(self._dsn) as session:
            row = session.execute(
                """SELECT coalesce(max((extract(epoch FROM read_at) * 1000000)::bigint), 0)
                   FROM register_reading WHERE meter_id = %s""",
                [self._meter_id],
            ).fetchone()
        assert row is not None
        return int(row[0])

    def ack(self, tokens: Sequence[AckToken]) -> None:
        # A token's number is the instant of its frame's last reading.
        committed = self._committed()
        self.too_early += [each for each in tokens if each.message_id > committed]
        self.acked += tokens

    def publish_watermarks(self, marks: Sequence[Watermark]) -> None:
        committed = self._committed()
        self.too_early += [each for each in marks if each.read_at_us > committed]
        self.marks += marks


def invariant_9(dsn: str) -> None:
    here = place()
    meter = here.meters["M-101"]
    serial = one("SELECT serial FROM meter WHERE id = %s", meter)
    transport = RecordingTransport(dsn, meter)
    frames = [_frame(serial, at(each), 1_000 + 100 * each) for each in (1, 2, 3)]
    with pytest.MonkeyPatch.context() as patch:
        failing = _FailsOnce()
        patch.setattr(ingest, "apply_readings", failing)
        loop = ingest.IngestLoop(transport, clock=lambda: NOW)
        loop.start()
        for frame in frames:
            loop.submit(frame)
        # Long enough for the lost database and the second try; stopped, it ends what it has.
        failing.done.wait(timeout=30)
        loop.stop()
    assert loop.failure is None
    assert failing.calls >= 2, "the database never failed"
    assert transport.too_early == [], "acknowledged before the commit"
    assert {each.message_id for each in transport.acked} == {f.token.message_id for f in frames}
    assert max(each.read_at_us for each in transport.marks) == instant_us(at(3))
    answer = pay(here, "seen")
    assert isinstance(answer, Recharged)
    with psycopg.connect(dsn) as session:
        seen = session.execute("SELECT 1 FROM payment WHERE event_id = %s", [answer.event_id])
        assert seen.fetchone(), "a payer was answered before the commit"
    books_hold(here)


class _FailsOnce:
    """Applies, then loses the database before the commit; from the second time on it works."""

    def __init__(self) -> None:
        self.calls = 0
        self.done = threading.Event()
        self._apply = ingest.apply_readings

    def __call__(self, **arguments: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            with transaction.atomic():
                self._apply(**arguments)
                raise OperationalError("the server closed the connection")
        applied = self._apply(**arguments)
        self.done.set()
        return applied


def _frame(serial: str, when: Any, value: int) -> ReadingsFrame:
    return ReadingsFrame(
        serial=serial,
        received_at_us=instant_us(NOW),
        token=AckToken(1, instant_us(when)),
        read_at_us=np.array([instant_us(when)], dtype=np.int64),
        register_code=np.array([1], dtype=np.int16),
        value=np.array([value], dtype=np.int64),
        meter_clock_us=None,
        relay=None,
    )


# --- 10: closed periods stay closed, documents have no gaps ---


def invariant_10(dsn: str) -> None:
    here = place()
    _documents_have_no_gaps(here)
    _closed_stays_closed(dsn, here)
    books_hold(here)


class _Undone(Exception):
    """Somebody changed their mind after the receipt had its number."""


def _documents_have_no_gaps(here: World) -> None:
    accounts = (here.accounts["1001"], here.accounts["OWN-LIFT"])

    def sell(number: int) -> object:
        # Two accounts, so that sellers do not already wait for one another at the account.
        account = accounts[number % 2]
        if number % 3:
            return pay(here, f"d{number}", account=account)
        try:
            with transaction.atomic():
                pay(here, f"d{number}", account=account)
                raise _Undone
        except _Undone:
            return None

    answers = in_threads(*(lambda number=number: sell(number) for number in range(9)))
    assert not [each for each in answers if isinstance(each, Exception)], answers
    numbers = rows(
        "SELECT number FROM document WHERE property_id = %s ORDER BY number", here.property_id
    )
    assert [each[0] for each in numbers] == [1, 2, 3, 4, 5, 6]


def _closed_stays_closed(dsn: str, here: World) -> None:
    account = here.accounts["1001"]
    send(here, [("M-101", at(1), 2_000), ("M-101", at(24 * 6), 9_000)])
    closing = system_actor("close", (here.property_id,))
    close_period(actor=closing, property_id=here.property_id, open_from=date(2026, 11, 5), now=NOW)
    with pytest.raises(PeriodClosed):
        close_period(
            actor=closing, property_id=here.property_id, open_from=date(2026, 11, 4), now=NOW
        )
    first_open = OPENED + timedelta(days=4)
    with pytest.raises(PeriodClosed):
        append(leg(account, 1_000, service_from=first_open - timedelta(seconds=1)))
    append(leg(account, 1_000, service_from=first_open))
    _policy_refuses(dsn, account, first_open)
    # Usage of closed days is booked on the first open instant; its intervals keep their own days.
    post(here)
    assert one(
        "SELECT min(service_from) FROM transfer WHERE account_id = %s AND kind = %s",
        account, int(TransferKind.USAGE),
    ) == first_open  # fmt: skip


def _policy_refuses(dsn: str, account: int, first_open: Any) -> None:
    """The table refuses by itself, whatever the pen would let through."""
    insert = """INSERT INTO transfer (account_id, seq, property_id, legal_entity_id, event_id, kind,
            component, counter_account, amount, posted_after, currency, service_from, service_to,
            booked_at, actor, reason)
        SELECT account_id, transfer_seq + 1, property_id, legal_entity_id, 1, 5, 1, 10, 1,
            posted + 1, 'EUR', %s, %s, %s, 'test', 'test'
        FROM account_state WHERE account_id = %s"""
    for when, expected in ((first_open - timedelta(seconds=1), False), (first_open, True)):
        with psycopg.connect(dsn) as session:
            session.execute("SET ROLE ledger_pen")
            try:
                session.execute(insert, [when, when, NOW, account])
                accepted = True
            except psycopg.errors.InsufficientPrivilege:
                accepted = False
            session.rollback()
        assert accepted is expected, f"the policy of transfer let {when} through: {accepted}"
