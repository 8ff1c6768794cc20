"""Credit in the meter: what moves on the account reaches it once, and what it says is compared with the ledger."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction
from tests.supply.world import EUR, NOW, World

from prewatt import instruct_command
from prewatt.access.scope import system_actor
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.civil_time import instant_us
from prewatt.core.instructions import Doubt, Operation, Result, Worth
from prewatt.core.rating import Component
from prewatt.hes.drivers.mqtt_senml.topics import Uplink
from prewatt.instructions.limits import set_limit
from prewatt.instructions.operations import (
    InstructionBook,
    Outcome,
    Outgoing,
    SignerSeal,
    Told,
    Wanted,
    enrol_key,
)
from prewatt.instructions.releases import tell_of_unanswered
from prewatt.instructions.turns import InstructionTurns, Turn
from prewatt.instructions.wallets import (
    WalletRefused,
    Wallets,
    compare_balances,
    end_without_answer,
    hold_credit,
    release_credit,
)
from prewatt.instructions.wishes import Wishes
from prewatt.ledger.operations import Event, Leg, append_events, lock_accounts, new_event_ids
from prewatt.signing.es256 import ES256PrivateKey
from prewatt.signing.keyring import NoSigningKey
from prewatt.signing.keys import KeyRole, PublicKey, SoftwareSigner
from prewatt.sim.loads import load_profile
from prewatt.sim.meter import MeterConfig, SimulatedMeter

KEY, METER_KEY = (ES256PrivateKey.from_scalar(bytes([n] * 32)) for n in (1, 2))
OURS = SignerSeal(
    SoftwareSigner(PublicKey(KeyRole.INSTRUCTION, KEY.point, NOW - timedelta(days=1)), KEY)
)
HEAD_END, CLERK = system_actor("head_end"), system_actor("worker")


class Flat(World):
    """One account, whose meter verifies and holds its credit; further ones where they are wanted."""

    def __init__(self, accounts: int = 1) -> None:
        super().__init__(accounts)
        self.account, self.meter = self.account_ids[0], self.meter_ids[0]
        self.book = InstructionBook(HEAD_END, seal=lambda _: OURS)
        self.wallets = Wallets(HEAD_END)
        self.admin = system_actor("test", (self.property_id,))
        enrol_key(
            actor=self.admin, property_id=self.property_id, meter_id=self.meter,
            public_key=METER_KEY.spki, now=NOW,
        )  # fmt: skip
        self.device = SimulatedMeter(
            MeterConfig(
                "M000",
                load_profile("H0-A", utc_offset_s=0),
                1_000_000,
                0,
                instant_us(NOW),
                900_000_000,
                private_key=METER_KEY,
                trusts={OURS.key_id: KEY.point},
                holds_credit=True,
                price_nano=300_000_000,
            )
        )
        self.device.connected(instant_us(NOW))

    def book_money(self, amount: int, kind: TransferKind = TransferKind.ADJUSTMENT) -> None:
        with transaction.atomic():
            lock_accounts([self.account])
            leg = Leg(
                self.account,
                kind,
                int(Component.ENERGY),
                CounterAccount.CASH,
                amount,
                NOW,
                NOW,
                "test",
            )
            (event_id,) = new_event_ids(1)
            append_events(actor_code="test", events=[Event(event_id, (leg,))], now=NOW)

    def tell(self, wanted: list[Wanted], at: datetime = NOW) -> Outcome:
        (sent,) = self.book.issue(wanted, now=at)
        said = self.device.receive_instruction(sent.payload, instant_us(at))
        payload = next(each for channel, each in said if channel is Uplink.SEALED)
        (outcome,) = self.book.take(
            [Told(self.meter, self.property_id, "M000", payload, at)], now=at
        )
        return outcome

    def pay(self, amount: int) -> None:
        """Book money as a recharge does: with the payment beside it."""
        self.book_money(amount)
        with connection.cursor() as cursor:
            cursor.execute(
                """INSERT INTO payment (event_id, property_id, account_id, amount_micro, way, taken_by,
                       reference, paid_at, accepted_at)
                   SELECT event_id, property_id, account_id, amount, 'cash', 'test', '',
                          booked_at, booked_at
                   FROM transfer ORDER BY seq DESC LIMIT 1"""
            )

    def answer(self, sent: Outgoing) -> Told:
        said = self.device.receive_instruction(sent.payload, instant_us(NOW))
        payload = next(each for channel, each in said if channel is Uplink.SEALED)
        return Told(self.meter, self.property_id, "M000", payload, NOW)

    def due(self) -> list[int]:
        return [each.argument for each in self.wallets.due(property_ids=None, now=NOW)]


@pytest.mark.usefixtures("database")
def test_a_turn_takes_answers_and_tells_of_payments_in_one_transaction() -> None:
    flat = Flat()
    hold_credit(
        actor=flat.admin, property_id=flat.property_id, meter_id=flat.meter,
        account_id=flat.account, now=NOW,
    )  # fmt: skip
    turns = InstructionTurns(HEAD_END, flat.book)
    assert turns.turn([], now=NOW, is_paid=True) == Turn([], [], frozenset(), has_more=False)
    flat.pay(5 * EUR)
    assert turns.turn([], now=NOW, is_paid=False).outgoing == []
    (first,) = turns.turn([], now=NOW, is_paid=True).outgoing
    assert turns.turn([], now=NOW, is_paid=True).outgoing == [], "one is under way to a meter"
    # Paid while the meter did it; somebody without its key says something beside.
    flat.pay(2 * EUR)
    told = flat.answer(first)
    forged = replace(told, payload=told.payload[:-1] + bytes([told.payload[-1] ^ 1]))
    turn = turns.turn([forged, told, told], now=NOW, is_paid=True)
    assert [each.doubt or each.worth for each in turn.outcomes] == [
        Doubt.FORGED, Worth.COUNTS, Worth.REPEATED,
    ]  # fmt: skip
    assert turn.places == {flat.property_id}
    (second,) = turn.outgoing
    (counted,) = turns.turn([flat.answer(second)], now=NOW, is_paid=True).outcomes
    assert counted.answer is not None and counted.answer.credit_micro == 7 * EUR
    # What no payment tells of is found when all wallets of a property are looked at.
    flat.book_money(1 * EUR)
    assert flat.due() == [8 * EUR]
    # A clock that is off refuses all of it, at once: it is not told faster and faster.
    flat.device.faults["clock_drift"] = 3_600
    outgoing = turns.turn([], now=NOW, is_paid=True).outgoing
    for _ in range(3):
        (sent,) = outgoing
        turn = turns.turn([flat.answer(sent)], now=NOW, is_paid=True)
        assert turn.outcomes[0].answer is not None
        assert turn.outcomes[0].answer.result is Result.EXPIRED
        outgoing = turn.outgoing
    assert outgoing == [] and flat.due() == []
    later = NOW + timedelta(minutes=5)
    assert len(flat.wallets.due(property_ids=None, now=later)) == 1
    assert len(turns.turn([], now=later, is_paid=True).outgoing) == 1

    def no_key(_: object) -> SignerSeal:
        raise NoSigningKey("none")

    with pytest.raises(NoSigningKey):
        InstructionTurns(HEAD_END, InstructionBook(HEAD_END, seal=no_key)).turn(
            [], now=NOW, is_paid=True
        )


def open_alerts() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT code FROM alert WHERE closed_at IS NULL")
        return [row[0] for row in cursor.fetchall()]


@pytest.mark.usefixtures("database")
def test_money_reaches_the_meter_once_and_a_meter_that_differs_is_a_case() -> None:
    flat = Flat()
    flat.book_money(5 * EUR)
    begin = {"actor": flat.admin, "property_id": flat.property_id, "now": NOW}
    with pytest.raises(WalletRefused):
        hold_credit(**begin, meter_id=flat.meter + 1, account_id=flat.account)
    protect = "UPDATE supply_state SET protection = %s WHERE account_id = %s"
    with connection.cursor() as cursor:
        cursor.execute(protect, ["medical", flat.account])
        assert cursor.rowcount == 1
    with pytest.raises(WalletRefused, match="protected"):
        hold_credit(**begin, meter_id=flat.meter, account_id=flat.account)
    with connection.cursor() as cursor:
        cursor.execute(protect, ["", flat.account])
    hold_credit(**begin, meter_id=flat.meter, account_id=flat.account)
    with pytest.raises(WalletRefused):
        hold_credit(**begin, meter_id=flat.meter, account_id=flat.account)
    assert flat.wallets.places() == {flat.property_id}
    wanted = flat.wallets.due(property_ids=[flat.property_id], now=NOW)
    assert [each.argument for each in wanted] == [5 * EUR]
    first = flat.tell(wanted)
    assert first.answer is not None and first.answer.balance_micro == 5 * EUR
    assert flat.due() == [], "it has signed for it"
    # Two payments and a day's usage posted: the meter counts usage itself.
    flat.book_money(2 * EUR)
    flat.book_money(3 * EUR)
    flat.book_money(-1 * EUR, TransferKind.USAGE)
    assert flat.due() == [10 * EUR]
    flat.tell(flat.wallets.due(property_ids=None, now=NOW))
    # What is taken back cannot be taken from a meter: it is told less of what comes next.
    flat.book_money(-4 * EUR)
    assert flat.due() == []
    flat.book_money(6 * EUR)
    assert flat.due() == [12 * EUR]
    later = NOW + timedelta(hours=21)
    (read,) = flat.wallets.silent(now=later)
    assert read.serial == "M000"
    last = flat.tell(flat.wallets.due(property_ids=None, now=NOW), at=later)
    assert last.answer is not None
    used = 12 * EUR - (last.answer.balance_micro or 0)
    assert 0 < used < 12 * EUR
    # The ledger: 11 posted, less what it has charged since, by readings of about the same time.
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE account_state SET accrued_energy = %s, last_interval_at = %s",
            [used - 1 * EUR, later],
        )
    assert compare_balances(actor=CLERK, now=later) == 1
    assert compare_balances(actor=CLERK, now=later) == 0, "once a day"
    assert open_alerts() == []
    flat.tell(
        [Wanted(read.meter_id, read.property_id, "M000", read.operation)],
        at=later + timedelta(days=1),
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE account_state SET last_interval_at = %s", [later + timedelta(days=1)]
        )
    assert compare_balances(actor=CLERK, now=later + timedelta(days=1)) == 1
    assert open_alerts() == ["meter.balance_differs"], "a day of usage that the ledger never saw"
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE account_state SET accrued_energy = posted - (SELECT balance_micro FROM instruction_state)"
        )
    assert compare_balances(actor=CLERK, now=later + timedelta(days=3)) == 1
    assert open_alerts() == []


def command(deed: str, *more: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT code FROM property")
        ((code,),) = cursor.fetchall()
    parser = argparse.ArgumentParser()
    instruct_command.add_arguments(parser)
    return instruct_command.run(parser.parse_args([deed, "--property", code, "M000", *more]))


def wallets() -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT state, because, told_micro, end_balance_micro, end_register_wh FROM meter_wallet ORDER BY id"
        )
        return cursor.fetchall()


@pytest.mark.usefixtures("database")
def test_a_meter_that_is_released_ends_with_its_word_and_begins_again_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flat, later = Flat(), NOW + timedelta(hours=1)
    monkeypatch.setattr(instruct_command.wiring, "start_django", lambda: None)
    monkeypatch.setattr(instruct_command.wiring, "now", lambda: later)
    begin = {"actor": flat.admin, "property_id": flat.property_id, "meter_id": flat.meter}
    with pytest.raises(WalletRefused, match="holds no credit"):
        release_credit(**begin, now=NOW)
    # Owed before it holds credit: the meter gets no more than what is left of a payment.
    flat.book_money(-3 * EUR)
    hold_credit(**begin, account_id=flat.account, now=NOW)
    assert flat.due() == []
    flat.book_money(5 * EUR)
    assert flat.due() == [2 * EUR]
    flat.tell(flat.wallets.due(property_ids=None, now=NOW))
    left = flat.device.balance_micro(instant_us(later))
    assert left is not None and 0 < left < 2 * EUR
    with pytest.raises(WalletRefused, match="not told yet"):
        end_without_answer(**begin, note="gone", now=later)
    # Credit is on its way when it is released: the end goes first, and nothing is told after it.
    flat.book_money(1 * EUR)
    (credit,) = flat.book.issue(flat.wallets.due(property_ids=None, now=later), now=later)
    assert command("release-credit") == 0
    flat.book_money(7 * EUR)
    wanted = flat.wallets.due(property_ids=None, now=later)
    assert [each.operation for each in wanted] == [Operation.RELEASE]
    asked = flat.tell(wanted, at=later)
    assert asked.operation is Operation.READ, "first what it understands, beside the credit"
    ended = flat.tell(wanted, at=later)
    assert ended.answer is not None and ended.answer.result is Result.OK
    register_wh = flat.device.register_wh(instant_us(later))
    assert (ended.answer.balance_micro, ended.answer.register_wh) == (left, register_wh)
    assert wallets() == [(3, 4, 2 * EUR, left, register_wh)]
    assert flat.wallets.due(property_ids=None, now=later) == []
    assert flat.wallets.places() == frozenset()
    # The credit that was given up comes late: its number is behind. Nothing is counted or cut.
    late = flat.device.receive_instruction(credit.payload, instant_us(later))
    assert flat.device.balance_micro(instant_us(later)) is None
    payload = next(each for channel, each in late if channel is Uplink.SEALED)
    told = Told(flat.meter, flat.property_id, "M000", payload, later)
    assert flat.book.take([told], now=later)[0].worth is Worth.COUNTS
    flat.device.tick(instant_us(later + timedelta(days=30)))
    assert flat.device.relay == "closed"
    # Again, for whoever it is then: from what the meter ever had, with what there is and nothing of before.
    hold_credit(**begin, account_id=flat.account, now=later)
    (wish,) = flat.wallets.due(property_ids=None, now=later)
    assert (wish.operation, wish.argument) == (Operation.CREDIT, (2 + 10) * EUR)
    flat.tell([wish], at=later)
    assert flat.device.balance_micro(instant_us(later)) == 10 * EUR
    # Its supply is protected now: it is released without anybody's word, and a person ends what is not answered.
    with connection.cursor() as cursor:
        cursor.execute("UPDATE supply_state SET protection = 'medical'")
    (wish,) = flat.wallets.due(property_ids=[flat.property_id], now=later)
    assert wish.operation is Operation.RELEASE
    with pytest.raises(WalletRefused, match="say why"):
        end_without_answer(**begin, note=" ", now=later)
    assert command("release-credit", "--without-answer", "burnt") == 0
    assert [row[:3] for row in wallets()] == [(3, 4, 2 * EUR), (3, 3, 12 * EUR)]
    # It may count still: before it holds credit again it is told that it holds none.
    with connection.cursor() as cursor:
        cursor.execute("UPDATE supply_state SET protection = ''")
    hold_credit(**begin, account_id=flat.account, now=later)
    for operation in (Operation.RELEASE, Operation.CREDIT):
        (wish,) = flat.wallets.due(property_ids=None, now=later)
        assert wish.operation is operation
        flat.tell([wish], at=later)
    assert flat.device.balance_micro(instant_us(later)) == 10 * EUR
    # Each end has its event, also the one that the meter signed; an end past the program has none.
    with connection.cursor() as cursor:
        noted = "SELECT count(*) FROM unexplained_change WHERE table_name = 'meter_wallet'"
        cursor.execute(noted)
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT actor FROM audit_event WHERE code = 'instructions.wallet.signed'")
        assert cursor.fetchall() == [("system:head_end",)]
        cursor.execute(
            "UPDATE meter_wallet SET state = 2, because = 1, release_at = now(), release_by = 'user:1' WHERE state = 1"
        )
        cursor.execute(noted)
        assert cursor.fetchone() == (1,)


@pytest.mark.usefixtures("database")
def test_what_a_meter_had_before_is_not_of_whoever_holds_credit_in_it_next() -> None:
    flat = Flat()
    begin = {"actor": flat.admin, "property_id": flat.property_id, "meter_id": flat.meter}
    hold_credit(**begin, account_id=flat.account, now=NOW)
    flat.book_money(7 * EUR)
    # Its credit arrives and is used up, and nobody hears of it: it is given up for lost.
    (lost,) = flat.book.issue(flat.wallets.due(property_ids=None, now=NOW), now=NOW)
    flat.answer(lost)
    release_credit(**begin, now=NOW)
    end_without_answer(**begin, note="lost", now=NOW)
    later = NOW + timedelta(days=60)
    used = flat.device.balance_micro(instant_us(later))
    assert used is not None and used <= 0
    flat.book_money(13 * EUR)
    hold_credit(**begin, account_id=flat.account, now=later)
    flat.book.expire(now=later)
    told = []
    while wanted := flat.wallets.due(property_ids=None, now=later):
        told.append(flat.tell(wanted, at=later).operation)
        assert len(told) < 9
    assert told[-2:] == [Operation.RELEASE, Operation.CREDIT]
    assert flat.device.balance_micro(instant_us(later)) == 20 * EUR
    # One that comes from elsewhere, having had more credit than it is to be told, is begun from that.
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE meter_wallet SET told_micro = 5, base_micro = 5, total_micro = 20000005, credit_micro = 20000005,
                   since = %s WHERE state = 1""",
            [later + timedelta(seconds=1)],
        )
        cursor.execute("UPDATE instruction_state SET credit_micro = 5, balance_micro = NULL")
    much_later = later + timedelta(hours=1)
    for operation in (Operation.CREDIT, Operation.RELEASE, Operation.CREDIT):
        (wish,) = flat.wallets.due(property_ids=None, now=much_later)
        assert wish.operation is operation
        flat.tell([wish], at=much_later)
    assert flat.device.balance_micro(instant_us(much_later)) == 20 * EUR
    # What else a meter may cut by: no limit is wished or kept of a supply that is protected, whenever that came.
    wishes = Wishes(HEAD_END, seal=lambda _: OURS)
    for told_first in (True, False):
        with connection.cursor() as cursor:
            cursor.execute("UPDATE supply_state SET protection = ''")
        set_limit(**begin, watts=100 + told_first, open_s=60, now=NOW)
        if told_first:
            (wish,) = wishes.due(now=much_later)
            assert (wish.operation, wish.argument) == (Operation.LIMIT, 101)
            flat.tell([wish], at=much_later)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE supply_state SET protection = 'medical'")
        (wish,) = wishes.due(now=much_later)
        assert (wish.operation, wish.argument) == (Operation.LIMIT, 0)
        flat.tell([wish], at=much_later)
        assert flat.device.instructed.limit_w == 0 and wishes.due(now=much_later) == []
    # One that says that it did as it was told, and does not, has a rest from it.
    with connection.cursor() as cursor:
        cursor.execute("UPDATE supply_state SET protection = ''")
    set_limit(**begin, watts=100, open_s=60, now=NOW)
    for _ in range(8):
        for wish in wishes.due(now=much_later):
            flat.tell([wish], at=much_later)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE instruction_state SET next_limit_w = 100, next_limit_s = 61")
    assert wishes.due(now=much_later) == []
    assert len(wishes.due(now=much_later + timedelta(minutes=5))) == 1
    # With the first form alone it could never be told that what it counts has ended: nobody's credit waits for that.
    with connection.cursor() as cursor:
        cursor.execute("UPDATE instruction_state SET understands = 7")
        cursor.execute("UPDATE meter_wallet SET told_micro = base_micro WHERE state = 1")
        cursor.execute("SELECT count(*) FROM instruction_state WHERE balance_micro IS NOT NULL")
        assert cursor.fetchone() == (1,)
    assert tell_of_unanswered(actor=CLERK, now=much_later) == 1
    release_credit(**begin, now=much_later)
    end_without_answer(**begin, note="old firmware", now=much_later)
    with pytest.raises(WalletRefused, match="counts credit of before"):
        hold_credit(**begin, account_id=flat.account, now=much_later)
    assert tell_of_unanswered(actor=CLERK, now=much_later) == 0
