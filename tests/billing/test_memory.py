"""What ingest remembers is never believed: with any memory, the books are those of no memory at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from django.db import connection, transaction
from tests.invariants.places import NOW, World, at, one, pay, place, post, rows, send

import prewatt.billing.accounts as accounts
import prewatt.billing.ingestion as ingestion
import prewatt.moves.operations as moves
from prewatt.billing.accounts import load_accounts
from prewatt.billing.memory import _ACCOUNT, _METER, _USAGE, _WATERMARK, Memory
from prewatt.billing.operations import advance_epoch
from prewatt.billing.tariffs import TariffBook
from prewatt.core.vee import Verdict
from prewatt.estate.operations import RegisterValue
from prewatt.reports.books import check_books

pytestmark = pytest.mark.usefixtures("database")

WEEK = [("M-101", at(n / 4), 1_000 + 130 * n) for n in range(1, 60)]


class Reader:
    """A process with a memory; counts how many of its batches were read from the rows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.book, self.memory, self.read, self._sends = TariffBook(), Memory(), 0, False
        real = ingestion.lock_states

        def counted(meter_id: Any) -> Any:
            self.read += self._sends
            return real(meter_id)

        monkeypatch.setattr(ingestion, "lock_states", counted)

    def send(self, here: World, *readings: tuple[str, Any, int]) -> list[Verdict]:
        self._sends = True
        verdicts = send(here, readings, book=self.book, memory=self.memory)
        self._sends = False
        return verdicts


def books(here: World) -> list[Any]:
    """Everything that a batch leaves behind."""
    with connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id]) == []
    account = here.accounts["1001"]
    return [
        rows(
            """SELECT start_at, revision, segment, interval_no, from_at, to_at, start_value_wh,
                   end_value_wh, energy_wh, quality, band, step, price_nano, charge_energy
               FROM interval WHERE account_id = %s ORDER BY interval_no""",
            account,
        ),
        rows(
            """SELECT accrued_energy, carry_energy, interval_no, step_wh, last_interval_at
               FROM account_state WHERE account_id = %s""",
            account,
        ),
        rows(
            "SELECT last_at, last_value_wh, ahead_uj FROM meter_state WHERE account_id = %s",
            account,
        ),
    ]


def test_what_simply_follows_is_read_once_and_then_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = place(), place()
    reader = Reader(monkeypatch)
    for each in range(0, len(WEEK), 7):
        assert set(reader.send(here, *WEEK[each : each + 7])) == {Verdict.ACCEPTED}
    assert reader.read == 1
    for each in range(0, len(WEEK), 7):
        send(there, WEEK[each : each + 7])
    assert books(here) == books(there)


def test_irregular_readings_are_read_from_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    here = place()
    reader = Reader(monkeypatch)
    reader.send(here, *WEEK[:4])
    assert reader.send(here, WEEK[2], WEEK[4]) == [Verdict.DUPLICATE, Verdict.ACCEPTED]
    assert reader.send(here, ("M-101", at(2), 10)) == [Verdict.BACKWARDS]
    reader.send(here, WEEK[8])
    assert reader.send(here, WEEK[6]) == [Verdict.BACKFILL]
    assert reader.read == 4
    assert reader.send(here, *WEEK[9:12]) == [Verdict.ACCEPTED] * 3
    assert len(books(here)[0]) >= 9


def _pays(here: World) -> None:
    pay(here, "money")


def _posts(here: World) -> None:
    post(here, until=NOW)


def _another_process(here: World) -> None:
    send(here, [("M-101", at(3) - timedelta(minutes=1), 2_000)])


def _new_prices(here: World) -> None:
    advance_epoch(here.property_id)


def _moves_out(here: World) -> None:
    moves.move_out(
        actor=here.administrator, unit_id=here.units["101"],
        closing=[RegisterValue(here.meters["M-101"], 2_430)], at=at(2.9), key=f"out-{here.property_id}", now=NOW,
    )  # fmt: skip


