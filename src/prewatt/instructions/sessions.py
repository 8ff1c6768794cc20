"""Sessions of the short form: begun by whoever commissions a meter, ended by the next one, a person, or too many forgeries.

The platform makes a key for the one session, agrees with the meter's enrolled public half, keeps the two session keys
sealed and forgets its own. What is carried to the meter is signed by the instruction key (`core.session_offers`). The
meter's key of agreement is one of its own and signs nothing (decision 35).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prewatt.access.scope import Actor, require, scope
from prewatt.audit import operations as audit
from prewatt.core.cose import Sealer, opened
from prewatt.core.instructions import HASH_BYTES, NotBelieved
from prewatt.core.session_offers import SessionOffer, sealed_offer
from prewatt.core.short_instructions import FORGERIES_MAX, MARK_BYTES, short_answer
from prewatt.instructions.models import InstructionSession
from prewatt.runtime.prepared import execute, fetch, integers
from prewatt.signing.es256 import ES256PrivateKey, device_key_id, spki_of
from prewatt.signing.sessions import SessionKeys, SessionSeals, session_keys
from prewatt.signing.store import KeyStoreRefused

FORM_DRIVERS: Final = frozenset({"lorawan"})
"""Meters of these drivers are too far behind a narrow link for a signature."""


class SessionRefused(Exception):
    """No session was begun or ended.

    ``reason`` is `no_key` (the meter has no key of agreement yet), `signs` (that key signs its answers already), `driver`
    (its link carries signatures), `wallet` (it holds its account's credit), `none`, or `followed` (it was offered its last one
    by a key that has ended).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(_WHY[reason])
        self.reason = reason


_WHY: Final = {
    "no_key": "the meter has no key of agreement yet: give the public half of it",
    "signs": "this key signs the meter's answers already; a session takes a key of its own",
    "driver": "the meter's driver carries signed instructions, or none; only LoRaWAN takes the short form",
    "wallet": "the meter holds its account's credit, and answers of the short form tell no balance",
    "none": "the meter has no session",
    "followed": "the meter took its last session by an instruction key that is revoked: have it trust the present one, "
    "and give its public half again",
}


def device_name(serial: str) -> str:
    """By what a device names itself in the short form: its DevEUI in lower case, however the register writes it."""
    return serial.lower()


def begin_session(
    *, actor: Actor, property_id: int, meter_id: int, meter_point: bytes | None, by: Sealer,
    seals: SessionSeals, now: datetime,
) -> bytes:  # fmt: skip
    """Begin a session with a meter in place of the one it has; returns what is to be carried to the meter.

    ``meter_point`` is the public half of the meter's key of agreement (None: that of its last session). What waited for
    the meter's answer is superseded: no answer to it can be verified any more. The first that a session carries is a
    READ, which shows that both sides have it. Raises SessionRefused, BadKey,
    PermissionRefused.
    """
    require(actor, "devices.issue", property_id=property_id)
    with scope(actor):
        # As in the book: the standing is locked first, and holds what belongs to its meter.
        serial, after_sequence = _begin_standing(property_id, meter_id)
        last = (
            InstructionSession.objects.filter(meter_id=meter_id)
            .order_by("-number")
            .values_list("number", "meter_point")
            .first()
        )
        number = 1 if last is None else last[0] + 1
        if meter_point is None:
            if last is None:
                raise SessionRefused("no_key")
            meter_point = bytes(last[1])
        _look_at_key(meter_point)
        name, own = device_name(serial), ES256PrivateKey.generate()
        keys = session_keys(own, meter_point, meter=name, platform_point=own.point)
        offer = sealed_offer(SessionOffer(name, number, own.point), by=by)
        InstructionSession.objects.filter(meter_id=meter_id, ended_at__isnull=True).update(
            ended_at=now, ended_why="replaced"
        )
        InstructionSession.objects.create(
            property_id=property_id, meter_id=meter_id, number=number, meter_point=meter_point,
            platform_point=own.point, offer=offer, after_sequence=after_sequence, begun_at=now, begun_by=actor.code,
            sealed_keys=seals.seal(keys, meter=name, platform_point=own.point),
        )  # fmt: skip
        audit.record(
            actor=actor.code, code="instructions.session.begun", property_id=property_id,
            subject=f"meter:{meter_id}", now=now, number=number,
            key_id=device_key_id(spki_of(meter_point)).hex(),
        )  # fmt: skip
    return offer


