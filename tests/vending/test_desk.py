"""The desk: callers share commits, and each of them keeps their own rights, answer and failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError
from tests.conftest import role_dsn
from tests.invariants.places import NOW, World, one, place, rows, signed_in, wish

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused
from prewatt.reports.books import check_books
from prewatt.vending import desk as desk_module
from prewatt.vending import sets
from prewatt.vending.desk import Desk, DeskClosed
from prewatt.vending.operations import recharge_together
from prewatt.vending.words import Answer, Ask, Recharge, Recharged, RechargeRefused


@contextmanager
def opened(**how: Any) -> Iterator[Desk]:
    """A desk that is open for a while."""
    desk = Desk(**({"lanes": 2} | how))
    desk.start()
    try:
        yield desk
    finally:
        desk.stop()


@pytest.fixture
def web(database: str) -> str:
    """Places are made by the owner, then everything runs under the web's login: the owner's DSN."""
    return database


def ask_all(desk: Desk, asks: Sequence[tuple[Actor, Recharge]]) -> list[Answer | BaseException]:
    """Everybody at once; what somebody was told, or what was raised for them, in order."""
    told: list[Answer | BaseException] = [AssertionError("nobody was told")] * len(asks)

    def ask(at: int, actor: Actor, wanted: Recharge) -> None:
        try:
            told[at] = desk.recharge(actor=actor, wish=wanted, now=NOW)
        except BaseException as error:
            told[at] = error

    threads = [threading.Thread(target=ask, args=(at, *each)) for at, each in enumerate(asks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    return told


@pytest.fixture
def one_set(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets the next set start only when so many wait: they are sold together."""

    def arrange(size: int) -> None:
        gather = Desk._gather

        def patient(self: Desk, line: Any) -> Any:
            callers, follows = gather(self, line)
            while callers and len(callers) < size and follows:
                more, follows = gather(self, line)
                callers += more
            return callers, follows

        monkeypatch.setattr(Desk, "_gather", patient)

    return arrange


def codes(told: Sequence[object]) -> list[str]:
    return [
        each.code.removeprefix("vending.recharge.")
        if isinstance(each, RechargeRefused)
        else "" if isinstance(each, Recharged) else type(each).__name__
        for each in told
    ]  # fmt: skip


def another(here: World, number: int) -> Actor:
    """One of many cashiers of a property."""
    return Actor(f"user:{here.property_id}-{number}", Duty.OPERATOR, (here.property_id,))


def test_everybody_gets_their_own_answer_and_sets_share_commits(web: str) -> None:
    here, there = place(), place()
    with signed_in(role_dsn(web, "web"), web), opened() as desk:
        asks = [
            (another(each, number), wish(each, f"k{number}", 1_000_000 + number))
            for number in range(40)
            for each in (here, there)
        ]
        told = ask_all(desk, asks)
    for (_, wanted), answer in zip(asks, told, strict=True):
        assert isinstance(answer, Recharged)
        assert (answer.key, answer.account_id, answer.amount) == (
            wanted.key, wanted.account_id, wanted.amount,
        )  # fmt: skip
    for each in (here, there):
        numbers = rows("SELECT number FROM document WHERE property_id = %s", each.property_id)
        assert sorted(number for (number,) in numbers) == list(range(1, 41))
    assert one("SELECT count(DISTINCT xmin::text) FROM payment") < len(asks)
    # Who took it is who asked, in every row that names somebody.
    assert {(actor.code, wanted.key) for actor, wanted in asks} == set(
        rows(
            """SELECT p.taken_by, i.key FROM payment p
               JOIN idempotency i ON i.caller = p.taken_by
                AND (i.answer ->> 'event_id')::bigint = p.event_id
               JOIN transfer t ON t.account_id = p.account_id AND t.event_id = p.event_id
                AND t.actor = p.taken_by
               JOIN audit_event a ON a.actor = p.taken_by AND a.property_id = p.property_id
                AND (a.detail ->> 'event')::bigint = p.event_id"""
        )
    )
    with psycopg.connect(web) as connection, connection.cursor() as cursor:
        assert check_books(cursor, [here.property_id, there.property_id]) == []


def test_one_poisonous_recharge_fails_alone(web: str, one_set: Callable[[int], None]) -> None:
    here, there = place(), place()
    rich = there.accounts["1001"]
    with psycopg.connect(web) as connection:
        connection.execute(
            "UPDATE account_state SET posted = 9223372036854775000 WHERE account_id = %s", [rich]
        )
    one_set(9)
    with signed_in(role_dsn(web, "web"), web), opened(lanes=1) as desk:
        asks = [(another(here, number), wish(here, f"k{number}")) for number in range(8)]
        asks.insert(3, (another(there, 0), wish(there, "too much")))
        told = ask_all(desk, asks)
    assert codes(told) == ["", "", "", "DataError", "", "", "", "", ""]
    assert isinstance(told[3], DatabaseError) and "out of range" in str(told[3])
    assert one("SELECT count(*) FROM payment") == 8
    assert one("SELECT count(*) FROM transfer WHERE account_id = %s AND kind = 2", rich) == 0
    assert one("SELECT count(*) FROM idempotency WHERE key = 'too much'") == 0


