"""Clocks of meters that are instructed by signature: measured by a signed exchange, moved by a signed instruction.

By how much a clock is off is known of such a meter by nothing that is not signed: whoever forges or holds back its readings would else
have its clock moved. Its answer says what its clock was between the issue of what it answers and the answer's receipt. Where both
are near each other and just now, it is moved by that; else it is asked first, and the next try of the same request finds it
measured. So a request of such a meter takes two tries of the three that it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from prewatt.access.scope import Actor, require, scope
from prewatt.core.instructions import FIRST_FORM, IN_FULL, STEP_S_MAX, Operation, Result
from prewatt.core.vocabulary import RequestKind, RequestState
from prewatt.fleet.requests import RequestBook
from prewatt.instructions.operations import InstructionBook, Outgoing, Wanted
from prewatt.runtime.prepared import fetch, integers

#: Half of it is what a clock may be off still after it was moved.
EXCHANGE_MAX: Final = timedelta(seconds=30)
MEASURED_WITHIN: Final = timedelta(minutes=10)
#: Less is what a measurement may be wrong by.
_RIGHT_S: Final = 2
_ONLY_FIRST_FORM: Final = sum(1 << each for each in FIRST_FORM)
_WORDS: Final = {
    Result.OK: "ok",
    Result.EXPIRED: "expired",
    Result.UNSUPPORTED: "unsupported",
    Result.FAILED: "failed",
}


class DueClock(Protocol):
    """A request that leaves now."""

    @property
    def request_id(self) -> int:
        """Its number."""

    @property
    def meter_id(self) -> int:
        """Whom it is for."""

    @property
    def serial(self) -> str:
        """The same by its serial."""


@dataclass(slots=True)
class _Reply:
    """What becomes of a request without a word of the wire."""

    request_id: int
    meter_id: int
    result: str
    register_wh: int = 0


class SignedClocks:
    """What the head-end asks of clocks of meters that take no unsigned word about them."""

    def __init__(self, actor: Actor, book: InstructionBook) -> None:
        require(actor, "supply.decide")
        self._actor = actor
        self._book = book
        self._requests = RequestBook(actor)

    def tell(self, due: Sequence[DueClock], *, now: datetime) -> list[Outgoing]:
        """Measure or move these clocks; what needs no move, or cannot be moved, is answered. Raises NoSigningKey."""
        with scope(self._actor):
            measured = {
                meter: (place, understands, step_s)
                for meter, place, understands, step_s in fetch(
                    _MEASURED,
                    [now - MEASURED_WITHIN, EXCHANGE_MAX, integers(each.meter_id for each in due)],
                )
            }
        wanted, replies = [], []
        for each in {each.meter_id: each for each in due}.values():
            place, understands, step_s = measured[each.meter_id]
            if understands == _ONLY_FIRST_FORM or abs(step_s or 0) > STEP_S_MAX:
                replies.append(_Reply(each.request_id, each.meter_id, "unsupported"))
            elif step_s is None or not understands:
                wanted.append(Wanted(each.meter_id, place, each.serial, Operation.READ, IN_FULL))
            elif abs(step_s) <= _RIGHT_S:
                replies.append(_Reply(each.request_id, each.meter_id, "ok"))
            else:
                wanted.append(Wanted(each.meter_id, place, each.serial, Operation.CLOCK, step_s))
        if replies:
            self._requests.answered(answers=replies, now=now)
        return self._book.issue(wanted, now=now)

    def not_taken(self, outgoing: Sequence[Outgoing]) -> None:
        """No broker took these: they go out by the next try."""
        self._book.not_taken(outgoing)

    def moved(self, meter_id: int, result: Result, *, now: datetime) -> None:
        """A meter has answered by its signature whether it moved its clock. One that stood elsewhere is told again."""
        if result not in _WORDS:
            return
        with scope(self._actor):
            found = fetch(
                """SELECT id FROM meter_request
                   WHERE meter_id = %s AND kind = %s AND state = %s ORDER BY id DESC""",
                [meter_id, int(RequestKind.CLOCK), int(RequestState.SENT)],
            )
        if found:
            replies = [_Reply(row[0], meter_id, _WORDS[result]) for row in found]
            self._requests.answered(answers=replies, now=now)


#: By how much a clock was off in the middle of the last exchange, negative where it is ahead; null where that says nothing of now.
_MEASURED: Final = """
SELECT m.id, m.property_id, coalesce(s.understands, 0),
       CASE WHEN i.answered_at = s.verified_at AND i.answered_at > %s AND i.answered_at - i.issued_at <= %s
            THEN round(extract(epoch FROM i.issued_at + (i.answered_at - i.issued_at) / 2 - s.said_at))::bigint END
FROM meter m
LEFT JOIN instruction_state s ON s.meter_id = m.id
LEFT JOIN LATERAL (
    SELECT x.issued_at, x.answered_at FROM instruction x
    WHERE x.meter_id = m.id AND x.state IN (3, 4) ORDER BY x.sequence DESC LIMIT 1) i ON true
WHERE m.id = ANY (%s::bigint[])
"""