@pytest.mark.parametrize("meanwhile", [_pays, _posts, _another_process, _new_prices, _moves_out])
def test_whatever_happens_meanwhile_comes_out_as_without_a_memory(
    monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[World], None]
) -> None:
    here, there = place(), place()
    reader = Reader(monkeypatch)
    reader.send(here, *WEEK[:11])
    send(there, WEEK[:11])
    for where in (here, there):
        meanwhile(where)
    verdicts = reader.send(here, *WEEK[11:20])
    assert verdicts == send(there, WEEK[11:20])
    assert reader.send(here, *WEEK[20:30]) == send(there, WEEK[20:30])
    assert books(here) == books(there)


def test_an_old_meter_of_an_account_that_is_known_anew_meets_what_others_wrote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its account proves right, its intervals are there already, and only then its watermark is wrong."""
    here, there = place(), place()
    reader = Reader(monkeypatch)
    reader.send(here, *WEEK[:11])
    send(there, WEEK[:11])
    for where in (here, there):
        send(where, WEEK[11:14])
    counts = reader.memory._counts
    reader.memory.remember_accounts(load_accounts(np.array([here.accounts["1001"]]), counts))
    assert reader.send(here, *WEEK[14:20]) == send(there, WEEK[14:20])
    assert reader.read == 2
    assert books(here) == books(there)


def test_a_meter_that_several_accounts_pay_by_is_not_remembered_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = place()
    reader = Reader(monkeypatch)
    reader.send(here, *WEEK[:11])
    meter = np.array([here.meters["M-101"]])
    assert reader.memory.recall(meter) is not None
    _moves_out(here)
    reader.send(here, WEEK[15])
    assert reader.memory.recall(meter) is None


def test_no_number_in_memory_can_be_wrong_and_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each remembered number is bent in turn: the next batch is what it is without a memory."""
    here, there = place(), place()
    reader = Reader(monkeypatch)
    reader.send(here, WEEK[0])
    send(there, WEEK[:1])
    meters = [("_meters", name) for name in (*_METER, *_WATERMARK)]
    accounts = [("_accounts", name) for name in (*_ACCOUNT, *_USAGE)]
    for number, (table, name) in enumerate(meters + accounts, 1):
        column = number - 1 if table == "_meters" else number - 1 - len(meters)
        # In the rows the period is in whole seconds.
        getattr(reader.memory, table)._table[:, column] += 1 if name != "period_us" else 1_000_000
        before = reader.read
        assert reader.send(here, WEEK[number]) == [Verdict.ACCEPTED]
        # The last interval's instant is only ever raised, in PostgreSQL itself.
        assert reader.read - before == (name != "last_interval_at_us"), name
        send(there, WEEK[number : number + 1])
        assert books(here) == books(there), name


