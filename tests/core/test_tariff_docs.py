"""`docs/tariffs.md` is true: its fragments are plans, its examples exist, its refusals are said so."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.test_tariff_examples import EXAMPLES
from prewatt.core.tariff import TariffRefused, parse_tariff

PAGE = (Path(__file__).parents[2] / "docs" / "tariffs.md").read_text(encoding="utf-8")
FRAGMENTS = [
    json.loads(text if text.startswith("{") else f"{{{text}}}")
    for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
]
EVERYWHERE = [{"periods": [{"from": "00:00", "until": "24:00", "band": "peak"}]}]

Document = dict[str, Any]


def plan(fragment: Document) -> Document:
    """A whole plan around what an example shows of one."""
    made: Document = {"format": "prewatt-tariff/1", "name": "Example", "currency": "EUR"}
    inner = {key: fragment[key] for key in ("bands", "steps") if key in fragment}
    if inner:
        half = [{"from": "00:00", "until": "12:00", "band": "peak"}]
        half += [{"from": "12:00", "until": "24:00", "band": "valley"}]
        return made | {"energy": {"unit": "kWh", "schedule": [{"periods": half}], **inner}}
    energy = {"unit": "kWh", "bands": {"peak": {"price": "0.3"}}, "schedule": EVERYWHERE}
    return made | {"energy": energy} | fragment


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda each: "-".join(each)[:40])
def test_a_fragment_of_the_page_is_a_plan(fragment: Document) -> None:
    parse_tariff(plan(copy.deepcopy(fragment)))


def test_the_page_shows_every_part() -> None:
    shown = {key for fragment in FRAGMENTS for key in fragment}
    parts = {"standing", "fees", "minimum", "maximum", "demand", "taxes", "allowances"}
    assert parts | {"overlays", "debt_recovery", "temporary", "steps"} <= shown


def test_the_page_names_the_examples_that_are_shipped() -> None:
    table = PAGE.split("| file | shows |")[1].split("\n\n")[0]
    assert sorted(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE)) == EXAMPLES


def _time_of_use() -> Document:
    return copy.deepcopy(
        plan(next(each for each in FRAGMENTS if "energy" in each and "name" not in each))
    )


def _stepped(**steps: Any) -> Document:
    stepped = copy.deepcopy(plan(next(each for each in FRAGMENTS if "steps" in each)))
    stepped["energy"]["steps"].update(steps)
    return stepped


def _without_leap_day() -> Document:
    made = _time_of_use()
    made["energy"]["seasons"] = {
        "summer": [{"from": "03-01", "until": "09-01"}],
        "rest": [{"from": "09-01", "until": "02-29"}],
    }
    return made


def _overlapping() -> Document:
    made = _time_of_use()
    made["energy"]["schedule"][0]["periods"][1]["from"] = "06:00"
    return made


def _two_prices() -> Document:
    made = _stepped()
    made["energy"]["bands"]["peak"]["prices"].pop()
    return made


def _tax_on_tax() -> Document:
    levies = [{"code": "vat", "rate": "19", "inclusive": True}, {"code": "levy", "rate": "1"}]
    last = {"code": "green", "rate": "1", "inclusive": True, "compound": True}
    return plan({"taxes": [*levies, last]})


REFUSED: tuple[Callable[[], Document], ...] = (
    _without_leap_day,
    _overlapping,
    lambda: _stepped(limits=["400", "230"]),
    _two_prices,
    lambda: plan({"energy": {"unit": "kWh", "bands": {"peak": {"price": "-1"}}}}),
    lambda: _stepped(scale="days", window="purchase"),
    _tax_on_tax,
    lambda: plan(
        {
            "standing": [{"code": "service", "per_day": "1"}],
            "fees": [{"code": "service", "per_day": "1"}],
        }
    ),
    lambda: plan(
        {"overlays": [{"kind": "critical_peak", "group": "flats", "price": "1", "wait_hours": 24}]}
    ),
    lambda: plan({"temporary": {"fee": "15"}}),
)


def test_the_refusals_of_the_page_are_said_so() -> None:
    said = re.findall(r"^\| `([^`]+: [^`]+)` \|", PAGE, re.MULTILINE)
    assert len(said) == len(REFUSED)
    for make, sentence in zip(REFUSED, said, strict=True):
        with pytest.raises(TariffRefused) as refusal:
            parse_tariff(make())
        assert str(refusal.value) == sentence
