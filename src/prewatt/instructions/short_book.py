"""The instruction book of meters that have a session: the short form, in the same rows and by the same rules.

It keeps its numbers, standings and instructions where the long form does, and weighs answers as that does; only the
bytes are other ones, and a command is named by its number and its mark (`core.short_instructions`). An answer tells no
clock, register or balance: it is dated by its receipt. What a meter's session refuses is counted in it, and ends it when
it is too much; from then on the meter is told nothing until somebody begins another.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from prewatt.access.scope import Actor, require, scope
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.instructions import Answer, Doubt, NotBelieved, Operation
from prewatt.core.short_instructions import (
    SEQUENCE_MAX,
    ShortCommand,
    mark_of,
    sealed_short_command,
    short_answer,
)
from prewatt.instructions.operations import (
    LOCK,
    IssuedRow,
    Made,
    Outcome,
    Outgoing,
    Standing,
    Taking,
    Told,
    Wanted,
    ask_rows,
    issue_each,
    issued_rows,
    places_of,
    standings_of,
)
from prewatt.instructions.sessions import (
    LiveSession,
    count_forgeries,
    device_name,
    ever_had_session,
    live_sessions,
    name_of_mark,
)
from prewatt.runtime.bells import ring
from prewatt.runtime.prepared import fetch, integers
from prewatt.signing.keyring import NoSigningKey
from prewatt.signing.sessions import SessionSeals
from prewatt.signing.store import KeyStoreRefused

log = logging.getLogger(__name__)

LIFE_MIN: Final = timedelta(minutes=15)
"""How long a command is good at least, by the meter's own clock; of a meter that sleeps, so many of its periods."""
PERIODS: Final = 4
_ASK_AGAIN: Final = timedelta(hours=1)
_PER_LOOK: Final = 500
_MINUTE_US: Final = 60 * 1_000_000
_OPERATIONS: Final = frozenset({Operation.READ, Operation.RELAY, Operation.CREDIT})


class ShortBook:
    """The instructions by the short form, for the head-end. ``seals`` gives what opens the keys of sessions."""

    def __init__(self, actor: Actor, *, seals: Callable[[], SessionSeals]) -> None:
        require(actor, "supply.decide")
        self._actor = actor
        self._seals = seals

    def signing(self, meter_ids: Sequence[int]) -> frozenset[int]:
        """Those of the meters that are instructed by the short form alone: they have a session, or had one."""
        if not meter_ids:
            return frozenset()
        with scope(self._actor):
            return ever_had_session(meter_ids)

    def issue(self, wanted: Sequence[Wanted], *, now: datetime) -> list[Outgoing]:
        """What `InstructionBook.issue` does, for meters with a session; to others nothing goes out. Raises NoSigningKey."""
        with scope(self._actor):
            sessions, periods = self._open(wanted), _periods(wanted)
            able = [
                each
                for each in sorted(wanted, key=lambda each: each.meter_id)
                if each.meter_id in sessions and each.operation in _OPERATIONS
            ]
            if len(able) < len(wanted):
                log.warning("%d meters have no session to be told by", len(wanted) - len(able))
            if not able:
                return []

            def make(each: Wanted, standing: Standing) -> Made:
                life = max(LIFE_MIN, PERIODS * periods[each.meter_id])
                return _made(each, standing, sessions[each.meter_id], now=now, life=life)

            return issue_each(able, make, now=now)

    def unread(self, *, now: datetime) -> list[Wanted]:
        """Meters that have to say how they stand before they are told anything: asked once an hour each until they do."""
        with scope(self._actor):
            rows = fetch(
                """SELECT z.meter_id, z.property_id, m.serial
                   FROM instruction_session z
                   JOIN instruction_state s ON s.meter_id = z.meter_id AND s.must_read
                   JOIN meter m ON m.id = z.meter_id
                   WHERE z.ended_at IS NULL AND NOT EXISTS (
                       SELECT FROM instruction i
                       WHERE i.meter_id = z.meter_id AND (i.state IN (1, 2)
                             OR i.issued_at > greatest(z.begun_at, %s)))
                   ORDER BY z.meter_id LIMIT %s""",
                [now - _ASK_AGAIN, _PER_LOOK],
            )
        return [Wanted(meter, place, serial, Operation.READ) for meter, place, serial in rows]

    def take(self, told: Sequence[Told], *, now: datetime) -> list[Outcome]:
        """Write down what of these answers is believed and counts; returns what became of each, in order.

        Committed when it returns. Raises NoSigningKey where the keys of sessions cannot be opened.
        """
        if not told:
            return []
        with scope(self._actor):
            outcomes = self._weigh(told, now)
            ring("changed", places_of(outcomes))
        return outcomes

    def _weigh(self, told: Sequence[Told], now: datetime) -> list[Outcome]:
        meters = sorted({each.meter_id for each in told})
        standings = standings_of(fetch(LOCK, [integers(meters)]))
        sessions = self._open(told)
        answers = [_believed(each, sessions.get(each.meter_id)) for each in told]
        named = sorted(
            {
                (each.meter_id, number)
                for each, answer in zip(told, answers, strict=True)
                if isinstance(answer, Answer)
                for number in (answer.sequence, answer.last_sequence)
            }
        )
        taking = Taking(standings, _of_sessions(issued_rows(ask_rows(named).fetchall()), sessions))
        outcomes = [
            Outcome(each, answer) if isinstance(answer, Doubt) else taking.take(each, answer)
            for each, answer in zip(told, answers, strict=True)
        ]
        taking.write(now, by=self._actor.code)
        doubted = Counter(each.told.meter_id for each in outcomes if each.doubt is not None)
        ended = count_forgeries(doubted, by=self._actor.code, now=now)
        return [
            replace(each, has_ended=each.doubt is not None and each.told.meter_id in ended)
            for each in outcomes
        ]

    def _open(self, whose: Sequence[Wanted] | Sequence[Told]) -> dict[int, LiveSession]:
        try:
            return live_sessions({each.meter_id: each.serial for each in whose}, self._seals)
        except KeyStoreRefused as refused:
            raise NoSigningKey(str(refused)) from refused


