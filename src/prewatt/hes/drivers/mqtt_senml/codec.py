"""Bytes of the MQTT driver to typed frames and back: no sockets, no clock, no state.

Readings are SenML (RFC 8428), in JSON or in CBOR, everything else is a small JSON object; README.md has the object map
and states the subset. Two things are stricter than a JSON library is by itself. Numbers are decoded
as exact decimals and must come out as whole microseconds and whole Wh: a float never touches an
energy. And a key that appears twice refuses the message, since two readers could disagree on it.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final, TypeVar, cast, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from prewatt.hes.drivers import senml_cbor
from prewatt.hes.drivers.mqtt_senml.renewal import decode_renewal
from prewatt.hes.drivers.mqtt_senml.topics import Uplink, parse_uplink
from prewatt.hes.frames import (
    ACTIVE_EXPORT,
    ACTIVE_IMPORT,
    EVENT_LOG,
    MAXIMUM_DEMAND,
    REACTIVE_IMPORT,
    AckToken,
    AnswerFrame,
    AnswerResult,
    Command,
    EventFrame,
    Frame,
    HelloFrame,
    MalformedFrame,
    Operation,
    ReadingsFrame,
    RelayState,
    SealedFrame,
    Watermark,
)

MAX_PAYLOAD_BYTES: Final = 131_072
MAX_RECORDS: Final = 2_048
MAX_SEALED_BYTES: Final = 512
MAX_TEXT: Final = 200

OBIS: Final = {
    "1.8.0": ACTIVE_IMPORT,
    "2.8.0": ACTIVE_EXPORT,
    "3.8.0": REACTIVE_IMPORT,
    "1.6.0": MAXIMUM_DEMAND,
}
_OBIS_OF: Final = {code: name for name, code in OBIS.items()}
# Decimal places that turn a value in this unit (RFC 8798 names) into the column's unit.
_UNITS: Final = {
    ACTIVE_IMPORT: {"Wh": 0, "kWh": 3},
    ACTIVE_EXPORT: {"Wh": 0, "kWh": 3},
    REACTIVE_IMPORT: {"varh": 0, "kvarh": 3},
    MAXIMUM_DEMAND: {"W": 0, "kW": 3},
}
_UNIT_OF: Final = {code: next(iter(units)) for code, units in _UNITS.items()}

_SENML_VERSION: Final = 10
# RFC 8428 section 4.5.3: a smaller time is relative to now, and a billing system has no "about now".
_FIRST_ABSOLUTE_S: Final = 2**28
_LAST_US: Final = 253_402_300_800_000_000  # the year 10000
_MAX_REGISTER: Final = 10**15
_MAX_DIGITS: Final = 40

_KEY = re.compile(rb'"[ \t\r\n]*:')
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:./_-]*")
_COMMAND_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_EVENT_CODE = re.compile(r"[a-z][a-z0-9_]{0,39}")

Number = int | Decimal
Fields = dict[str, object]
Decoded = TypeVar("Decoded")


# --- what the head-end reads -------------------------------------------------------------------------


def decode(topic: str, payload: bytes, *, received_at_us: int, token: AckToken) -> Frame:
    """Decode one uplink message, or raise `MalformedFrame` and nothing else."""
    serial, channel = parse_uplink(topic)
    if channel is Uplink.READINGS:
        return decode_readings(serial, payload, received_at_us=received_at_us, token=token)
    if channel is Uplink.SEALED:
        if not 0 < len(payload) <= MAX_SEALED_BYTES:
            raise MalformedFrame("size", f"{len(payload)} bytes of a signed answer")
        return SealedFrame(serial, received_at_us, token, payload)
    if channel is Uplink.RENEW:
        return decode_renewal(serial, payload, received_at_us=received_at_us, token=token)
    fields = _parse_object(payload)
    if channel is Uplink.HELLO:
        return HelloFrame(
            serial,
            received_at_us,
            token,
            _instant_us(fields, "clock"),
            _relay(fields),
            _text(fields, "firmware", MAX_TEXT),
            _text(fields, "configuration", MAX_TEXT) if "configuration" in fields else "",
        )
    if channel is Uplink.EVENT:
        code = _text(fields, "code", MAX_TEXT)
        if not _EVENT_CODE.fullmatch(code):
            raise MalformedFrame("value", f"not an event code: {code[:60]!r}")
        detail = _text(fields, "detail", MAX_TEXT, may_be_empty=True) if "detail" in fields else ""
        return EventFrame(serial, received_at_us, token, code, _instant_us(fields, "at"), detail)
    return _decode_answer(serial, fields, received_at_us, token)


def decode_readings(
    serial: str, payload: bytes, *, received_at_us: int, token: AckToken
) -> ReadingsFrame:
    """Decode a SenML pack of one meter into columns of n >= 1 readings, or raise `MalformedFrame`.

    Known names become readings (`OBIS`), `clock` and `relay` describe the meter at the time of
    sending, and other names are left alone, so that a meter may tell more than is understood here.
    """
    pack = _Pack(serial)
    for record in records_of(payload):
        pack.add(record)
    if not pack.values:
        raise MalformedFrame("empty", "no record carries a known register")
    return ReadingsFrame(
        serial=serial,
        received_at_us=received_at_us,
        token=token,
        read_at_us=_column(pack.times_us, np.int64),
        register_code=np.array(pack.codes, dtype=np.int16),
        value=_column(pack.values, np.int64),
        meter_clock_us=pack.clock_us,
        relay=pack.relay,
    )


def encode_command(command: Command) -> bytes:
    """The payload of `down/command`."""
    more = ""
    if command.op == "relay":
        more = f'"state":"{command.state}",'
    elif command.from_us is not None and command.until_us is not None:
        more = f'"from":{seconds(command.from_us)},"until":{seconds(command.until_us)},'
    elif command.move_us is not None:
        more = f'"move":{seconds(command.move_us)},'
    return (
        f'{{"id":"{command.command_id}","op":"{command.op}",{more}'
        f'"issued_at":{seconds(command.issued_at_us)},'
        f'"expires_at":{seconds(command.expires_at_us)}}}'
    ).encode()


def watermark_payloads(marks: Iterable[Watermark]) -> list[bytes]:
    """The payloads of `down/ack` for marks of one meter, as few as can be: one has each register once."""
    marks = list(marks)
    if len(marks) == 1:
        return [encode_watermarks(marks)]
    rounds: list[list[Watermark]] = []
    said: Counter[int] = Counter()
    for mark in marks:
        if said[mark.register_code] == len(rounds):
            rounds.append([])
        rounds[said[mark.register_code]].append(mark)
        said[mark.register_code] += 1
    return [encode_watermarks(each) for each in rounds]


def encode_watermarks(marks: Sequence[Watermark]) -> bytes:
    """One payload of `down/ack`, no register twice: until when, from when, and which register then."""
    until = ",".join(f'"{_mark_name(mark)}":{seconds(mark.read_at_us)}' for mark in marks)
    since = ",".join(f'"{_mark_name(mark)}":{seconds(mark.from_us)}' for mark in marks)
    value = ",".join(
        f'"{_mark_name(mark)}":{mark.value}' for mark in marks if mark.value is not None
    )
    return f'{{"committed":{{{until}}},"from":{{{since}}},"value":{{{value}}}}}'.encode()


def _mark_name(mark: Watermark) -> str:
    return _OBIS_OF.get(mark.register_code, "events")


# --- what a meter reads and writes -------------------------------------------------------------------


def encode_readings(
    serial: str,
    readings: Sequence[tuple[int, int, int]],
    *,
    meter_clock_us: int | None = None,
    relay: RelayState | None = None,
) -> bytes:
    """A SenML pack of `(read_at_us, register_code, value)` rows; times are relative to the first row's."""
    base_us = readings[0][0]
    head = f'"bn":"{serial}/","bt":{seconds(base_us)},'
    records = []
    for read_at_us, code, value in readings:
        offset = "" if read_at_us == base_us else f',"t":{seconds(read_at_us - base_us)}'
        records.append(
            f'{{{head}"n":"{_OBIS_OF[code]}","u":"{_UNIT_OF[code]}","v":{value}{offset}}}'
        )
        head = ""
    if meter_clock_us is not None:
        records.append(f'{{"n":"clock","u":"s","v":{seconds(meter_clock_us)}}}')
    if relay is not None:
        records.append(f'{{"n":"relay","vb":{"true" if relay == "closed" else "false"}}}')
    return f"[{','.join(records)}]".encode()


