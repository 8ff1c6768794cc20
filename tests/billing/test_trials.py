"""A draft tried on real days: the same energy, another price, nobody's books touched."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any

import pytest
from tests.core.exact_model import ExactPrices
from tests.invariants.places import (
    NOW,
    PRICES,
    TARIFF,
    World,
    at,
    one,
    pay,
    place,
    post,
    rows,
    send,
)

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, system_actor
from prewatt.billing.drafts import ask_trial, save_draft
from prewatt.billing.resale import ResaleRefused, packs, set_resale_terms
from prewatt.billing.trials import TrialReport, as_document, run_next_trial, try_tariff
from prewatt.core.civil_time import instant_us
from prewatt.core.tariff import parse_tariff

pytestmark = pytest.mark.usefixtures("database")

#: Two bands at other hours, dearer than what holds.
DRAFT: dict[str, Any] = deepcopy(TARIFF) | {"name": "Dearer"}
DRAFT["energy"] = {
    "unit": "kWh",
    "bands": {"day": {"price": "0.4123456"}, "night": {"price": "0.2000001"}},
    "schedule": [
        {
            "periods": [
                {"from": "00:00", "until": "05:00", "band": "night"},
                {"from": "05:00", "until": "24:00", "band": "day"},
            ]
        }
    ],
}
DAYS = 30


LATER = NOW + timedelta(days=20)


def used(first_hour: int = 0, now: datetime = NOW) -> tuple[World, list[tuple[int, int, int]]]:
    """A property where meter M-101 counted for ten days; intervals as (from, to, Wh)."""
    here = place()
    hours = list(range(first_hour, first_hour + 241, 5))
    values = [1_000 + 777 * number for number in range(len(hours))]
    readings = [("M-101", at(h), v) for h, v in zip(hours[1:], values[1:], strict=True)]
    send(here, readings, now=now)
    intervals = [(instant_us(at(a)), instant_us(at(b)), 777) for a, b in pairwise(hours)]
    return here, intervals


def administrator(here: World) -> Actor:
    return Actor("user:1", Duty.ADMINISTRATOR, (here.property_id,))


def tried(here: World, document: dict[str, Any] = DRAFT, now: datetime = NOW) -> TrialReport:
    return try_tariff(
        actor=administrator(here),
        property_id=here.property_id,
        draft=parse_tariff(document),
        days=DAYS,
        now=now,
    )


def row_of(here: World, report: TrialReport, number: str = "1001") -> int:
    return report.account_ids.index(here.accounts[number])


def test_a_trial_charges_what_an_independent_model_charges() -> None:
    here, intervals = used()
    report = tried(here)
    row = row_of(here, report)
    draft = ExactPrices("Europe/Berlin", [(0, DRAFT)])
    exact = sum((draft.charge_micro(*each) for each in intervals), Fraction(0))
    present = sum((PRICES.charge_micro(*each) for each in intervals), Fraction(0))
    assert int(report.trial.drafted[row]) == floor(exact)
    assert int(report.trial.charged[row]) == floor(present)
    assert int(report.energy_wh[row]) == 777 * len(intervals)


def test_the_present_plan_tried_changes_nothing_and_cuts_nobody() -> None:
    here, _ = used()
    report = tried(here, TARIFF)
    assert not report.trial.difference.any()
    assert not report.trial.would_be_cut.any()


def test_a_trial_writes_nothing_to_the_books() -> None:
    here, _ = used()
    post(here)
    pay(here, "k1", 7_000_000)
    before = {
        table: rows(f"SELECT t::text FROM {table} t ORDER BY 1")
        for table in ("account_state", "transfer", "interval", "meter_state", "supply_decision")
    }
    tried(here)
    for table, content in before.items():
        assert rows(f"SELECT t::text FROM {table} t ORDER BY 1") == content, table


def test_who_would_have_been_cut_is_found_with_the_day() -> None:
    # The balance of 25.50 euro was there when the use began, at noon of the 17th.
    here, _ = used(24 * 17, LATER)
    dear = deepcopy(TARIFF)
    # 777 Wh each five hours at 7 euro: 22 euro on the 18th, the rest early on the 19th.
    dear["energy"] = {"unit": "kWh", "bands": {"all": {"price": "7"}}}
    report = tried(here, dear, LATER)
    row = row_of(here, report)
    assert report.trial.would_be_cut[row] and not report.trial.was_cut[row]
    first = report.days[int(report.trial.first_cut_day[row])]
    assert first.isoformat() == "2026-11-19"
    document = as_document(report)
    json.dumps(document)
    (mine,) = [each for each in document["accounts"] if each["account_id"] == here.accounts["1001"]]
    assert mine["first_cut_day"] == "2026-11-19" and mine["was_cut"] is False
    assert document["totals"]["would_be_cut"] == 1


def test_steps_count_from_the_beginning_of_their_window() -> None:
    here, intervals = used()
    stepped = deepcopy(TARIFF)
    stepped["energy"] = {
        "unit": "kWh",
        "bands": {"all": {"prices": ["0.10", "1.00"]}},
        "steps": {"kind": "graduated", "window": "month", "scope": "all", "limits": ["10"]},
    }
    report = tried(here, stepped)
    total = 777 * len(intervals)
    assert (
        int(report.trial.drafted[row_of(here, report)]) == 10_000 * 100 + (total - 10_000) * 1_000
    )


def test_amounts_by_the_day_are_on_the_days_of_an_accounts_life() -> None:
    here, _ = used()
    fixed = deepcopy(TARIFF) | {
        "standing": {"per_day": "1.00"},
        "taxes": [{"code": "vat", "label": "VAT", "rate": "10", "on": ["standing"]}],
    }
    report = tried(here, fixed)
    row = row_of(here, report)
    extra = int(report.trial.drafted[row] - report.trial.charged[row])
    opened = one(
        "SELECT (a.opened_at AT TIME ZONE 'Europe/Berlin')::date FROM account a WHERE id = %s",
        here.accounts["1001"],
    )
    lived = sum(day >= opened for day in report.days)
    assert extra == 1_100_000 * lived


def test_a_queued_trial_runs_to_its_result_and_a_bad_one_says_why() -> None:
    here, _ = used()
    draft = save_draft(
        actor=administrator(here), property_id=here.property_id, code="new", name="", reason="",
        document=DRAFT, now=NOW,
    )  # fmt: skip
    trial_id = ask_trial(actor=administrator(here), draft_id=draft.draft_id, days=DAYS, now=NOW)
    assert run_next_trial(now=NOW)
    assert not run_next_trial(now=NOW)
    ((state, done, total, result),) = rows(
        "SELECT state, accounts_done, accounts_total, result FROM tariff_trial WHERE id = %s",
        trial_id,
    )
    result = json.loads(result) if isinstance(result, str) else result
    assert (state, done, total) == ("done", len(result["accounts"]), len(here.accounts))
    rows("UPDATE tariff_trial SET state = 'queued', content = '{}' WHERE id = %s", trial_id)
    assert run_next_trial(now=NOW)
    ((state, failure),) = rows("SELECT state, failure FROM tariff_trial WHERE id = %s", trial_id)
    assert state == "failed" and "currency" in failure


def test_price_rules_of_the_place_are_held_against_the_draft() -> None:
    here, _ = used()
    system = system_actor("import")
    assert tried(here).findings == ()
    set_resale_terms(
        actor=system, property_id=here.property_id, rules="CN", valid_from=at(0),
        purchase_nano_per_kwh=250_000_000, now=NOW,
    )  # fmt: skip
    found = {each.rule.code: each for each in tried(here).findings}
    assert found["purchase_cap"].refuses
    assert not found["loss_share"].refuses, "nobody measures what was supplied"
    assert "purchase_cap" not in {each.rule.code for each in tried(here, TARIFF).findings}
    # The same price as a direct customer's is allowed; a tax on top is not the reseller's.
    set_resale_terms(
        actor=system, property_id=here.property_id, rules="ZA", valid_from=at(1), direct=DRAFT,
        now=NOW,
    )  # fmt: skip
    taxed = DRAFT | {"taxes": [{"code": "vat", "label": "VAT", "rate": "15", "on": ["energy"]}]}
    assert tried(here, taxed).findings == ()
    with pytest.raises(ResaleRefused):
        set_resale_terms(
            actor=system, property_id=here.property_id, rules="XX", valid_from=at(0), now=NOW
        )
    assert {"GB", "ZA", "CN"} <= packs().keys()


def test_only_those_who_may_draft_may_try() -> None:
    here, _ = used()
    for actor in (
        Actor("user:2", Duty.OPERATOR, (here.property_id,)),
        Actor("user:3", Duty.ADMINISTRATOR, (here.property_id + 1,)),
    ):
        with pytest.raises(PermissionRefused):
            try_tariff(
                actor=actor, property_id=here.property_id, draft=parse_tariff(DRAFT), days=DAYS,
                now=NOW,
            )  # fmt: skip
