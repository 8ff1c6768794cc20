"""Price rules: what the law of a place lets a property charge for electricity it bought itself.

A pack is one jurisdiction's rules with their source. `judge` holds a draft tariff's result on
real loads against it and returns findings; whether a finding warns or refuses is the rule's own
word. What cannot be known, for want of a purchase price or of a supply meter, is a finding too:
a rule that was not checked is not a rule that holds.

Amounts are micro-units before tax, energy is Wh, shares are parts per million.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

import numpy as np

from prewatt.core.bounds import INT64_MAX, Int64, magnitude
from prewatt.core.tariff.model import DatedKind, Tariff

FORMAT: Final = "prewatt-price-rules/1"
PPM: Final = 1_000_000
_PERCENT: Final = re.compile(r"([0-9]{1,4})(?:\.([0-9]{1,4}))?")


class RuleKind(StrEnum):
    """A cap on each account's bill against a reference; no fees on top; a limit on losses."""

    RESALE_CAP = "resale_cap"
    NO_FEES = "no_fees"
    LOSS_SHARE = "loss_share"


class Reference(StrEnum):
    """What a capped bill is compared with: what the property itself paid for that energy, or what
    the customer would pay as a direct customer of the local supplier.
    """

    PURCHASE = "purchase"
    DIRECT = "direct"


class Severity(StrEnum):
    """Whether a broken rule stops an approval, or is shown to the approver."""

    WARN = "warn"
    REFUSE = "refuse"


class Outcome(StrEnum):
    """A rule that does not hold, and one that could not be checked."""

    BROKEN = "broken"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Rule:
    """`at_most_ppm` of the reference (RESALE_CAP) or of the energy supplied (LOSS_SHARE)."""

    code: str
    kind: RuleKind
    severity: Severity
    text: str
    reference: Reference | None = None
    at_most_ppm: int = PPM


@dataclass(frozen=True, slots=True)
class RulePack:
    """One jurisdiction's rules; `source` names the law or notice, `applies_to` whom they protect."""

    jurisdiction: str
    name: str
    source: str
    applies_to: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """A tariff tried on real loads. Columns of one length, an entry per account.

    `reference_micro` holds, for each reference that is known, what the same energy costs there.
    `supplied_wh` is what the property's supply meters counted, None where that is not known, and
    `supply_unknown` says why in a stable word.
    """

    energy_wh: Int64
    charged_micro: Int64
    reference_micro: Mapping[Reference, Int64]
    supplied_wh: int | None = None
    supply_unknown: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that is broken or could not be checked.

    For a cap, `accounts` are the positions of the accounts above it and `measured_ppm` is the
    worst ratio; for losses `measured_ppm` is the share that was lost. `why` says, where it is known, why a rule could
    not be checked.
    """

    rule: Rule
    outcome: Outcome
    measured_ppm: int | None = None
    accounts: tuple[int, ...] = ()
    why: str = ""

    @property
    def refuses(self) -> bool:
        """Whether an approval must stop here. An unknown never refuses: it is shown instead."""
        return self.outcome is Outcome.BROKEN and self.rule.severity is Severity.REFUSE


class RulePackRefused(ValueError):
    """A document is not a rule pack; `place` and `reason` as in a refused tariff."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


def parse_pack(document: Mapping[str, object]) -> RulePack:
    """The pack of a document, or `RulePackRefused` with the first fault."""
    if document.get("format") != FORMAT:
        raise RulePackRefused("format", f"must be {FORMAT!r}")
    rules = document.get("rules")
    if not isinstance(rules, Sequence) or isinstance(rules, str) or not rules:
        raise RulePackRefused("rules", "must be a list with at least one rule")
    parsed = tuple(_rule(each, f"rules[{index}]") for index, each in enumerate(rules))
    codes = [each.code for each in parsed]
    for index, code in enumerate(codes):
        if code in codes[:index]:
            raise RulePackRefused(f"rules[{index}].code", f"{code!r} is used twice")
    return RulePack(
        jurisdiction=_text(document, "jurisdiction", "jurisdiction"),
        name=_text(document, "name", "name"),
        source=_text(document, "source", "source"),
        applies_to=_text(document, "applies_to", "applies_to"),
        rules=parsed,
    )