def encode_hello(
    *, clock_us: int, relay: RelayState, firmware: str, configuration: str = ""
) -> bytes:
    """The payload of `up/hello`."""
    more = f',"configuration":{json.dumps(configuration)}' if configuration else ""
    return (
        f'{{"clock":{seconds(clock_us)},"relay":"{relay}","firmware":{json.dumps(firmware)}{more}}}'
    ).encode()


def encode_event(*, code: str, at_us: int, detail: str = "") -> bytes:
    """The payload of `up/event`."""
    return f'{{"code":"{code}","at":{seconds(at_us)},"detail":{json.dumps(detail)}}}'.encode()


def encode_answer(
    *, command_id: str, result: AnswerResult, relay: RelayState, register_wh: int, at_us: int
) -> bytes:
    """The payload of `up/answer`."""
    return (
        f'{{"id":"{command_id}","result":"{result}","relay":"{relay}",'
        f'"register":{register_wh},"at":{seconds(at_us)}}}'
    ).encode()


def decode_command(payload: bytes) -> Command:
    """Decode a `down/command`, or raise `MalformedFrame`."""
    fields = _parse_object(payload)
    op = _text(fields, "op", 20)
    if op not in get_args(Operation):
        raise MalformedFrame("value", f"no such operation: {op!r}")
    command = Command(
        command_id=_command_id(fields),
        op=cast(Operation, op),
        state=_relay(fields, "state") if op == "relay" else None,
        issued_at_us=_instant_us(fields, "issued_at"),
        expires_at_us=_instant_us(fields, "expires_at"),
        from_us=_instant_us(fields, "from") if op == "history" else None,
        until_us=_instant_us(fields, "until") if op == "history" else None,
        move_us=scaled(_number(fields, "move"), 6, "move") if op == "clock" else None,
    )
    if op == "history" and (command.until_us or 0) < (command.from_us or 0):
        raise MalformedFrame("value", "a span that ends before it begins")
    return command


