"""An adversary with the password of each login, straight at the database: no money is made there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from tests.access.test_walls import all_of, columns_of, duty, refused, two
from tests.conftest import role_dsn
from tests.invariants.conftest import books
from tests.invariants.places import NOW, World

from prewatt import walls

__all__ = ["books", "two"]

Session = psycopg.Connection[Any]
#: (login, duty): every way into the database that a process of ours has.
WAYS = (
    *((login, "") for login in walls.LOGINS),
    *(("web", each) for each in walls.DUTIES),
)
#: What stays as it was born, whoever asks: money, whose it is, prices, approvals, reasons.
NEVER = {
    "account_state": "account_id property_id legal_entity_id posted transfer_seq purchase_no",
    "transfer": "amount posted_after seq account_id reason service_from corrects_seq",
    "payment": "amount_micro account_id event_id way reference paid_at taken_by property_id",
    "document": "number amount_micro account_id",
    "posting": "amount interval_hash interval_no_to",
    "debt": "principal_micro account_id code origin_event_id reason opened_by property_id",
    "refund": "amount_micro account_id event_id number made_by property_id",
    # The fee is not: a let that begins late takes it for the units that are left.
    "temporary_let": "deposit_micro account_id unit_id property_id made_by",
    "tariff": "code name property_id",
    "tariff_version": "content digest approved_by approved_at valid_from made_by",
    "tariff_assignment": "tariff_id account_id valid_from",
    "account_terms": "exempt contracted_w members",
    "price_series": "price_nano",
    "tariff_draft": "property_id code",
    "tariff_trial": "property_id content days asked_by",
    "supply_decision": "outcome reason gates available_micro",
    "supply_order": "reason kind meter_id account_id property_id decided_at expires_at",
    "supply_state": "account_id property_id emergency_micro",
    "audit_event": "actor code subject detail happened_at",
    "idempotency": "answer body_hash key caller",
    "register_reading": "value_wh read_at account_id",
    "interval": "charge_energy energy_wh account_id end_value_wh",
    "meter": "serial multiplier modulus_wh property_id max_power_w",
    "meter_assignment": "meter_id account_id start_value_wh property_id",
    "account": "number kind customer_id property_id opened_at",
    "property": "code currency time_zone legal_entity_id",
    "customer": "name property_id email phone",
    "message": "account_id customer_id code would_have property_id",
    "message_attempt": "address body subject channel",
    "app_user": "password email is_active name",
    "duty_grant": "duty user_id property_id organisation_id customer_id granted_by ended_at",
    "person_line": "line organisation_id",
    "property_group_member": "property_id property_group_id",
}  # fmt: skip


@pytest.fixture
def owner(books: str) -> Iterator[Session]:
    with psycopg.connect(books, autocommit=True) as session:
        yield session


@pytest.fixture(params=WAYS, ids=lambda way: way[1] or way[0])
def thief(
    request: pytest.FixtureRequest, books: str, two: tuple[World, World]
) -> Iterator[Session]:
    """A session of each login and duty, with the first property in scope."""
    login, role = request.param
    with psycopg.connect(role_dsn(books, login), autocommit=True) as session:
        if role:
            duty(session, role, two[0].property_id)
        yield session


def test_no_login_changes_what_was_born(thief: Session, owner: Session) -> None:
    for table, columns in NEVER.items():
        known = columns_of(owner, table)
        for column in columns.split():
            assert column in known, f"{table}.{column} is no column"
            assert refused(thief, f"UPDATE {table} SET {column} = {column}"), (table, column)
        assert refused(thief, f"DELETE FROM {table}"), table
        assert refused(thief, f"TRUNCATE {table}"), table


def test_no_login_writes_a_transfer_or_a_rich_account(
    thief: Session, owner: Session, two: tuple[World, World]
) -> None:
    account = two[0].accounts["1001"]
    before = all_of(owner, "SELECT posted FROM account_state ORDER BY account_id")
    for statement in (
        "INSERT INTO transfer SELECT * FROM transfer LIMIT 1",
        f"UPDATE account_state SET posted = posted + 1000000 WHERE account_id = {account}",
        f"UPDATE account_state SET updated_at = now(), transfer_seq = 0 WHERE account_id = {account}",
        """INSERT INTO account_state (account_id, property_id, legal_entity_id, updated_at, posted)
           VALUES (77, 1, 1, now(), 1000000)""",
        "MERGE INTO account_state s USING (VALUES (1)) v(a) ON true WHEN MATCHED THEN UPDATE SET posted = 0",
        "COPY transfer FROM STDIN",
        "SET ROLE ledger_pen",
        "SET SESSION AUTHORIZATION owner",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER FUNCTION append_transfers OWNER TO CURRENT_USER",
        "CREATE POLICY mine ON transfer USING (true)",
        "ALTER TABLE account_state DISABLE ROW LEVEL SECURITY",
        "SELECT password FROM app_user",
    ):
        if "password" in statement and _login_of(thief) == "web":
            continue
        assert refused(thief, statement), statement
    assert all_of(owner, "SELECT posted FROM account_state ORDER BY account_id") == before


def _login_of(session: Session) -> str:
    row = session.execute("SELECT current_user").fetchone()
    assert row is not None
    return str(row[0])


def test_no_login_reaches_round_a_partition(thief: Session, owner: Session) -> None:
    partition = all_of(
        owner,
        """SELECT relname::text FROM pg_class
           WHERE relispartition AND relkind = 'r' ORDER BY relname""",
    )
    assert len(partition) > 4
    for each in partition:
        for statement in (f"SELECT FROM {each}", f"DELETE FROM {each}", f"TRUNCATE {each}",
                          f"UPDATE {each} SET property_id = property_id",
                          f"INSERT INTO {each} SELECT * FROM {each}",
                          f"DROP TABLE {each}"):  # fmt: skip
            assert refused(thief, statement), statement


@pytest.mark.parametrize("role", walls.DUTIES)
def test_the_next_property_is_out_of_reach_of_every_update(
    books: str, owner: Session, two: tuple[World, World], role: str
) -> None:
    """Whatever a duty may change at all, it changes at its own property only, and keeps there."""
    here, there = (each.property_id for each in two)
    with psycopg.connect(role_dsn(books, "web"), autocommit=True) as session:
        duty(session, role, here)
        for table in walls.MUTABLE:
            if "property_id" not in columns_of(owner, table):
                continue
            columns = walls.CHANGES.get(table, ()) if table in walls.WRITES.get(role, ()) else ()
            for column in walls.COLUMNS.get((role, table), columns):
                done = session.execute(
                    f"UPDATE {table} SET {column} = {column} WHERE property_id = {there}"
                )
                assert done.rowcount == 0, (table, column)


def test_what_a_role_changes_is_what_the_walls_say(owner: Session) -> None:
    for role in walls.WRITES:
        for table in (*walls.APPEND_ONLY, *walls.MUTABLE):
            may = set(
                all_of(
                    owner,
                    """SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass
                       AND attnum > 0 AND NOT attisdropped
                       AND has_column_privilege(%s, attrelid, attnum, 'UPDATE')""",
                    table,
                    role,
                )
            )
            mine = table in walls.WRITES[role] and table in walls.MUTABLE
            said = walls.COLUMNS.get((role, table), walls.CHANGES[table]) if mine else ()
            assert may == set(said), (role, table)


def test_the_sign_in_notes_the_time_and_nothing_else(books: str) -> None:
    with psycopg.connect(role_dsn(books, "web"), autocommit=True) as session:
        session.execute("UPDATE app_user SET last_login = now() WHERE false")
        for column in ("password", "email", "is_active", "name", "id"):
            assert refused(session, f"UPDATE app_user SET {column} = {column}"), column
        assert refused(session, "INSERT INTO app_user (email, name) VALUES ('a', 'b')")
        assert refused(
            session,
            "INSERT INTO duty_grant (user_id, property_id, duty, granted_at) SELECT user_id, property_id, duty, granted_at FROM duty_grant",
        )


def test_a_refund_that_was_paid_is_never_due_again(
    books: str, owner: Session, two: tuple[World, World]
) -> None:
    owner.execute(
        """INSERT INTO refund (property_id, account_id, event_id, number, amount_micro, reason, made_by,
               made_at, state, paid_way, paid_reference, paid_by, paid_at)
           VALUES (%s, %s, 1, 77, 5, 'moved', 'user:1', now(), 'paid', 'cash', '', 'user:2', now())""",
        [two[0].property_id, two[0].accounts["1001"]],
    )
    undo = """UPDATE refund SET state = 'due', paid_way = '', paid_by = '', paid_at = NULL
              WHERE number = 77"""
    for login, role in (("web", "app_operator"), ("web", "app_admin"), ("clerk", "")):
        with psycopg.connect(role_dsn(books, login), autocommit=True) as session:
            if role:
                duty(session, role, two[0].property_id)
            assert refused(session, undo), role or login
    owner.execute("DELETE FROM refund WHERE number = 77")


# --- the pen ---

_CALL = """SELECT refusal, written FROM append_transfers(%(events)s::bigint[], %(accounts)s::bigint[],
    %(kinds)s::smallint[], array_fill(1::smallint, %(size)s), array_fill(0::smallint, %(size)s),
    %(counters)s::smallint[], %(amounts)s::bigint[], array_fill(0::bigint, %(size)s),
    array_fill(0, %(size)s), array_fill(%(at)s::timestamptz, %(size)s),
    array_fill(%(at)s::timestamptz, %(size)s), %(corrects)s::bigint[], %(corrects)s::bigint[],
    array_fill('test'::text, %(size)s), array_fill(0::smallint, %(size)s),
    %(codes)s::text[], %(at)s, %(actors)s::text[])"""
_PAID = """INSERT INTO public.payment (property_id, account_id, event_id, amount_micro, way, reference, paid_at,
        accepted_at, taken_by)
    SELECT property_id, account_id, %s, %s, %s, '', %s, %s, %s FROM public.account_state WHERE account_id = %s"""
EVENT = 10**9
RECHARGE = (2, 1, 1_000_000, "")
Leg = tuple[int, int, int, str]


def write_legs(session: Session, account: int, *legs: Leg, **changed: list[Any]) -> Any:
    """Ask the pen for one event of (kind, counter-account, amount, code) legs."""
    size = len(legs)
    kinds, counters, amounts, codes = (list(each) for each in zip(*legs, strict=True))
    given: dict[str, Any] = {
        "events": [EVENT] * size, "accounts": [account] * size, "kinds": kinds, "counters": counters,
        "amounts": amounts, "codes": codes, "actors": ["user:1"] * size, "corrects": [None] * size,
    }  # fmt: skip
    return session.execute(_CALL, given | {"size": [size], "at": NOW} | changed).fetchone()


def write(
    session: Session, account: int, *, kind: int = 2, amount: int = 1_000_000, counter: int = 1
) -> Any:
    """Ask the pen for one transfer, with the payment that a recharge is for; it is undone again."""
    with session.transaction(force_rollback=True):
        if kind == 2 and amount > 0 and _may_take_payments(session):
            session.execute(_PAID, [EVENT, amount, "cash", NOW, NOW, "user:1", account])
        return write_legs(session, account, (kind, counter, amount, ""))


def _may_take_payments(session: Session) -> bool:
    row = session.execute("SELECT has_table_privilege('payment', 'INSERT')").fetchone()
    return row == (True,)


def test_the_pen_is_for_those_who_sell_and_sees_what_they_see(
    books: str, two: tuple[World, World]
) -> None:
    mine, theirs = (each.accounts["1001"] for each in two)
    for login in walls.LOGINS:
        with psycopg.connect(role_dsn(books, login), autocommit=True) as session:
            if login == "clerk":
                assert write(session, mine) == write(session, theirs) == (None, 1)
            else:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    write(session, mine)
    with psycopg.connect(role_dsn(books, "web"), autocommit=True) as session:
        for role in ("app_operator", "app_admin"):
            session.execute(f"SET ROLE {role}")
            session.execute("RESET prewatt.properties")
            assert write(session, mine) == ("unknown_account", None), "unset scope sees nothing"
            duty(session, role, two[0].property_id)
            assert write(session, mine) == (None, 1)
            assert write(session, theirs) == ("unknown_account", None)
            session.execute("RESET ROLE")
        duty(session, "app_auditor", two[0].property_id)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            write(session, mine)


def test_the_pen_books_no_more_than_a_duty_may(books: str, two: tuple[World, World]) -> None:
    account = two[0].accounts["1001"]
    with psycopg.connect(role_dsn(books, "web"), autocommit=True) as session:
        duty(session, "app_operator", two[0].property_id)
        for kind in (1, 3, 4, 5, 6, 7, 8, 9, 12, 13):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                write(session, account, kind=kind)
        for amount in (0, -1):
            with pytest.raises(psycopg.errors.CheckViolation):
                write(session, account, amount=amount)
        for amount in (-1, 1):
            for kind in (10, 11):
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="what it pays for"):
                    write(session, account, kind=kind, amount=amount)
        with pytest.raises(psycopg.errors.NumericValueOutOfRange):
            write(session, account, amount=2**63 - 1)
        session.execute("RESET ROLE")
        duty(session, "app_admin", two[0].property_id)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            write(session, account, kind=1)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="does not go that way"):
            write(session, account, kind=5, amount=-1)
        assert write(session, account, kind=3, amount=-1, counter=3) == (None, 1)


SELLERS = [("web", "app_operator"), ("web", "app_admin"), ("clerk", "")]


@pytest.fixture(params=SELLERS, ids=lambda way: way[1] or way[0])
def seller(
    request: pytest.FixtureRequest, books: str, two: tuple[World, World]
) -> Iterator[Session]:
    """A session of each login that sells."""
    login, role = request.param
    with psycopg.connect(role_dsn(books, login), autocommit=True) as session:
        if role:
            duty(session, role, two[0].property_id)
        yield session


@pytest.mark.parametrize(
    "paid",
    [
        None,
        {"amount": 999_999},
        {"way": "transfer"},
        {"by": "user:2"},
        {"event": EVENT + 1},
        {"account": "1002"},
    ],
    ids=str,
)
def test_no_credit_is_sold_without_its_own_payment(
    seller: Session, two: tuple[World, World], paid: dict[str, Any] | None
) -> None:
    accounts = two[0].accounts
    account = accounts["1001"]
    other = next(each for number, each in accounts.items() if number != "1001")
    with seller.transaction(force_rollback=True):
        if paid is not None:
            seller.execute(
                _PAID,
                [paid.get("event", EVENT), paid.get("amount", 1_000_000), paid.get("way", "cash"),
                 NOW, NOW, paid.get("by", "user:1"), other if "account" in paid else account],
            )  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="its own event"):
            write_legs(seller, account, RECHARGE)


def test_a_payment_is_sold_for_once(
    seller: Session, owner: Session, two: tuple[World, World]
) -> None:
    account = two[0].accounts["1001"]
    with seller.transaction(force_rollback=True):
        seller.execute(_PAID, [EVENT, 1_000_000, "cash", NOW, NOW, "user:1", account])
        with pytest.raises(psycopg.errors.InsufficientPrivilege), seller.transaction():
            write_legs(seller, account, RECHARGE, RECHARGE)
        assert write_legs(seller, account, RECHARGE) == (None, 1)
        with pytest.raises(psycopg.errors.InsufficientPrivilege), seller.transaction():
            write_legs(seller, account, RECHARGE)
    (sold,) = all_of(owner, "SELECT min(event_id) FROM payment WHERE account_id = %s", account)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), seller.transaction():
        write_legs(seller, account, (2, 1, 5_000_000, ""), events=[sold], actors=["user:3"])


def test_two_at_once_do_not_sell_for_one_payment(
    books: str, owner: Session, two: tuple[World, World]
) -> None:
    """The payment is there already, and both ask for its credit: the second finds it sold."""
    account = two[0].accounts["1001"]
    owner.execute(_PAID, [EVENT + 7, 1_000_000, "cash", NOW, NOW, "user:1", account])
    done: list[Any] = []

    def second() -> None:
        with psycopg.connect(role_dsn(books, "clerk")) as session:
            try:
                done.append(write_legs(session, account, RECHARGE, events=[EVENT + 7]))
            except psycopg.errors.InsufficientPrivilege as error:
                done.append(error)
            session.rollback()

    with psycopg.connect(role_dsn(books, "clerk")) as first:
        assert write_legs(first, account, RECHARGE, events=[EVENT + 7]) == (None, 1)
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive() and done == [], "it waits for the account"
        first.commit()
        waiting.join(10)
    assert isinstance(done[0], psycopg.errors.InsufficientPrivilege)


DEBT = (11, 12, -400_000, "D-77")
CHARGE = (10, 4, -600_000, "house")


@pytest.mark.parametrize(
    ("legs", "may"),
    [
        ((RECHARGE, CHARGE, DEBT), True),
        ((RECHARGE, (10, 4, 1, "house")), False),
        ((RECHARGE, (11, 12, 1, "D-77")), False),
        ((RECHARGE, CHARGE, CHARGE), False),
        ((RECHARGE, (10, 1, -1, "house")), False),
        ((RECHARGE, (10, 10, -1, "house")), False),
        ((RECHARGE, (11, 1, -1, "D-77")), False),
        ((RECHARGE, (11, 12, -1, "D-78")), False),
        ((CHARGE,), False),
        ((DEBT,), False),
    ],
    ids=str,
)
def test_an_operator_takes_of_a_recharge_what_it_pays_for(
    books: str, owner: Session, two: tuple[World, World], legs: tuple[Leg, ...], may: bool
) -> None:
    account = two[0].accounts["1001"]
    owner.execute(
        """INSERT INTO debt (property_id, legal_entity_id, account_id, number, code, reason, note,
               principal_micro, origin_event_id, share_ppm, weekly_cap_micro, opened_at, opened_by, ending)
           SELECT property_id, legal_entity_id, account_id, 77, 'D-77', 'arrears', '', 1, 1, 1, 0, now(),
                  'user:1', '' FROM account_state WHERE account_id = %s
           ON CONFLICT DO NOTHING""",
        [account],
    )
    with psycopg.connect(role_dsn(books, "web"), autocommit=True) as session:
        duty(session, "app_operator", two[0].property_id)
        with session.transaction(force_rollback=True):
            session.execute(_PAID, [EVENT, 1_000_000, "cash", NOW, NOW, "user:1", account])
            if may:
                assert write_legs(session, account, *legs) == (None, len(legs))
            else:
                with pytest.raises(
                    (psycopg.errors.IntegrityError, psycopg.errors.InsufficientPrivilege)
                ):
                    write_legs(session, account, *legs)
    owner.execute("DELETE FROM debt WHERE code = 'D-77'")


def test_an_operator_corrects_nothing_and_signs_with_one_name(
    books: str, two: tuple[World, World]
) -> None:
    here, there = (each.accounts["1001"] for each in two)
    other = next(each for number, each in two[0].accounts.items() if number != "1001")
    with psycopg.connect(role_dsn(books, "web"), autocommit=True) as session:
        duty(session, "app_operator", two[0].property_id)
        for changed in (
            {"corrects": [None, 1]},
            {"actors": ["user:1", "user:2"]},
            {"accounts": [here, other]},
            {"accounts": [here, there]},
            {"events": [EVENT, EVENT + 1]},
        ):
            with session.transaction(force_rollback=True):
                session.execute(_PAID, [EVENT, 1_000_000, "cash", NOW, NOW, "user:1", here])
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="what it pays for"):
                    write_legs(session, here, RECHARGE, CHARGE, **changed)


def test_the_pen_takes_columns_of_one_length(books: str, two: tuple[World, World]) -> None:
    account = two[0].accounts["1001"]
    with psycopg.connect(role_dsn(books, "clerk"), autocommit=True) as session:
        for torn in ({"counters": [1, 1]}, {"actors": []}, {"kinds": [5, 5]}):
            with pytest.raises(psycopg.errors.IntegrityError), session.transaction():
                write_legs(session, account, (5, 1, 5, ""), **torn)


def test_no_table_can_be_slipped_under_the_pen(
    books: str, owner: Session, two: tuple[World, World]
) -> None:
    """Temporary tables of the same names, and a search path of the caller's choice."""
    account = two[0].accounts["1001"]
    with psycopg.connect(role_dsn(books, "web"), autocommit=True) as session:
        duty(session, "app_operator", two[0].property_id)
        for table in ("account_state", "transfer", "property", "ledger_period", "payment", "debt"):
            session.execute(f"CREATE TEMP TABLE {table} (LIKE public.{table})")
        session.execute(
            "CREATE FUNCTION pg_temp.coalesce_(text) RETURNS text LANGUAGE sql AS 'SELECT $1'"
        )
        session.execute("SET search_path = pg_temp, public")
        assert write(session, account) == (None, 1)
        assert write(session, two[1].accounts["1001"]) == ("unknown_account", None)
    with psycopg.connect(role_dsn(books, "keeper"), autocommit=True) as session:
        session.execute(
            "CREATE TEMP TABLE interval (start_at timestamptz) PARTITION BY RANGE (start_at)"
        )
        session.execute("SELECT make_month_partitions('2032-01-01', '2032-01-31')")
    assert all_of(owner, "SELECT count(*) FROM pg_inherits WHERE inhrelid = 'interval_203201'::regclass") == [1]  # fmt: skip


