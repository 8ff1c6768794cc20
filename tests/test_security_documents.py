"""What SECURITY.md and the table of ASVS name as evidence is there."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
FILE = re.compile(r"`((?:src|docs|tests)/[\w./-]+|[\w-]+\.(?:md|toml|txt))`")
ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| ([12]) \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", re.M)


@pytest.mark.parametrize("name", ["SECURITY.md", "docs/asvs.md"])
def test_every_test_and_file_named_as_evidence_exists(name: str) -> None:
    text = (ROOT / name).read_text()
    named = TEST.findall(text)
    assert len(named) > 30
    missing = [
        f"{path}::{test}"
        for path, test in sorted(set(named))
        if not (ROOT / path).is_file()
        or not re.search(rf"^(?:async )?def {test}\(", (ROOT / path).read_text(), re.M)
    ]
    missing += [path for path in sorted(set(FILE.findall(text))) if not (ROOT / path).exists()]
    assert missing == []


def test_every_requirement_of_two_levels_has_its_verdict() -> None:
    text = (ROOT / "docs/asvs.md").read_text()
    rows = ROW.findall(text)
    assert len({number for number, *_ in rows}) == len(rows)
    assert Counter(level for _, level, *_ in rows) == {"1": 70, "2": 183}
    verdicts = Counter(verdict for _, _, verdict, _ in rows)
    assert set(verdicts) == {"met", "partly", "not met", "operator", "n/a"}
    for verdict, count in verdicts.items():
        assert f"| {verdict} | {count} |" in text
