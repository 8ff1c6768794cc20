"""An audit of packages that could not be made is not taken for one that found nothing."""

from __future__ import annotations

from typing import Any

import pytest

from prewatt.packages_command import verdict

GOOD = {"name": "a", "version": "1", "vulns": []}
HOLED = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNASKED = {"name": "c", "version": "4", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([GOOD], 0, "1 packages asked about, 0 known holes"),
        ([GOOD, HOLED], 1, "b 2: CVE-1, mended in 3"),
        ([GOOD, UNASKED], 2, "NOT AUDITED: c"),
        ([HOLED, UNASKED], 1, "NOT AUDITED: c"),
        ([], 2, "NOT AUDITED: anything"),
    ],
)
def test_what_could_not_be_asked_about_is_said(
    packages: list[dict[str, Any]], status: int, said: str
) -> None:
    lines, found = verdict({"dependencies": packages})
    assert found == status
    assert any(said in line for line in lines)
