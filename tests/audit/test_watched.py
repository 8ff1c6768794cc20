"""Looks at personal data and refused attempts are events, written once in a while and never lost with a refusal."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.urls import get_resolver
from tests.web.conftest import as_owner, fernmoor, laid_out, sign_in

from fernmoor import NOW, Fernmoor
from prewatt.access.models import Duty
from prewatt.access.scope import Actor
from prewatt.audit.refusals import Heeded
from prewatt.oversight.trail import REFUSED, REFUSED_MAX, Looks, note_refusals
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
