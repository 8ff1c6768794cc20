"""Tariffs in the console: the list, the plan, the builder that saves drafts, the trial."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.http import QueryDict

from fernmoor import NOW, TARIFF, Fernmoor
from prewatt.billing.models import TariffDraft, TariffTrial
from prewatt.billing.resale import packs
from prewatt.core.price_rules import rule_document
from prewatt.core.tariff import parse_tariff, to_document
from prewatt.web.console.plan_document import state_of
from web.forms import named

Owner = Callable[[Fernmoor], AbstractContextManager[None]]


def fields(document: dict[str, Any], **more: str) -> QueryDict:
    """A plan as the builder's form posts it."""
    data = QueryDict(mutable=True)
    for name, value in named(state_of(to_document(parse_tariff(document))), ""):
        data.appendlist(name, value)
    data.update({"tab": "form", "code": "R", "edition": "0", "reason": "", **more})
    return data


def post(client: Any, path: str, data: QueryDict, **headers: str) -> Any:
    """Send a form with several values under one name."""
    return client.post(
        path,
        data.urlencode(),
        content_type="application/x-www-form-urlencoded",
        headers=headers,
    )


def drafted(client: Any, **more: str) -> Any:
    """Save the plan of Fernmoor as a draft."""
    return post(client, "/tariffs/new", fields(TARIFF, do="save", **more))