def _periods(wanted: Sequence[Wanted]) -> dict[int, timedelta]:
    """How often each meter speaks, and so hears where it sleeps in between."""
    rows = fetch(
        "SELECT id, expected_period_s FROM meter WHERE id = ANY(%s::bigint[])",
        [integers(each.meter_id for each in wanted)],
    )
    return {meter: timedelta(seconds=period_s) for meter, period_s in rows}


def _made(
    wanted: Wanted, standing: Standing, session: LiveSession, *, now: datetime, life: timedelta
) -> Made:
    """A new command. It is good for whole minutes, and until its last one has passed, also in the book."""
    until = min(now + life, wanted.expires_at or now + life)
    now_min = instant_us(now) // _MINUTE_US
    last_min = max(now_min, instant_us(until) // _MINUTE_US - 1)
    command = ShortCommand(wanted.operation, wanted.argument, standing.last_sequence + 1, last_min)
    assert command.sequence <= SEQUENCE_MAX, "at a command a minute that is in eight thousand years"
    payload = sealed_short_command(command, meter=device_name(wanted.serial), key=session.keys.down)
    ends_at = utc_datetime((last_min + 1) * _MINUTE_US)
    return Made(wanted, command.sequence, payload, name_of_mark(mark_of(payload)), ends_at)


def _believed(told: Told, session: LiveSession | None) -> Answer | Doubt:
    """An answer as the long form would say it: what it does not tell is empty, and its clock is its receipt."""
    if session is None:
        return Doubt.UNKNOWN_KEY
    try:
        said = short_answer(told.payload, meter=device_name(told.serial), key=session.keys.up)
    except NotBelieved as refused:
        return refused.doubt
    return Answer(
        meter=told.serial,
        command_hash=name_of_mark(said.mark),
        sequence=said.sequence,
        result=said.result,
        relay=said.relay,
        balance_micro=None,
        credit_micro=said.credit_micro,
        register_wh=0,
        at_us=instant_us(told.received_at),
        last_sequence=said.last_sequence,
        last_hash=name_of_mark(said.last_mark),
        refused=0,
    )


def _of_sessions(
    rows: Mapping[tuple[int, int], IssuedRow], sessions: Mapping[int, LiveSession]
) -> dict[tuple[int, int], IssuedRow]:
    """Commands of sessions before belong to other keys: no answer by these is to one of them."""
    return {
        (meter, number): row
        for (meter, number), row in rows.items()
        if meter in sessions and number > sessions[meter].after_sequence
    }
