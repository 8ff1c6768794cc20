"""A simulated concentrator: gathers its meters' readings into bundles. Pure: time goes in, messages come out.

It stands where the broker stands for a meter of its own: it takes the meter's readings off its line, and gives it a
watermark once the head-end has named the bundle they went with. So the meters keep their backlog, and it may forget
everything at any time: what it had, they send again. A bundle that is not named is sent again as it was.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from prewatt.core.vocabulary import RelayState as RelayCode
from prewatt.hes.drivers.mqtt_bundle import codec, limits, packs
from prewatt.hes.drivers.mqtt_senml.codec import decode_readings
from prewatt.hes.frames import AckToken, MalformedFrame, Watermark

_BUNDLES_MAX: Final = 50
#: Meters and readings of one message: the bundle's own limits, and what fits into a pack of 128 KiB.
_BUNDLE_OF: Final = (limits.MAX_METERS, limits.MAX_READINGS)
_PACK_OF: Final = (300, 1_000)
_NO_TOKEN: Final = AckToken(0, 0)
_RELAYS: Final = {None: RelayCode.UNKNOWN, "closed": RelayCode.CLOSED, "open": RelayCode.OPEN}

Row = tuple[str, int, int, int]
"""A reading: its meter, register code, instant in µs and value. A clock that was set back makes two of one instant."""


@dataclass(frozen=True, slots=True)
class _Bundle:
    payload: bytes
    serials: list[str]
    rows: list[Row]
    sent_at_us: int


class SimulatedConcentrator:
    """One concentrator; every method takes the true simulated time, by which its clock goes."""

    def __init__(
        self, serial: str, *, gather_us: int, retry_us: int = 30_000_000, speaks_senml: bool = False
    ) -> None:
        self.serial = serial
        self._speaks_senml = speaks_senml
        self._gather_us = gather_us
        self._retry_us = retry_us
        self._due_us = 0
        self._last_sequence = 0
        self._heard: dict[str, tuple[int, RelayCode]] = {}
        self._waiting: set[Row] = set()
        self._flying: OrderedDict[int, _Bundle] = OrderedDict()

    @property
    def unnamed(self) -> int:
        """How many bundles were sent and not yet named as committed."""
        return len(self._flying)

    def take(self, serial: str, payload: bytes, now_us: int) -> None:
        """A meter sends readings; those that are on their way already are not taken twice."""
        frame = decode_readings(serial, payload, received_at_us=now_us, token=_NO_TOKEN)
        self._heard[serial] = now_us, _RELAYS[frame.relay]
        flying = {row for each in self._flying.values() for row in each.rows}
        for code, at_us, value in zip(
            frame.register_code.tolist(),
            frame.read_at_us.tolist(),
            frame.value.tolist(),
            strict=True,
        ):
            row = (serial, code, at_us, value)
            if row not in flying and len(self._waiting) < limits.MAX_READINGS:
                self._waiting.add(row)

    def tick(self, now_us: int) -> list[bytes]:
        """The bundles to be sent now: what was gathered, and what has waited too long for its name."""
        payloads = []
        for sequence, each in self._flying.items():
            if now_us - each.sent_at_us >= self._retry_us:
                self._flying[sequence] = _Bundle(each.payload, each.serials, each.rows, now_us)
                payloads.append(each.payload)
        if now_us >= self._due_us and self._waiting and len(self._flying) < _BUNDLES_MAX:
            self._due_us = now_us + self._gather_us
            payloads.append(self._bundle(now_us))
        return payloads

    def connected(self) -> None:
        """The line to the broker is up again: everything that is not named is to be sent at once."""
        for sequence, each in self._flying.items():
            self._flying[sequence] = _Bundle(each.payload, each.serials, each.rows, -self._retry_us)

    def receive_marks(self, payload: bytes) -> list[Watermark]:
        """What the head-end has named, as watermarks of the meters; what was refused stays with them."""
        try:
            marks = codec.decode_marks(self.serial, payload)
        except MalformedFrame:
            return []
        committed: list[Watermark] = []
        for mark in marks:
            bundle = self._flying.get(mark.sequence)
            if bundle is None or codec.checksum_of(bundle.payload) != mark.checksum:
                continue
            del self._flying[mark.sequence]
            refused = {bundle.serials[at] for at in mark.refused if at < len(bundle.serials)}
            committed += [
                Watermark(serial, code, at_us, at_us, value)
                for serial, code, at_us, value in bundle.rows
                if serial not in refused
            ]
        return committed

    def _bundle(self, now_us: int) -> bytes:
        # By the clock, so that a number is not used again after a restart.
        self._last_sequence = max(self._last_sequence + 1, now_us)
        most_meters, most_rows = _PACK_OF if self._speaks_senml else _BUNDLE_OF
        rows = sorted(self._waiting)
        serials = sorted({row[0] for row in rows})[:most_meters]
        place = {serial: at for at, serial in enumerate(serials)}
        rows = [row for row in rows if row[0] in place][:most_rows]
        meters = np.zeros(len(serials), dtype=codec.METER)
        for serial, at in place.items():
            meters[at]["serial"] = serial
            meters[at]["heard_at_us"], meters[at]["relay"] = self._heard[serial]
        readings = np.zeros(len(rows), dtype=codec.READING)
        for at, (serial, code, at_us, value) in enumerate(rows):
            readings[at] = (place[serial], code, 0, at_us, value)
        self._waiting.difference_update(rows)
        encode = partial(packs.encode, self.serial) if self._speaks_senml else codec.encode
        payload = encode(
            sequence=self._last_sequence, sent_at_us=now_us, meters=meters, readings=readings
        )
        self._flying[self._last_sequence] = _Bundle(payload, serials, rows, now_us)
        return payload
