"""The measurement of cuts and recharges: what it does to a property, and what its figures mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from django.db import connection
from tests.supply.world import CLERK, EUR, NOW, World, run_sql

from prewatt import wiring
from prewatt.access.models import Duty, DutyGrant, User
from prewatt.benchmarks import command, running_demo
from prewatt.benchmarks import supply as bench
from prewatt.benchmarks.figures import Latencies
from prewatt.benchmarks.running_demo import RunningDemo
from prewatt.benchmarks.supply import SupplyFigures, last_gate, measure
from prewatt.core.vocabulary import OrderKind, Outcome, RelayState
from prewatt.hes.commands import ReadBack
from prewatt.runtime.state import CannotRunError
from prewatt.supply.orders import OrderBook

FREE = {"cuts_max": 100, "share_bp": 10_000}
STEP = timedelta(milliseconds=10)


class Life:
    """Stands for meters, head-end and worker while the measurement waits, on a clock of its own."""

    def __init__(self, accounts: int, owner_dsn: str, **policy: Any) -> None:
        self.owner_dsn = owner_dsn
        self.world = World(accounts, **policy)
        self.world.read(20 * EUR)
        self.property_id = self.world.property_id
        self.story = frozenset({"M999"})
        self.now = NOW
        self.loads: dict[str, int] = {}
        self.book = OrderBook(CLERK)
        self.stuck = False
        user = User.objects.create_user(email="admin@fernmoor.example", name="T", password="x")
        DutyGrant.objects.create(
            user=user, property_id=self.property_id, duty=Duty.ADMINISTRATOR, granted_at=NOW
        )

    def switch(self, serials: Sequence[str], fault: str, value: int) -> None:
        assert fault == "heater"
        self.loads.update(dict.fromkeys(serials, value))

    def clock(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        """The load uses up what little is left; warnings arrive, orders are sent and read back."""
        self.now += timedelta(seconds=seconds)
        run_sql("UPDATE meter_link SET last_seen_at = %s", self.now)
        self._use_up()
        self.now += STEP
        self.world.deliver(now=self.now)
        self.now += STEP
        self.world.reconsider(now=self.now)
        self.now += STEP
        due = self.book.due(now=self.now, limit=100)
        if self.stuck:
            return
        self.book.mark_sent(order_ids=[each.order_id for each in due], now=self.now)
        self.now += STEP
        states = {OrderKind.CONNECT: RelayState.CLOSED, OrderKind.DISCONNECT: RelayState.OPEN}
        for each in due:
            self.world.relay(states[each.kind], meter=self.world.meter_ids.index(each.meter_id))
        read = [
            ReadBack(d.order_id, d.attempts + 1, d.meter_id, states[d.kind], self.now) for d in due
        ]
        self.book.mark_read_back(read_backs=read, now=self.now)

    def _use_up(self) -> None:
        loaded = [serial for serial, watts in self.loads.items() if watts]
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT a.account_id FROM meter_assignment a JOIN meter m ON m.id = a.meter_id
                   JOIN account_state s USING (account_id) JOIN meter_link l USING (meter_id)
                   WHERE m.serial = ANY(%s) AND s.available < %s AND l.relay = 1""",
                [loaded, bench.LEFT_MICRO * 2],
            )
            empty = [row[0] for row in cursor.fetchall()]
        if empty:
            self.world.read(-1_000, now=self.now, accounts=empty)


