"""The calendar by its page: a year as it is, days to come changed by an administrator, and no day that has begun."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.utils.html import escape

from fernmoor import Fernmoor

WHERE = "/property/calendar"


def _rows(client: Any, year: int) -> list[str]:
    text = client.get(f"{WHERE}.csv?year={year}").content.decode("utf-8-sig")
    return text.splitlines()[1:]


def test_days_to_come_are_changed_and_shown(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    assert _rows(client, 2027) == []
    for sent, row in (
        ({"day": "2027-03-08", "kind": "holiday", "note": "Fair"}, "2027-03-08,own holiday,Fair,"),
        (
            {"day": "2027-03-13", "kind": "workday", "counts_as": "2"},
            "2027-03-13,worked day,,Wednesday",
        ),
    ):
        done = client.post(WHERE, sent | {"do": "day"})
        assert done.status_code == 302
        assert row in _rows(client, 2027)
        assert "Now:" in client.get(done["Location"]).content.decode()
    client.post(WHERE, {"do": "list", "code": "DE-HE", "valid_from": "2027-01-01", "observed": "1"})
    listed = _rows(client, 2027)
    assert "2027-12-25,public holiday,Christmas Day," in listed and len(_rows(client, 2026)) == 0
    client.post(WHERE, {"do": "day", "day": "2027-12-25", "kind": "ordinary", "note": ""})
    assert "2027-12-25,no holiday here,Christmas Day," in _rows(client, 2027)
    client.post(WHERE, {"do": "day", "day": "2027-12-25", "kind": "listed", "note": ""})
    assert _rows(client, 2027) == listed
    page = client.get(f"{WHERE}?year=2027").content.decode()
    assert page.count('<table class="month">') == 12
    assert len(re.findall(r"<td class=\"is-", page)) == 365


def test_a_day_that_has_begun_and_nonsense_are_refused_beside_their_field(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    for sent, beside in (
        ({"do": "day", "day": "2026-11-17", "kind": "holiday"}, "This day has begun"),
        ({"do": "day", "day": "17.11.2027", "kind": "holiday"}, "Write a date such as"),
        ({"do": "day", "day": "9999-01-01", "kind": "holiday"}, "Write a date such as"),
        ({"do": "day", "day": "2027-03-01", "kind": "party"}, "Choose one of these."),
        ({"do": "day", "day": "2027-03-01", "kind": "workday", "counts_as": "7"}, "Choose one"),
        ({"do": "day", "day": "2027-03-01", "kind": "holiday", "note": "x" * 121}, "at most 120"),
        ({"do": "list", "code": "XX", "valid_from": "2027-01-01"}, "No list is known"),
        ({"do": "list", "code": "DE-XX", "valid_from": "2027-01-01"}, "No list is known"),
        ({"do": "list", "code": "DE", "valid_from": "2026-11-17"}, "This day has begun"),
        ({"do": "list", "code": "DE", "valid_from": ""}, "Write a date such as"),
    ):
        refused = client.post(WHERE, sent)
        assert refused.status_code == 422, sent
        assert escape(beside) in refused.content.decode(), sent
    assert _rows(client, 2027) == []


@pytest.mark.parametrize("duty", ["operator", "auditor"])
def test_who_may_not_change_days_reads_them(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], duty: str
) -> None:
    client = sign_in(fernmoor, duty)
    page = client.get(WHERE).content.decode()
    assert "Set the day" not in page and "&amp;day=" not in page
    for sent in (
        {"do": "day", "day": "2027-03-08", "kind": "holiday"},
        {"do": "list", "code": "DE", "valid_from": "2027-01-01"},
    ):
        assert client.post(WHERE, sent).status_code == 403
    assert _rows(client, 2027) == []


def test_a_change_reaches_no_other_property(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    with as_owner(fernmoor):
        away = fernmoor.another("Elsewhere")
        fernmoor.grant("administrator", away, "administrator")
    client = sign_in(fernmoor)
    client.post(WHERE, {"do": "day", "day": "2027-03-08", "kind": "holiday", "note": "Fair"})
    client.post("/property/switch", {"property": away})
    assert _rows(client, 2027) == []
