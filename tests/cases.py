"""How much of what could be tried without end each run of all checks tries, and any amount by wish.

Each run tries other random cases, a fifth of the usual number: `PREWATT_CASES_PERCENT=2000 ./run check --only
tests tests/core` tries twenty times the usual. Of what a browser looks at one by one each run takes a part at
random: `PREWATT_PAGES_PERCENT=100` takes all, `PREWATT_PAGES_SEED` that of a run which said so.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from random import Random

PAGES_SEED = os.environ.get("PREWATT_PAGES_SEED") or secrets.token_hex(4)


def cases(usual: int) -> int:
    """The number of cases, `usual` unless the environment asks for a share of it or more."""
    return max(1, usual * int(os.environ.get("PREWATT_CASES_PERCENT", "20")) // 100)


def some_pages(pages: Sequence[str]) -> list[str]:
    """The pages that this run looks at, in their order: a tenth of them, or as many as the environment says.

    The seed is printed, which pytest shows of a test that fails.
    """
    print(f"PREWATT_PAGES_SEED={PAGES_SEED}")
    percent = min(100, int(os.environ.get("PREWATT_PAGES_PERCENT", "10")))
    number = max(1, len(pages) * percent // 100)
    chosen = set(Random(PAGES_SEED).sample(range(len(pages)), number))
    return [page for place, page in enumerate(pages) if place in chosen]
