"""The account of everything: what the field and the till know, beside what the database holds.

It says every difference, and of what has not come to its end the reason. A reading that was acknowledged is there once, or is
held with a reason; nothing is there that no meter counted; each order is answered, or it is known why not; no meter has
turned its relay for somebody else; each recharge that was answered stands once; and the books hold in themselves.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from prewatt.core.vocabulary import InstructionState, OrderKind, OrderState
from prewatt.drills.stored import HELD, READINGS
from prewatt.drills.teller import Journal
from prewatt.notify.alerts import FORGED
from prewatt.reports.books import check_books
from prewatt.scenarios.population import VirtualMeter
from prewatt.sim.attackers import LET_IN, SEEN_AS, TRIED
from prewatt.sim.records import MeterRecord, PartRecords

Row = tuple[int, int]

#: A register that the head-end read of a meter is dated by its receipt, which on a bad radio is late by up to an exchange.
_SHOWN_WITHIN_US: Final = 60_000_000
#: What a meter of LwM2M or LoRaWAN was told has no order's number: it is matched by its time. Clocks are a little apart,
#: and a downlink that waited in a network server's queue is sent until it expires, after a quarter of an hour.
_CLOCKS_US: Final = 5_000_000
_LATE_US: Final = 900_000_000
#: What turns a relay; whoever else asks changes nothing.
_TURNS: Final = ("relay", "downlink")
_NAMED: Final = re.compile(r"([0-9]{1,18})\.[0-9]{1,18}\.relay")
_OPEN: Final = (OrderState.DECIDED, OrderState.SENT, OrderState.ACKNOWLEDGED)
_WANTED: Final = {OrderKind.CONNECT: "closed", OrderKind.DISCONNECT: "open"}

_ORDERS: Final = """
SELECT o.id, m.serial, o.kind, o.state, o.attempts, o.failure,
       (extract(epoch FROM o.decided_at) * 1000000)::bigint,
       (extract(epoch FROM o.finished_at) * 1000000)::bigint
FROM supply_order o JOIN meter m ON m.id = o.meter_id
WHERE o.state <> 8 ORDER BY o.id
"""
_INSTRUCTED: Final = """
SELECT m.serial,
       (SELECT array_agg(i.sequence ORDER BY i.sequence) FROM instruction i WHERE i.meter_id = m.id),
       (SELECT array_agg(encode(i.command_hash, 'hex') ORDER BY i.sequence) FROM instruction i WHERE i.meter_id = m.id),
       s.credit_micro, s.known_sequence, w.told_micro, w.credit_micro,
       EXISTS (SELECT FROM instruction i WHERE i.meter_id = m.id AND i.state IN (1, 2))