@pytest.fixture
def life(database: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Life:
    accounts, brake = getattr(request, "param", (4, FREE))
    made = Life(accounts, database, brake=brake)
    monkeypatch.setattr(wiring, "now", made.clock)
    monkeypatch.setattr(bench, "sleep", made.sleep)
    monkeypatch.setattr(bench, "monotonic", lambda: made.now.timestamp())  # noqa: PLW0108 - it moves
    return made


def run(life: Life, cuts: int, accounts: int, said: list[str] | None = None) -> SupplyFigures:
    tell = (said if said is not None else []).append
    return measure(cast(RunningDemo, life), cuts=cuts, accounts=accounts, tell=tell)


def one(statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def test_each_cut_and_each_recharge_is_timed_by_the_instants_that_are_kept(life: Life) -> None:
    figures = run(life, cuts=6, accounts=4)
    # Delivered, a step, decided, a step, sent, a step, read back.
    assert figures.gate_to_open == Latencies(6, 30.0, 30.0, 30.0, 30.0, 30.0)
    assert figures.decided_to_open == Latencies(6, 20.0, 20.0, 20.0, 20.0, 20.0)
    assert dict(figures.last_gates) == {"warning_delivered": 6}
    assert figures.recharge_to_closed.count == 6
    # Recharged, a break to the next one, then three steps until it is sent and read back.
    assert figures.recharge_to_closed.max == 240.0
    assert one("SELECT count(*) FROM payment WHERE way = 'cash' AND taken_by LIKE 'user:%'") == 6


def test_nothing_is_left_behind_but_the_recharges(life: Life) -> None:
    run(life, cuts=3, accounts=2)
    assert set(life.loads.values()) == {0}
    assert one("SELECT sum(amount) FROM transfer WHERE reason = 'bench.supply'") == 0
    assert one("SELECT count(*) FROM transfer WHERE reason = 'bench.supply'") == 4
    assert one("SELECT count(*) FROM meter_link WHERE relay <> 1") == 0
    assert one("SELECT max(amount_micro) FROM payment") <= EUR // 10


def test_what_was_taken_is_put_back_even_if_an_order_stays_open(life: Life) -> None:
    life.stuck = True
    with pytest.raises(CannotRunError, match="0 of 2 disconnect orders"):
        run(life, cuts=2, accounts=2)
    assert set(life.loads.values()) == {0}
    assert one("SELECT sum(amount) FROM transfer WHERE reason = 'bench.supply'") == 0


@pytest.mark.parametrize("life", [(4, {"cuts_max": 4, "share_bp": 10_000})], indirect=True)
def test_the_brake_is_respected_and_never_put_on(life: Life) -> None:
    said: list[str] = []
    run(life, cuts=5, accounts=4, said=said)
    cuts = [each["decided_at"] for each in life.world.decisions() if each["outcome"] == Outcome.CUT]
    assert len(cuts) == 5
    # Two of the four that it lets pass are left to the demo's own story.
    for first, third in zip(cuts, cuts[2:], strict=False):
        assert third - first >= timedelta(minutes=15)
    assert any("waiting" in line for line in said)
    assert one("SELECT count(*) FROM supply_policy WHERE brake_since IS NOT NULL") == 0


def test_what_cannot_be_measured_is_refused(life: Life) -> None:
    with pytest.raises(CannotRunError, match="only 4 accounts"):
        run(life, cuts=9, accounts=5)
    with pytest.raises(CannotRunError, match="nothing to measure"):
        run(life, cuts=0, accounts=1)
    life.now = NOW + timedelta(hours=9)
    run_sql("UPDATE meter_link SET last_seen_at = %s", life.now)
    with pytest.raises(CannotRunError, match="nobody may be cut"):
        run(life, cuts=1, accounts=1)
    life.now = NOW
    run_sql("UPDATE supply_policy SET brake_since = %s", NOW)
    with pytest.raises(CannotRunError, match="the mass-cut brake is on"):
        run(life, cuts=1, accounts=1)


def test_without_a_running_demo_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match="no demo runs on"):
        running_demo.join(tmp_path)


def gates(
    reading_us: int, delivered_us: int | None, hold_us: int | None, notice_s: int = 0
) -> list[dict[str, Any]]:
    warned = {"delivered_at_us": delivered_us, "notice_s": notice_s}
    return [
        {"gate": "reading_fresh", "figures": {"reading_at_us": reading_us}},
        {"gate": "warning_delivered", "figures": warned},
        {"gate": "no_payment_in_flight", "figures": {"payment_hold_until_us": hold_us}},
    ]


def test_the_last_gate_is_the_one_that_opened_last() -> None:
    assert last_gate(gates(5_000_000, 4_000_000, None))[0] == "balance_exhausted"
    assert last_gate(gates(5_000_000, 6_000_000, None))[0] == "warning_delivered"
    gate, at = last_gate(gates(5_000_000, 4_000_000, None, notice_s=30))
    assert (gate, at.timestamp()) == ("warning_delivered", 34.0)
    gate, at = last_gate(gates(5_000_000, None, 7_000_000))
    assert (gate, at.timestamp()) == ("no_payment_in_flight", 7.0)


def test_percentiles_are_waits_that_happened() -> None:
    waits = [timedelta(milliseconds=each) for each in (7, *range(1, 100))]
    assert Latencies.of(waits) == Latencies(100, 7.0, 49.0, 94.0, 98.0, 99.0)
    assert Latencies.of(waits[:1]) == Latencies(1, 7.0, 7.0, 7.0, 7.0, 7.0)
    with pytest.raises(ValueError, match="nothing was measured"):
        Latencies.of([])


def test_the_command_prints_a_table_or_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one_wait = Latencies.of([timedelta(milliseconds=12)])
    figures = SupplyFigures(one_wait, one_wait, one_wait, {"warning_delivered": 1})
    monkeypatch.setattr(running_demo, "join", lambda _folder: None)
    monkeypatch.setattr(bench, "measure", lambda *_args, **_options: figures)
    for form in ("text", "json"):
        parser = command.argparse.ArgumentParser()
        command.add_arguments(parser)
        assert command.run(parser.parse_args(["supply", "--format", form])) == 0
    text, _, data = capsys.readouterr().out.rpartition("\n{")
    assert "last gate open → relay read back open" in text
    answer = json.loads("{" + data)
    assert answer["gate_to_open"]["p95"] == 12.0 and answer["last_gates"] == {
        "warning_delivered": 1
    }
