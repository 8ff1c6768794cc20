"""A bundle as SenML (RFC 8428), in JSON or in CBOR: for gateways that gather readings and know no other form.

Each record names its meter, `{meter}/1.8.0` and so on as in `mqtt_senml`; two records of the concentrator's own say which
message it is and when it was sent. What comes out are the columns of `codec.py`, and so are acknowledgement and rights.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from prewatt.core.vocabulary import RelayState
from prewatt.hes.drivers import senml_cbor
from prewatt.hes.drivers.mqtt_bundle.limits import (
    FIRST_US,
    LAST_US,
    MAX_METERS,
    MAX_REGISTER,
    MAX_SEQUENCE,
)
from prewatt.hes.drivers.mqtt_senml.codec import (
    OBIS,
    Fields,
    Resolver,
    clock_of,
    records_of,
    relay_of,
    seconds,
    whole_of,
)
from prewatt.hes.drivers.mqtt_senml.topics import is_serial
from prewatt.hes.frames import AckToken, MalformedFrame, ReadingsBundle, Refusal

_RELAYS: Final = {"closed": RelayState.CLOSED, "open": RelayState.OPEN}
_OBIS_OF: Final = {code: name for name, code in OBIS.items()}
_UNIT_OF: Final = {"1.8.0": "Wh", "2.8.0": "Wh", "3.8.0": "varh", "1.6.0": "W"}


def is_pack(payload: bytes) -> bool:
    """Whether this begins as an array of CBOR or of JSON does."""
    return senml_cbor.is_pack(payload) or payload[:64].lstrip(b" \t\r\n").startswith(b"[")


def decode(
    concentrator: str, payload: bytes, *, received_at_us: int, token: AckToken
) -> ReadingsBundle:
    """Decode one pack of a concentrator, or raise `MalformedFrame` and nothing else.

    A reading of no absolute time or out of range is refused alone, like one of a bundle; a unit that a register does not
    have refuses the message, since it is wrong with whoever made it. Names that are not known are left alone.
    """
    pack = _Gathered(concentrator)
    for record in records_of(payload):
        pack.add(record)
    if pack.sequence is None or pack.sent_at_us is None:
        raise MalformedFrame("value", "the concentrator's own sequence or clock is missing")
    if not pack.rows:
        raise MalformedFrame("empty", "no record carries a known register")
    place, code, at_us, value, refusal = zip(*pack.rows, strict=True)
    meters = pack.meters
    return ReadingsBundle(
        concentrator=concentrator,
        sequence=pack.sequence,
        checksum=zlib.crc32(payload),
        sent_at_us=pack.sent_at_us,
        received_at_us=received_at_us,
        token=token,
        serials=[serial.encode() for serial in meters],
        heard_at_us=_column([pack.heard_us.get(each, 0) for each in meters]),
        relay=_column([pack.relay.get(each, RelayState.UNKNOWN) for each in meters]),
        place=_column(place),
        read_at_us=_column(at_us),
        register_code=_column(code),
        value=_column(value),
        refusal=np.array(refusal, dtype=np.int8),
    )


class _Gathered(Resolver):
    """The records of many meters as rows: place of the meter, register code, instant, value, refusal."""

    def __init__(self, concentrator: str) -> None:
        super().__init__()
        self._concentrator = concentrator
        self._places: dict[str, int] = {}
        self.sequence: int | None = None
        self.sent_at_us: int | None = None
        self.heard_us: dict[str, int] = {}
        self.relay: dict[str, int] = {}
        self.rows: list[tuple[int, int, int, int, Refusal]] = []

    @property
    def meters(self) -> Sequence[str]:
        return list(self._places)

    def add(self, record: Fields) -> None:
        whole = self.name_of(record)
        if whole is None:
            return
        serial, _, name = whole.partition("/")
        if serial == self._concentrator:
            self._read_own(name, record)
        elif name in OBIS:
            self._read_register(self._place(serial), OBIS[name], record)
        elif name == "relay":
            self._place(serial)
            self.relay[serial] = _RELAYS[relay_of(record)]
        elif name == "heard":
            self._place(serial)
            self.heard_us[serial] = clock_of(record)

    def _place(self, serial: str) -> int:
        place = self._places.setdefault(serial, len(self._places))
        if not is_serial(serial):
            raise MalformedFrame("serial", f"not a serial number: {serial[:60]!r}")
        if place >= MAX_METERS:
            raise MalformedFrame("count", f"more than {MAX_METERS} meters")
        return place

    def _read_own(self, name: str, record: Fields) -> None:
        if name == "sequence":
            self.sequence = whole_of(record)
            if not 0 <= self.sequence <= MAX_SEQUENCE:
                raise MalformedFrame("value", "a sequence out of range")
        elif name == "clock":
            self.sent_at_us = clock_of(record)

    def _read_register(self, place: int, code: int, record: Fields) -> None:
        at_us, value = self.reading_of(code, record)
        refusal = Refusal.NONE
        # The weakest reason first, and a number that no column holds in none.
        if abs(value) >= MAX_REGISTER:
            refusal, value = Refusal.RANGE, 0
        if not FIRST_US <= at_us < LAST_US:
            refusal, at_us = Refusal.TIME, 0
        self.rows.append((place, code, at_us, value, refusal))


def encode(
    concentrator: str,
    *,
    sequence: int,
    sent_at_us: int,
    meters: npt.NDArray[Any],
    readings: npt.NDArray[Any],
) -> bytes:
    """A pack in JSON of `codec.METER` rows and `codec.READING` rows."""
    records = [
        f'{{"n":"{concentrator}/sequence","v":{sequence}}}',
        f'{{"n":"{concentrator}/clock","u":"s","v":{seconds(sent_at_us)}}}',
    ]
    serials = [each.decode() for each in meters["serial"].tolist()]
    for serial, heard_us, relay in zip(
        serials, meters["heard_at_us"].tolist(), meters["relay"].tolist(), strict=True
    ):
        if heard_us:
            records.append(f'{{"n":"{serial}/heard","u":"s","v":{seconds(heard_us)}}}')
        if relay != RelayState.UNKNOWN:
            is_closed = "true" if relay == RelayState.CLOSED else "false"
            records.append(f'{{"n":"{serial}/relay","vb":{is_closed}}}')
    for place, code, _, at_us, value in readings.tolist():
        name = _OBIS_OF[code]
        records.append(
            f'{{"n":"{serials[place]}/{name}","u":"{_UNIT_OF[name]}","t":{seconds(at_us)},"v":{value}}}'
        )
    return f"[{','.join(records)}]".encode()


def _column(values: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)