def test_the_list_says_what_is_in_force_for_how_many(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    text = client.get("/tariffs").content.decode()
    assert "Residential time-of-use" in text and "Version 6" in text
    # 96 units of which two are vacant, and vacant ones have no tariff here.
    assert re.search(r"</span>94</td>", text)
    assert "No tariff matches" in client.get("/tariffs?q=nothing").content.decode()
    assert "No tariff matches" in client.get("/tariffs?show=drafts").content.decode()
    drafted(client)
    listed = client.get("/tariffs?show=drafts").content.decode()
    assert "Draft, edition 1" in listed and "Ines Halvard" in listed
    rows = client.get("/tariffs.csv").content.decode().splitlines()
    assert rows[1].split(",")[:3] == ["R", "Residential time-of-use", "6"]
    assert rows[1].split(",")[7:9] == ["1", "Ines Halvard"]


def test_a_plan_is_told_in_words_and_drawn(fernmoor: Fernmoor, sign_in: Callable[..., Any]) -> None:
    text = sign_in(fernmoor).get("/tariffs/R").content.decode()
    assert "Peak: €0.3160 per kWh, every day 17:00–21:00." in text
    assert "Night: €0.1720 per kWh, every day 21:00–06:00." in text
    assert text.count('class="b3"') >= 7 * 4, "four peak hours on each of seven days"
    chinese = sign_in(fernmoor, language="zh-hans").get("/tariffs/R").content.decode()
    assert "峰段：每度 €0.3160，每天 17:00–21:00。" in chinese


def test_a_version_that_is_not_there_is_not_found(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    for path in ("/tariffs/R?version=7", "/tariffs/X", "/tariffs/drafts/R",
                 "/tariffs/drafts/R/trial", "/tariffs/new?start=example:none"):  # fmt: skip
        assert client.get(path).status_code == 404, path


def test_every_change_of_the_form_is_answered_with_its_picture(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner
) -> None:
    client = sign_in(fernmoor)
    data = fields(TARIFF)
    data["bands.2.prices.0"] = "0.9999"
    part = post(client, "/tariffs/new", data, **{"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith("<form") and "<html" not in part
    assert "Peak: €0.9999 per kWh" in part and "Reads as a plan" in part
    data["bands.2.prices.0"] = "dear"
    part = post(client, "/tariffs/new", data, **{"HX-Request": "true"}).content.decode()
    assert "Not a plan yet" in part
    field = re.search(r'<input[^>]*id="f-bands-2-prices-0"[^>]*>', part)
    assert field is not None and 'aria-invalid="true"' in field[0]
    assert 'aria-describedby="f-bands-2-prices-0-why"' in field[0]
    assert part.count('aria-invalid="true"') == 1
    with as_owner(fernmoor):
        assert not TariffDraft.objects.exists(), "looking saves nothing"


def test_a_fault_outside_the_prices_leaves_their_picture(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    data = fields(TARIFF, do="add:taxes")
    part = post(sign_in(fernmoor), "/tariffs/new", data).content.decode()
    assert "Not a plan yet" in part and 'id="week"' in part
    assert "Still to be filled in." in part


def test_a_draft_is_saved_and_opened_again(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner
) -> None:
    client = sign_in(fernmoor)
    response = drafted(client, reason="The supplier  changed\nits price")
    assert response.status_code == 302 and response["Location"] == "/tariffs/drafts/R?saved=1"
    with as_owner(fernmoor):
        draft = TariffDraft.objects.get()
    assert draft.content == to_document(parse_tariff(TARIFF))
    assert draft.reason == "The supplier changed its price"
    text = client.get(response["Location"]).content.decode()
    assert "Saved as edition 1" in text and "Nothing changes: the two say the same." in text
    again = client.get("/tariffs/new?start=tariff:R")
    assert again.status_code == 302 and again["Location"] == "/tariffs/drafts/R"


def test_a_changed_draft_says_what_changes_against_the_version_in_force(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    drafted(client)
    data = fields(TARIFF, edition="1")
    data["bands.2.prices.0"] = "0.3240"
    data["schedule.0-0.2.from"] = "18:00"
    text = post(client, "/tariffs/drafts/R", data).content.decode()
    changes = text.split('id="changes"')[1].split('id="plan"')[0]
    assert "€0.3160" in changes and "€0.3240" in changes and "+2.5 %" in changes
    assert "every day 18:00–21:00" in changes
    assert "Outlined: Peak before, Day now" in text


def test_what_somebody_else_saved_in_between_is_not_lost(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner
) -> None:
    client = sign_in(fernmoor)
    drafted(client)
    assert drafted(client).status_code == 422, "a new plan never overwrites a draft of its code"
    other = fields({**TARIFF, "name": "Theirs"}, do="save", edition="1")
    assert post(client, "/tariffs/drafts/R", other).status_code == 302
    mine = fields({**TARIFF, "name": "Mine"}, do="save", edition="1")
    response = post(client, "/tariffs/drafts/R", mine)
    text = response.content.decode()
    assert response.status_code == 422
    assert "Not saved: Ines Halvard saved edition 2" in text
    assert 'value="Mine"' in text, "what was typed is still there"
    with as_owner(fernmoor):
        assert TariffDraft.objects.get().content["name"] == "Theirs"
    mine["do"] = "save:2"
    assert post(client, "/tariffs/drafts/R", mine).status_code == 302
    with as_owner(fernmoor):
        draft = TariffDraft.objects.get()
    assert (draft.content["name"], draft.edition) == ("Mine", 3)


@pytest.mark.parametrize("code", ["", "new", "drafts", "a/b", "x" * 25])
def test_a_code_that_has_no_address_is_refused(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], code: str
) -> None:
    response = drafted(sign_in(fernmoor), code=code)
    assert response.status_code == 422
    assert 'id="f-code-why"' in response.content.decode()


def test_form_and_json_say_the_same(fernmoor: Fernmoor, sign_in: Callable[..., Any]) -> None:
    client = sign_in(fernmoor)
    text = post(client, "/tariffs/new", fields(TARIFF, do="tab:json")).content.decode()
    written = re.search(r'<textarea[^>]*id="f-json"[^>]*>(.*?)</textarea>', text, re.DOTALL)
    assert written is not None
    document = json.loads(written[1].replace("&quot;", '"'))
    assert parse_tariff(document) == parse_tariff(TARIFF)
    document["energy"]["bands"]["peak"]["price"] = "0.5"
    back = {"tab": "json", "do": "tab:form", "json": json.dumps(document), "code": "R"}
    form = client.post("/tariffs/new", back).content.decode()
    assert re.search(r'id="f-bands-2-prices-0"[^>]*value="0.5"', form)
    back["json"] = back["json"].replace('"0.5"', "0.5")
    refused = client.post("/tariffs/new", back).content.decode()
    assert 'id="f-json"' in refused and "The number 0.5 must stand in quotes." in refused


def test_an_example_in_another_currency_says_so(
    fernmoor: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client = sign_in(fernmoor)
    text = client.get("/tariffs/new?start=example:cn-ladder-four-bands").content.decode()
    assert "The figures are the example’s, in CNY." in text
    assert "€0.5380" in text and "¥" not in text


@pytest.mark.parametrize("duty", ["operator", "auditor"])
def test_who_may_not_draft_reads_and_changes_nothing(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner, duty: str
) -> None:
    drafted(sign_in(fernmoor))
    client = sign_in(fernmoor, duty)
    text = client.get("/tariffs/drafts/R").content.decode()
    assert "The plan in words" in text and "<textarea" not in text and "Save draft" not in text
    assert "/tariffs/new" not in client.get("/tariffs").content.decode()
    assert client.get("/tariffs/new").status_code == 403
    assert "30 days" not in client.get("/tariffs/drafts/R/trial").content.decode()
    assert client.post("/tariffs/drafts/R/trial", {"days": "30"}).status_code == 403
    changed = fields({**TARIFF, "name": "Theirs"}, do="save", edition="1")
    post(client, "/tariffs/drafts/R", changed)
    with as_owner(fernmoor):
        assert TariffDraft.objects.get().content["name"] == TARIFF["name"]
        assert not TariffTrial.objects.exists()


def result(place: Fernmoor) -> dict[str, Any]:
    """A trial of four accounts: more, less, the same, and more with a cut of the draft's doing."""
    names = ("N-305", "N-306", "N-401", "N-402")
    figures = ((10, 12, None), (20, 18, None), (30, 30, None), (40, 45, "2026-11-09"))
    accounts = [
        {
            "account_id": place.accounts[name],
            "charged": before * 1_000_000,
            "drafted": after * 1_000_000,
            "energy_wh": 50_000,
            "first_cut_day": cut,
            "was_cut": False,
        }
        for name, (before, after, cut) in zip(names, figures, strict=True)
    ]
    return {
        "currency": "EUR",
        "from": "2026-10-18",
        "until": "2026-11-17",
        "days": [],
        "totals": {},
        "bins": [],
        "accounts": accounts,
        "findings": [
            {
                "code": "purchase_cap",
                "text": "",
                "severity": "refuse",
                "outcome": "broken",
                "measured_ppm": 1_250_000,
                "account_ids": [place.accounts["N-402"]],
            }
        ],
        "rules": [rule_document(each) for each in packs()["GB"].rules],
        "left_out": ["demand"],
        "seconds": 0.2,
    }


def with_result(place: Fernmoor, as_owner: Owner) -> None:
    """Finish the trial that waits, as the worker would."""
    with as_owner(place):
        TariffTrial.objects.update(state="done", result=result(place), finished_at=NOW)


def test_a_trial_is_asked_for_and_its_progress_moves_by_itself(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner
) -> None:
    client = sign_in(fernmoor)
    drafted(client)
    for days in ("12", "-1", "0", "29", "91", "1000000000", "1e2", "soon", "3 0", ""):
        refused = client.post("/tariffs/drafts/R/trial", {"days": days})
        assert refused.status_code == 422, days
        assert "A trial looks back over 30 to 90 days." in refused.content.decode(), days
    assert client.post("/tariffs/drafts/R/trial").status_code == 422
    with as_owner(fernmoor):
        assert not TariffTrial.objects.exists(), "a bad wish is no trial of thirty days"
    response = client.post("/tariffs/drafts/R/trial", {"days": "60"})
    assert response.status_code == 302
    text = client.get(response["Location"]).content.decode()
    assert "Waiting for its turn" in text
    assert re.search(r'id="trial" hx-get="[^"]+" hx-trigger="sse:changed, every 3s"', text)
    with as_owner(fernmoor):
        TariffTrial.objects.update(state="running", accounts_done=40, accounts_total=94)
    part = client.get(response["Location"], headers={"HX-Request": "true"}).content.decode()
    assert "40 of 94 accounts rated" in part and "<html" not in part
    with_result(fernmoor, as_owner)
    done = client.get(response["Location"]).content.decode()
    assert "every 3s" not in done, "what is finished asks no more"


def test_a_trial_says_who_pays_more_and_who_would_have_been_cut(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner
) -> None:
    from prewatt.billing.models import ResaleTerms

    client = sign_in(fernmoor)
    drafted(client)
    client.post("/tariffs/drafts/R/trial", {"days": "30"})
    with_result(fernmoor, as_owner)
    with as_owner(fernmoor):
        ResaleTerms.objects.create(
            property_id=fernmoor.property_id, valid_from=NOW, rules="GB", made_by="user:1",
            made_at=NOW,
        )  # fmt: skip
    text = client.get("/tariffs/drafts/R/trial").content.decode()
    figures = re.findall(r"<dd>(.*?)</dd>", text.split('class="figs"')[1].split("</dl>")[0])
    assert [re.sub(r"<.*?>", "", each) for each in figures] == [
        "€5.00", "+5.0 % of €100.00", "1", "of 4 accounts", "1", "to the last fraction",
        "2", "on average €3.50", "€5.00", "N-402, +12.5 %",
    ]  # fmt: skip
    rows = text.split('id="accounts"')[1].split("</table>")[0]
    assert re.findall(r">(N-\d+)</a>", rows) == ["N-402", "N-305"]
    assert "would be cut on 9 November 2026" in rows
    assert "Broken: an approval is refused, at worst 125 % where 100 % is allowed" in text
    assert "No fees of the property&#x27;s own" in text and "Holds" in text
    assert "not in these figures: demand charges" in text
    # A trial that knew no rules says nothing of them, and a rule that became stricter is another one.
    known = [
        None,
        [],
        [rule_document(each) | {"at_most_ppm": 1} for each in packs()["GB"].rules],
    ]
    for rules in known:
        with as_owner(fernmoor):
            TariffTrial.objects.update(result=result(fernmoor) | {"rules": rules, "findings": []})
        old = client.get("/tariffs/drafts/R/trial").content.decode()
        assert "Not looked at in this trial; try again" in old and "Holds" not in old
    with as_owner(fernmoor):
        TariffTrial.objects.update(result=result(fernmoor))
    assert "Propose version 7" in text and ">Approve" not in text
    by_share = client.get("/tariffs/drafts/R/trial?sort=share").content.decode()
    assert re.findall(r">(N-\d+)</a>", by_share.split('id="accounts"')[1]) == ["N-305", "N-402"]
    for show, found in (("less", ["N-306"]), ("same", ["N-401"]), ("cut", ["N-402"])):
        shown = client.get(f"/tariffs/drafts/R/trial?show={show}").content.decode()
        assert re.findall(r">(N-\d+)</a>", shown.split('id="accounts"')[1]) == found, show


def test_a_trials_accounts_are_exported_exactly(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner
) -> None:
    client = sign_in(fernmoor)
    drafted(client)
    client.post("/tariffs/drafts/R/trial", {"days": "30"})
    with_result(fernmoor, as_owner)
    lines = client.get("/tariffs/drafts/R/trial.csv?show=all&sort=unit").content.decode()
    rows = [line.split(",") for line in lines.splitlines()]
    assert rows[0][4:7] == ["Before EUR", "After EUR", "Change EUR"]
    assert rows[1][1:2] + rows[1][3:8] == ["N-305", "50.000", "10.00", "12.00", "2.00", "20.00"]
    assert rows[2][6:8] == ["-2.00", "-10.00"]
    assert rows[4][8] == "2026-11-09"


def test_a_trial_of_an_earlier_edition_says_so(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Owner
) -> None:
    client = sign_in(fernmoor)
    drafted(client)
    client.post("/tariffs/drafts/R/trial", {"days": "30"})
    with_result(fernmoor, as_owner)
    assert "This tried edition" not in client.get("/tariffs/drafts/R/trial").content.decode()
    post(client, "/tariffs/drafts/R", fields(TARIFF, do="save", edition="1"))
    text = client.get("/tariffs/drafts/R/trial").content.decode()
    assert "This tried edition 1. The draft is edition 2 by now" in text


def test_a_charge_opens_into_its_lines(fernmoor: Fernmoor, sign_in: Callable[..., Any]) -> None:
    client = sign_in(fernmoor)
    account = fernmoor.accounts["N-305"]
    page = client.get(f"/accounts/{account}").content.decode()
    opened = re.search(rf'hx-get="(/accounts/{account}/charges/\d+/usage/[\d-]+)"', page)
    assert opened is not None
    part = client.get(opened[1], headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<div class="charge"') and "Together" in part
    assert client.get(opened[1]).status_code == 200
    for path in (
        opened[1].replace("usage", "recharge"),
        opened[1].replace("usage", "daily"),
        opened[1][:-2] + "xx",
        opened[1].replace(f"/{account}/", f"/{fernmoor.accounts['N-306']}/"),
    ):
        assert client.get(path).status_code == 404, path
