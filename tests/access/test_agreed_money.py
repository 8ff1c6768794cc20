"""An adversary with a duty's credential: money goes no way that others have not agreed to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from tests.access.test_money_walls import _CALL, NOW, SELLERS, Session
from tests.access.test_walls import all_of, duty, owner, refused, two
from tests.conftest import role_dsn
from tests.invariants.conftest import books
from tests.invariants.places import World

__all__ = ["books", "owner", "two"]
EVENT = 2 * 10**9
#: (account, kind, counter-account, amount, code, seq that is corrected).
Leg = tuple[int, int, int, int, str, int | None]


def write(session: Session, *legs: Leg, corrects: int | None = None) -> Any:
    """Ask the pen for one event; it is undone again."""
    accounts, kinds, counters, amounts, codes, seqs = (
        list(each) for each in zip(*legs, strict=True)
    )
    size = len(legs)
    call = _CALL.replace("%(corrects)s::bigint[]", "%(seqs)s::bigint[]").replace(
        "%(seqs)s::bigint[]", "%(corrects)s::bigint[]", 1
    )
    with session.transaction(force_rollback=True):
        return session.execute(call, {
            "events": [EVENT] * size, "accounts": accounts, "kinds": kinds, "counters": counters,
            "amounts": amounts, "codes": codes, "seqs": seqs, "actors": ["user:1"] * size,
            "corrects": [None if seq is None else corrects for seq in seqs], "size": [size], "at": NOW,
        }).fetchone()  # fmt: skip


class Place:
    """Two tenants of one property, a recharge of the first, and a debt of theirs."""

    def __init__(self, owner: Session, here: World) -> None:
        self.property_id = here.property_id
        self.one, self.other = here.accounts["1001"], here.accounts["OWN-LIFT"]
        self.event, self.seq, self.amount = owner.execute(
            "SELECT event_id, seq, amount FROM transfer WHERE account_id = %s AND kind = 2",
            [self.one],
        ).fetchone()  # type: ignore[misc]
        self.reversal: tuple[Leg, ...] = ((self.one, 7, 1, -self.amount, "", self.seq),)
        self.move: tuple[Leg, ...] = (
            (self.one, 8, 9, -self.amount, "", self.seq), (self.other, 8, 9, self.amount, "", None),
        )  # fmt: skip
        self.write_off: tuple[Leg, ...] = (
            (self.one, 6, 12, -70, "D-9", None), (self.one, 6, 10, 70, "D-9", None),
        )  # fmt: skip
        self.credit: tuple[Leg, ...] = ((self.one, 5, 10, 50, "", None),)


@pytest.fixture
def place(owner: Session, two: tuple[World, World]) -> Iterator[Place]:
    here = Place(owner, two[0])
    owner.execute(
        """INSERT INTO debt (property_id, legal_entity_id, account_id, number, code, reason, note,
               principal_micro, origin_event_id, share_ppm, weekly_cap_micro, opened_at, opened_by, ending)
           SELECT property_id, legal_entity_id, account_id, 9, 'D-9', 'agreed', '', 70, 1, 1, 0, now(),
                  'user:1', '' FROM account_state WHERE account_id = %s""",
        [here.one],
    )
    yield here
    owner.execute("DELETE FROM debt WHERE code = 'D-9'")


@pytest.fixture(params=SELLERS, ids=lambda way: way[1] or way[0])
def seller(request: pytest.FixtureRequest, books: str, place: Place) -> Iterator[Session]:
    login, role = request.param
    with psycopg.connect(role_dsn(books, login), autocommit=True) as session:
        if role:
            duty(session, role, place.property_id)
        yield session


def stopped(session: Session, *legs: Leg, corrects: int | None = None) -> bool:
    """Whether the pen refuses it."""
    try:
        write(session, *legs, corrects=corrects)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


@pytest.mark.parametrize("kind", ["reversal", "move", "write_off", "credit"])
def test_no_duty_books_alone_what_others_agree_to(seller: Session, place: Place, kind: str) -> None:
    legs = getattr(place, kind)
    assert stopped(seller, *legs, corrects=place.event), kind
    # Nor in pieces, nor with something that is not asked about beside it.
    for leg in legs:
        assert stopped(seller, leg, corrects=place.event), leg
    usage = (place.one, 3, 3, -1, "", None)
    assert stopped(seller, *legs, usage, corrects=place.event)
    assert stopped(seller, usage, *legs, corrects=place.event)


def test_no_duty_pays_a_refund_out_alone(seller: Session, owner: Session, place: Place) -> None:
    owner.execute(
        """INSERT INTO refund (property_id, account_id, event_id, number, amount_micro, reason, made_by,
               made_at, state, paid_way, paid_reference, paid_by)
           VALUES (%s, %s, 3, 78, 5, 'moved', 'user:1', now(), 'due', '', '', '')""",
        [place.property_id, place.one],
    )
    (refund,) = all_of(owner, "SELECT id FROM refund WHERE number = 78")
    for attempt in (
        "UPDATE refund SET state = 'paid', paid_way = 'cash', paid_by = 'user:1', paid_at = now()",
        f"SELECT pay_refund_out({refund}, 'cash', '', 'user:1', now())",
        "UPDATE refund SET amount_micro = 1",
    ):
        assert refused(seller, attempt), attempt
    owner.execute("DELETE FROM refund WHERE number = 78")


def test_no_duty_finds_another_way_for_money(seller: Session, place: Place) -> None:
    one, other = place.one, place.other
    for legs in (
        [(one, 9, 10, 50, "", None)], [(one, 3, 1, 50, "", None)], [(one, 10, 14, 50, "", None)],
        [(one, 11, 12, 50, "D-9", None)], [(one, 12, 13, 50, "", None)],
        # Lent without a debt, or beyond what the wallet lacks; a refund that gives, or of somebody who lives here.
        [(one, 13, 12, 50, "D-8", None)], [(one, 13, 12, 50, "D-9", None)], [(one, 13, 10, 50, "D-9", None)],
        [(one, 4, 14, 50, "", None)], [(one, 4, 14, -50, "", None)], [(one, 4, 16, 50, "", None)],
        # What one has pays what another owes.
        [(other, 8, 9, -50, "D-9", None), (one, 8, 9, 50, "D-9", None), (one, 11, 12, -50, "D-9", None)],
        [(other, 8, 9, -50, "", None), (one, 8, 9, 50, "", None)],
        [(one, 7, 1, -50, "", None)], [(one, 7, 12, 50, "D-9", None)],
    ):  # fmt: skip
        assert stopped(seller, *legs), legs


def test_no_duty_closes_a_debt_of_which_something_is_left(
    seller: Session, owner: Session, place: Place
) -> None:
    """That would write it off: the check waits for the end of the transaction."""
    owner.execute(
        """INSERT INTO transfer (account_id, seq, property_id, legal_entity_id, event_id, kind, component,
               counter_account, amount, posted_after, currency, service_from, service_to, booked_at, actor,
               reason, code)
           SELECT account_id, 10000, property_id, legal_entity_id, 9, 13, 1, 12, 70, 0, currency,
                  service_from, service_to, booked_at, actor, 'test', 'D-9'
           FROM transfer WHERE account_id = %s AND kind = 2 ORDER BY seq LIMIT 1""",
        [place.one],
    )
    try:
        close = "UPDATE debt SET closed_at = now(), ending = 'written_off' WHERE code = 'D-9'"
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="something is left of D-9"):
            seller.execute(close)
    finally:
        with owner.transaction():
            owner.execute("DELETE FROM transfer WHERE account_id = %s AND seq = 10000", [place.one])


@contextmanager
def agreed(
    owner: Session, place: Place, kind: str, subject: str, **effect: Any
) -> Iterator[Session]:
    """A session of app_admin, in whose transaction others have agreed to this."""
    with owner.transaction(force_rollback=True):
        owner.execute(
            """INSERT INTO proposal (property_id, kind, subject, effect, digest, reason, made_by,
                   made_at, expires_at, state, amount, needed, ended_by, ended_at, answer, agreed_in)
               VALUES (%s, %s, %s, %s, 'd', 'r', 'user:901', now(), now() + interval '1 day',
                       'approved', 0, 1, 'user:902', now(), '', pg_current_xact_id()::text::bigint)""",
            [place.property_id, kind, subject, json.dumps(effect)],
        )
        owner.execute("SET LOCAL ROLE app_admin")
        owner.execute(
            "SELECT set_config('prewatt.properties', %s, true)", [f"{{{place.property_id}}}"]
        )
        yield owner


def test_what_is_booked_is_what_was_agreed_to_and_no_more(owner: Session, place: Place) -> None:
    recharge, amount = f"recharge:{place.event}", place.amount
    whole = {"account": place.one, "amount": amount, "to": None, "missing": "debt"}
    (debt,) = all_of(owner, "SELECT id FROM debt WHERE code = 'D-9'")
    loss: Leg = (place.one, 5, 10, 50, "", None)
    third: Leg = (place.one, 8, 9, amount, "", None)
    moved, given = whole | {"to": place.other}, {"amount": 50, "credit": 50}
    for kind, subject, effect, right, wrong in (
        ("vending.reversal", recharge, whole, place.reversal, [(*place.reversal, loss)]),
        ("vending.reversal", recharge, whole | {"amount": 1}, None, [place.reversal]),
        ("vending.move", recharge, moved, place.move,
         [place.move[:1], (place.move[0], third), (*place.move, place.move[1]), (*place.move, loss),
          place.reversal]),
        ("debts.write_off", f"debt:{debt}", {"amount": 70}, place.write_off,
         [place.write_off[:1], (*place.write_off, *place.write_off),
          ((place.one, 6, 12, -71, "D-9", None), (place.one, 6, 10, 71, "D-9", None))]),
        ("ledger.credit", f"account:{place.one}", given, place.credit,
         [((place.one, 5, 10, 51, "", None),), ((place.other, 5, 10, 50, "", None),),
          (*place.credit, *place.credit)]),
        ("ledger.credit", f"account:{place.one}", {"amount": 1, "credit": 50}, None, [place.credit]),
    ):  # fmt: skip
        for legs in wrong:
            with agreed(owner, place, kind, subject, **effect) as session:
                assert stopped(session, *legs, corrects=place.event), (kind, legs)
        if right is not None:
            with agreed(owner, place, kind, subject, **effect) as session:
                assert write(session, *right, corrects=place.event) == (None, len(right)), kind
