"""Block-wise uploads (RFC 7959, Block1) put together with a bound on everything: sizes, transfers, their age.

The library would put together whatever comes. Here a transfer is of so many bytes, a sender has one at a time,
and all of them together are so many; the oldest gives way.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from prewatt.hes.drivers.lwm2m.values import MAX_PAYLOAD_BYTES

TRANSFERS_MAX: Final = 256
AGE_US_MAX: Final = 93 * 1_000_000
"""MAX_TRANSMIT_WAIT of RFC 7252: whoever has not gone on by then has given up."""


class TooLarge(ValueError):
    """More bytes than a transfer may have."""


class OutOfOrder(ValueError):
    """A block that does not follow the last one, or of no transfer that is known."""


@dataclass(slots=True)
class _Transfer:
    content: bytearray
    began_at_us: int


class Uploads:
    """Transfers that are under way. Not thread-safe."""

    def __init__(self) -> None:
        self._transfers: OrderedDict[Hashable, _Transfer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._transfers)

    def feed(
        self, sender: Hashable, *, start: int, content: bytes, has_more: bool, now_us: int
    ) -> bytes | None:
        """Take a block at offset `start`; the whole once it is the last. Raises TooLarge, OutOfOrder."""
        self._forget(now_us)
        if start == 0:
            self._transfers.pop(sender, None)
            while len(self._transfers) >= TRANSFERS_MAX:
                self._transfers.popitem(last=False)
            self._transfers[sender] = _Transfer(bytearray(), now_us)
        transfer = self._transfers.get(sender)
        if transfer is None or len(transfer.content) != start:
            self._transfers.pop(sender, None)
            raise OutOfOrder(f"a block at {start}")
        if start + len(content) > MAX_PAYLOAD_BYTES:
            del self._transfers[sender]
            raise TooLarge(f"more than {MAX_PAYLOAD_BYTES} bytes")
        transfer.content += content
        if has_more:
            return None
        del self._transfers[sender]
        return bytes(transfer.content)

    def _forget(self, now_us: int) -> None:
        while self._transfers:
            oldest = next(iter(self._transfers.values()))
            if now_us - oldest.began_at_us <= AGE_US_MAX:
                return
            self._transfers.popitem(last=False)
