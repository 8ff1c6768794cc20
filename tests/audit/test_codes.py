"""Every code that the source can write in the audit has its sentence, in every language."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
from django.utils import translation

import prewatt
from prewatt.core.credit import BrakePolicy
from prewatt.core.cut_window import CutWindow
from prewatt.core.levels import Level
from prewatt.core.orders import OrderPolicy
from prewatt.debts.words import Policy
from prewatt.oversight.kinds import KINDS
from prewatt.supply.policy import _KEYS
from prewatt.web import watched
from prewatt.web.ui import audit_words, field_words, messages

SOURCE = Path(prewatt.__file__).parent
_CODE = re.compile(r"[a-z_]+(\.[a-z_]+)+")
#: Codes that are put together of a state.
PUT_TOGETHER = {
    "approvals.": ("approved", "refused", "withdrawn", "void", "expired"),
    "mdm.reading.": ("released", "discarded"),
    "debts.": ("debt.settled", "debt.written_off"),
}
#: Functions of a package that hand a code on to the audit.
_HAND_ON = {"record", "record_many", "_conclude", "_audit", "_record_accounts", "_say"}


@cache
def _codes() -> frozenset[str]:
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        if path.parts[-2] in ("benchmarks", "drills"):
            continue
        text = path.read_text(encoding="utf-8")
        if not any(f"{name}(" in text for name in _HAND_ON):
            continue
        tree = ast.parse(text)
        constants = {
            target.id: node.value
            for node in ast.walk(tree)
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in _HAND_ON:
                for given in [*call.args, *(each.value for each in call.keywords)]:
                    value = constants.get(given.id, given) if isinstance(given, ast.Name) else given
                    found |= _of(value)
    for path in SOURCE.rglob("*.sql"):
        for insert in re.findall(
            r"audit_event \(.*?FROM", path.read_text(encoding="utf-8"), re.DOTALL
        ):
            found |= {each for each in re.findall(r"'([a-z_.]+)'", insert) if _CODE.fullmatch(each)}
    return frozenset(found)


def _of(value: ast.expr) -> set[str]:
    if isinstance(value, ast.IfExp):
        return _of(value.body) | _of(value.orelse)
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return {value.value} if _CODE.fullmatch(value.value) else set()
    if isinstance(value, ast.JoinedStr) and isinstance(value.values[0], ast.Constant):
        head = str(value.values[0].value)
        return {f"{head}{each}" for each in PUT_TOGETHER.get(head, ())}
    return set()


def _names(document: object, *, by_name: bool = False) -> set[str]:
    """The names of figures in a plan; what people call their bands, seasons and kinds of days are none."""
    if isinstance(document, list):
        return {name for each in document for name in _names(each)}
    if not isinstance(document, dict):
        return set()
    own = set() if by_name else set(document)
    return own | {
        name
        for key, each in document.items()
        for name in _names(each, by_name=not by_name and key in ("bands", "seasons", "day_classes"))
    }


def test_every_figure_of_rules_and_plans_has_a_name_of_its_own() -> None:
    """As an event's page shows what changed: no name as it is stored, and each value by its unit."""
    plans = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in (SOURCE / "data" / "tariffs").glob("*.json") if path.name != "schema.json"
    ]  # fmt: skip
    stored = {name for plan in plans for name in _names(plan)}
    # What none of the plans that come with Prewatt has, by the functions that write them.
    for path in (SOURCE / "core" / "tariff").glob("document*.py"):
        stored |= set(
            re.findall(r'(?:^\s+|entry\[|update\()"([a-z_]+)"[\]:]', path.read_text(), re.MULTILINE)
        )
    stored |= set(_KEYS) | {
        each.name for kind in (BrakePolicy, OrderPolicy, Policy) for each in fields(kind)
    }
    stored |= {each.name for each in fields(CutWindow) if each.name != "calendar"}
    stored |= {each.name for each in fields(Level)} | {
        "members",
        "contracted_w",
        "exempt",
        "overlay_groups",
    }
    known = set(field_words.NAMES) | set(audit_words.FIELD)
    assert len(stored) > 90 and stored - known == set()
    rules = {"window": {"opens_min": 540, "weekdays": [0, 1, 2, 3, 4]}, "notice_s": 14_400,
             "brake": {"share_bp": 500}}  # fmt: skip
    messages.compile_all()
    with translation.override("zh-hans"):
        read = audit_words.differences({"before": rules, "after": rules}, "CNY", "UTC", "zh-hans")
        assert [each.after for each in read] == ["09:00", "周一至周五", "4 小时", "5 %"]
        for each in read:
            assert not re.search("[a-z]", each.name), each.name


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_every_code_has_its_sentence_in_every_language(language: str) -> None:
    messages.compile_all()
    codes = _codes() | {code for code, _ in watched.READS.values()}
    assert len(codes) > 80 and "vending.recharge.posted" in codes and "moves.tenant.in" in codes
    assert codes - set(audit_words.CODE) == set(), "give it a sentence: web/ui/audit_words.py, CODE"
    assert {each.code for each in KINDS} == set(audit_words.WATCH) == set(audit_words.WATCH_SAYS)
    with translation.override(language):
        said = [str(text) for text in audit_words.CODE.values()]
        assert len(set(said)) == len(said), "two codes read the same"
        for text in said:
            assert bool(re.search("[\u4e00-\u9fff]", text)) is (language != "en"), text
