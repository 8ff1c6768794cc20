"""The shape that nearly every message has, decoded many at a time: one reading, and perhaps clock and relay.

What is taken here is exactly what `codec.decode` would make of it; whatever is written in any other
way, though it may mean the same, is left to that. So this knows no reasons to refuse and no exceptions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import numpy as np

from prewatt.hes.drivers.mqtt_senml.codec import OBIS
from prewatt.hes.frames import BlockToken, ReadingsBlock, RelayState
from prewatt.hes.mqtt import Publishes

# Ten or eleven digits of seconds are after 2^28 and before the year 10000, fifteen of Wh below 10^15.
_SECONDS: Final = rb"([1-9]\d{9,10})(?:\.(\d{1,6}))?"
_SHAPE: Final = re.compile(
    rb'\[\{"bn":"([A-Za-z0-9][A-Za-z0-9._-]{0,39})/","bt":' + _SECONDS + rb',"n":"'
    rb'(?:(1\.8\.0|2\.8\.0)","u":"Wh|(3\.8\.0)","u":"varh|(1\.6\.0)","u":"W)"'
    rb',"v":(0|[1-9]\d{0,14})\}'
    rb'(?:,\{"n":"clock","u":"s","v":' + _SECONDS + rb"\})?"
    rb'(?:,\{"n":"relay","vb":(true|false)\})?\]'
)
_CODES: Final = {name.encode(): code for name, code in OBIS.items()}
_RELAYS: Final[dict[bytes | None, RelayState]] = {b"true": "closed", b"false": "open"}
_RESERVED: Final = b"sim"
_Row = tuple[bytes | None, ...]


def blocks(
    messages: Publishes, *, connection: int, received_at_us: int
) -> Iterator[ReadingsBlock | int]:
    """The messages in order: blocks of those with the usual shape, and between them the numbers of others."""
    match, data = _SHAPE.fullmatch, messages.data
    rows: list[_Row] = []
    ids: list[int] = []
    for number, (message_id, topic, topic_end, payload, end) in enumerate(
        zip(
            messages.message_id,
            messages.topic,
            messages.topic_end,
            messages.payload,
            messages.end,
            strict=True,
        )
    ):
        found = match(data, payload, end) if message_id else None
        if found is not None:
            serial = found[1]
            if data[topic:topic_end] == b"pw/%b/up/readings" % serial and serial != _RESERVED:
                rows.append(found.groups())
                ids.append(message_id)
                continue
        if rows:
            yield _block(rows, ids, connection, received_at_us)
            rows, ids = [], []
        yield number
    if rows:
        yield _block(rows, ids, connection, received_at_us)


def _block(rows: list[_Row], ids: list[int], connection: int, received_at_us: int) -> ReadingsBlock:
    serial, at_s, at_rest, energy, reactive, demand, value, clock_s, clock_rest, relay = zip(
        *rows, strict=True
    )
    return ReadingsBlock(
        serials=[each.decode() for each in serial],
        received_at_us=received_at_us,
        token=BlockToken(connection, np.array(ids, dtype=np.uint16)),
        read_at_us=np.array(_micros(at_s, at_rest), dtype=np.int64),
        register_code=np.array(
            [_CODES[a or b or c] for a, b, c in zip(energy, reactive, demand, strict=True)],
            dtype=np.int16,
        ),
        value=np.array(list(map(int, value)), dtype=np.int64),
        meter_clock_us=_micros(clock_s, clock_rest),
        relay=[_RELAYS.get(each) for each in relay],
    )


def _micros(seconds: tuple[bytes | None, ...], rest: tuple[bytes | None, ...]) -> list[int | None]:
    """Seconds and their decimals as whole microseconds; None where there are none."""
    return [
        None if whole is None else int(whole + (decimals or b"").ljust(6, b"0"))
        for whole, decimals in zip(seconds, rest, strict=True)
    ]
