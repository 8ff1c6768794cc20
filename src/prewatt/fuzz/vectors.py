"""The inputs that every target is tried with in each check: standard vectors, and whatever was once a finding.

One file for each target, one input to a line: hexadecimal digits, and after a ``#`` what it is.
"""

from __future__ import annotations

from prewatt.runtime.state import CHECKOUT

FOLDER = CHECKOUT / "tests" / "fuzz" / "vectors"


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