FROM instruction_state s JOIN meter m ON m.id = s.meter_id
LEFT JOIN meter_wallet w ON w.meter_id = m.id AND w.state < 3
"""
_PAYMENTS: Final = "SELECT reference, account_id, amount_micro, event_id FROM payment"


@dataclass(frozen=True, slots=True)
class _Ordered:
    """What was ordered of a meter, and when (µs); ``finished_us`` is None for what is under way."""

    serial: str
    wanted: str
    decided_us: int
    finished_us: int | None


@dataclass(slots=True)
class Account:
    """Counts, and everything that does not add up, in words."""

    meters: int = 0
    readings_taken: int = 0
    readings_acknowledged: int = 0
    readings_stored: int = 0
    readings_held: dict[str, int] = field(default_factory=dict)
    readings_waiting: int = 0
    #: Of devices that keep nothing: lost on the air, each followed by a register that covers it.
    readings_lost_on_air: int = 0
    readings_asked_for: int = 0
    orders: dict[str, int] = field(default_factory=dict)
    orders_open: dict[str, int] = field(default_factory=dict)
    commands_obeyed: int = 0
    #: Signed instructions by how far they came, and the lifetime credit of all meters that hold theirs.
    instructions: dict[str, int] = field(default_factory=dict)
    credit_micro: int = 0
    recharges: int = 0
    refused_frames: dict[str, int] = field(default_factory=dict)
    alerts: dict[str, int] = field(default_factory=dict)
    #: How often each attack was tried.
    attacks: dict[str, int] = field(default_factory=dict)
    radio: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def take_account(
    connection: psycopg.Connection[Any],
    *,
    meters: Iterable[VirtualMeter],
    parts: Iterable[PartRecords],
    journal: Journal,
    opened_us: int,
    stolen: Iterable[str] = (),
) -> Account:
    """Compare everything; as the owner of the database, when nothing is under way any more.

    At ``opened_us`` each meter was put in with the register that it had. Of a ``stolen`` one nothing but that is there.
    """
    stolen = tuple(stolen)
    made = Account()
    records: dict[str, MeterRecord] = {}
    for part in parts:
        records.update((each.serial, each) for each in part.meters)
        for name, count in part.counts.items():
            made.radio[name] = made.radio.get(name, 0) + count
    _attacks(made)
    known = {each.serial: each for each in meters}
    made.meters = len(records)
    made.broken += [f"meter {each}: left no record" for each in known if each not in records]
    openings = {serial: (opened_us, each.opening_wh) for serial, each in known.items()}
    _readings(connection, made, records, openings | dict.fromkeys(stolen, (opened_us, 0)))
    _orders(connection, made, known, records)
    _instructions(connection, made, known, records)
    _recharges(connection, made, journal)
    made.refused_frames = _counted(
        connection, "SELECT reason, sum(count) FROM rejected_frame GROUP BY 1"
    )
    made.alerts = _counted(connection, "SELECT code, count(*) FROM alert GROUP BY 1")
    made.broken += list(_unseen(made))
    with connection.cursor() as cursor:
        made.broken += [f"books: {each}" for each in check_books(cursor)]
    return made


def _attacks(made: Account) -> None:
    """What attackers tried, and that none of it was granted; what they said is looked for among the readings."""
    for name in [each for each in made.radio if each.startswith((TRIED, LET_IN))]:
        number = made.radio.pop(name)
        if name.startswith(TRIED):
            made.attacks[name.removeprefix(f"{TRIED} ")] = number
        else:
            made.broken.append(
                f"attack {name.removeprefix(f'{LET_IN} ')}: got through {number} times"
            )


def _unseen(made: Account) -> Iterator[str]:
    """Attacks that reach the head-end are counted there, and call somebody where they say that a key was stolen."""
    for name, number in made.attacks.items():
        wanted = SEEN_AS.get(name, ())
        if number and wanted and not any(made.refused_frames.get(each) for each in wanted):
            yield f"attack {name}: tried {number} times, and nobody saw it ({' or '.join(wanted)})"
    if made.attacks.get("stolen_key") and not made.alerts.get(FORGED):
        yield f"attack stolen_key: nobody was called ({FORGED})"


# --- readings --------------------------------------------------------------------------------------------


def _readings(
    connection: psycopg.Connection[Any],
    made: Account,
    records: Mapping[str, MeterRecord],
    openings: Mapping[str, Row],
) -> None:
    stored: dict[str, set[Row]] = defaultdict(set)
    held: dict[str, set[Row]] = defaultdict(set)
    reasons: Counter[str] = Counter()
    for serial, at_us, value, revision in connection.execute(READINGS):
        if (at_us, value) in stored[serial] or revision:
            made.broken.append(f"meter {serial}: the reading of {at_us} is there twice")
        stored[serial].add((at_us, value))
    for serial, at_us, value, reason in connection.execute(HELD):
        held[serial].add((at_us, value))
        reasons[str(reason)] += 1
    made.readings_held = dict(reasons)
    for serial, row in openings.items():
        if row not in stored[serial]:
            made.broken.append(f"meter {serial}: the reading of its installation is gone")
        stored[serial].discard(row)
    for serial, record in records.items():
        taken, acknowledged = set(record.taken), record.acknowledged()
        made.readings_taken += len(taken)
        made.readings_acknowledged += len(acknowledged)
        made.readings_stored += len(stored[serial])
        made.readings_waiting += len(record.kept)
        made.readings_lost_on_air += len(record.lost)
        made.broken += [
            f"meter {serial}: the reading of {at_us} ({value} Wh) was acknowledged and is nowhere"
            for at_us, value in sorted(acknowledged - stored[serial] - held[serial])
        ]
        strange = (stored[serial] | held[serial]) - taken
        asked_for = {row for row in strange if _was_shown(row, record)}
        made.readings_asked_for += len(asked_for)
        made.broken += [
            f"meter {serial}: nobody counted the reading of {at_us} ({value} Wh) that is there"
            for at_us, value in sorted(strange - asked_for)
        ]
    made.broken += [
        f"meter {serial}: has readings and is no meter of this field"
        for serial in stored
        if serial not in records and (serial not in openings or stored[serial])
    ]


def _was_shown(row: Row, record: MeterRecord) -> bool:
    """Whether somebody may have read just this of the meter at about that time."""
    return any(
        value == row[1] and abs(at_us - row[0]) <= _SHOWN_WITHIN_US for at_us, value in record.shown
    )


# --- orders ----------------------------------------------------------------------------------------------


def _orders(
    connection: psycopg.Connection[Any],
    made: Account,
    meters: Mapping[str, VirtualMeter],
    records: Mapping[str, MeterRecord],
) -> None:
    found: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    orders: dict[int, _Ordered] = {}
    own: dict[str, list[_Ordered]] = defaultdict(list)
    last: dict[str, str] = {}
    for number, serial, kind, state, attempts, failure, *times in connection.execute(_ORDERS):
        orders[number] = _Ordered(serial, _WANTED[OrderKind(kind)], *times)
        own[serial].append(orders[number])
        word = OrderState(state).name.lower()
        found[f"{word}: {failure}" if failure else word] += 1
        if state == OrderState.VERIFIED:
            last[serial] = orders[number].wanted
        elif state in _OPEN:
            why = _why_open(records.get(serial), meters.get(serial), failure, attempts)
            if why is None:
                made.broken.append(
                    f"order {number} of meter {serial}: {word} after {attempts} attempts, and nobody knows why"
                )
            waiting[why or "unknown"] += 1
    made.orders, made.orders_open = dict(found), dict(waiting)
    for serial, record in records.items():
        made.commands_obeyed += sum(each.op in _TURNS for each in record.told)
        made.broken += list(_strangers(record, orders, own[serial]))
        wanted, meter = last.get(serial), meters.get(serial)
        if meter is not None and meter.holds_credit:
            # It turns its relay by its own balance, too.
            continue
        if wanted is not None and record.relay != wanted and "stuck_relay" not in record.faults:
            made.broken.append(
                f"meter {serial}: its last verified order left it {wanted}, and it is {record.relay}"
            )


def _why_open(
    record: MeterRecord | None, meter: VirtualMeter | None, failure: str, attempts: int
) -> str | None:
    """Why an order has not come to its end; None if nobody knows."""
    if record is None or meter is None:
        return None
    reasons = (
        (
            "stuck_relay" in record.faults,
            "the relay is welded: it says yes, and is read back as before",
        ),
        (record.is_out, "the meter is out of reach"),
        (bool(failure), f"the meter refuses: {failure}"),
        (
            # Its next reading would end the order, and at the end of a scenario there is none.
            "reorder" in record.faults,
            "the line holds each message back until the meter says the next, and it reads no more",
        ),
        (
            meter.radio == "lorawan",
            "the air: a downlink waits for its gateway, or twelve were sent within the hour",
        ),
    )
    return next((why for holds, why in reasons if holds), None)


def _strangers(
    record: MeterRecord, orders: Mapping[int, _Ordered], own: list[_Ordered]
) -> Iterator[str]:
    """Commands that this meter carried out and nobody decided.

    Over MQTT a command has its order's number; elsewhere it is known by its time and by what it asks for.
    """
    for told in record.told:
        if told.op not in _TURNS or told.result != "ok":
            continue
        named = _NAMED.fullmatch(told.command) if not record.shown else None
        if named is not None:
            order = orders.get(int(named[1]))
            if order is None or order.serial != record.serial:
                yield f"meter {record.serial}: obeyed {told.command}, which is no order of its own"
        elif "stuck_relay" not in record.faults and not any(
            each.wanted == told.state
            and each.decided_us - _CLOCKS_US <= told.at_us
            and (each.finished_us is None or told.at_us <= each.finished_us + _LATE_US)
            for each in own
        ):
            yield f"meter {record.serial}: was told {told.state} at {told.at_us}, and nobody decided that"


# --- signed instructions ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Instructed:
    """What the platform knows of a meter that verifies: credit and number that it signed for, what it was told, by name.

    ``told_micro`` and ``owed_micro`` are of its wallet: what it was told to have had, and what the ledger says.
    """

    signed_micro: int = 0
    known: int = 0
    told_micro: int | None = None
    owed_micro: int | None = None
    #: Something that it was told has no answer yet.
    is_open: bool = False
    issued: Mapping[int, str] = field(default_factory=dict)


def _instructions(
    connection: psycopg.Connection[Any],
    made: Account,
    meters: Mapping[str, VirtualMeter],
    records: Mapping[str, MeterRecord],
) -> None:
    for state, count in connection.execute("SELECT state, count(*) FROM instruction GROUP BY 1"):
        made.instructions[InstructionState(state).name.lower()] = int(count)
    known = {
        str(serial): _Instructed(
            signed_micro, number, told_micro, owed_micro, is_open,
            dict(zip(numbers or (), names or (), strict=True)),
        )
        for serial, numbers, names, signed_micro, number, told_micro, owed_micro, is_open in connection.execute(_INSTRUCTED)
    }  # fmt: skip
    for serial, meter in meters.items():
        record = records.get(serial)
        if meter.secret and record is not None and record.instructed is not None:
            made.credit_micro += record.instructed[2]
            made.broken += list(_misled(meter, record, known.get(serial, _Instructed())))


def _misled(meter: VirtualMeter, record: MeterRecord, known: _Instructed) -> Iterator[str]:
    """What a meter that verifies has carried out is what it was told, to the byte; what is believed of it, it has signed."""
    assert record.instructed is not None, "it verifies"
    number, name, credit_micro, _ = record.instructed
    where = f"meter {meter.serial}"
    if number and known.issued.get(number) != name:
        yield f"{where}: carried out {name} as number {number}, and nobody told it that"
    if known.known > number:
        yield f"{where}: is believed to have come to number {known.known}, and is at {number}"
    if known.signed_micro > credit_micro:
        yield f"{where}: is believed to have had {known.signed_micro} of credit, and had {credit_micro}"
    if known.is_open:
        if not record.is_out:
            yield f"{where}: has not answered what it was told, and nobody knows why"
        return
    owed = (known.told_micro, known.owed_micro)
    if meter.holds_credit and not record.is_out and owed != (credit_micro, credit_micro):
        yield (
            f"{where}: has had {credit_micro} of credit, was told of {owed[0]}, and the ledger has {owed[1]}"
        )


# --- money -----------------------------------------------------------------------------------------------


def _recharges(connection: psycopg.Connection[Any], made: Account, journal: Journal) -> None:
    stands: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for reference, *facts in connection.execute(_PAYMENTS):
        stands[reference].append(tuple(facts))
    made.broken += journal.contradictions
    for key, answer in journal.answered.items():
        wish = journal.asked[key]
        meant = (wish["account_id"], wish["amount"], answer.get("event_id"))
        if stands.get(key) == [meant]:
            made.recharges += 1
        else:
            made.broken.append(
                f"recharge {key}: answered {answer}, and stands as {stands.get(key)}"
            )
    made.broken += [f"recharge {key}: was never answered" for key in journal.open_keys()]
    made.broken += [
        f"payment {key}: nobody asked for it" for key in stands if key not in journal.asked
    ]


def _counted(connection: psycopg.Connection[Any], query: str) -> dict[str, int]:
    return {str(name): int(count) for name, count in connection.execute(query).fetchall()}