def test_every_function_with_its_owners_rights_is_closed(owner: Session) -> None:
    found = owner.execute(
        """SELECT proname, proconfig::text, has_function_privilege('public', oid, 'EXECUTE')
           FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"""
    ).fetchall()
    assert {name for name, _, _ in found} >= {"append_transfers", "make_month_partitions"}
    for name, settings, is_public in found:
        assert settings is not None and 'pg_temp"' in settings, f"{name} has no fixed search path"
        assert not is_public, f"anybody may execute {name}"


def test_every_pen_belongs_to_a_role_that_nobody_can_become(owner: Session) -> None:
    for pen in walls.PENS:
        for function in pen.holders:
            row = owner.execute(
                """SELECT r.rolname, r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR r.rolcreaterole,
                          (SELECT count(*) FROM pg_auth_members WHERE roleid = r.oid)
                   FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner WHERE proname = %s""",
                [function],
            ).fetchone()
            assert row == (pen.role, False, 0), function


def test_a_pen_is_in_the_hands_that_the_walls_say(owner: Session) -> None:
    for pen in walls.PENS:
        for function, holders in pen.holders.items():
            may = all_of(
                owner,
                """SELECT rolname::text FROM pg_roles r, pg_proc p
                   WHERE proname = %s AND rolname = ANY(%s)
                     AND has_function_privilege(r.oid, p.oid, 'EXECUTE')""",
                function,
                [*walls.LOGINS, *walls.DUTIES, *(each.role for each in walls.PENS if each != pen)],
            )
            assert set(may) == set(holders), function


