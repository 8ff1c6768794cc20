"""Bytes of a concentrator's messages to columns and back: no sockets, no clock, no state.

A message may be SenML (`packs.py`), or a bundle proper: a head, a list of meters, a list of readings and a CRC-32, all of fixed width and little-endian
(README.md has the tables), so it becomes columns without an object for each reading. What is wrong with
its shape refuses the whole message; what is wrong with one reading is noted beside it (`frames.Refusal`), and
the others are taken.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from prewatt.hes.drivers.mqtt_bundle import packs
from prewatt.hes.drivers.mqtt_bundle.limits import (
    FIRST_US,
    LAST_US,
    MAX_METERS,
    MAX_READINGS,
    MAX_REGISTER,
    MAX_SEQUENCE,
)
from prewatt.hes.drivers.mqtt_senml.topics import is_serial
from prewatt.hes.frames import (
    ACTIVE_IMPORT,
    MAXIMUM_DEMAND,
    AckToken,
    BundleMark,
    MalformedFrame,
    ReadingsBundle,
    Refusal,
)

VERSION: Final = 1
_MAGIC: Final = b"PWC"
HEAD: Final = np.dtype(
    [
        ("magic", "S3"),
        ("version", "u1"),
        ("meters", "<u2"),
        ("readings", "<u2"),
        ("reserved", "<u4"),
        ("sequence", "<u8"),
        ("sent_at_us", "<i8"),
    ]
)
METER: Final = np.dtype(
    [("serial", "S32"), ("heard_at_us", "<i8"), ("relay", "u1"), ("reserved", "V7")]
)
READING: Final = np.dtype(
    [
        ("meter", "<u2"),
        ("register_code", "u1"),
        ("reserved", "u1"),
        ("read_at_us", "<i8"),
        ("value", "<i8"),
    ]
)
_CHECKSUM_BYTES: Final = 4
MAX_PAYLOAD_BYTES: Final = (
    HEAD.itemsize + MAX_METERS * METER.itemsize + MAX_READINGS * READING.itemsize + _CHECKSUM_BYTES
)

_RELAYS: Final = 3

_CHANNEL: Final = "bundle"
TOPIC_END: Final = f"/up/{_CHANNEL}"
"""How the topics of bundles end, and no others."""


def bundle_topic(concentrator: str) -> str:
    """Where a concentrator speaks."""
    return f"pw/{concentrator}{TOPIC_END}"


def marks_topic(concentrator: str) -> str:
    """Where a concentrator hears what is committed."""
    return f"pw/{concentrator}/down/ack"


# --- what the head-end reads -------------------------------------------------------------------------


def decode(topic: str, payload: bytes, *, received_at_us: int, token: AckToken) -> ReadingsBundle:
    """Decode one message, or raise `MalformedFrame` and nothing else. Which form it has its first bytes say."""
    concentrator = _concentrator(topic)
    if packs.is_pack(payload):
        return packs.decode(concentrator, payload, received_at_us=received_at_us, token=token)
    head, meters, readings, checksum = _parts(payload)
    place = readings["meter"].astype(np.int64)
    code = readings["register_code"].astype(np.int64)
    at_us = readings["read_at_us"].astype(np.int64)
    value = readings["value"].astype(np.int64)
    refusal = np.zeros(len(readings), dtype=np.int8)
    # The weakest reason first. What is negative but could be a number is held by validation.
    refusal[(value <= -MAX_REGISTER) | (value >= MAX_REGISTER)] = Refusal.RANGE
    refusal[(at_us < FIRST_US) | (at_us >= LAST_US)] = Refusal.TIME
    refusal[(code < ACTIVE_IMPORT) | (code > MAXIMUM_DEMAND) | (readings["reserved"] != 0)] = (
        Refusal.REGISTER
    )
    refusal[place >= len(meters)] = Refusal.PLACE
    heard_at_us = meters["heard_at_us"].astype(np.int64)
    is_instant = (heard_at_us >= FIRST_US) & (heard_at_us < LAST_US)
    relay = meters["relay"].astype(np.int64)
    return ReadingsBundle(
        concentrator=concentrator,
        sequence=int(head["sequence"]),
        checksum=checksum,
        sent_at_us=int(head["sent_at_us"]),
        received_at_us=received_at_us,
        token=token,
        serials=meters["serial"].tolist(),
        heard_at_us=np.where(is_instant, heard_at_us, 0),
        relay=np.where(relay < _RELAYS, relay, 0),
        place=np.where(refusal == Refusal.PLACE, 0, place),
        read_at_us=at_us,
        register_code=code,
        value=value,
        refusal=refusal,
    )


def _parts(payload: bytes) -> tuple[Any, npt.NDArray[Any], npt.NDArray[Any], int]:
    """Head, meters, readings and checksum of a message whose shape is right."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedFrame("oversize", f"{len(payload)} bytes")
    if len(payload) < HEAD.itemsize + _CHECKSUM_BYTES:
        raise MalformedFrame("truncated", f"{len(payload)} bytes are less than a head")
    head = np.frombuffer(payload, dtype=HEAD, count=1)[0]
    if head["magic"] != _MAGIC:
        raise MalformedFrame("format", f"begins with {payload[:3]!r}")
    if head["version"] != VERSION:
        raise MalformedFrame("version", f"version {head['version']} is not known here")
    meters, readings = int(head["meters"]), int(head["readings"])
    if not 0 < meters <= MAX_METERS or not 0 < readings <= MAX_READINGS:
        raise MalformedFrame("count", f"{meters} meters and {readings} readings")
    at = HEAD.itemsize + meters * METER.itemsize
    end = at + readings * READING.itemsize
    if len(payload) != end + _CHECKSUM_BYTES:
        raise MalformedFrame(
            "length", f"{len(payload)} bytes where {end + _CHECKSUM_BYTES} are announced"
        )
    checksum = int.from_bytes(payload[end:], "little")
    if checksum != zlib.crc32(payload[:end]):
        raise MalformedFrame("checksum", "the CRC-32 is of other bytes")
    if head["reserved"] != 0 or int(head["sequence"]) > MAX_SEQUENCE:
        raise MalformedFrame("value", "a reserved field is not zero, or the sequence is too high")
    if not FIRST_US <= int(head["sent_at_us"]) < LAST_US:
        raise MalformedFrame("time", f"sent at {head['sent_at_us']} us")
    return (
        head,
        np.frombuffer(payload, dtype=METER, count=meters, offset=HEAD.itemsize),
        np.frombuffer(payload, dtype=READING, count=readings, offset=at),
        checksum,
    )


