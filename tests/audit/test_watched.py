"""Looks at personal data and refused attempts are events, written once in a while and never lost with a refusal."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.test import Client
from django.urls import get_resolver
from tests.conftest import role_dsn
from tests.web.conftest import as_owner, fernmoor, laid_out, sign_in

from fernmoor import NOW, Fernmoor
from prewatt.access.models import Duty
from prewatt.access.scope import Actor
from prewatt.audit.refusals import Heeded
from prewatt.oversight.trail import (
    REFUSED,
    REFUSED_MAX,
    SIGN_INS_MAX,
    Looks,
    note_refusals,
    note_refused_sign_in,
)
from prewatt.web import watched

__all__ = ["as_owner", "fernmoor", "laid_out", "sign_in"]

SignIn = Callable[..., Any]


def events(place: Fernmoor, code: str) -> list[tuple[Any, ...]]:
    """(actor, duty, subject, detail, address, request) of the events of a code."""
    with psycopg.connect(place.dsn) as owner:
        return owner.execute(
            """SELECT actor, duty, subject, detail, address, request_id FROM audit_event
               WHERE code = %s ORDER BY id""",
            [code],
        ).fetchall()


def _routes(pattern: Any, before: str) -> list[str]:
    here = before + str(pattern.pattern)
    return [
        route for each in getattr(pattern, "url_patterns", ()) for route in _routes(each, here)
    ] or [here]


def test_every_address_says_whose_data_it_shows_or_that_it_shows_nobodys() -> None:
    routes = {route for each in get_resolver().url_patterns for route in _routes(each, "")}
    untold = routes - {*watched.READS, *watched.IMPERSONAL}
    assert untold == set(), "name the page in web/watched.py: whose data does it show?"
    assert not set(watched.READS) & watched.IMPERSONAL


def test_a_look_is_written_once_in_a_while_for_staff_and_auditor_alike(
    fernmoor: Fernmoor, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "_LOOKS", Looks())
    account = fernmoor.accounts["N-305"]
    for duty in ("operator", "auditor"):
        client = sign_in(fernmoor, duty)
        for _ in range(2):
            answer = client.get(f"/accounts/{account}", headers={"user-agent": "Mozilla/5.0"})
            assert answer.status_code == 200
        assert client.get("/accounts/999999").status_code == 404
    sign_in(fernmoor, "administrator").get("/customers/pick/customer?q=Solberg")
    looks = events(fernmoor, "reads.account")
    assert [row[:4] for row in looks] == [
        (f"user:{fernmoor.users[duty]}", duty, f"account:{account}", {})
        for duty in ("operator", "auditor")
    ]
    assert all(row[4] == "127.0.0.1" and re.fullmatch("[0-9a-f]{16}", row[5]) for row in looks)
    assert looks[-1][5] != answer["X-Request-ID"], "the second look was not written"
    assert [row[3] for row in events(fernmoor, "reads.picker")] == [{"asked": "Solberg"}]


def test_looks_are_remembered_by_the_database_too(fernmoor: Fernmoor, as_owner: Any) -> None:
    actor = Actor("user:5", Duty.AUDITOR, (fernmoor.property_id,))

    def look(looks: Looks, minutes: int, subject: str = "account:1") -> bool:
        return looks.note(actor=actor, code="reads.account", subject=subject, asked="",
                          now=NOW + timedelta(minutes=minutes))  # fmt: skip

    mine, of_another_process = Looks(), Looks()
    assert look(mine, 0)
    assert not look(mine, 14)
    assert not look(of_another_process, 14)
    assert look(mine, 14, "account:2")
    assert look(mine, 15)
    assert len(events(fernmoor, "reads.account")) == 3


def test_refusals_are_events_of_their_own_and_bounded(fernmoor: Fernmoor, sign_in: SignIn) -> None:
    client = sign_in(fernmoor, "operator")
    assert client.post("/property/rules/change", {}).status_code == 403
    ((actor, duty, _, detail, _, _),) = events(fernmoor, REFUSED)[-1:]
    assert (actor, duty) == (f"user:{fernmoor.users['operator']}", "operator")
    assert detail["what"] == "permission" and "supply.rules" in detail["why"]
    assert (detail["method"], detail["path"]) == ("POST", "/property/rules/change")
    before = len(events(fernmoor, REFUSED))
    who = Actor("user:77", Duty.OPERATOR, (fernmoor.property_id,))
    for _ in range(REFUSED_MAX + 5):
        note_refusals(
            actor=who, refused=[Heeded("factor", "code")], path="/", method="POST", now=NOW
        )
    assert len(events(fernmoor, REFUSED)) == before + REFUSED_MAX


def test_owners_tenants_and_installers_are_seen_although_they_may_not_read_the_audit(
    fernmoor: Fernmoor, as_owner: Any
) -> None:
    place = fernmoor.property_id
    with as_owner(fernmoor):
        for number, duty in enumerate((Duty.OWNER, Duty.TENANT, Duty.INSTALLER), 81):
            actor = Actor(f"user:{number}", duty, (place,))
            for _ in range(REFUSED_MAX + 2):
                note_refusals(
                    actor=actor,
                    refused=[Heeded("permission", "money")],
                    path="/",
                    method="GET",
                    now=NOW,
                )
            looked = [
                Looks().note(actor=actor, code="reads.meter", subject="meter:1", asked="", now=NOW)
                for _ in range(2)
            ]
            assert looked == [True, False]
    assert [row[:2] for row in events(fernmoor, "reads.meter")] == [
        ("user:81", "owner"), ("user:82", "tenant"), ("user:83", "installer")
    ]  # fmt: skip
    assert len(events(fernmoor, REFUSED)) == 3 * REFUSED_MAX
    forged = "SELECT note_of_narrow(%s, %s, %s, 'x:1', '{}', now(), now() - interval '1 hour', 1)"
    with psycopg.connect(role_dsn(fernmoor.dsn, "web"), autocommit=True) as web:
        for role, where, who, code in (
            ("app_owner", place, "user:1", "vending.recharge.posted"),
            ("app_tenant", place, "system:clerk", "reads.meter"),
            ("app_installer", place + 1, "user:1", "reads.meter"),
            ("app_operator", place, "user:1", "reads.meter"),
        ):
            web.execute(f"SET ROLE {role}")
            web.execute("SELECT set_config('prewatt.properties', %s, false)", [f"{{{place}}}"])
            with pytest.raises(
                (psycopg.errors.CheckViolation, psycopg.errors.InsufficientPrivilege)
            ):
                web.execute(forged, [where, who, code])


def test_what_is_refused_at_the_sign_in_is_an_event_of_each_network_and_hour(
    fernmoor: Fernmoor, as_owner: Any
) -> None:
    with as_owner(fernmoor):
        for minute in range(SIGN_INS_MAX + 5):
            at = NOW.replace(minute=minute)
            note_refused_sign_in(network="192.0.2.7", now=at)
        assert [row[:4] for row in events(fernmoor, "access.sign_in.refused")] == [
            ("system:sign-in", "", "source:192.0.2.7", {"count": SIGN_INS_MAX})
        ]
        # Many networks at once are told of up to twenty; the next hour begins anew.
        for network in range(25):
            for _ in range(SIGN_INS_MAX):
                note_refused_sign_in(network=f"198.51.100.{network}", now=NOW.replace(minute=40))
        assert len(events(fernmoor, "access.sign_in.refused")) == 20
        answer = Client(headers={"host": "localhost"}).post(
            "/sign-in", {"email": "nobody@example.org", "password": "wrong"}
        )
        assert answer.status_code == 403
    with psycopg.connect(fernmoor.dsn) as owner:
        found = owner.execute(
            "SELECT count(*) FROM sign_in_throttle WHERE bucket LIKE 'refused:%' AND tries = 1"
        ).fetchall()
    assert found == [(1,)], "the page counts what it refuses"