def decode_watermarks(serial: str, payload: bytes) -> list[Watermark]:
    """Decode a `down/ack`, or raise `MalformedFrame`."""
    fields = _parse_object(payload)
    committed, since, values = (fields.get(key) for key in ("committed", "from", "value"))
    if not (isinstance(committed, dict) and isinstance(since, dict) and isinstance(values, dict)):
        raise MalformedFrame("type", "committed, from or value is not an object")
    if not since.keys() == committed.keys() == values.keys() | (committed.keys() & {"events"}):
        raise MalformedFrame("value", "an end without its beginning or its value")
    marks = []
    for name in committed:
        code = EVENT_LOG if name == "events" else OBIS.get(name)
        if code is None:
            raise MalformedFrame("value", f"no such register: {name[:60]!r}")
        value = None if code == EVENT_LOG else scaled(_number(values, name), 0, name)
        marks.append(
            Watermark(serial, code, _instant_us(committed, name), _instant_us(since, name), value)
        )
    return marks


# --- SenML -------------------------------------------------------------------------------------------


class Resolver:
    """Resolves the records of a SenML pack in their order, base values and all (RFC 8428 section 4.1 and 4.6).

    Whose records they are, and what is made of them, is the reader's.
    """

    def __init__(self) -> None:
        self._base_name = ""
        self._base_time_us = 0
        self._base_unit: str | None = None
        self._base_value: Number = 0

    def name_of(self, record: Fields) -> str | None:
        """A record's whole name; None for one of base fields alone, which carries no measurement."""
        self._read_base(record)
        if not ({"n", "v", "vb", "vs", "vd", "s"} & record.keys()):
            return None
        own = _text(record, "n", MAX_TEXT, may_be_empty=True) if "n" in record else ""
        name = self._base_name + own
        if not _NAME.fullmatch(name):
            raise MalformedFrame("name", f"not a SenML name: {name[:60]!r}")
        return name

    def reading_of(self, code: int, record: Fields) -> tuple[int, int]:
        """A register's record as its instant in µs and its value in the register's unit, both out of any bounds."""
        unit = _text(record, "u", MAX_TEXT) if "u" in record else self._base_unit
        places = _UNITS[code].get(unit or "")
        if places is None:
            raise MalformedFrame("unit", f"{unit!r} is no unit of register {_OBIS_OF[code]}")
        own = scaled(_number(record, "v"), places, "v")
        offset_us = scaled(_number(record, "t"), 6, "t") if "t" in record else 0
        return self._base_time_us + offset_us, scaled(self._base_value, places, "bv") + own

    def _read_base(self, record: Fields) -> None:
        for key in record:
            if key.endswith("_"):
                raise MalformedFrame("must_understand", f"unknown mandatory field {key[:60]!r}")
        if "bver" in record and _number(record, "bver") > _SENML_VERSION:
            raise MalformedFrame("version", "a newer SenML version than RFC 8428")
        if "bn" in record:
            self._base_name = _text(record, "bn", MAX_TEXT, may_be_empty=True)
        if "bt" in record:
            self._base_time_us = scaled(_number(record, "bt"), 6, "bt")
        if "bu" in record:
            self._base_unit = _text(record, "bu", MAX_TEXT)
        if "bv" in record:
            self._base_value = _number(record, "bv")


