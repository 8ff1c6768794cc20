"""Terms, wrong plans, announced prices and price rules by the pages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from fernmoor import NOW, PASSWORD, TARIFF, Fernmoor
from web.test_approvals import at, code_of, take_up

__all__ = ["at"]
SignIn = Callable[..., Any]
Owner = Callable[[Fernmoor], Any]


@pytest.fixture
def place(fernmoor: Fernmoor, as_owner: Owner) -> Fernmoor:
    """Fernmoor with a second plan that has announced prices and a tax, and a second administrator."""
    document = TARIFF | {
        "name": "With peaks",
        "overlays": [
            {"kind": "critical_peak", "group": "shops", "price": "0.90"},
            {"kind": "real_time", "group": "hourly", "share": "100", "adder": "0.05"},
        ],
        "taxes": [{"code": "vat", "label": "VAT", "rate": "19", "on": ["energy"]}],
    }
    with as_owner(fernmoor), connection.cursor() as cursor:
        fernmoor.settle("N-305")
        cursor.execute(
            """WITH t AS (INSERT INTO tariff (property_id, code, name)
                   VALUES (%(property)s, 'PEAKS', 'With peaks') RETURNING id)
               INSERT INTO tariff_version (property_id, tariff_id, number, valid_from, content, digest,
                   made_by, approved_by, approved_at)
               SELECT %(property)s, id, 1, %(since)s, %(content)s, '\\x00', 'user:1', 'user:2', %(since)s
               FROM t""",
            {
                "property": fernmoor.property_id,
                "since": NOW - timedelta(days=300),
                "content": json.dumps(document),
            },
        )
        fernmoor.users["second"] = fernmoor.another_user("second", "Pell Adair", "administrator")
    return fernmoor


def _rows(place: Fernmoor, as_owner: Owner, statement: str) -> list[tuple[Any, ...]]:
    with as_owner(place), connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def _audited(place: Fernmoor, as_owner: Owner, code: str) -> list[Any]:
    found = _rows(place, as_owner, f"SELECT detail FROM audit_event WHERE code = '{code}'")
    return [json.loads(row[0]) if isinstance(row[0], str) else row[0] for row in found]


def _text(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def _agreed(
    client: Any, second: Any, apps: Sequence[str], at: list[Any], where: str, form: dict[str, Any]
) -> str:
    """A form pressed by one and agreed to by another, each with a code; the address of the proposal."""
    proposed = client.post(where, form | {"do": "confirm", "code": code_of(apps[0], at)})
    assert proposed["location"].endswith("?done=proposed"), proposed.content.decode()
    path = str(proposed["location"].partition("?")[0])
    own = client.post(path, {"do": "approve", "code": code_of(apps[0], at)})
    assert own.status_code in (403, 409, 422), "nobody agrees to their own"
    agreed = second.post(path, {"do": "approve", "code": code_of(apps[1], at)})
    assert agreed.status_code == 302, _text(agreed)
    return path


def test_terms_hold_from_a_day_as_two_agree_and_refusals_stand_beside_their_field(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner, at: list[Any]
) -> None:
    client, where = sign_in(place), f"/accounts/{place.accounts['N-305']}/terms"
    second = sign_in(place, "second")
    apps = [take_up(each, at) for each in (client, second)]
    form = {"deed": "terms", "from": "soon", "members": "0", "contracted": "5.5555"}
    refused = client.post(where, form)
    assert refused.status_code == 422
    for name in ("from", "members", "contracted"):
        assert f'id="f-{name}-why"' in refused.content.decode(), name
    for beyond in ("0001-01-02", "1971-12-31", "2199-01-01", "9999-12-31"):
        far = {"deed": "terms", "from": beyond, "members": "2"}
        assert "Write a date such as" in _text(client.post(where, far)), beyond
    sound = {"deed": "terms", "from": "2026-11-18", "members": "3", "contracted": "5.5",
             "exempt": ["vat", "not-a-tax"], "groups": ["shops"]}  # fmt: skip
    written = "SELECT members, contracted_w, exempt, overlay_groups FROM account_terms ORDER BY valid_from"
    unsaid = client.post(where, sound | {"do": "confirm"})
    assert unsaid.status_code == 422 and 'id="f-terms_reason-why"' in unsaid.content.decode()
    sound["terms_reason"] = "the lease says so"
    look = client.post(where, sound | {"do": "look"})
    assert look.status_code == 200 and "The last 30 days" in _text(look)
    assert "What was charged before that day stays as it is" in _text(look)
    assert "1 other administrator has to agree first" in _text(look) and "5.5 kW" in _text(look)
    wrong = client.post(where, sound | {"do": "confirm", "code": "000000"})
    assert wrong.status_code == 422 and "That is not the code" in _text(wrong)
    assert _rows(place, as_owner, written) == [], "neither a look nor a press without its proof"
    path = _agreed(client, second, apps, at, where, sound)
    assert "Other terms for N-305" in _text(client.get(path))
    # What held until then is written down too: the first terms would hold before their start.
    assert _rows(place, as_owner, written) == [(1, 0, [], []), (3, 5500, ["vat"], ["shops"])]
    assert _audited(place, as_owner, "billing.terms.set") == [
        {"before": {"members": 1, "contracted_w": 0, "exempt": [], "overlay_groups": []},
         "after": {"members": 3, "contracted_w": 5500, "exempt": ["vat"],
                   "overlay_groups": ["shops"]},
         "reason": "the lease says so", "valid_from": "2026-11-17 23:00:00+00:00",
         "approved_by": f"user:{place.users['second']}"}
    ]  # fmt: skip
    for change, said in (
        ({}, "These terms hold on that day already"),
        ({"from": "2019-11-18"}, "The account had not begun by then"),
    ):
        refused = client.post(where, sound | {"do": "look"} | change)
        assert refused.status_code == 422 and said in _text(refused)
    assert "Withdraw the terms from 18 November 2026" in _text(client.get(where))
    gone = {"deed": "withdraw_terms", "withdraw_from": "2026-11-18", "terms_reason": "no lease"}
    assert "Take terms of N-305" in _text(client.post(where, gone | {"do": "look"}))
    _agreed(client, second, apps, at, where, gone)
    assert "Withdraw the terms" not in _text(client.get(where))
    late = client.post(where, gone | {"do": "look"})
    assert late.status_code == 422 and "Nothing was changed" in _text(late)


def test_terms_of_a_past_day_say_the_transfers_to_come(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner
) -> None:
    client, where = sign_in(place), f"/accounts/{place.accounts['N-305']}/terms"
    count = "SELECT count(*) FROM transfer"
    before = _rows(place, as_owner, count)
    past = {"deed": "terms", "from": "2026-11-10", "members": "3", "contracted": "", "do": "look",
            "terms_reason": "late"}  # fmt: skip
    look = _text(client.post(where, past))
    # The readings of Fernmoor were never rated, so the first rating anew finds something.
    assert "Rated anew since then: transfers to come" in look and "Balance after" in look
    assert _rows(place, as_owner, count) == before


def test_a_plan_changes_from_a_day_to_come_and_is_withdrawn_by_a_second_factor(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner, at: list[Any]
) -> None:
    client, account = sign_in(place), place.accounts["N-305"]
    app = take_up(client, at)
    terms, where = f"/accounts/{account}/terms", f"/accounts/{account}/plan"
    form = {"deed": "plan", "plan": "PEAKS", "plan_from": "2026-12-01", "reason": "asked for"}
    for change, name in (
        ({"plan_from": "2026-11-17"}, "plan_from"), ({"plan_from": "2199-01-01"}, "plan_from"),
        ({"plan": "NONE"}, "plan"), ({"reason": ""}, "reason"), ({"plan": "R"}, "plan"),
    ):  # fmt: skip
        refused = client.post(where, form | change)
        assert refused.status_code == 422, change
        assert f'id="f-{name}-why"' in refused.content.decode(), change
    look = _text(client.post(where, form | {"do": "look"}))
    for said in ("With peaks from 1 December 2026 on", "Tax", "dearer", "you do this alone",
                 "Their last 30 days together"):  # fmt: skip
        assert said in look, said
    wrong = client.post(where, form | {"do": "confirm", "code": "123456"})
    assert wrong.status_code == 422 and "That is not the code" in _text(wrong)
    done = client.post(where, form | {"do": "confirm", "code": code_of(app, at)})
    assert done["location"].endswith("?done=alone")
    assert "With peaks for N-305" in _text(client.get(done["location"]))
    page = _text(client.get(terms))
    assert re.search(r"With peaks from 1 December 2026 to come", page)
    assert "Withdraw With peaks from 1 December 2026" in page
    gone = {"deed": "withdraw_plan", "withdraw_from": "2026-12-01", "reason": "a mistake"}
    assert "Take a change of plan of N-305" in _text(client.post(where, gone | {"do": "look"}))
    again = gone | {"do": "confirm"}
    assert client.post(where, again | {"code": code_of(app, at)}).status_code == 302
    assert "With peaks from 1 December" not in _text(client.get(terms))
    ((detail),) = _audited(place, as_owner, "billing.tariff.withdrawn")
    assert (detail["before"], detail["after"], detail["reason"]) == ("PEAKS", "R", "a mistake")
    late = client.post(where, again | {"code": code_of(app, at)})
    assert late.status_code == 422 and "was withdrawn already" in _text(late)
    begun = client.post(
        terms, {"deed": "withdraw_terms", "withdraw_from": "2026-11-10", "terms_reason": "no"}
    )
    assert begun.status_code == 422
    for duty in ("operator", "auditor"):
        assert sign_in(place, duty).post(where, gone).status_code == 403


def test_many_accounts_come_to_a_plan_by_building_kind_plan_or_list(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner, at: list[Any]
) -> None:
    client, second = sign_in(place), sign_in(place, "second")
    apps = [take_up(each, at) for each in (client, second)]
    where = "/accounts/plans"
    assert "Another plan for accounts" in _text(client.get("/accounts"))
    assert "Kind of unit" in _text(client.get(where))
    form = {"building": "N", "kind": "flat", "group": "", "present": "R", "only": "", "plan": "PEAKS",
            "plan_from": "2026-12-01", "reason": "new supplier"}  # fmt: skip
    for change, said in (
        ({"only": "N-305, Z-999"}, "No account here: z-999"), ({"kind": "castle"}, "Choose one of these"),
        ({"present": "PEAKS"}, "No account is found by that"), ({"plan_from": "2026-11-01"}, "day to come"),
    ):  # fmt: skip
        refused = client.post(where, form | change)
        assert refused.status_code == 422 and said in _text(refused), change
    one = _text(client.post(where, form | {"only": "n-305"}))
    assert "Accounts 1" in one and "you do this alone" in one
    look = _text(client.post(where, form))
    for said in ("Pay more", "Pay less", "Their last 30 days together", "N-305"):
        assert said in look, said
    assert "1 other administrator has to agree first" in look
    made = client.post(where, form | {"do": "confirm", "code": code_of(apps[0], at)})
    proposal = made["location"].removesuffix("?done=proposed")
    count = "SELECT count(*) FROM tariff_assignment WHERE valid_from > '2026-11-18'"
    assert _rows(place, as_owner, count) == [(0,)]
    assert "With peaks for" in _text(second.get(proposal))
    assert second.post(
        proposal, {"do": "approve", "code": code_of(apps[1], at)}
    )["location"].endswith("?done=approve")  # fmt: skip
    ((changed,),) = _rows(place, as_owner, count)
    assert changed > 5


def test_a_wrong_plan_is_put_right_after_a_look_and_by_a_second_person(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner, at: list[Any]
) -> None:
    client, second = sign_in(place), sign_in(place, "second")
    apps = [take_up(each, at) for each in (client, second)]
    where = f"/accounts/{place.accounts['N-305']}/correct-tariff"
    form = {"plan": "PEAKS", "from": "2026-11-10", "reason": "contract"}
    look = client.post(where, form | {"do": "look"})
    assert look.status_code == 200 and "Charged for that time" in _text(look)
    assert "1 other administrator has to agree first" in _text(look)
    assert client.post(where, form | {"from": "2026-12-10", "do": "look"}).status_code == 422
    count = "SELECT count(*) FROM tariff_assignment"
    before = _rows(place, as_owner, count)
    for wrong in (
        {},
        {"code": "123456"},
        {"email": "second@fernmoor.example", "password": PASSWORD},
    ):
        assert client.post(where, form | {"do": "confirm", **wrong}).status_code == 422
    made = client.post(where, form | {"do": "confirm", "code": code_of(apps[0], at)})
    proposal = made["location"].removesuffix("?done=proposed")
    assert _rows(place, as_owner, count) == before, "neither a look nor a proposal changes a plan"
    own = client.post(proposal, {"do": "approve", "code": code_of(apps[0], at)})
    assert own.status_code == 409
    page = _text(second.get(proposal))
    assert "Put the plan of N-305" in page and "Charged since then" in page
    done = second.post(proposal, {"do": "approve", "code": code_of(apps[1], at)})
    assert done["location"] == f"{proposal}?done=approve"
    ((approved_by,),) = _rows(
        place, as_owner,
        "SELECT detail->>'approved_by' FROM audit_event WHERE code = 'billing.tariff.corrected'",
    )  # fmt: skip
    assert approved_by == f"user:{place.users['second']}"
    same = client.post(where, form | {"do": "look"})
    assert same.status_code == 422 and "nothing would change" in _text(same)


def test_a_peak_is_announced_listed_and_taken_away_before_it_begins(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner
) -> None:
    client, where = sign_in(place), "/tariffs/announced"
    assert "No peak is to come" in _text(client.get(where))
    form = {
        "deed": "peak",
        "group": "shops",
        "from": "2026-11-18T17:00",
        "until": "2026-11-18T20:00",
    }
    for change, field in (
        ({"until": "2026-11-18T16:00"}, "until"), ({"from": "2026-11-17T08:00"}, "from"),
        ({"from": ""}, "from"), ({"group": "nobody"}, "group"),
    ):  # fmt: skip
        refused = client.post(where, form | change | {"do": "look"})
        assert refused.status_code == 422, change
        assert f'id="f-{field}-why"' in refused.content.decode(), change
    look = client.post(where, form | {"do": "look"})
    assert "€0.9000" in _text(look) and "Announce it to shops, 0 accounts" in _text(look)
    assert _rows(place, as_owner, "SELECT count(*) FROM price_event") == [(0,)]
    assert client.post(where, form | {"do": "confirm"}).status_code == 302
    overlapping = client.post(
        where, form | {"do": "confirm", "from": "2026-11-18T19:00", "until": "2026-11-18T21:00"}
    )
    assert overlapping.status_code == 422 and "has a peak in that time already" in _text(
        overlapping
    )
    assert "shops" in client.get("/tariffs/announced.csv").content.decode()
    ((event,),) = _rows(place, as_owner, "SELECT id FROM price_event")
    assert "Take away the peak of shops?" in _text(client.get(f"{where}/{event}/withdraw"))
    assert client.post(f"{where}/{event}/withdraw").status_code == 302
    assert client.post(f"{where}/{event}/withdraw").status_code == 409
    assert "taken away before it began" in _text(client.get(f"{where}?show=withdrawn"))
    for duty in ("operator", "auditor"):
        assert sign_in(place, duty).get(f"{where}/{event}/withdraw").status_code == 403


def test_a_series_names_its_first_bad_line_and_goes_on_once(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner
) -> None:
    client, where = sign_in(place), "/tariffs/announced"
    form = {"deed": "series", "series_group": "hourly", "length": "60"}
    bad = client.post(where, form | {"prices": "2026-11-18 00:00 0.21\nhello", "do": "look"})
    assert bad.status_code == 422 and "Line 2 is not date, time and price" in _text(bad)
    written = "2026-11-18 00:00 0.21\n2026-11-18 01:00; -0.02"
    assert "2 prices from" in _text(client.post(where, form | {"prices": written, "do": "look"}))
    assert client.post(where, form | {"prices": written, "do": "confirm"}).status_code == 302
    again = client.post(where, form | {"prices": written, "do": "confirm"})
    assert again.status_code == 422 and "Line 1: Prices go on where the series ends" in _text(again)
    assert _rows(place, as_owner, "SELECT price_nano FROM price_series ORDER BY from_at") == [
        (210_000_000,), (-20_000_000,),
    ]  # fmt: skip


def test_the_rules_of_a_place_are_chosen_from_a_day_on(place: Fernmoor, sign_in: SignIn) -> None:
    client, where = sign_in(place), "/tariffs/rules"
    assert "No rules are chosen" in _text(client.get(where))
    form = {
        "deed": "resale",
        "rules": "GB",
        "from": "2026-11-17",
        "purchase": "cheap",
        "direct": "{",
    }
    refused = client.post(where, form)
    assert refused.status_code == 422
    assert 'id="f-purchase-why"' in refused.content.decode()
    assert 'id="f-direct-why"' in refused.content.decode()
    assert client.post(where, form | {"purchase": "0.19", "direct": ""}).status_code == 302
    said = _text(client.get(where))
    assert "GB: Maximum resale price" in said and "€0.1900" in said
    assert "An approval is refused" in said


def test_the_debt_policy_takes_two_and_its_refusals_stand_beside_their_field(
    place: Fernmoor, sign_in: SignIn, at: list[Any]
) -> None:
    client, where = sign_in(place), "/tariffs/rules"
    second = sign_in(place, "second")
    apps = [take_up(each, at) for each in (client, second)]
    form = {
        "deed": "policy",
        "reversed_payment": "loss",
        "moved_credit": "never",
        "share": "101",
        "let_shortfall": "refuse",
    }
    refused = client.post(where, form)
    assert refused.status_code == 422
    for name in ("moved_credit", "share", "let_shortfall", "reason"):
        assert f'id="f-{name}-why"' in refused.content.decode(), name
    form |= {
        "moved_credit": "debt",
        "share": "12.5",
        "let_shortfall": "loss",
        "reason": "the board said so",
    }
    look = _text(client.post(where, form | {"do": "look"}))
    assert "The property bears the used part" in look and "12.5 %" in look
    _agreed(client, second, apps, at, where, form)
    same = client.post(where, form | {"do": "look"})
    assert same.status_code == 422 and "This policy holds already" in _text(same)
    seen = _text(sign_in(place, "auditor").get(where))
    assert "The property bears the used part" in seen and "12.5 %" in seen


def test_every_page_speaks_chinese(place: Fernmoor, sign_in: SignIn) -> None:
    client, account = sign_in(place, language="zh-hans"), place.accounts["N-305"]
    for page, said in (
        ("/debts", "没有人欠款"), ("/refunds", "没有应付给离开者的款项"), ("/lets", "目前没有短租"),
        ("/tariffs/announced", "没有即将到来的尖峰"), ("/tariffs/rules", "尚未选择规则"),
        (f"/accounts/{account}/terms", "计价依据"), ("/recharges/400/take-back", "撤回 N-305"),
    ):  # fmt: skip
        assert said in client.get(page).content.decode(), page


#: (page, form, what one press of it leaves, the same form with another wish)
PRESSES = (
    (
        "/tariffs/announced",
        {"deed": "peak", "do": "confirm", "group": "shops", "from": "2026-11-18T17:00",
         "until": "2026-11-18T20:00"},
        "SELECT count(*) FROM price_event",
        "billing.event.announced",
        {"from": "2026-11-19T17:00", "until": "2026-11-19T20:00"},
    ),
    (
        "/tariffs/announced",
        {"deed": "series", "do": "confirm", "series_group": "hourly", "length": "60",
         "prices": "2026-11-18 00:00 0.21"},
        "SELECT count(*) FROM price_series",
        "billing.prices.appended",
        {"prices": "2026-11-18 01:00 0.21"},
    ),
    (
        "/tariffs/rules",
        {"deed": "resale", "rules": "GB", "from": "2026-11-17", "purchase": "0.19"},
        "SELECT count(*) FROM resale_terms",
        "billing.resale.set",
        {"purchase": "0.20"},
    ),
)  # fmt: skip


@pytest.mark.parametrize(("page", "form", "count", "code", "other"), PRESSES)
def test_a_form_pressed_twice_is_one_deed(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner,
    page: str, form: dict[str, str], count: str, code: str, other: dict[str, str],
) -> None:  # fmt: skip
    client, where = sign_in(place), page.format(account=place.accounts["N-305"])
    ((before,),) = _rows(place, as_owner, count)
    key = {"key": "pressed-twice"}
    assert client.post(where, form | key).status_code == 302
    assert client.post(where, form | key).status_code == 302, "the answer of the first press"
    assert _rows(place, as_owner, count) == [(before + 1,)]
    said = f"SELECT count(*) FROM audit_event WHERE code = '{code}'"
    assert _rows(place, as_owner, said) == [(1,)]
    refused = client.post(where, form | key | other)
    assert refused.status_code == 422 and "already used for something else" in _text(refused)
    assert _rows(place, as_owner, count) == [(before + 1,)]
    assert client.post(where, form | other).status_code == 302, "a fresh form is a fresh deed"


def test_a_peak_taken_away_twice_is_taken_away_once(
    place: Fernmoor, sign_in: SignIn, as_owner: Owner
) -> None:
    client, where = sign_in(place), "/tariffs/announced"
    form = PRESSES[0][1]
    assert client.post(where, form).status_code == 302
    ((event,),) = _rows(place, as_owner, "SELECT id FROM price_event")
    for _press in range(2):
        assert client.post(f"{where}/{event}/withdraw", {"key": "gone"}).status_code == 302
    assert _rows(place, as_owner, "SELECT count(*) FROM price_event") == [(2,)]


def test_each_form_of_prices_and_rules_carries_a_key_of_its_own_load(
    place: Fernmoor, sign_in: SignIn
) -> None:
    client = sign_in(place)
    for page in ("/tariffs/announced", "/tariffs/rules"):
        once, again = (
            re.findall(r'name="key" value="([^"]+)"', client.get(page).content.decode())
            for _ in range(2)
        )
        assert len(once) == (1 if "rules" in page else 2) and once[0] not in again, page