def test_nobody_acts_with_the_rights_of_who_stands_beside_them(
    web: str, one_set: Callable[[int], None]
) -> None:
    here, there = place(), place()
    mine, theirs = here.accounts["1001"], there.accounts["1001"]
    anna, bert = another(here, 1), another(there, 2)
    seller = Actor(anna.code, Duty.OPERATOR, (there.property_id,))
    with signed_in(role_dsn(web, "web"), web):
        with opened(lanes=1) as desk:
            # The same person, at another time, at the other property.
            assert codes(ask_all(desk, [(seller, wish(there, "known", 7_000_000))])) == [""]
        one_set(6)
        with opened(lanes=1) as desk:
            told = ask_all(
                desk,
                [
                    (anna, wish(here, "a")),
                    (bert, wish(there, "b")),
                    (anna, wish(here, "x", account=theirs)),
                    (bert, wish(there, "y", account=mine)),
                    # Her own key of the other property, even word for word, tells her nothing.
                    (anna, wish(there, "known", 7_000_000)),
                    (bert, wish(there, "known", 7_000_000)),
                ],
            )
    assert codes(told) == ["", "", "unknown_account", "unknown_account", "unknown_account", ""]
    taken = rows(
        "SELECT account_id, taken_by, property_id FROM payment WHERE amount_micro < 7000000"
    )
    assert sorted(taken) == sorted(
        [(mine, anna.code, here.property_id), (theirs, bert.code, there.property_id)]
    )
    refused = told[2]
    assert isinstance(refused, RechargeRefused) and str(theirs) in refused.message


def test_the_same_key_in_one_set_tells_nothing_across_scopes(web: str) -> None:
    """One person with a window open at each of two properties, who uses one key at both."""
    here, there = place(), place()
    at_home = Actor("user:6", Duty.OPERATOR, (here.property_id,))
    away = Actor("user:6", Duty.OPERATOR, (there.property_id,))
    wanted = wish(here, "k")
    with signed_in(role_dsn(web, "web"), web):
        first, same, foreign = recharge_together(
            asks=[Ask(at_home, wanted), Ask(at_home, wanted), Ask(away, wanted)], now=NOW
        )
        elsewhere = recharge_together(
            asks=[Ask(away, wish(there, "k")), Ask(away, wish(there, "free"))], now=NOW
        )
    assert isinstance(first, Recharged) and same == replace(first, repeated=True)
    assert codes([foreign]) == ["key_reused"]
    assert codes(elsewhere) == ["key_reused", ""]


