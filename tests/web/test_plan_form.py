"""The form of a plan and its document are the same thing, and a refusal finds its field."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.http import QueryDict
from hypothesis import HealthCheck, given, settings

from cases import cases
from core.tariff_strategies import full_tariff_documents
from prewatt.core import tariff as package
from prewatt.core.tariff import parse_tariff, to_document
from prewatt.core.tariff.words import TariffRefused
from prewatt.reports.tariff_examples import examples
from prewatt.web.console.plan_document import state_of
from prewatt.web.console.plan_fields import check, energy_alone
from prewatt.web.console.plan_rows import act
from prewatt.web.console.plan_state import State, blank, completed, pairs, posted, step_count
from prewatt.web.ui import refusals
from web.forms import named


def sent(state: State) -> QueryDict:
    """The state as a browser would post it."""
    data = QueryDict(mutable=True)
    for name, value in named(state, ""):
        data.appendlist(name, value)
    return data


@settings(max_examples=cases(50), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(full_tariff_documents())
def test_whatever_a_tariff_says_comes_back_from_its_form(document: dict[str, Any]) -> None:
    try:
        plan = parse_tariff(document)
    except TariffRefused:
        return
    state = state_of(to_document(plan))
    assert check(state, plan.currency).tariff == plan
    assert posted(sent(state)) == state
    assert check(posted(sent(state)), plan.currency).tariff == plan


def test_every_worked_example_fills_in_the_form() -> None:
    assert len(examples()) >= 4
    for example in examples():
        state = state_of(to_document(example.tariff))
        assert check(state, example.tariff.currency).tariff == example.tariff, example.key


def four_bands() -> State:
    (found,) = [each for each in examples() if each.key == "cn-ladder-four-bands"]
    return state_of(to_document(found.tariff))


def changed(path: str, value: Any) -> Callable[[State], None]:
    def change(state: State) -> None:
        *steps, last = path.split(".")
        here: Any = state
        for step in steps:
            here = here[int(step)] if isinstance(here, list) else here[step]
        here[int(last) if isinstance(here, list) else last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("name", "", "name"),
        ("bands.2.prices.1", "-1", "bands.2.prices.1"),
        ("bands.0.label", "x" * 90, "bands.0.label"),
        ("bands.1.name", "Not A Word", "bands.1.name"),
        ("bands.1.name", "flat", "bands.1.name"),
        ("bands.1.prices.2", "", "bands.1.prices.0"),
        ("steps.limits.1", "100", "steps.limits.1"),
        ("steps.limits.0", "", "steps.limits.0"),
        ("steps.window", "fortnight", "steps.window"),
        ("steps.add", "1200", "steps.add"),
        ("steps.included", "many", "steps.included"),
        ("seasons.1.ranges.0.from", "13-01", "seasons.1.ranges.0.from"),
        ("seasons.1.ranges.0.from", "06-15", "seasons.1"),
        ("seasons.1.name", "Summer!", "seasons.1.name"),
        ("schedule.0-0.2.from", "25:00", "schedule.0-0.2.from"),
        ("schedule.1-0.1.from", "12:00", "schedule.1-0.2.from"),
        ("schedule.1-0.3.band", "9", "schedule.1-0.3.band"),
        ("billing_day", "29", "billing_day"),
        ("year_from", "02-30", "year_from"),
        ("minimum.amount", "x", "minimum.amount"),
        ("debt.cap", "5", "debt.share"),
        ("currency", "EUR", "currency"),
    ],
)
def test_a_refusal_is_shown_at_the_field_that_is_wrong(path: str, value: Any, field: str) -> None:
    state = four_bands()
    changed(path, value)(state)
    refusal = check(state, "CNY").refusal
    assert refusal is not None
    assert refusal.path == field, refusal
    assert refusals.known(refusal.reason), refusal.reason


@pytest.mark.parametrize(
    ("rows", "row", "field"),
    [
        ("standing", {"amount": "x"}, "standing.0.amount"),
        ("fees", {"amount": "0", "per": "per_kwh"}, "fees.0.amount"),
        ("fees", {"amount": "120", "per": "share"}, "fees.0.amount"),
        ("demand", {"per_kw": "9", "ratchet_share": "50"}, "demand.0.ratchet_months"),
        ("demand", {"per_kw": ""}, "demand.0.per_kw"),
        ("taxes", {"rate": "19", "compound": "1"}, "taxes.0.compound"),
        ("taxes", {"rate": "19", "from": "1 May"}, "taxes.0.from"),
        ("allowances", {"amount": "50", "window": "purchase"}, "allowances.0.window"),
        ("allowances", {"amount": "0.5", "form": "per_kwh", "code": "No"}, "allowances.0.code"),
        ("overlays", {"kind": "real_time", "group": ""}, "overlays.0.group"),
        ("overlays", {"group": "g", "rebate": "1"}, "overlays.0"),
    ],
)
def test_a_row_that_is_wrong_says_where(rows: str, row: dict[str, str], field: str) -> None:
    state = act(four_bands(), f"add:{rows}")
    state[rows][0].update(row)
    refusal = check(state, "CNY").refusal
    assert refusal is not None
    assert refusal.path == field, refusal


def reasons() -> Iterator[str]:
    """Every reason that the reader of documents can give, with 17 for what it fills in."""
    folder = Path(package.__file__).parent
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "TariffRefused"
                and len(node.args) == 2
            ):
                yield from said(node.args[1])


def said(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "17" for part in node.values]
        text = "".join(str(part) for part in parts)
        # `{FORMAT!r}` is known by its quotes, `{fault} 17:00` by the two faults there are.
        yield {"must be 17": "must be '17'", "17 17": "leaves a gap after 17:00"}.get(text, text)


def test_every_reason_has_its_sentence() -> None:
    found = set(reasons())
    assert len(found) > 60
    assert [reason for reason in sorted(found) if refusals.known(reason) is None] == []


def test_a_field_in_which_nothing_stands_is_only_asked_for() -> None:
    reason = "must be a plain decimal of at most 9 decimals"
    assert refusals.sentence(reason, "") == "Still to be filled in."
    assert refusals.sentence(reason, "abc").startswith("Write a number")
    assert refusals.sentence("is new to this page") == "Is new to this page."


def test_the_first_season_and_kind_of_day_bring_their_counterpart() -> None:
    state = blank("EUR")
    changed("bands.0.prices.0", "0.25")(state)
    state = act(act(state, "add:bands"), "add:seasons")
    assert [season["name"] for season in state["seasons"]] == ["summer", "rest"]
    state = act(state, "add:classes")
    assert len(pairs(state)) == 4
    assert set(state["schedule"]) == {"0-0", "0-1", "1-0", "1-1"}
    assert state["kinds"]["sat"] == "1" and state["kinds"]["holiday"] == "1"


def test_a_new_kind_of_day_begins_with_the_hours_of_the_first() -> None:
    state = act(four_bands(), "add:classes")
    assert state["schedule"]["0-1"] == state["schedule"]["0-0"]
    assert state["schedule"]["1-1"] == state["schedule"]["1-0"] != state["schedule"]["0-0"]


def test_hours_of_a_band_that_is_gone_fall_to_the_first_and_later_ones_move_up() -> None:
    state = four_bands()
    before = copy.deepcopy(state["schedule"]["0-0"])
    after = act(state, "remove:bands.1")
    assert [band["name"] for band in after["bands"]] == ["flat", "sharp", "valley"]
    moved = {"0": "0", "1": "0", "2": "1", "3": "2"}
    assert [each["band"] for each in after["schedule"]["0-0"]] == [moved[p["band"]] for p in before]
    assert state == four_bands(), "the state that was given is left alone"


def test_a_step_that_is_gone_takes_its_price_with_it() -> None:
    state = act(four_bands(), "remove:steps.limits.0")
    assert state["steps"]["limits"] == ["4800"]
    assert step_count(state) == 2
    assert state["bands"][0]["prices"] == ["0.538", "0.838"]


def test_days_of_a_kind_that_is_gone_belong_to_the_first() -> None:
    state = act(act(four_bands(), "add:classes"), "add:classes")
    state["kinds"]["sun"] = "2"
    after = act(state, "remove:classes.1")
    assert after["kinds"]["sun"] == "1" and after["kinds"]["sat"] == "0"
    assert len(after["classes"]) == 2
    assert set(after["schedule"]) == {"0-0", "0-1", "1-0", "1-1"}


@pytest.mark.parametrize(
    "do", ["", "add:", "add:nothing", "remove:bands.99", "remove:bands.-1", "add:seasons.9.ranges",
           "remove:schedule.0-0.0", "remove:steps.limits.x", "drop:bands.0", "remove:name"],
)  # fmt: skip
def test_what_cannot_be_done_changes_nothing(do: str) -> None:
    assert act(four_bands(), do) == four_bands()


@pytest.mark.parametrize(
    "names",
    [
        {"bands": "text"}, {"bands.x.label": "a"}, {"bands.0": "a"}, {"steps": "on"},
        {"schedule.0-0": "x"}, {"schedule.0-0.0": "x"}, {"kinds": "x"}, {"__proto__.a": "b"},
        {"seasons.0.ranges": "x"}, {"taxes.0.on": "energy"}, {"bands.0.prices": "1"},
        {"steps.season_limits": "x"}, {"a.b.c.d.e.f": "x"}, {"bands.5.label": "far"},
    ],
)  # fmt: skip
def test_names_that_nobody_asked_for_do_no_harm(names: dict[str, str]) -> None:
    data = QueryDict(mutable=True)
    data.update(names)
    state = posted(data) | {"currency": "EUR"}
    assert check(state, "EUR").refusal is not None
    assert state["bands"] and state["schedule"]


def test_prices_can_be_drawn_while_another_part_is_being_written() -> None:
    state = act(four_bands(), "add:taxes")
    checked = check(state, "CNY")
    assert checked.tariff is None
    partly = energy_alone(checked.document)
    assert partly is not None and len(partly.bands) == 4


def test_a_band_without_hours_is_said_at_the_hours_and_by_its_name() -> None:
    state = blank("EUR")
    state["name"] = "Two bands"
    state["bands"] = [
        {"name": "", "label": label, "prices": ["0.2"], "limits": ""} for label in ("Night", "Day")
    ]
    refusal = check(completed(state), "EUR").refusal
    assert refusal is not None and refusal.path == "schedule"
    assert "“Day” holds at no hour yet" in refusals.sentence(refusal.reason)


def test_a_plan_of_one_price_needs_no_short_name() -> None:
    state = blank("EUR") | {"name": "One price"}
    state["bands"][0]["prices"] = ["0.2"]
    tariff = check(state, "EUR").tariff
    assert tariff is not None and [band.name for band in tariff.bands] == ["energy"]


def test_an_empty_field_hides_no_other_reason() -> None:
    assert refusals.sentence("must be a decimal in quotes", "") == "Still to be filled in."
    assert refusals.sentence("is there twice", "") == "This name is used twice. Each needs its own."
