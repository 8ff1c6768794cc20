"""The topics of a meter: `pw/{serial}/up/{channel}` from it, `pw/{serial}/down/{channel}` to it."""

import re
from enum import StrEnum
from typing import Final

from prewatt.hes.frames import MalformedFrame

UPLINK_FILTER: Final = "pw/+/up/+"
"""What the head-end subscribes to."""

# Short enough for any broker's limits, and free of everything MQTT gives a meaning to.
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
# `pw/sim/...` is the control channel of the simulation.
_RESERVED = frozenset({"sim"})


class Uplink(StrEnum):
    """What a meter says."""

    READINGS = "readings"
    EVENT = "event"
    HELLO = "hello"
    ANSWER = "answer"
    #: A signed answer to a signed instruction: bytes of `core.instructions`.
    SEALED = "sealed"
    #: It wants its next certificate.
    RENEW = "renew"


class Downlink(StrEnum):
    """What a meter is told: an order, or how far its readings are committed."""

    COMMAND = "command"
    ACK = "ack"
    #: A signed instruction, for a meter that verifies: bytes of `core.instructions`.
    INSTRUCTION = "instruction"
    #: Its next certificate.
    CERTIFICATE = "certificate"


def is_serial(text: str) -> bool:
    """Whether `text` can be a meter's serial number in a topic."""
    return _SERIAL.fullmatch(text) is not None and text not in _RESERVED


def uplink_topic(serial: str, channel: Uplink) -> str:
    """The topic on which the meter `serial` speaks."""
    return f"pw/{serial}/up/{channel}"


def downlink_topic(serial: str, channel: Downlink) -> str:
    """The topic on which the meter `serial` listens."""
    return f"pw/{serial}/down/{channel}"


def parse_uplink(topic: str) -> tuple[str, Uplink]:
    """Return serial and channel of an uplink topic, or raise `MalformedFrame`."""
    parts = topic.split("/")
    if len(parts) != 4 or parts[0] != "pw" or parts[2] != "up":
        raise MalformedFrame("topic", f"not an uplink topic: {topic[:120]!r}")
    if not is_serial(parts[1]):
        raise MalformedFrame("topic", f"not a serial number: {parts[1][:60]!r}")
    try:
        return parts[1], Uplink(parts[3])
    except ValueError:
        raise MalformedFrame("topic", f"no such channel: {parts[3][:60]!r}") from None