def test_a_look_that_forgot_the_scope_would_be_noticed(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = place(), place()
    monkeypatch.setattr(sets, "_scope_of", lambda actor: None)
    asks = [
        Ask(another(here, 1), wish(here, "a")),
        Ask(another(there, 2), wish(there, "b", account=here.accounts["1001"])),
    ]
    with signed_in(role_dsn(web, "web"), web), pytest.raises(AssertionError, match="out of scope"):
        recharge_together(asks=asks, now=NOW)
    assert one("SELECT count(*) FROM payment") == 0


def test_one_key_from_everywhere_at_once_is_one_recharge(web: str) -> None:
    here = place()
    with signed_in(role_dsn(web, "web"), web), opened() as desk:
        told = ask_all(desk, [(another(here, 1), wish(here, "k"))] * 12)
        (other,) = ask_all(desk, [(another(here, 1), wish(here, "k", 1))])
    assert codes(told) == [""] * 12 and codes([other]) == ["key_reused"]
    assert (
        sorted(each.repeated for each in told if isinstance(each, Recharged))
        == [False] + [True] * 11
    )
    assert one("SELECT count(*) FROM payment") == 1


def test_a_full_desk_says_so_and_takes_nothing(web: str, one_set: Callable[[int], None]) -> None:
    here = place()
    one_set(3)
    with signed_in(role_dsn(web, "web"), web), opened(lanes=1, waiting_max=2) as desk:
        waiting = [
            threading.Thread(
                target=ask_all, args=(desk, [(another(here, at), wish(here, f"w{at}"))])
            )
            for at in range(2)
        ]
        for thread in waiting:
            thread.start()
        while desk._waiting < 2:
            time.sleep(0.01)
        (refused,) = ask_all(desk, [(another(here, 9), wish(here, "late"))])
        desk.stop()
        for thread in waiting:
            thread.join(timeout=30)
        desk.stop = lambda: None  # type: ignore[method-assign]  # stopped already
    assert codes([refused]) == ["busy"]
    assert isinstance(refused, RechargeRefused) and refused.message.endswith("Nothing was taken.")
    assert sorted(rows("SELECT key FROM idempotency WHERE caller <> 'x'"))[-2:] == [
        ("w0",),
        ("w1",),
    ]


def test_an_account_that_somebody_else_holds_delays_nobody_but_itself(web: str) -> None:
    here = place()
    held, free = here.accounts["1001"], here.accounts["OWN-LIFT"]
    with signed_in(role_dsn(web, "web"), web), opened(lanes=1) as desk:
        told: list[Any] = []
        with psycopg.connect(web) as ingest:
            ingest.execute(
                "SELECT FROM account_state WHERE account_id = %s FOR NO KEY UPDATE", [held]
            )
            waiting = threading.Thread(
                target=lambda: told.extend(ask_all(desk, [(another(here, 1), wish(here, "held"))]))
            )
            waiting.start()
            for number in range(3):
                (answer,) = ask_all(
                    desk, [(another(here, 2), wish(here, f"free{number}", account=free))]
                )
                assert codes([answer]) == [""]
            assert told == []
        waiting.join(timeout=30)
        assert codes(told) == [""]
        assert desk._waiting == 0


def test_who_waits_for_a_lock_too_long_is_told_that_we_are_busy(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place()
    monkeypatch.setattr(desk_module, "PATIENCE_S", 0.2)
    with signed_in(role_dsn(web, "web"), web), opened(lanes=1) as desk:
        with psycopg.connect(web) as ingest:
            ingest.execute(
                "SELECT FROM account_state WHERE account_id = %s FOR NO KEY UPDATE",
                [here.accounts["1001"]],
            )
            (refused,) = ask_all(desk, [(another(here, 1), wish(here, "k"))])
        assert codes([refused]) == ["busy"]
        # The key stayed free.
        assert codes(ask_all(desk, [(another(here, 1), wish(here, "k"))])) == [""]


def test_connections_that_break_cost_nobody_their_answer_and_nothing_is_taken_twice(
    web: str,
) -> None:
    here = place()
    with signed_in(role_dsn(web, "web"), web), opened() as desk:
        stopping = threading.Event()

        def cut() -> None:
            with psycopg.connect(web, autocommit=True) as killer:
                while not stopping.is_set():
                    killer.execute(
                        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                           WHERE usename = 'web' AND datname = current_database()
                           ORDER BY random() LIMIT 1"""
                    )
                    stopping.wait(0.3)

        killing = threading.Thread(target=cut)
        killing.start()
        answers: list[Any] = []
        for turn in range(6):
            wanted = [(another(here, at), wish(here, f"{turn}-{at}", 1_000_000)) for at in range(8)]
            told = ask_all(desk, wanted)
            # What failed for want of a server is asked again with its key.
            again = [each for each, got in zip(wanted, told, strict=True) if codes([got]) != [""]]
            while again:
                told = ask_all(desk, again)
                again = [
                    each for each, got in zip(again, told, strict=True) if codes([got]) != [""]
                ]
            answers += told
        stopping.set()
        killing.join()
    assert one("SELECT count(*) FROM payment") == 48
    numbers = [number for (number,) in rows("SELECT number FROM document WHERE series = 'R'")]
    assert sorted(numbers) == list(range(1, 49))


def test_a_desk_that_stops_answers_whoever_waits_and_takes_nobody_more(
    web: str, one_set: Callable[[int], None]
) -> None:
    here = place()
    one_set(5)
    with signed_in(role_dsn(web, "web"), web):
        desk = Desk()
        desk.start()
        told: list[Any] = []
        waiting = threading.Thread(
            target=lambda: told.extend(
                ask_all(desk, [(another(here, at), wish(here, f"k{at}")) for at in range(4)])
            )
        )
        waiting.start()
        while desk._waiting < 4:
            time.sleep(0.01)
        desk.stop()
        waiting.join(timeout=30)
        assert codes(told) == [""] * 4
        with pytest.raises(DeskClosed):
            desk.recharge(actor=another(here, 1), wish=wish(here, "late"), now=NOW)
    assert one("SELECT count(*) FROM idempotency WHERE key = 'late'") == 0


def test_duties_never_mix_and_auditors_sell_nothing(
    web: str, one_set: Callable[[int], None]
) -> None:
    here = place()
    auditor = Actor("user:7", Duty.AUDITOR, (here.property_id,))
    administrator = Actor("user:8", Duty.ADMINISTRATOR, (here.property_id,))
    with signed_in(role_dsn(web, "web"), web):
        with pytest.raises(PermissionRefused):
            recharge_together(
                asks=[Ask(administrator, wish(here, "a")), Ask(another(here, 1), wish(here, "b"))],
                now=NOW,
            )
        one_set(2)
        with opened(lanes=1) as desk:
            with pytest.raises(PermissionRefused):
                desk.recharge(actor=auditor, wish=wish(here, "c"), now=NOW)
            told = ask_all(
                desk, [(administrator, wish(here, "a")), (another(here, 1), wish(here, "b"))]
            )
    assert codes(told) == ["", ""]
    assert rows("SELECT DISTINCT taken_by FROM payment ORDER BY 1") == [
        (another(here, 1).code,), ("user:8",)
    ]  # fmt: skip