def _concentrator(topic: str) -> str:
    parts = topic.split("/")
    if len(parts) != 4 or parts[0] != "pw" or parts[2:] != ["up", _CHANNEL]:
        raise MalformedFrame("topic", f"not a topic of bundles: {topic[:120]!r}")
    if not is_serial(parts[1]):
        raise MalformedFrame("topic", f"not a serial number: {parts[1][:60]!r}")
    return parts[1]


def encode_marks(marks: Sequence[BundleMark]) -> bytes:
    """The payload of `down/ack`: of each message its sequence, its checksum and the meters refused."""
    return msgspec.json.encode(
        {"bundles": [[each.sequence, each.checksum, each.refused] for each in marks]}
    )


# --- what a concentrator reads and writes ------------------------------------------------------------


def encode(
    *,
    sequence: int,
    sent_at_us: int,
    meters: npt.NDArray[Any],
    readings: npt.NDArray[Any],
) -> bytes:
    """A message of `METER` rows and `READING` rows; its CRC-32 is its last four bytes.

    Raises ValueError beyond the limits.
    """
    if not 0 < len(meters) <= MAX_METERS or not 0 < len(readings) <= MAX_READINGS:
        raise ValueError(f"{len(meters)} meters and {len(readings)} readings")
    head = np.zeros(1, dtype=HEAD)
    head[0] = (_MAGIC, VERSION, len(meters), len(readings), 0, sequence, sent_at_us)
    body = head.tobytes() + meters.tobytes() + readings.tobytes()
    return body + zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "little")


def checksum_of(payload: bytes) -> int:
    """By what, beside its sequence, a message is known in its acknowledgement: its CRC-32."""
    if packs.is_pack(payload):
        return zlib.crc32(payload)
    return int.from_bytes(payload[-_CHECKSUM_BYTES:], "little")


_marks_decoder: Final = msgspec.json.Decoder(dict[str, list[tuple[int, int, list[int]]]])


def decode_marks(concentrator: str, payload: bytes) -> list[BundleMark]:
    """Decode a `down/ack`, or raise `MalformedFrame`."""
    try:
        said = _marks_decoder.decode(payload)["bundles"]
    except (ValueError, KeyError, ArithmeticError) as error:
        raise MalformedFrame("json", str(error)[:200]) from None
    return [BundleMark(concentrator, *each[:2], tuple(each[2])) for each in said]
