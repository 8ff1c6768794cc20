"""How many random cases a property is tried with: few in each run of all checks, any number by wish.

Each run tries others, half of the usual number. `PREWATT_CASES_PERCENT=2000 ./run check --only tests
tests/core` tries twenty times the usual.
"""

from __future__ import annotations

import os


def cases(usual: int) -> int:
    """The number of cases, `usual` unless the environment asks for a share of it or more."""
    return max(1, usual * int(os.environ.get("PREWATT_CASES_PERCENT", "50")) // 100)