@pytest.mark.parametrize("batch", [1, 50, 150])
def test_a_meter_that_runs_ahead_of_full_power_is_held_wherever_batches_are_cut(
    monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """7 Wh a second are 25.2 kW of 25: a second of it and a count are used up after 143 seconds."""
    here, there = place(), place()
    reader = Reader(monkeypatch)
    seconds = [("M-101", at(3) + timedelta(seconds=n), 2_000 + 7 * n) for n in range(151)]
    verdicts = reader.send(here, seconds[0])
    for begin in range(1, 151, batch):
        verdicts += reader.send(here, *seconds[begin : begin + batch])
    assert verdicts[:144] == [Verdict.ACCEPTED] * 144
    assert verdicts[144:] == [Verdict.IMPLAUSIBLE] * 7
    # What is regular was rated from memory: all but the first batch and those in which something is held.
    assert reader.read == 1 + (7 if batch == 1 else 1)
    send(there, seconds)
    assert books(here) == books(there)
    ((*_, ahead_uj),) = books(here)[2]
    assert 0 < ahead_uj <= (25_000 + 3_600) * 10**6
    # At half of it the meter has caught up within the hour.
    calm = at(3) + timedelta(hours=1)
    assert reader.send(here, ("M-101", calm, 14_000)) == [Verdict.ACCEPTED]
    assert [each[2] for each in books(here)[2]] == [0]


def test_a_batch_rolled_back_outside_leaves_a_memory_that_does_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = place(), place()
    reader = Reader(monkeypatch)
    reader.send(here, *WEEK[:5])
    with transaction.atomic():
        reader.send(here, *WEEK[5:9])
        transaction.set_rollback(True)
    reader.send(here, *WEEK[5:9])
    for each in (WEEK[:5], WEEK[5:9]):
        send(there, each)
    assert books(here) == books(there)
    assert one("SELECT count(*) FROM vee_case") == 0


def test_what_simply_follows_is_five_round_trips(tmp_path: Path) -> None:
    """The begin, everything that is moved and proved, two COPYs and the commit."""
    here = place()
    book, memory = TariffBook(), Memory()
    send(here, WEEK[:3], book=book, memory=memory)
    driver = connection.connection
    with (tmp_path / "said").open("w+b") as said:
        driver.pgconn.trace(said.fileno())
        try:
            assert send(here, WEEK[3:6], book=book, memory=memory) == [Verdict.ACCEPTED] * 3
        finally:
            driver.pgconn.untrace()
        said.seek(0)
        text = said.read().decode()
    waits = [each for each in text.splitlines() if "\tSync" in each or "\tQuery\t" in each]
    assert len(waits) == 5, waits
    assert "SAVEPOINT" not in text
    # The epochs are read once, after the UPDATE that locks the accounts.
    assert text.count("FROM tariff_epoch") == 1
    moves = ("UPDATE account_state", "UPDATE meter_state", "FROM tariff_epoch")
    assert sorted(moves, key=text.index) == list(moves)


def test_prices_that_change_while_a_batch_waits_for_its_accounts_are_seen(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = place(), place()
    reader = Reader(monkeypatch)
    reader.send(here, *WEEK[:3])
    send(there, WEEK[:3])
    lock = "SELECT FROM account_state WHERE property_id = %s FOR UPDATE"
    waiting = (
        "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'account_state'"
    )
    with psycopg.connect(database) as other, ThreadPoolExecutor() as pool:
        other.execute(lock, [here.property_id])

        def changes_prices() -> None:
            until = time.monotonic() + 30
            with psycopg.connect(database, autocommit=True) as watch:
                while not watch.execute(waiting).fetchall() and time.monotonic() < until:
                    time.sleep(0.01)
            change = "UPDATE tariff_epoch SET epoch = epoch + 1 WHERE property_id = %s"
            other.execute(change, [here.property_id])
            other.commit()

        done = pool.submit(changes_prices)
        before = reader.read
        assert reader.send(here, *WEEK[3:6]) == send(there, WEEK[3:6])
        done.result()
    assert reader.read == before + 1
    assert books(here) == books(there)


def test_the_rows_are_looked_up_one_by_one_in_the_order_of_the_array() -> None:
    """Also where every condition looks rare: the other way round takes the square of the accounts,
    and locks them in the order of the table.
    """
    rare = [f"s.{name} = 0" for name in ("posting_no", "carry_tax", "carry_fee", "step_window")]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO account_state (account_id, property_id, legal_entity_id, updated_at,
                   posting_no, carry_tax, carry_fee, step_window)
               SELECT 1000000 + n, 1, 1, now(), n, n, n, n FROM generate_series(1, 10000) AS n"""
        )
        cursor.execute("ANALYZE account_state")
        cursor.execute(accounts.JOIN_IN_ORDER)
        cursor.execute(
            f"""EXPLAIN (COSTS OFF) UPDATE account_state s SET posted = 0
                FROM unnest(%s::bigint[], %s::bigint[]) AS v(account_id, old)
                WHERE s.account_id = v.account_id
                  AND {accounts.all_of([*rare, "s.posted = v.old"])}""",
            [list(range(1_002_501)[-2_500:]), [0] * 2_500],
        )
        plan = "\n".join(each[0] for each in cursor.fetchall())
        transaction.set_rollback(True)
    assert "Index Cond: (account_id = v.account_id)" in plan, plan
