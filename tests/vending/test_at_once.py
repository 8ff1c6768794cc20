"""What is sold at once is what is decided one by one, whatever stands beside it and whoever is to blame."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import psycopg
import pytest
from django.db import DatabaseError, connection
from tests.conftest import role_dsn
from tests.invariants.places import NOW, World, one, place, rows, signed_in, wish

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, scope, system_actor
from prewatt.core.levels import NEVER
from prewatt.debts.models import Debt
from prewatt.debts.operations import open_debt
from prewatt.ledger.operations import close_period
from prewatt.reports.books import check_books
from prewatt.supply.operations import set_policy
from prewatt.vending.operations import Known, recharge, recharge_at_once, recharge_together
from prewatt.vending.words import Answer, Ask, Recharge, Recharged, RechargeRefused

#: Seeds of the sweep; more of them with PREWATT_DESK_SEEDS.
SEEDS: Final = range(int(os.environ.get("PREWATT_DESK_SEEDS", "6")))
SETS: Final = 5


def sell(asks: Sequence[Ask], known: Known) -> dict[int, Answer | None]:
    """A set as the desk sells it: at once what can be, then the rest together. In that order."""
    first = recharge_at_once(asks=asks, now=NOW, known=known)
    told: dict[int, Answer | None] = {
        at: answer for at, answer in enumerate(first) if answer is not None
    }
    rest = [at for at, answer in enumerate(first) if answer is None]
    if rest:
        later = recharge_together(asks=[asks[at] for at in rest], now=NOW, known=known)
        told.update(zip(rest, later, strict=True))
    return told


def known_of(*places: World) -> Known:
    """What a desk knows after it has sold at these places, without having sold more than a cent."""
    known: Known = {}
    asks = [Ask(cashier(here), wish(here, "first", 10_000)) for here in places]
    recharge_together(asks=asks, now=NOW, known=known)
    assert set(known) == {here.property_id for here in places}
    with connection.cursor() as cursor:
        # As the first reading leaves it; an operator's recharge does not.
        cursor.execute("UPDATE account_state SET watch_below = 1")
    return known


def cashier(here: World) -> Actor:
    """Somebody who sells at this place only, under a name of their own."""
    return Actor(f"user:{here.property_id}", Duty.OPERATOR, (here.property_id,))


def set_level(here: World, number: str, **columns: Any) -> None:
    """Let an account stand as a reading might have left it."""
    names = ", ".join(f"{name} = %s" for name in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE supply_state SET {names} WHERE account_id = %s",
            [*columns.values(), here.accounts[number]],
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_any_mix_at_the_desk_is_what_they_are_one_by_one(database: str, seed: int) -> None:
    chance = random.Random(seed)
    together, apart = place(), place()
    states = [_some_state(chance, number) for number in sorted(together.accounts)]
    rules = chance.choice(_RULES)
    for here in (together, apart):
        set_policy(actor=system_actor("owner"), property_id=here.property_id, body=rules, now=NOW)
        for number, state in zip(sorted(here.accounts), states, strict=True):
            _stand(here, number, state)
    known: Known = {}
    plans = [_some_set(chance, sorted(together.accounts)) for _ in range(SETS)]
    with signed_in(role_dsn(database, "web"), database):
        for plan in plans:
            sold = sell([_ask(together, *each) for each in plan], known)
            asks = [_ask(apart, *plan[at]) for at in sold]
            by_one = [recharge(actor=ask.actor, recharges=[ask.wish], now=NOW)[0] for ask in asks]
            assert _told(together, list(sold.values())) == _told(apart, by_one)
    assert _stored(together) == _stored(apart)
    with psycopg.connect(database) as books, books.cursor() as cursor:
        assert check_books(cursor, [together.property_id, apart.property_id]) == []


_RULES: Final[Sequence[dict[str, Any]]] = (
    {},
    {"levels": [{"level_no": 3, "kind": "exhausted"}]},
    {
        "levels": [
            {"level_no": 1, "kind": "money", "threshold_micro": 30_000_000},
            {"level_no": 2, "kind": "emergency"},
            {"level_no": 5, "kind": "days", "threshold_h": 100},
            {"level_no": 3, "kind": "exhausted"},
        ]
    },
)


def _some_state(chance: random.Random, number: str) -> dict[str, Any]:
    fired = chance.choice((0, 0, 1, 2, 3, 8, 10, 64))
    return {
        "fired_mask": fired,
        "would_mask": chance.choice((0, 0, 0, 1)),
        "level": 2 if fired else 0,
        "level_fired_at": NOW - timedelta(hours=2) if fired else None,
        "emergency_micro": chance.choice((0, 0, 3_000_000)),
        "held": chance.random() < 0.1,
        "desired": chance.choice((1, 1, 1, 1, 1, 2)),
        "spend": chance.choice((0, 1_234_567, 40_000_000)),
        # As an earlier look left it, before any look, and of no supply at all.
        "watch": chance.choice((1, 1, 5_000_001, 2**62, NEVER)),
        "warned": chance.random() < 0.2,
        "owes": chance.random() < 0.2,
        "closed": chance.random() < 0.1,
    }


def _stand(here: World, number: str, state: dict[str, Any]) -> None:
    account_id = here.accounts[number]
    supply = {
        key: state[key]
        for key in ("fired_mask", "would_mask", "level", "level_fired_at", "emergency_micro", "held",
                    "desired")
    }  # fmt: skip
    set_level(here, number, **supply)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE account_state SET spend_per_day = %s, watch_below = %s WHERE account_id = %s",
            [state["spend"], state["watch"], account_id],
        )
        if state["closed"]:
            cursor.execute("UPDATE account SET closed_at = %s WHERE id = %s", [NOW, account_id])
        if state["warned"]:
            cursor.execute(
                """INSERT INTO message (property_id, account_id, code, detail, language, urgent,
                       would_have, dedupe_key, created_at, due_at, claim_no, state)
                   VALUES (%s, %s, 'supply.warning',
                       '{"level_kind": "money", "level_no": 1, "available_micro": 1, "emergency_micro": 0,
                         "days_left_h": 1, "currency": "EUR", "earliest_cut_us": null}',
                       'en', false, false, 'level:1', %s, %s, 0, 1)""",
                [here.property_id, account_id, NOW, NOW],
            )
    if state["owes"]:
        open_debt(
            actor=system_actor("debts"), account_id=account_id, amount_micro=9_000_000,
            reason=Debt.Reason.AGREED, note="", share_ppm=300_000, weekly_cap_micro=0,
            key=f"{here.property_id}:{number}", now=NOW,
        )  # fmt: skip


def _some_set(chance: random.Random, numbers: Sequence[str]) -> list[tuple[Any, ...]]:
    """Good ones, bad ones, repeats and conflicts, each account once but for repeats.

    What is said of an account that is recharged twice in a set is said once, so that is no twin.
    """
    wishes = [
        (
            f"k{chance.randrange(40)}",
            number,
            chance.choice((10_000, 4_000_000, 50_000_000, 50_000_000, 0)),
            chance.choice(("cash", "cash", "cash", "online", "barter")),
            chance.choice(("", "Nr. 7", 'a"\\b')),
        )
        for number in chance.sample(numbers, chance.randrange(1, len(numbers) + 1))
    ]
    return [*wishes, *chance.sample(wishes, chance.randrange(2))]


def _ask(here: World, key: str, number: str, amount: int, way: str, reference: str) -> Ask:
    account_id = here.accounts[number]
    return Ask(cashier(here), Recharge(key, account_id, amount, way, reference, NOW))


def _told(here: World, answers: Sequence[Answer | None]) -> list[Any]:
    """What everybody was told, but for the numbers that two places cannot have in common."""
    numbers = {account_id: number for number, account_id in here.accounts.items()}
    return [
        (replace(each, event_id=0, account_id=0), numbers[each.account_id])
        if isinstance(each, Recharged)
        else replace(each, message="") if each is not None else None
        for each in answers
    ]  # fmt: skip


def _stored(here: World) -> dict[str, list[tuple[Any, ...]]]:
    """Every row that a recharge writes or moves, by the numbers of accounts, in their order."""
    return {name: rows(statement, here.property_id) for name, statement in _STORED.items()}


_STORED: Final = {
    "account_state": """SELECT a.number, posted, transfer_seq, purchase_no, watch_below, s.updated_at
        FROM account_state s JOIN account a ON a.id = s.account_id WHERE s.property_id = %s ORDER BY 1""",
    "supply_state": """SELECT a.number, to_jsonb(s) - 'account_id' - 'property_id'
        FROM supply_state s JOIN account a ON a.id = s.account_id WHERE s.property_id = %s ORDER BY 1""",
    "transfer": """SELECT a.number, t.seq, t.kind, t.component, t.band, t.counter_account, t.amount,
            t.posted_after, t.currency, t.energy_wh, t.tax_rate_ppm, t.service_from, t.service_to,
            t.booked_at, t.reason, t.step, t.actor = 'user:' || t.property_id
        FROM transfer t JOIN account a ON a.id = t.account_id WHERE t.property_id = %s ORDER BY 1, 2""",
    "payment": """SELECT a.number, d.number, p.amount_micro, p.way, p.reference, p.paid_at,
            p.accepted_at, p.taken_by = 'user:' || p.property_id
        FROM payment p JOIN account a ON a.id = p.account_id JOIN document d USING (event_id)
        WHERE p.property_id = %s ORDER BY 2""",
    "document": """SELECT d.series, d.number, d.kind, a.number, d.issued_at, d.amount_micro
        FROM document d JOIN account a ON a.id = d.account_id WHERE d.property_id = %s ORDER BY 1, 2""",
    "idempotency": """SELECT key, body_hash IS NOT NULL, answer - 'event_id' - 'account_id', created_at
        FROM idempotency WHERE property_id = %s AND caller LIKE 'user:%%' ORDER BY 1""",
    "audit_event": """SELECT e.code, e.happened_at, e.detail - 'event' - 'account_id', e.actor LIKE 'user:%%'
        FROM audit_event e WHERE e.property_id = %s AND e.code LIKE 'vending.%%' ORDER BY e.id""",
    "message": """SELECT a.number, m.code, m.detail - 'event', m.language, m.urgent, m.would_have,
            m.created_at, m.due_at, m.state, m.finished_at
        FROM message m JOIN account a ON a.id = m.account_id WHERE m.property_id = %s
        ORDER BY 1, 2, (m.detail - 'event')::text, m.state""",
    "supply_order": """SELECT a.number, o.kind, o.state FROM supply_order o
        JOIN account a ON a.id = o.account_id WHERE o.property_id = %s ORDER BY 1, 2, 3""",
    "debt": """SELECT a.number, d.closed_at, d.ending FROM debt d JOIN account a ON a.id = d.account_id
        WHERE d.property_id = %s ORDER BY 1""",
}


def at_once(known: Known, *asks: Ask) -> list[bool]:
    """Which of these are sold at once."""
    return [
        isinstance(answer, Recharged)
        for answer in recharge_at_once(asks=asks, now=NOW, known=known)
    ]


def test_each_sees_their_own_properties_whoever_stands_beside_them(database: str) -> None:
    here, there = place(), place()
    known = known_of(here, there)
    mine, theirs = here.accounts["1001"], there.accounts["1001"]
    with signed_in(role_dsn(database, "web"), database):
        assert at_once(
            known,
            Ask(cashier(here), wish(here, "a")),
            Ask(cashier(here), wish(there, "x", account=theirs)),
            Ask(cashier(there), wish(there, "b", account=there.accounts["OWN-LIFT"])),
            Ask(cashier(there), wish(here, "y", account=here.accounts["OWN-LIFT"])),
        ) == [True, False, True, False]
    sold = rows("SELECT account_id, taken_by FROM payment WHERE amount_micro = 5000000 ORDER BY id")
    assert sold == [
        (mine, cashier(here).code),
        (there.accounts["OWN-LIFT"], cashier(there).code),
    ]


def test_what_somebody_else_holds_is_left_and_not_waited_for(database: str) -> None:
    here, there = place(), place()
    known = known_of(here, there)
    asks = [
        Ask(cashier(here), wish(here, "held")),
        Ask(cashier(here), wish(here, "key", account=here.accounts["OWN-LIFT"])),
        Ask(cashier(there), wish(there, "closing")),
    ]
    with psycopg.connect(database) as other, signed_in(role_dsn(database, "web"), database):
        other.execute(
            "SELECT FROM account_state WHERE account_id = %s FOR NO KEY UPDATE",
            [here.accounts["1001"]],
        )
        other.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{cashier(here).code}\nkey"]
        )
        other.execute("SELECT pg_advisory_xact_lock(20567, %s)", [there.property_id])
        assert at_once(known, *asks) == [False, False, False]
        other.rollback()
        assert at_once(known, *asks) == [True, True, True]
        # Known keys are for the lane of thought, which has the stored answer.
        assert at_once(known, *asks) == [False, False, False]


def test_what_is_known_of_a_property_is_looked_at_again(database: str) -> None:
    """A tariff or rules that are new, books that were closed, an account that went: nothing is sold
    on what was known before."""
    here = place()
    known = known_of(here)
    asks = [Ask(cashier(here), wish(here, f"k{number}")) for number in range(6)]
    fired = dict.fromkeys(("fired_mask", "level"), 1)
    set_level(here, "1001", **fired, level_fired_at=NOW)
    assert at_once(known, asks[0]) == [True]
    set_level(here, "1001", **fired, level_fired_at=NOW)
    set_policy(actor=system_actor("owner"), property_id=here.property_id, body={}, now=NOW)
    assert at_once(known, asks[1]) == [False]
    # New rules watch everybody until somebody has looked who may lower it again.
    recharge_together(asks=[replace(asks[1], actor=system_actor("desk"))], now=NOW, known=known)
    set_level(here, "1001", **fired, level_fired_at=NOW)
    assert at_once(known, asks[2]) == [True]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tariff_epoch SET epoch = epoch + 1")
        assert at_once(known, asks[3]) == [False]
        cursor.execute("UPDATE tariff_epoch SET epoch = epoch - 1")
    assert at_once(known, asks[3]) == [True]
    close_period(
        actor=system_actor("close"), property_id=here.property_id,
        open_from=NOW.date() + timedelta(days=1), now=NOW,
    )  # fmt: skip
    assert at_once(known, asks[4]) == [False]


def test_one_account_and_one_key_come_once_in_a_set(database: str) -> None:
    here = place()
    known = known_of(here)
    lift = here.accounts["OWN-LIFT"]
    with signed_in(role_dsn(database, "web"), database):
        assert at_once(
            known,
            Ask(cashier(here), wish(here, "a")),
            Ask(cashier(here), wish(here, "b")),
            Ask(cashier(here), wish(here, "a", account=lift)),
            Ask(cashier(here), wish(here, "c", account=lift)),
        ) == [True, False, False, False]
    assert one("SELECT count(*) FROM payment WHERE amount_micro = 5000000") == 1


def test_nothing_is_sold_inside_a_transaction_or_by_who_may_not(database: str) -> None:
    here = place()
    known = known_of(here)
    ask = Ask(cashier(here), wish(here, "a"))
    with scope(here.operator), pytest.raises(RuntimeError, match="transaction of its own"):
        recharge_at_once(asks=[ask], now=NOW, known=known)
    auditor = Actor("user:9", Duty.AUDITOR, (here.property_id,))
    with pytest.raises(PermissionRefused):
        recharge_at_once(asks=[replace(ask, actor=auditor)], now=NOW, known=known)
    assert one("SELECT count(*) FROM payment WHERE amount_micro = 5000000") == 0


def test_a_key_out_of_sight_undoes_the_set_and_is_found_by_thinking(database: str) -> None:
    """Somebody used the key at a property that nobody in the set may see."""
    here, there = place(), place()
    known = known_of(here)
    away = replace(cashier(here), property_ids=(there.property_id,))
    lift = here.accounts["OWN-LIFT"]
    with signed_in(role_dsn(database, "web"), database):
        recharge_together(asks=[Ask(away, wish(there, "k"))], now=NOW)
        asks = [
            Ask(cashier(here), wish(here, "k")),
            Ask(cashier(here), wish(here, "good", account=lift)),
        ]
        with pytest.raises(DatabaseError, match="idempotency_pkey"):
            recharge_at_once(asks=asks, now=NOW, known=known)
        refused, sold = recharge_together(asks=asks, now=NOW, known=known)
    assert isinstance(refused, RechargeRefused) and isinstance(sold, Recharged)
    numbers = rows("SELECT number FROM document WHERE property_id = %s", here.property_id)
    assert sorted(numbers) == [(1,), (2,)]


def test_what_fails_as_it_commits_is_told_to_nobody(database: str) -> None:
    """The rows of the answer are made before the commit; they are no answer without it."""
    here = place()
    known = known_of(here)
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(
            """CREATE FUNCTION too_late() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN RAISE check_violation USING MESSAGE = 'too late'; END $$"""
        )
        owner.execute(
            """CREATE CONSTRAINT TRIGGER too_late AFTER INSERT ON document
               DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION too_late()"""
        )
        ask = Ask(cashier(here), wish(here, "a"))
        login = role_dsn(database, "web")
        with signed_in(login, database), pytest.raises(DatabaseError, match="too late"):
            recharge_at_once(asks=[ask], now=NOW, known=known)
        assert one("SELECT count(*) FROM payment WHERE amount_micro = 5000000") == 0
        owner.execute("DROP TRIGGER too_late ON document")
    assert at_once(known, ask) == [True]
    assert rows("SELECT number FROM document ORDER BY id") == [(1,), (2,)]
