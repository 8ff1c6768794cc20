"""The published JSON Schema and the parser say the same: what the schema refuses, the parser refuses.

The parser refuses more, such as gaps in a calendar, which a schema cannot say.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator, meta

import prewatt
from cases import cases
from core.tariff_strategies import full_tariff_documents
from core.test_tariff_parts import document
from prewatt.core.tariff import TariffRefused, parse_tariff, to_document

SCHEMA = json.loads(
    (Path(prewatt.__file__).parent / "data" / "tariffs" / "schema.json").read_text(encoding="utf-8")
)
VALIDATOR = Draft202012Validator(SCHEMA)

JUNK = (
    None,
    True,
    -1,
    0,
    29,
    "",
    " ",
    "-1",
    "0.1234567891",
    "1e3",
    "101",
    "per_day",
    "x" * 2_000,
    "13:00:00",
    "2026-1-1",
    "A",
    [],
    ["x"],
    {},
    {"per_week": "1"},
    [{}],
    {"x": []},
)


def refused(candidate: Any) -> bool:
    try:
        parse_tariff(candidate)
    except TariffRefused:
        return True
    return False


def test_the_schema_is_a_schema_and_describes_every_entry_that_the_parser_reads() -> None:
    meta.validate(SCHEMA)
    assert VALIDATOR.is_valid(document())
    unknown = document() | {"vat": "20"}
    assert not VALIDATOR.is_valid(unknown)


@settings(max_examples=cases(70), deadline=None)
@given(full_tariff_documents())
def test_what_the_parser_reads_and_writes_is_valid(plan: dict[str, Any]) -> None:
    VALIDATOR.validate(plan)
    VALIDATOR.validate(to_document(parse_tariff(plan)))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document, the whole of it apart."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[Any, ...]] = []
    for key, entry in inner:
        found.append((*path, key))
        if isinstance(entry, dict | list):
            found.extend(places(entry, (*path, key)))
    return found


@st.composite
def mutated_documents(draw: st.DrawFn) -> dict[str, Any]:
    """A document with one entry taken away, added, doubled or replaced by something else."""
    plan = copy.deepcopy(draw(st.one_of(full_tariff_documents(), st.just(document()))))
    *way, last = draw(st.sampled_from(places(plan)))
    parent: Any = plan
    for key in way:
        parent = parent[key]
    change = draw(st.sampled_from(("replace", "remove", "add", "swap")))
    if change == "replace":
        parent[last] = draw(st.sampled_from(JUNK))
    elif change == "remove":
        del parent[last]
    elif change == "add" and isinstance(parent, dict):
        parent[
            draw(st.sampled_from(("Extra", "price", "per_day", "share", "season", "limits")))
        ] = draw(st.sampled_from(JUNK))
    else:
        other = draw(st.sampled_from(places(plan)))
        value: Any = plan
        for key in other:
            value = value[key]
        parent[last] = copy.deepcopy(value)
    return plan


@settings(max_examples=cases(120), deadline=None)
@given(mutated_documents())
def test_what_the_schema_refuses_the_parser_refuses(plan: dict[str, Any]) -> None:
    if not VALIDATOR.is_valid(plan):
        assert refused(plan)


@pytest.mark.parametrize("place", places(document()), ids=str)
def test_nothing_at_any_place_is_something_else(place: tuple[Any, ...]) -> None:
    """Each entry replaced by each piece of junk: nothing but a refusal or a plan comes out."""
    for junk in JUNK:
        plan = document()
        parent: Any = plan
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = junk
        if not VALIDATOR.is_valid(plan):
            assert refused(plan), (place, junk)
        else:
            refused(plan)