_EVERY_PROPERTY = """ARRAY(SELECT {} FROM property p LEFT JOIN tariff_epoch e ON e.property_id = p.id
    LEFT JOIN supply_policy r ON r.property_id = p.id ORDER BY p.id)"""
_KNOWN = ", ".join(
    _EVERY_PROPERTY.format(each)
    for each in ("p.id", "coalesce(e.epoch, 0)", "coalesce(r.version, 0)", *["0::bigint"] * 4)
)
_SALE = f"""SELECT count(*), min(receipt_number) FROM append_sales(%(at)s, 'then', %(actors)s::text[],
    %(keys)s::text[], array_fill(sha256(''), ARRAY[cardinality(%(keys)s::text[])]),
    %(accounts)s::bigint[], %(amounts)s::bigint[], %(ways)s::text[], %(references)s::text[],
    %(paid)s::timestamptz[], %(scopes)s::text[], 8760, {_KNOWN})"""


def sale(session: Session, *accounts: int, **changed: Any) -> Any:
    """Ask the pen for one recharge of each account, with all that belongs to it; it is undone again."""
    size = len(accounts)
    given = {
        "accounts": list(accounts), "amounts": [1_000_000] * size, "ways": ["cash"] * size,
        "references": [""] * size, "paid": [NOW] * size, "actors": ["user:1"] * size, "at": NOW,
        "scopes": [None] * size, "keys": [f"sale {at}" for at in range(size)],
    }  # fmt: skip
    with session.transaction(force_rollback=True):
        row = session.execute(_SALE, given | changed).fetchone()
        assert row is not None
        stored = session.execute(
            """SELECT p.amount_micro, t.amount, t.counter_account, t.actor = p.taken_by, d.amount_micro
               FROM payment p JOIN transfer t USING (event_id, account_id)
               JOIN document d USING (event_id, account_id) WHERE d.number = %s AND d.series = 'R'""",
            [row[1]],
        ).fetchone()
    return row[0], stored


