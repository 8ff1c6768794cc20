"""The page of the supply rules: read by all, changed by two administrators after a look."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.db import connection

from fernmoor import Fernmoor
from web.test_approvals import at, code_of, take_up

__all__ = ["at"]
SignIn = Callable[..., Any]
Owner = Callable[[Fernmoor], Any]
WHERE, FORM = "/property/rules", "/property/rules/change"


@pytest.fixture
def place(fernmoor: Fernmoor, as_owner: Owner) -> Fernmoor:
    """Fernmoor with a second administrator."""
    with as_owner(fernmoor):
        fernmoor.users["second"] = fernmoor.another_user("second", "Pell Adair", "administrator")
    return fernmoor


def rows(place: Fernmoor, as_owner: Owner, statement: str) -> list[tuple[Any, ...]]:
    with as_owner(place), connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def stored(place: Fernmoor, as_owner: Owner) -> tuple[Any, ...]:
    return rows(place, as_owner, "SELECT version, body::text FROM supply_policy")[0]


def text_of(response: Any) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode())))


def form_of(client: Any) -> dict[str, Any]:
    """The form as a browser would send it back untouched."""
    page = client.get(FORM).content.decode()
    found: dict[str, Any] = {}
    for tag in re.findall(r"<input[^>]+>", page.partition('id="rules-form"')[2]):
        name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
        if name is None or name[1] == "csrfmiddlewaretoken":
            continue
        if 'type="checkbox"' not in tag:
            found[name[1]] = value[1] if value else ""
        elif " checked" in tag:
            found.setdefault(name[1], []).append(value[1] if value else "")
    for name, options in re.findall(r'<select[^>]+name="([^"]+)"[^>]*>(.*?)</select>', page, re.S):
        chosen = re.search(r'value="([^"]*)" selected', options)
        found[name] = chosen[1] if chosen else ""
    return found | {"why": "after the winter", "do": "look"}


def test_everybody_reads_and_only_administrators_find_the_form(
    place: Fernmoor, sign_in: SignIn
) -> None:
    for duty in ("administrator", "operator", "auditor"):
        client = sign_in(place, duty)
        said = text_of(client.get(WHERE))
        assert "Notice before a cut 4 hours Counts from the first warning" in said
        assert "Cuts are permitted Mon to Fri, 09:00–15:00" in said
        assert ("Change the rules" in said) is (duty == "administrator")
        status = 200 if duty == "administrator" else 403
        assert client.get(FORM).status_code == status
        assert client.post(FORM, {"do": "confirm"}).status_code == (409 if status == 200 else 403)


def test_rules_change_after_a_look_and_with_a_second_person(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner, at: list[Any]
) -> None:
    client, second = sign_in(place), sign_in(place, "second")
    apps = [take_up(each, at) for each in (client, second)]
    asked = form_of(client) | {
        "notice": "90",
        "notice_unit": "min",
        "opens": "10:00",
        "money-1": "8",
    }
    look = client.post(FORM, asked)
    said = text_of(look)
    assert look.status_code == 200
    for part in (
        "Notice before a cut Before: 4 hours After: 90 minutes",
        "Cuts are permitted Before: Mon to Fri, 09:00–15:00 After: Mon to Fri, 10:00–15:00",
        "Cuts that wait, decided anew",
    ):
        assert part in said, part
    assert "1 other administrator has to agree first" in said
    wrong = client.post(FORM, asked | {"do": "confirm", "code": "123456"})
    assert wrong.status_code == 422 and "That is not the code" in text_of(wrong)
    made = client.post(FORM, asked | {"do": "confirm", "code": code_of(apps[0], at)})
    proposal = made["location"].removesuffix("?done=proposed")
    assert stored(place, as_owner) == (1, "{}"), "nothing is done before another agrees"
    own = client.post(proposal, {"do": "approve", "code": code_of(apps[0], at)})
    assert own.status_code == 409
    page = text_of(second.get(proposal))
    for part in ("Other supply rules", "Notice before a cut", "90 minutes", "after the winter"):
        assert part in page, part
    done = second.post(proposal, {"do": "approve", "code": code_of(apps[1], at)})
    assert done["location"] == f"{proposal}?done=approve"
    version, body = stored(place, as_owner)
    assert version == 2 and '"notice_s": 5400' in body and '"window": {"opens_min": 600}' in body
    assert "freshness_s" not in body, "what nobody changed goes on following the default"
    late = client.post(FORM, asked | {"do": "confirm", "code": code_of(apps[0], at)})
    assert late.status_code == 409 and "Somebody changed the rules meanwhile" in text_of(late)
    assert stored(place, as_owner)[0] == 2
    said = text_of(client.get(WHERE + "?done=changed"))
    assert "after the winter Ines Halvard, agreed by Pell Adair" in said
    again = form_of(client)
    assert (again["notice"], again["notice_unit"], again["money-1"]) == ("90", "min", "8.00")
    same = client.post(FORM, again)
    assert same.status_code == 422 and "Nothing differs" in text_of(same)
    assert client.post(FORM, asked | {"do": "edit", "version": "2"}).status_code == 200


def test_what_cannot_be_is_refused_beside_its_field(place: Fernmoor, sign_in: SignIn) -> None:
    client = sign_in(place)
    usual = form_of(client)
    for name, given in (
        ("notice", {"notice": "-1"}),
        ("notice", {"notice": "8", "notice_unit": "d"}),
        ("notice", {"notice": "1", "notice_unit": "years"}),
        ("trying", {"trying": "1", "trying_unit": "h"}),
        ("closes", {"opens": "15:00", "closes": "09:00"}),
        ("opens", {"opens": "24:30"}),
        ("opens", {"lead": "7", "lead_unit": "d"}),
        ("weekdays", {"weekdays[]": []}),
        ("days-1", {"days-1": "", "days-2": "2"}),
        ("days-2", {"days-1": "2", "days-2": "3"}),
        ("money-2", {"money-1": "5", "money-2": "5"}),
        ("money-1", {"money-1": "none"}),
        ("brake_share", {"brake_share": "0"}),
        ("brake_cuts", {"brake_cuts": "0"}),
        ("why", {"why": "", "notice": "3"}),
    ):
        refused = client.post(FORM, usual | given)
        assert refused.status_code == 422, given
        assert f'id="f-{name}-why"' in refused.content.decode(), given


def test_an_emergency_a_relay_by_hand_and_limits_have_their_pages(
    place: Fernmoor, sign_in: SignIn, at: list[Any]
) -> None:
    client, second = sign_in(place), sign_in(place, "second")
    app = take_up(client, at)
    form = {"reason": "Smoke in the riser"}
    look = text_of(client.post("/property/brake", form | {"do": "look"}))
    assert "Put the mass-cut brake on" in look and "It is an emergency" in look
    assert "alarmed" in text_of(client.post("/property/brake", form | {"do": "urgent"}))
    done = client.post("/property/brake", form | {"do": "emergency", "code": code_of(app, at)})
    where = done["location"].removesuffix("?done=emergency")
    assert "Done in an emergency" in text_of(client.get("/approvals?show=emergency"))
    assert "Was it right?" not in text_of(client.get(where))
    assert "Was it right?" in text_of(second.get(where))
    assert second.post(where, {"do": "objected", "why": "No smoke"})["location"].endswith(
        "objected"
    )
    assert "Objected" in text_of(client.get(where))
    path = f"/accounts/{place.accounts['N-305']}"
    late = client.post(
        f"{path}/by-hand", form | {"relay": "open", "until": "2026-11-01T10:00", "do": "look"}
    )
    assert late.status_code == 422 and "still to come" in text_of(late)
    by_hand = form | {"relay": "open", "until": "2026-11-20T10:00"}
    look = text_of(client.post(f"{path}/by-hand", by_hand | {"do": "look"}))
    assert "Keep cut" not in look and "It is an emergency" not in look and "cut" in look
    guard = text_of(client.post(f"{path}/protection", form | {"protection": "fire", "do": "look"}))
    assert "Fire protection" in guard and "It is an emergency" in guard
    assert "Paying a refund out" in text_of(client.get("/approvals/limits"))
    rungs = {"above-1": "0", "people-1": "0", "above-2": "50", "people-2": "1"}
    limit = text_of(client.post("/approvals/limits/vending.refund", form | rungs | {"do": "look"}))
    assert "above €50.00" in limit and "1 other administrator has to agree" in limit
