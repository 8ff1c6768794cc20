"""Serial numbers of devices: they stand in topics, in addresses and in certificates, and have to fit all of them."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 32


def is_serial(text: str) -> bool:
    """Whether a device can have it; ``sim`` is a word of the topics."""
    return (
        0 < len(text) <= LONGEST
        and text.isascii()
        and text[0].isalnum()
        and all(each.isalnum() or each in "._-" for each in text)
        and text != "sim"
    )
