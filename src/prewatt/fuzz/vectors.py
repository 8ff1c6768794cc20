"""The inputs that every target is tried with in each check: standard vectors, and whatever was once a finding.

One file for each target, one input to a line: hexadecimal digits, and after a ``#`` what it is.
"""

from __future__ import annotations

import re

from prewatt.runtime.state import CHECKOUT

FOLDER = CHECKOUT / "tests" / "fuzz" / "vectors"


_WORD = re.compile(rb"[A-Za-z][A-Za-z0-9_./:-]{2,31}")


def words_of(target: str) -> list[str]:
    """The words in a target's vectors: names of fields, which a reader in C gives no hint of."""
    found = (each for _, data in vectors_of(target) for each in _WORD.findall(data))
    return sorted({each.decode() for each in found})


def vectors_of(target: str) -> list[tuple[str, bytes]]:
    """What each is, and its bytes; none for a target that has no file."""
    file = FOLDER / f"{target}.txt"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    found = []
    for line in lines:
        digits, _, what = line.partition("#")
        if digits.strip():
            found.append((what.strip(), bytes.fromhex(digits)))
    return found
