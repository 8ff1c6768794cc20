"""Any order of payments, usage, moves, releases and lost messages: a meter supplies nobody for credit that is not theirs."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import timedelta
from random import Random

import pytest
from django.db import connection
from tests.cases import cases
from tests.instructions.test_wallets import Flat
from tests.supply.world import EUR, NOW

from prewatt.core.civil_time import instant_us
from prewatt.hes.drivers.mqtt_senml.topics import Uplink
from prewatt.instructions.operations import Outgoing, Told
from prewatt.instructions.wallets import (
    WalletRefused,
    end_without_answer,
    hold_credit,
    release_credit,
)

#: What may be used between the look that an instruction is signed by and the meter's doing it.
NEAR = EUR // 4
PRICE_MICRO_PER_WH = 300


class Walk:
    """A meter that two accounts pay by in turn, with a line that loses, delays and repeats."""

    def __init__(self, seed: str) -> None:
        self.random = Random(seed)
        self.flat = Flat(2)
        self.device = self.flat.device
        self.now = NOW
        self.payer, self.other = self.flat.account_ids
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM meter_assignment WHERE account_id = %s", [self.other])
        self.register_wh = self.device.register_wh(instant_us(NOW))
        self.to_meter: list[Outgoing] = []
        self.to_us: list[Told] = []
        # Of the credit held now, by an account of its own: what was there, paid in, and taken back since.
        self.holder: int | None = None
        self.may_have = self.taken_back = 0

    def on(self) -> dict[str, object]:
        flat = self.flat
        return {"actor": flat.admin, "property_id": flat.property_id, "meter_id": flat.meter, "now": self.now}  # fmt: skip

    # --- what happens ---

    def step(self) -> None:
        deeds = (
            (self.pay, 4), (self.take_back, 2), (self.wait, 6), (self.tell, 8), (self.reach, 8),
            (self.hear, 8), (self.hold, 5), (self.release, 1), (self.move, 1), (self.protect, 1),
            (self.give_up, 1),
        )  # fmt: skip
        self.random.choices([deed for deed, _ in deeds], [weight for _, weight in deeds])[0]()

    def pay(self) -> None:
        self.book(self.payer, self.random.randrange(1, 12) * EUR)

    def take_back(self) -> None:
        self.book(self.payer, -self.random.randrange(1, 6) * EUR)

    def book(self, account: int, amount: int) -> None:
        flat, kept = self.flat, self.flat.account
        flat.account = account
        flat.book_money(amount)
        flat.account = kept
        if account == self.holder:
            self.may_have += max(0, amount)
            self.taken_back += max(0, -amount)

    def wait(self) -> None:
        """Time passes, the meter counts, and what it counts is charged to whoever pays."""
        minutes = self.random.choices((2, 20, 180), (8, 1, 1))[0]
        self.now += timedelta(minutes=minutes)
        at_us = instant_us(self.now)
        self.device.tick(at_us)
        register_wh = self.device.register_wh(at_us)
        used, self.register_wh = register_wh - self.register_wh, register_wh
        with connection.cursor() as cursor:
            cursor.execute(
                """UPDATE account_state SET accrued_energy = accrued_energy + %s, last_interval_at = %s
                   WHERE account_id = %s""",
                [used * PRICE_MICRO_PER_WH, self.now, self.payer],
            )

    def tell(self) -> None:
        book = self.flat.book
        book.expire(now=self.now)
        wanted = self.flat.wallets.due(property_ids=None, now=self.now)
        self.to_meter += [
            *book.due(now=self.now, limit=9), *book.issue(wanted, now=self.now)
        ]  # fmt: skip

    def reach(self, *, surely: bool = False) -> None:
        """Something that was sent arrives, late or once more, or is lost; so does its answer."""
        if not self.to_meter:
            return
        sent = self.to_meter.pop(0 if surely else self.random.randrange(len(self.to_meter)))
        luck = 1.0 if surely else self.random.random()
        if luck < 0.2:
            return
        if luck < 0.35:
            self.to_meter.append(sent)
        flat = self.flat
        for channel, payload in self.device.receive_instruction(sent.payload, instant_us(self.now)):
            if channel is Uplink.SEALED and (surely or self.random.random() > 0.25):
                self.to_us.append(Told(flat.meter, flat.property_id, "M000", payload, self.now))

    def hear(self, *, surely: bool = False) -> None:
        if self.to_us:
            at = 0 if surely else self.random.randrange(len(self.to_us))
            self.flat.book.take([self.to_us.pop(at)], now=self.now)

    def hold(self) -> None:
        available = self.available(self.payer)
        with suppress(WalletRefused):
            hold_credit(**self.on(), account_id=self.payer)
            self.holder, self.may_have, self.taken_back = self.payer, max(0, available), max(0, -available)  # fmt: skip

    def release(self) -> None:
        with suppress(WalletRefused):
            release_credit(**self.on())

    def give_up(self) -> None:
        """Seldom: a meter that is given up for lost, and is not."""
        if self.random.random() < 0.3:
            with suppress(WalletRefused):
                end_without_answer(**self.on(), note="lost")

    def protect(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE supply_state SET protection = %s",
                ["medical" if self.random.random() < 0.25 else ""],
            )

    def move(self) -> None:
        flat = self.flat
        with connection.cursor() as cursor:
            cursor.execute(
                """UPDATE meter_assignment SET period = tstzrange(lower(period), %s), end_value_wh = %s
                   WHERE meter_id = %s AND upper_inf(period) AND lower(period) < %s""",
                [self.now, self.register_wh, flat.meter, self.now],
            )
            if not cursor.rowcount:
                return
            cursor.execute(
                """INSERT INTO meter_assignment (property_id, meter_id, account_id, period, start_value_wh)
                   VALUES (%s, %s, %s, tstzrange(%s, NULL), %s)""",
                [flat.property_id, flat.meter, self.other, self.now, self.register_wh],
            )
        self.payer, self.other = self.other, self.payer

    # --- what holds ---

    def rows(self, statement: str) -> list[tuple[int, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def available(self, account: int) -> int:
        return self.rows(f"SELECT available FROM account_state WHERE account_id = {account}")[0][0]

    def check(self) -> None:
        live = self.rows(
            "SELECT state, account_id, base_micro, told_micro FROM meter_wallet WHERE state < 3"
        )
        balance = self.device.balance_micro(instant_us(self.now))
        given = self.device.instructed.credit_micro
        if [row[:2] for row in live] == [(1, self.holder)]:
            _, _, base, told = live[0]
            # No credit that was not there or paid in, and none of it twice, on top of what the meter had before; of that one
            # that was given up for lost may have more than is known until it answers.
            assert given - base <= self.may_have + NEAR or (told == base and self.is_doubtful())
            began = given > base and not self.is_doubtful()
            if balance is not None and began and self.payer == self.holder:
                owed = max(0, self.available(self.payer)) + self.taken_back
                assert balance <= owed + NEAR
        # Nothing is told as credit after its end was told, until credit begins anew.
        for at, ended in self.rows(
            """SELECT w.id, i.sequence FROM meter_wallet w JOIN instruction i ON i.meter_id = w.meter_id
               WHERE w.state > 1 AND i.operation = 2 AND i.issued_at > w.release_at
                 AND NOT EXISTS (SELECT FROM meter_wallet n WHERE n.id > w.id AND n.since <= i.issued_at)"""
        ):
            raise AssertionError(f"wallet {at} was told of credit by {ended} after its end")
        signed = self.rows(
            """SELECT count(*) FROM meter_wallet WHERE state = 3 AND end_sequence IS NULL"""
        )
        if not live and signed == [(0,)]:
            assert balance is None, "by its own word it holds none"

    def is_doubtful(self) -> bool:
        """Whether a meter that was given up for lost may count still for whom it held credit before."""
        return bool(
            self.rows("SELECT 1 FROM meter_wallet WHERE state = 3 AND end_sequence IS NULL")
        )

    def settle(self) -> None:
        """The line is good for an hour: everything that is to be said is said."""
        self.to_meter, self.to_us = [], []
        for _ in range(12):
            self.now += timedelta(minutes=5)
            self.device.tick(instant_us(self.now))
            self.tell()
            while self.to_meter or self.to_us:
                self.reach(surely=True)
                self.hear(surely=True)
        self.wait()


@pytest.mark.usefixtures("database")
def test_in_any_order_a_meter_has_no_credit_that_the_ledger_has_not() -> None:
    seed = os.environ.get("PREWATT_WALK_SEED") or str(Random().random())
    print(f"PREWATT_WALK_SEED={seed}")
    walk = Walk(seed)
    for _ in range(cases(400)):
        walk.step()
        walk.check()
    walk.settle()
    walk.check()
    assert walk.rows("SELECT count(*) FROM meter_wallet WHERE state = 2") == [(0,)]
    held = walk.rows(
        "SELECT total_micro - told_micro, told_micro > base_micro FROM meter_wallet WHERE state = 1"
    )
    if held and held[0][1]:
        balance = walk.device.balance_micro(instant_us(walk.now))
        assert balance is not None
        assert abs(balance - (walk.available(walk.payer) - held[0][0])) <= EUR
    # What was tried, for who looks: by operation and result, and how wallets ended.
    print(
        walk.rows(
            "SELECT operation, state, result, count(*) FROM instruction GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
    )
    print(
        walk.rows(
            "SELECT state, because, end_sequence IS NULL, count(*) FROM meter_wallet GROUP BY 1, 2, 3"
        )
    )