@pytest.fixture
def calm(owner: Session) -> None:
    """As a reading leaves accounts: credit changes nothing of their supply."""
    owner.execute("UPDATE account_state SET watch_below = 1")


@pytest.mark.usefixtures("calm")
def test_a_recharge_and_its_payment_are_written_together_for_who_sells(
    books: str, two: tuple[World, World]
) -> None:
    mine, theirs = (each.accounts["1001"] for each in two)
    written = 1, (1_000_000, 1_000_000, 1, True, 1_000_000)
    for login in walls.LOGINS:
        with psycopg.connect(role_dsn(books, login), autocommit=True) as session:
            if login == "clerk":
                assert sale(session, mine) == sale(session, theirs) == written
            else:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    sale(session, mine)
    with psycopg.connect(role_dsn(books, "web"), autocommit=True) as session:
        for role in ("app_operator", "app_admin"):
            duty(session, role, two[0].property_id)
            assert sale(session, mine) == written
            assert sale(session, theirs) == sale(session, mine, scopes=["{}"]) == (0, None)
            session.execute("RESET ROLE")
        duty(session, "app_auditor", two[0].property_id)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            sale(session, mine)


@pytest.mark.usefixtures("calm")
def test_what_is_written_together_is_once_for_money_that_came_in(
    seller: Session, two: tuple[World, World]
) -> None:
    account, other = (two[0].accounts[number] for number in ("1001", "OWN-LIFT"))
    for amount in (0, -1):
        with pytest.raises(
            psycopg.errors.CheckViolation, match=r"payment_is_positive|amount_check"
        ):
            sale(seller, account, amounts=[amount])
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        sale(seller, account, amounts=[2**63 - 1])
    with pytest.raises(psycopg.errors.CheckViolation, match="payment_came_by_a_way"):
        sale(seller, account, ways=["barter"])
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        sale(seller, account, at=NOW + timedelta(days=40_000))
    # Twice in one call it is booked once, and a key is good for one.
    assert sale(seller, account, account)[0] == 1
    with pytest.raises(psycopg.errors.UniqueViolation, match="idempotency"):
        sale(seller, account, other, keys=["one", "one"])
    # Columns that differ in length sell nothing.
    assert sale(seller, account, actors=[]) == (0, None)
    for torn in ({"amounts": []}, {"references": []}):
        with pytest.raises(psycopg.errors.NotNullViolation):
            sale(seller, account, **torn)


@pytest.mark.usefixtures("calm")
def test_closed_books_take_no_recharge_whatever_was_looked_at_before(
    seller: Session, owner: Session, two: tuple[World, World]
) -> None:
    here = two[0]
    owner.execute(
        "INSERT INTO ledger_period (property_id, open_from) VALUES (%s, '2030-01-01')",
        [here.property_id],
    )
    try:
        assert sale(seller, here.accounts["1001"]) == (0, None)
    finally:
        owner.execute("DELETE FROM ledger_period WHERE property_id = %s", [here.property_id])