class _Pack(Resolver):
    """The pack of one meter as columns; what is wrong with one of its readings refuses them all."""

    def __init__(self, serial: str) -> None:
        super().__init__()
        self._prefix = serial + "/"
        self.times_us: list[int] = []
        self.codes: list[int] = []
        self.values: list[int] = []
        self.clock_us: int | None = None
        self.relay: RelayState | None = None

    def add(self, record: Fields) -> None:
        whole = self.name_of(record)
        if whole is None:
            return
        if not whole.startswith(self._prefix):
            raise MalformedFrame("serial", f"{whole[:60]!r} is not of this topic's meter")
        name = whole.removeprefix(self._prefix)
        if name == "clock":
            self.clock_us = clock_of(record)
        elif name == "relay":
            self.relay = relay_of(record)
        elif name in OBIS:
            self._read_register(OBIS[name], record)

    def _read_register(self, code: int, record: Fields) -> None:
        at_us, value = self.reading_of(code, record)
        if not 0 <= value < _MAX_REGISTER:
            raise MalformedFrame("range", f"a register of {value}")
        self.times_us.append(_to_instant_us(at_us, "t"))
        self.codes.append(code)
        self.values.append(value)


def clock_of(record: Fields) -> int:
    """The instant in µs that a record tells as its value, in seconds. Raises MalformedFrame."""
    return _to_instant_us(scaled(_number(record, "v"), 6, "clock"), "clock")


def relay_of(record: Fields) -> RelayState:
    """The relay's position that a record tells: true is closed. Raises MalformedFrame."""
    return "closed" if _boolean(record, "vb") else "open"


def whole_of(record: Fields) -> int:
    """The whole number that a record tells as its value. Raises MalformedFrame."""
    return scaled(_number(record, "v"), 0, "v")


# --- JSON --------------------------------------------------------------------------------------------

_pack_decoder = msgspec.json.Decoder(list[dict[str, object]], float_hook=Decimal)
_object_decoder = msgspec.json.Decoder(dict[str, object], float_hook=Decimal)


def records_of(payload: bytes) -> list[Fields]:
    """The records of a pack in either form; which it is its first byte says. Raises MalformedFrame."""
    if not senml_cbor.is_pack(payload):
        return parse_pack(payload)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedFrame("oversize", f"{len(payload)} bytes")
    return senml_cbor.records_of(payload, records_max=MAX_RECORDS)


def parse_pack(payload: bytes) -> list[Fields]:
    """The records of a pack in JSON."""
    records = _parse(payload, _pack_decoder)
    if len(records) > MAX_RECORDS:
        raise MalformedFrame("too_many", f"{len(records)} records")
    for record in records:
        for value in record.values():
            if isinstance(value, dict | list):
                raise MalformedFrame("type", "a SenML field is never an object or a list")
    _refuse_repeated_keys(payload, sum(map(len, records)))
    return records


def _parse_object(payload: bytes) -> Fields:
    fields = _parse(payload, _object_decoder)
    keys = len(fields)
    for value in fields.values():
        if isinstance(value, list):
            raise MalformedFrame("type", "no field is a list")
        if isinstance(value, dict):
            keys += len(value)
            if any(isinstance(inner, dict | list) for inner in value.values()):
                raise MalformedFrame("type", "nested too deeply")
    _refuse_repeated_keys(payload, keys)
    return fields


def _parse(payload: bytes, decoder: msgspec.json.Decoder[Decoded]) -> Decoded:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedFrame("oversize", f"{len(payload)} bytes")
    try:
        return decoder.decode(payload)
    except RecursionError:
        raise MalformedFrame("type", "nested too deeply") from None
    except (ValueError, ArithmeticError) as error:
        # ValueError covers bad UTF-8, bad JSON, a wrong type and an integer of thousands of digits;
        # ArithmeticError an exponent that even Decimal refuses.
        raise MalformedFrame("json", str(error)[:MAX_TEXT]) from None