def _begin_standing(property_id: int, meter_id: int) -> tuple[str, int]:
    """The meter's serial number and the last number it was given; of what it carried out nothing is known from here.

    A meter begins a session as one that has carried out nothing; its lifetime credit outlives the session.
    """
    ((serial, driver),) = fetch(
        "SELECT serial, driver FROM meter WHERE id = %s AND property_id = %s",
        [meter_id, property_id],
    )
    if driver not in FORM_DRIVERS:
        raise SessionRefused("driver")
    if fetch("SELECT 1 FROM meter_wallet WHERE meter_id = %s AND ended_at IS NULL", [meter_id]):
        raise SessionRefused("wallet")
    ((after_sequence,),) = fetch(
        """INSERT INTO instruction_state (meter_id, property_id, known_hash, must_read)
           VALUES (%s, %s, decode(repeat('00', 32), 'hex'), true)
           ON CONFLICT (meter_id) DO UPDATE
           SET known_sequence = 0, known_hash = excluded.known_hash, must_read = true
           RETURNING last_sequence""",
        [meter_id, property_id],
    )
    execute(
        """UPDATE instruction SET state = 6, next_try_at = NULL
           WHERE meter_id = %s AND state IN (1, 2)""",
        [meter_id],
    )
    return str(serial), int(after_sequence)


def _look_at_key(meter_point: bytes) -> None:
    key_id = device_key_id(spki_of(meter_point))
    if fetch("SELECT 1 FROM meter_key WHERE key_id = %s", [key_id]):
        raise SessionRefused("signs")


def end_session(*, actor: Actor, property_id: int, meter_id: int, now: datetime) -> int:
    """Believe and tell nothing by the meter's session any more; returns its number. Raises SessionRefused `none`."""
    require(actor, "devices.issue", property_id=property_id)
    with scope(actor):
        ended = fetch(
            """UPDATE instruction_session SET ended_at = %s, ended_why = 'ended'
               WHERE meter_id = %s AND property_id = %s AND ended_at IS NULL RETURNING number""",
            [now, meter_id, property_id],
        )
        if not ended:
            raise SessionRefused("none")
        number = int(ended[0][0])
        audit.record(
            actor=actor.code, code="instructions.session.ended", property_id=property_id,
            subject=f"meter:{meter_id}", now=now, number=number, reason="ended",
        )  # fmt: skip
    return number


def last_offer(meter_id: int) -> bytes | None:
    """What is carried to the meter for its present session; None where it has none. Inside the caller's scope."""
    found = fetch(
        "SELECT offer FROM instruction_session WHERE meter_id = %s AND ended_at IS NULL", [meter_id]
    )
    return bytes(found[0][0]) if found else None


def offered_by(meter_id: int) -> bytes | None:
    """The id of the instruction key that signed the meter's last offer, which it trusts; None where it had none. In scope."""
    found = fetch(
        "SELECT offer FROM instruction_session WHERE meter_id = %s ORDER BY number DESC LIMIT 1",
        [meter_id],
    )
    return opened(bytes(found[0][0])).key_id if found else None


def ever_had_session(meter_ids: Sequence[int]) -> frozenset[int]:
    """Those of the meters that have a session or had one. Inside the caller's scope."""
    rows = fetch(
        "SELECT DISTINCT meter_id FROM instruction_session WHERE meter_id = ANY(%s::bigint[])",
        [integers(meter_ids)],
    )
    return frozenset(row[0] for row in rows)


