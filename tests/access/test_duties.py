"""Who is given which duty, how far it reaches, and what no person can be at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from tests.access.test_walls import all_of, duty, owner, refused, two, web
from tests.conftest import role_dsn
from tests.invariants.conftest import books
from tests.invariants.places import World

from prewatt.access.models import Duty
from prewatt.access.scope import FOR_PEOPLE, PERMISSIONS, Actor, PermissionRefused, may, require

__all__ = ["books", "owner", "two", "web"]

Session = psycopg.Connection[Any]
NOW = datetime(2026, 11, 17, 12, tzinfo=UTC)
GIVE = "SELECT grant_id, refusal FROM grant_duty(%s, %s, %s, %s, %s, %s, 'user:1', %s)"
HELD = "SELECT property_id, duty, account_ids FROM duties_of(%s) ORDER BY property_id"


@pytest.fixture
def person(owner: Session) -> Iterator[int]:
    """Somebody new, and nothing of it afterwards."""
    with owner.transaction(force_rollback=True):
        yield somebody(owner, "zoe")


def somebody(owner: Session, name: str) -> int:
    return int(
        all_of(
            owner,
            """INSERT INTO app_user (email, name, language, is_active, password, created_at)
               VALUES (%s, %s, 'en', true, '', now()) RETURNING id""",
            f"{name}@access.example",
            name,
        )[0]
    )


def give(owner: Session, person: int, what: str, **reach: int | None) -> tuple[Any, Any]:
    row = owner.execute(
        GIVE,
        [
            person, what, reach.get("place"), reach.get("group"), reach.get("organisation"),
            reach.get("customer"), NOW,
        ],
    ).fetchone()  # fmt: skip
    assert row is not None
    return row[0], row[1]


def held(owner: Session, person: int) -> list[tuple[int, str]]:
    return [(row[0], row[1]) for row in owner.execute(HELD, [person])]


def organisation_of(owner: Session, place: int) -> int:
    return int(all_of(owner, "SELECT organisation_id FROM property WHERE id = %s", place)[0])


def another_company(owner: Session) -> tuple[int, int]:
    """(organisation, property) of a second management company."""
    (company,) = all_of(owner, "INSERT INTO organisation (name) VALUES ('Other') RETURNING id")
    (entity,) = all_of(
        owner,
        "INSERT INTO legal_entity (organisation_id, name, tax_number) VALUES (%s, 'O', '') RETURNING id",
        company,
    )
    (place,) = all_of(
        owner,
        """INSERT INTO property (organisation_id, legal_entity_id, code, name, currency, minor_digits,
               time_zone, holiday_calendar, language)
           VALUES (%s, %s, 'OTHER', 'Other Court', 'EUR', 2, 'Europe/Berlin', '', 'en') RETURNING id""",
        company, entity,
    )  # fmt: skip
    return int(company), int(place)


def another_place(owner: Session, beside: int) -> int:
    """One more property of the same company."""
    return int(
        all_of(
            owner,
            """INSERT INTO property (organisation_id, legal_entity_id, code, name, currency, minor_digits,
                   time_zone, holiday_calendar, language)
               SELECT organisation_id, legal_entity_id, 'BESIDE', 'Beside', currency, 2, time_zone, '', 'en'
               FROM property WHERE id = %s RETURNING id""",
            beside,
        )[0]
    )


def test_a_grant_reaches_a_property_a_group_or_an_organisation(
    owner: Session, person: int, two: tuple[World, World]
) -> None:
    here = two[0].property_id
    company = organisation_of(owner, here)
    beside = another_place(owner, here)
    far, far_place = another_company(owner)
    assert held(owner, person) == []
    (group,) = all_of(
        owner,
        "INSERT INTO property_group (organisation_id, name) VALUES (%s, 'North') RETURNING id",
        company,
    )
    member = "INSERT INTO property_group_member VALUES (%s, %s, %s)"
    owner.execute(member, [group, beside, company])
    for organisation in (company, far):
        with pytest.raises(psycopg.errors.ForeignKeyViolation), owner.transaction():
            owner.execute(member, [group, far_place, organisation])
    assert give(owner, person, "administrator", group=group)[1] is None
    assert held(owner, person) == [(beside, "administrator")]
    whole, refusal = give(owner, person, "operator", organisation=company)
    assert refusal is None
    reached = dict(held(owner, person))
    assert reached[here] == "operator"
    assert reached[beside] == "administrator", "the narrower grant counts"
    assert far_place not in reached
    owner.execute("SELECT end_duty(%s, 'user:1', %s)", [whole, NOW])
    assert held(owner, person) == [(beside, "administrator")]
    owner.execute("UPDATE app_user SET is_active = false WHERE id = %s", [person])
    assert held(owner, person) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("auditor", "operator"), ("operator", "auditor"), ("administrator", "owner"),
        ("owner", "auditor"), ("installer", "auditor"), ("auditor", "owner"),
    ],
)  # fmt: skip
def test_nobody_holds_duties_of_two_lines_anywhere_in_the_installation(
    owner: Session, person: int, two: tuple[World, World], first: str, second: str
) -> None:
    here, there = two[0].property_id, another_place(owner, two[0].property_id)
    made, _ = give(owner, person, first, place=here)
    for place in (here, there):
        grant, refusal = give(owner, person, second, place=place)
        assert grant is None and refusal in {"line", "held"}
        # Nor past the function, by whoever could write the table.
        with pytest.raises(psycopg.errors.IntegrityError), owner.transaction():
            owner.execute(
                """INSERT INTO duty_grant (user_id, property_id, duty, granted_at)
                   VALUES (%s, %s, %s, now())""",
                [person, place, second],
            )
    with pytest.raises(psycopg.errors.ForeignKeyViolation), owner.transaction():
        owner.execute("UPDATE person_line SET line = 'tenant' WHERE user_id = %s", [person])
    assert held(owner, person) == [(here, first)]
    assert all_of(owner, "SELECT end_duty(%s, 'user:1', %s)", made, NOW) == [True]
    assert give(owner, person, second, place=there)[1] is None, "every grant has ended"
    assert held(owner, person) == [(there, second)]


def test_two_writers_at_once_do_not_make_one_person_both(
    books: str, owner: Session, two: tuple[World, World]
) -> None:
    """The second waits for the first, and finds what it did."""
    who, here = somebody(owner, "twofold"), two[0].property_id
    there = two[1].property_id
    write = (
        "INSERT INTO duty_grant (user_id, property_id, duty, granted_at) VALUES (%s, %s, %s, now())"
    )
    with psycopg.connect(books) as one, psycopg.connect(books) as other:
        one.execute(write, [who, here, "auditor"])
        other.execute("SET lock_timeout = '300ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(write, [who, there, "operator"])
        one.commit()
        other.rollback()
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            other.execute(write, [who, there, "operator"])
    assert [what for _, what in held(owner, who)] == ["auditor"]


def test_nobody_holds_duties_in_two_organisations(
    owner: Session, person: int, two: tuple[World, World]
) -> None:
    here = two[0].property_id
    far, far_place = another_company(owner)
    assert give(owner, person, "operator", place=here)[1] is None
    assert give(owner, person, "operator", place=far_place) == (None, "organisation")
    assert give(owner, person, "operator", organisation=far) == (None, "organisation")
    with pytest.raises(psycopg.errors.ForeignKeyViolation), owner.transaction():
        owner.execute(
            """INSERT INTO duty_grant (user_id, property_id, organisation_id, duty, granted_at)
               VALUES (%s, %s, %s, 'operator', now())""",
            [person, far_place, organisation_of(owner, here)],
        )
    assert held(owner, person) == [(here, "operator")]


def test_a_grant_ends_and_never_vanishes_or_changes(
    owner: Session, person: int, two: tuple[World, World]
) -> None:
    here = two[0].property_id
    made, _ = give(owner, person, "operator", place=here)
    assert give(owner, person, "administrator", place=here) == (None, "held")
    for change in (
        "UPDATE duty_grant SET duty = 'administrator' WHERE id = %s",
        "UPDATE duty_grant SET user_id = 1, ended_at = now() WHERE id = %s",
        "UPDATE duty_grant SET granted_by = 'user:9' WHERE id = %s",
        "DELETE FROM duty_grant WHERE id = %s",
    ):
        with pytest.raises(psycopg.errors.CheckViolation), owner.transaction():
            owner.execute(change, [made])
    assert all_of(owner, "SELECT end_duty(%s, 'user:1', %s)", made, NOW) == [True]
    assert all_of(owner, "SELECT end_duty(%s, 'user:1', %s)", made, NOW) == [False]
    with pytest.raises(psycopg.errors.CheckViolation), owner.transaction():
        owner.execute("UPDATE duty_grant SET ended_at = NULL WHERE id = %s", [made])
    row = owner.execute("SELECT granted_by, ended_by FROM duty_grant WHERE id = %s", [made])
    assert row.fetchone() == ("user:1", "user:1")


@pytest.mark.parametrize(
    ("what", "reach", "refusal"),
    [
        ("king", {"place": 0}, "duty"), ("operator", {}, "place"), ("operator", {"place": -1}, "place"),
        ("operator", {"place": 0, "organisation": 1}, "place"), ("tenant", {"place": 0}, "customer"),
        ("tenant", {"place": 0, "customer": -1}, "customer"), ("system", {"place": 0}, "duty"),
        ("operator", {"place": 0, "customer": 1}, "customer"),
    ],
)  # fmt: skip
def test_what_is_no_grant_is_refused(
    owner: Session, person: int, two: tuple[World, World], what: str, reach: dict[str, int],
    refusal: str,
) -> None:  # fmt: skip
    reach = {key: two[0].property_id if value == 0 else value for key, value in reach.items()}
    assert give(owner, person, what, **reach) == (None, refusal)
    assert give(owner, -1, "operator", place=two[0].property_id) == (None, "person")


# --- a tenant, straight at the database ---


def as_tenant(session: Session, place: int, *accounts: int) -> None:
    duty(session, "app_tenant", place)
    listed = "{" + ",".join(str(each) for each in accounts) + "}"
    session.execute("SELECT set_config('prewatt.accounts', %s, false)", [listed])


def test_a_tenant_sees_the_accounts_of_their_customers_and_nobody_elses(
    books: str, owner: Session, person: int, two: tuple[World, World]
) -> None:
    here, there = two
    mine = here.accounts["1001"]
    (customer,) = all_of(owner, "SELECT customer_id FROM account WHERE id = %s", mine)
    assert give(owner, person, "tenant", place=here.property_id, customer=customer)[1] is None
    assert (
        give(owner, person, "tenant", place=there.property_id, customer=customer)[1] == "customer"
    )
    (row,) = owner.execute(HELD, [person]).fetchall()
    assert row == (here.property_id, "tenant", [mine])
    with psycopg.connect(role_dsn(books, "web"), autocommit=True) as session:
        for accounts in ((), (there.accounts["1001"],)):
            as_tenant(session, here.property_id, *accounts)
            for table in ("account", "account_state", "transfer", "interval", "payment", "customer",
                          "message", "tenancy", "unit", "document", "supply_state"):  # fmt: skip
                assert all_of(session, f"SELECT count(*) FROM {table}") == [0], (table, accounts)
            session.execute("RESET ROLE")
        as_tenant(session, here.property_id, mine)
        for table in ("account_state", "transfer", "interval", "payment"):
            assert set(all_of(session, f"SELECT account_id FROM {table}")) == {mine}, table
        assert all_of(session, "SELECT id FROM account") == [mine]
        assert all_of(session, "SELECT id FROM customer") == [customer]
        for forbidden in (
            "SELECT email FROM customer", "SELECT FROM alert", "SELECT FROM audit_event",
            "SELECT FROM debt", "SELECT FROM app_user", "SELECT taken_by FROM payment",
            "SELECT FROM duty_grant", "SELECT FROM proposal", "UPDATE account SET closed_at = NULL",
            "SELECT FROM register_reading", "SELECT FROM meter_link",
        ):  # fmt: skip
            assert refused(session, forbidden), forbidden


def test_an_installer_sees_no_money_and_no_name_and_an_owner_no_name(
    web: Session, two: tuple[World, World]
) -> None:
    here, there = two
    duty(web, "app_installer", here.property_id)
    assert set(all_of(web, "SELECT id FROM meter")) == set(here.meters.values())
    for hidden in ("account_state", "transfer", "payment", "interval", "customer", "message", "debt",
                   "tariff_version", "tenancy"):  # fmt: skip
        assert refused(web, f"SELECT FROM {hidden}"), hidden
    assert refused(web, "SELECT customer_id FROM account")
    register = (
        "INSERT INTO concentrator (property_id, serial, name, edition) VALUES (%s, 'CX', '', 0)"
    )
    with web.transaction(force_rollback=True):
        web.execute(register, [here.property_id])
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        web.execute(register, [there.property_id])
    web.execute("RESET ROLE")
    duty(web, "app_owner", here.property_id)
    assert all_of(web, "SELECT count(*) > 0 FROM transfer") == [True]
    for hidden in ("customer", "message", "message_attempt", "app_user", "audit_event"):
        assert refused(web, f"SELECT FROM {hidden}"), hidden
    for change in (
        "UPDATE tariff SET name = 'x'",
        "DELETE FROM transfer",
        "INSERT INTO alert DEFAULT VALUES",
    ):
        assert refused(web, change), change


def test_the_sign_in_asks_about_duties_and_gives_none(web: Session) -> None:
    assert web.execute("SELECT * FROM duties_of(1)").fetchall() is not None
    assert refused(
        web, "SELECT grant_duty(1, 'administrator', 1, NULL, NULL, NULL, 'user:1', now())"
    )
    assert refused(web, "SELECT end_duty(1, 'user:1', now())")
    web.execute("SET ROLE app_admin")
    assert refused(
        web, "SELECT grant_duty(1, 'administrator', 1, NULL, NULL, NULL, 'user:1', now())"
    )
    assert refused(web, "SELECT FROM person_line")


# --- what a service account may ---


def test_a_service_account_does_what_is_named_within_its_duty_and_never_what_takes_a_person() -> (
    None
):
    named = frozenset({"vending.recharge", "vending.refund", "approvals.approve"})
    desk = Actor("key:1", Duty.OPERATOR, (1,), allowed=named)
    require(desk, "vending.recharge", property_id=1)
    assert {each for each in PERMISSIONS if may(desk, each)} == {"vending.recharge"}
    for place in (1, 2):
        with pytest.raises(PermissionRefused):
            require(desk, "estate.read" if place == 1 else "vending.recharge", property_id=place)
    admin = Actor("key:2", Duty.ADMINISTRATOR, (1,), allowed=frozenset(PERMISSIONS))
    assert not {each for each in FOR_PEOPLE if may(admin, each)}
