"""Price rules: caps, fees and losses judged exactly, and what is unknown said to be unknown."""

from __future__ import annotations

import json
from fractions import Fraction
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prewatt.core.price_rules import (
    Facts,
    Outcome,
    Reference,
    Rule,
    RuleKind,
    RulePack,
    RulePackRefused,
    Severity,
    judge,
    parse_pack,
)
from prewatt.core.tariff import parse_tariff
from prewatt.core.tariff.model import UsageFee

PACKS = sorted(
    each.name
    for each in files("prewatt").joinpath("data/price_rules").iterdir()
    if each.name.endswith(".json")
)
TARIFF = parse_tariff(
    {
        "format": "prewatt-tariff/1",
        "name": "Flat",
        "currency": "EUR",
        "energy": {"unit": "kWh", "bands": {"all": {"price": "0.30"}}},
    }
)


def pack_document(name: str) -> dict[str, Any]:
    """A shipped pack as its document."""
    document: dict[str, Any] = json.loads(
        files("prewatt").joinpath("data/price_rules", name).read_text(encoding="utf-8")
    )
    return document


def cap(at_most_ppm: int, severity: Severity = Severity.REFUSE) -> RulePack:
    """A pack of one cap on the purchase price."""
    rule = Rule("cap", RuleKind.RESALE_CAP, severity, "cap", Reference.PURCHASE, at_most_ppm)
    return RulePack("XX", "one cap", "nowhere", "all", (rule,))


def facts(charged: list[int], reference: list[int] | None, supplied_wh: int | None = None) -> Facts:
    """Accounts that used one kWh each."""
    known = {} if reference is None else {Reference.PURCHASE: np.array(reference, dtype=np.int64)}
    return Facts(
        energy_wh=np.full(len(charged), 1_000, dtype=np.int64),
        charged_micro=np.array(charged, dtype=np.int64),
        reference_micro=known,
        supplied_wh=supplied_wh,
    )


@pytest.mark.parametrize("name", PACKS)
def test_each_shipped_pack_is_one_with_a_source(name: str) -> None:
    pack = parse_pack(pack_document(name))
    assert pack.source
    assert pack.jurisdiction.lower() == name.removesuffix(".json")


def test_a_cap_holds_at_the_limit_and_is_broken_one_micro_unit_above() -> None:
    assert judge(cap(900_000), TARIFF, facts([900], [1_000])) == ()
    (finding,) = judge(cap(900_000), TARIFF, facts([900, 901, 2_000], [1_000] * 3))
    assert finding.accounts == (1, 2)
    assert finding.measured_ppm == 2_000_000
    assert finding.refuses


def test_a_warning_does_not_refuse() -> None:
    (finding,) = judge(cap(1_000_000, Severity.WARN), TARIFF, facts([2], [1]))
    assert finding.outcome is Outcome.BROKEN
    assert not finding.refuses


def test_what_cannot_be_known_is_a_finding_that_does_not_refuse() -> None:
    (finding,) = judge(cap(1_000_000), TARIFF, facts([2], None))
    assert finding.outcome is Outcome.UNKNOWN
    assert not finding.refuses
    losses = RulePack(
        "XX", "x", "x", "x", (Rule("loss", RuleKind.LOSS_SHARE, Severity.REFUSE, "x", None, 1),)
    )
    assert judge(losses, TARIFF, facts([1], None))[0].outcome is Outcome.UNKNOWN


def test_losses_are_a_share_of_what_was_supplied() -> None:
    pack = parse_pack(pack_document("cn.json"))
    losses = RulePack("CN", "x", "x", "x", tuple(r for r in pack.rules if r.code == "loss_share"))
    assert judge(losses, TARIFF, facts([1] * 9, None, supplied_wh=10_000)) == ()
    (finding,) = judge(losses, TARIFF, facts([1] * 9, None, supplied_wh=10_001))
    assert finding.measured_ppm == 100_089


def test_a_fee_on_top_is_noticed() -> None:
    pack = parse_pack(pack_document("za.json"))
    rules = RulePack("ZA", "x", "x", "x", tuple(r for r in pack.rules if r.code == "no_fees"))
    assert judge(rules, TARIFF, facts([1], None)) == ()
    with_fee = type(TARIFF)(
        **{**TARIFF.__dict__, "usage_fees": (UsageFee("service", "Service", 1, 0),)}
    )
    assert judge(rules, with_fee, facts([1], None))[0].refuses


@given(
    rows=st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)), min_size=1, max_size=5),
    at_most=st.integers(0, 2_000_000),
)
def test_a_cap_agrees_with_fractions_at_any_size(rows: list[tuple[int, int]], at_most: int) -> None:
    charged, reference = [list(each) for each in zip(*rows, strict=True)]
    findings = judge(cap(at_most), TARIFF, facts(charged, reference))
    above = tuple(
        index for index, (c, r) in enumerate(rows) if c > Fraction(at_most, 1_000_000) * r
    )
    assert (findings[0].accounts if findings else ()) == above


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"format": "x"}, "format"),
        ({"rules": []}, "rules"),
        ({"source": " "}, "source"),
        ({"rules": [{"code": "a", "kind": "tax"}]}, "rules[0].kind"),
        (
            {"rules": [{"code": "a", "kind": "resale_cap", "severity": "warn", "text": "t"}]},
            "rules[0].reference",
        ),
        (
            {
                "rules": [
                    {
                        "code": "a",
                        "kind": "loss_share",
                        "severity": "warn",
                        "text": "t",
                        "at_most": 10,
                    }
                ]
            },
            "rules[0].at_most",
        ),
    ],
)
def test_a_bad_pack_is_refused_with_its_place(change: dict[str, object], place: str) -> None:
    with pytest.raises(RulePackRefused) as refused:
        parse_pack({**pack_document("gb.json"), **change})
    assert refused.value.place == place