def takes_short_form(meter_id: int) -> bool:
    """Whether its link is too narrow for signatures. Inside the caller's scope."""
    found = fetch("SELECT driver FROM meter WHERE id = %s", [meter_id])
    return bool(found) and found[0][0] in FORM_DRIVERS


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session that has not ended, with its keys open."""

    session_id: int
    property_id: int
    number: int
    after_sequence: int
    keys: SessionKeys


def live_sessions(
    meters: Mapping[int, str], seals: Callable[[], SessionSeals]
) -> dict[int, LiveSession]:
    """The sessions of these meters (with their serials) that have not ended. In scope. Raises KeyStoreRefused."""
    rows = fetch(
        """SELECT meter_id, id, property_id, number, after_sequence, sealed_keys, platform_point
           FROM instruction_session WHERE meter_id = ANY(%s::bigint[]) AND ended_at IS NULL""",
        [integers(meters)],
    )
    if not rows:
        return {}
    box = seals()
    return {
        meter: LiveSession(
            session_id, place, number, after,
            box.open(bytes(sealed), meter=device_name(meters[meter]), platform_point=bytes(point)),
        )
        for meter, session_id, place, number, after, sealed, point in rows
    }  # fmt: skip


def answers_of_sessions(
    meter_id: int, serial: str, seals: Callable[[], SessionSeals]
) -> Callable[[bytes, bytes, int], str]:
    """What says of a stored answer (bytes, its command's name and number) by which session it verifies, ended ones too.

    Inside the caller's scope. Who has not the seals, or may not read what is sealed, cannot verify any (the keys are no
    public ones) and is told which session it is of.
    """
    ((may_read,),) = fetch(
        "SELECT has_column_privilege('instruction_session', 'sealed_keys', 'SELECT')", []
    )
    sealed_keys = "sealed_keys" if may_read else "NULL::bytea"
    rows = fetch(
        f"""SELECT number, after_sequence, {sealed_keys}, platform_point FROM instruction_session
            WHERE meter_id = %s ORDER BY number DESC""",  # noqa: S608 - one of two words of ours
        [meter_id],
    )
    name = device_name(serial)

    def said(message: bytes, command: bytes, sequence: int) -> str:
        number, _, sealed, point = next(row for row in rows if row[1] < sequence)
        if sealed is None:
            return f"sealed in session {number}, whose keys are not here"
        try:
            keys = seals().open(bytes(sealed), meter=name, platform_point=bytes(point))
            answer = short_answer(message, meter=name, key=keys.up)
        except KeyStoreRefused:
            return f"sealed in session {number}, whose keys are not here"
        except NotBelieved:
            return "does not verify"
        if (name_of_mark(answer.mark), answer.sequence) == (command, sequence):
            return f"by the keys of session {number}"
        if (name_of_mark(answer.last_mark), answer.last_sequence) == (command, sequence):
            return f"proved by a later answer, by the keys of session {number}"
        return "does not verify"

    return said


def name_of_mark(mark: int) -> bytes:
    """A command's mark as it stands where the long form has a hash; nothing carried out yet is all zeros in both."""
    return mark.to_bytes(MARK_BYTES, "big").ljust(HASH_BYTES, b"\x00")


def count_forgeries(forged: Mapping[int, int], *, by: str, now: datetime) -> frozenset[int]:
    """Add what was refused in the names of these meters to their sessions; returns those whose session that has ended.

    Inside the caller's scope.
    """
    if not forged:
        return frozenset()
    counted = sorted(forged.items())
    rows = fetch(
        """UPDATE instruction_session AS s
           SET forged = s.forged + n.c,
               ended_at = CASE WHEN s.forged + n.c >= %s THEN %s::timestamptz END,
               ended_why = CASE WHEN s.forged + n.c >= %s THEN 'forged' ELSE '' END
           FROM unnest(%s::bigint[], %s::bigint[]) AS n(m, c)
           WHERE s.meter_id = n.m AND s.ended_at IS NULL
           RETURNING s.meter_id, s.property_id, s.number, s.ended_at IS NOT NULL""",
        [
            FORGERIES_MAX, now, FORGERIES_MAX,
            integers(meter for meter, _ in counted), integers(count for _, count in counted),
        ],
    )  # fmt: skip
    ended = [(meter, place, number) for meter, place, number, has_ended in rows if has_ended]
    for meter, place, number in ended:
        audit.record(
            actor=by, code="instructions.session.ended", property_id=place,
            subject=f"meter:{meter}", now=now, number=number, reason="forged",
        )  # fmt: skip
    return frozenset(meter for meter, _, _ in ended)


def seal_again(seals: SessionSeals) -> int:
    """Seal all sessions' keys under the newest seal, as the owner; returns how many. Raises KeyStoreRefused."""
    rows = fetch("SELECT id, sealed_keys FROM instruction_session FOR UPDATE", [])
    for session_id, sealed in rows:
        InstructionSession.objects.filter(pk=session_id).update(
            sealed_keys=seals.seal_again(bytes(sealed))
        )
    return len(rows)