def rule_document(rule: Rule) -> dict[str, object]:
    """What a rule asks, as a trial keeps it: a rule of another bound is another rule."""
    return {
        "code": rule.code,
        "kind": rule.kind.value,
        "reference": None if rule.reference is None else rule.reference.value,
        "at_most_ppm": rule.at_most_ppm,
    }


def judge(pack: RulePack, tariff: Tariff, facts: Facts) -> tuple[Finding, ...]:
    """Every rule of the pack that is broken or could not be checked, in the pack's order."""
    findings = (_judge_one(rule, tariff, facts) for rule in pack.rules)
    return tuple(each for each in findings if each is not None)


def _judge_one(rule: Rule, tariff: Tariff, facts: Facts) -> Finding | None:
    if rule.kind is RuleKind.RESALE_CAP:
        return _judge_cap(rule, facts)
    if rule.kind is RuleKind.LOSS_SHARE:
        return _judge_losses(rule, facts)
    has_fees = bool(tariff.usage_fees) or any(d.kind is DatedKind.FEE for d in tariff.dated)
    return Finding(rule, Outcome.BROKEN) if has_fees else None


def _judge_cap(rule: Rule, facts: Facts) -> Finding | None:
    reference = None if rule.reference is None else facts.reference_micro.get(rule.reference)
    if reference is None:
        return Finding(rule, Outcome.UNKNOWN)
    # charged > share × reference, with every fraction multiplied out. Python's integers do not
    # overflow, and a property has thousands of accounts, not millions.
    largest = max(magnitude(facts.charged_micro), magnitude(reference))
    kind = object if largest * max(PPM, rule.at_most_ppm) > INT64_MAX else np.int64
    charged, allowed = facts.charged_micro.astype(kind), reference.astype(kind)
    above = np.flatnonzero(charged * PPM > allowed * rule.at_most_ppm)
    if above.size == 0:
        return None
    ratios = [
        int(facts.charged_micro[row]) * PPM // int(reference[row])
        for row in above.tolist()
        if int(reference[row]) > 0
    ]
    return Finding(rule, Outcome.BROKEN, max(ratios, default=None), tuple(above.tolist()))


def _judge_losses(rule: Rule, facts: Facts) -> Finding | None:
    if not facts.supplied_wh:
        return Finding(rule, Outcome.UNKNOWN, why=facts.supply_unknown)
    lost = facts.supplied_wh - int(facts.energy_wh.sum())
    if lost * PPM <= facts.supplied_wh * rule.at_most_ppm:
        return None
    return Finding(rule, Outcome.BROKEN, lost * PPM // facts.supplied_wh)


def _rule(value: object, place: str) -> Rule:
    if not isinstance(value, Mapping):
        raise RulePackRefused(place, "must be an object")
    unknown = sorted(value.keys() - {"code", "kind", "severity", "text", "reference", "at_most"})
    if unknown:
        raise RulePackRefused(place, f"has the unknown entry {unknown[0]!r}")
    kind = _choice(value, "kind", place, RuleKind)
    reference = None
    if kind is RuleKind.RESALE_CAP:
        reference = _choice(value, "reference", place, Reference)
    return Rule(
        code=_text(value, "code", f"{place}.code"),
        kind=kind,
        severity=_choice(value, "severity", place, Severity),
        text=_text(value, "text", f"{place}.text"),
        reference=reference,
        at_most_ppm=PPM if kind is RuleKind.NO_FEES else _ppm(value, f"{place}.at_most"),
    )


_Choice = TypeVar("_Choice", RuleKind, Reference, Severity)


def _choice(entry: Mapping[Any, object], key: str, place: str, kind: type[_Choice]) -> _Choice:
    try:
        return kind(str(entry[key]))
    except (KeyError, ValueError) as error:
        words = ", ".join(each.value for each in kind)
        raise RulePackRefused(f"{place}.{key}", f"must be one of {words}") from error


def _text(entry: Mapping[Any, object], key: str, place: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise RulePackRefused(place, "must be a text")
    return value


def _ppm(entry: Mapping[Any, object], place: str) -> int:
    """A percentage in quotes, such as "90" or "10.5", in parts per million."""
    value = entry.get("at_most")
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise RulePackRefused(place, 'must be a percentage in quotes, such as "90"')
    return int(match[1]) * 10_000 + int((match[2] or "").ljust(4, "0"))