def _refuse_repeated_keys(payload: bytes, kept: int) -> None:
    """Raise if a key appears twice in one object. `kept` is how many keys the decoder kept.

    Without a backslash every quote is a delimiter, so `":` occurs at least once per key; as many as were
    kept means that none was dropped. Only otherwise is the slow, exact reading needed.
    """
    if b"\\" not in payload and len(_KEY.findall(payload)) == kept:
        return

    def unique(pairs: list[tuple[str, object]]) -> None:
        if len({key for key, _ in pairs}) != len(pairs):
            raise MalformedFrame("repeated_key", "a key appears twice")

    json.loads(payload, object_pairs_hook=unique, parse_float=_ignored, parse_int=_ignored)


def _ignored(text: str) -> None:
    """Stand for a number whose value does not matter."""


# --- fields ------------------------------------------------------------------------------------------


def _decode_answer(
    serial: str, fields: Fields, received_at_us: int, token: AckToken
) -> AnswerFrame:
    result = _text(fields, "result", 20)
    if result not in get_args(AnswerResult):
        raise MalformedFrame("value", f"no such result: {result!r}")
    register_wh = scaled(_number(fields, "register"), 0, "register")
    if not 0 <= register_wh < _MAX_REGISTER:
        raise MalformedFrame("range", f"a register of {register_wh}")
    return AnswerFrame(
        serial,
        received_at_us,
        token,
        _command_id(fields),
        cast(AnswerResult, result),
        _relay(fields),
        register_wh,
        _instant_us(fields, "at"),
    )


def _text(fields: Fields, key: str, limit: int, *, may_be_empty: bool = False) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise MalformedFrame("type", f"{key} is not a text")
    if len(value) > limit or not (value or may_be_empty):
        raise MalformedFrame("range", f"{key} has {len(value)} characters")
    if "\x00" in value:
        # PostgreSQL cannot store it, and nothing honest contains it.
        raise MalformedFrame("value", f"{key} contains a NUL")
    return value


def _command_id(fields: Fields) -> str:
    command_id = _text(fields, "id", 64)
    if not _COMMAND_ID.fullmatch(command_id):
        raise MalformedFrame("value", f"not a command id: {command_id!r}")
    return command_id


def _relay(fields: Fields, key: str = "relay") -> RelayState:
    state = _text(fields, key, 20)
    if state not in ("open", "closed"):
        raise MalformedFrame("value", f"{key} is {state!r}")
    return cast(RelayState, state)


def _boolean(fields: Fields, key: str) -> bool:
    value = fields.get(key)
    if not isinstance(value, bool):
        raise MalformedFrame("type", f"{key} is not a boolean")
    return value


def _number(fields: Fields, key: str) -> Number:
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise MalformedFrame("type", f"{key} is not a number")
    return value


def _instant_us(fields: Fields, key: str) -> int:
    return _to_instant_us(scaled(_number(fields, key), 6, key), key)


def _to_instant_us(instant_us: int, key: str) -> int:
    if not _FIRST_ABSOLUTE_S * 1_000_000 <= instant_us < _LAST_US:
        raise MalformedFrame("time", f"{key} is not an absolute time: {instant_us} us")
    return instant_us


def scaled(number: Number, places: int, key: str) -> int:
    """Return number × 10^places, exactly, or raise `MalformedFrame`: nothing is ever rounded."""
    if isinstance(number, int):
        if abs(number) > 2**63:
            raise MalformedFrame("range", f"{key} is out of range")
        return int(number * 10**places)
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise MalformedFrame("range", f"{key} is not finite")
    # Bounds first: 1e999999999 is a short text and an enormous integer.
    if len(digits) > _MAX_DIGITS or not -_MAX_DIGITS <= exponent <= _MAX_DIGITS:
        raise MalformedFrame("range", f"{key} is out of range")
    mantissa = int("".join(map(str, digits))) * (-1 if sign else 1)
    shift = exponent + places
    if shift >= 0:
        return int(mantissa * 10**shift)
    whole, rest = divmod(mantissa, 10**-shift)
    if rest:
        raise MalformedFrame("precision", f"{key} is finer than is kept")
    return int(whole)


def seconds(us: int) -> str:
    """Microseconds as decimal seconds, exactly and without superfluous zeros."""
    sign = "-" if us < 0 else ""
    whole, rest = divmod(abs(us), 1_000_000)
    return f"{sign}{whole}.{rest:06d}".rstrip("0") if rest else f"{sign}{whole}"


def _column(values: list[int], dtype: type[np.int64]) -> NDArray[np.int64]:
    return np.array(values, dtype=dtype)
