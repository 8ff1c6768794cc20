"""Every event says where it came from, and no caller has to say it: request, duty, address, login."""

from __future__ import annotations

from typing import Any

from django.db import connection
from tests.invariants.places import NOW, place, wish

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, scope
from prewatt.audit.context import Origin, browser_digest, coming_from, name_process, origin
from prewatt.audit.operations import record
from prewatt.vending.operations import Known, recharge_at_once, recharge_together
from prewatt.vending.words import Answer, Ask, Recharged

BROWSER = browser_digest("Mozilla/5.0")
FIRST, SECOND = (
    Origin("aaaa", "192.0.2.7", BROWSER),
    Origin("bbbb", "2001:db8::1", BROWSER),
)


def events(code: str) -> list[tuple[Any, ...]]:
    """(request, duty, address, browser, subject) of the events of a code, in the order written."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT request_id, duty, address, browser, subject FROM audit_event
               WHERE code = %s ORDER BY id""",
            [code],
        )
        return list(cursor.fetchall())


def test_a_deed_has_the_origin_of_its_request_or_of_its_process(database: str) -> None:
    here = place()
    clerk = Actor("user:7", Duty.ADMINISTRATOR, (here.property_id,))
    before = origin()
    try:
        name_process("cli:test", address="ada@machine one")
        with coming_from(FIRST), scope(clerk):
            record(actor=clerk.code, code="test.deed", property_id=here.property_id,
                   subject="proposal:12", now=NOW, before=1, after=2)  # fmt: skip
        with scope(clerk):
            record(actor=clerk.code, code="test.deed", property_id=here.property_id,
                   subject="account:1", now=NOW, proposal=13)  # fmt: skip
    finally:
        name_process(before.request, address=before.address)
    assert events("test.deed") == [
        ("aaaa", "administrator", "192.0.2.7", BROWSER, "proposal:12"),
        # A space within a word would push the next one out of its column.
        ("cli:test", "administrator", "ada@machineone", "", "account:1"),
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT proposal_id, login = session_user, count(*) OVER (PARTITION BY transaction)
               FROM audit_event WHERE code = 'test.deed' ORDER BY id"""
        )
        assert cursor.fetchall() == [(12, True, 1), (13, True, 1)]


def test_recharges_of_one_commit_each_have_the_origin_of_who_asked(database: str) -> None:
    here = place()
    numbers = sorted(here.accounts)[:2]
    cashier = Actor("user:7", Duty.OPERATOR, (here.property_id,))

    def asks(name: str) -> list[Ask]:
        return [
            Ask(cashier, wish(here, f"{name}{at}", account=here.accounts[number]), where)
            for at, (number, where) in enumerate(zip(numbers, (FIRST, SECOND), strict=True))
        ]

    known: Known = {}
    told: list[Answer | None] = recharge_together(asks=asks("slow"), now=NOW, known=known)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE account_state SET watch_below = 1")
    told += recharge_at_once(asks=asks("quick"), now=NOW, known=known)
    assert all(isinstance(each, Recharged) for each in told), "both ways of selling are looked at"
    expected = [
        (where.request, "operator", where.address, BROWSER, f"account:{here.accounts[number]}")
        for number, where in zip(numbers, (FIRST, SECOND), strict=True)
    ]
    assert events("vending.recharge.posted") == expected * 2
