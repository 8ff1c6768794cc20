"""The rotation of the instruction key, as people see and lead it: who trusts which key, who would be lost without one.

A rotation begins with the next key in the file (`prewatt keys rotate instruction`). `lead` says which meters are to trust
it, all or some first; the head-end tells them (`wishes`), and what they trust is what their verified answers say. It ends with the
revocation of the former key, upon which the head-end has meters drop it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from prewatt.access.scope import Actor, require, scope
from prewatt.audit import operations as audit
from prewatt.core.instructions import FIRST_FORM, NOTHING, Operation, ids_of
from prewatt.instructions.seals import TRUSTED
from prewatt.runtime.prepared import execute, fetch, integers

_FIRST_FORM: Final = sum(1 << each for each in FIRST_FORM)


class Way(StrEnum):
    """How far a meter is on its way to a key."""

    #: It trusts this key alone.
    DONE = "done"
    #: It trusts this key besides others.
    TRUSTS = "trusts"
    #: It does not yet, and can be told.
    WAITS = "waits"
    #: It knows the first form of instructions alone: a visit, or another firmware.
    CANNOT = "cannot"
    #: It has never answered.
    SILENT = "silent"
    #: It trusts a key that none of ours ever was.
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Trusting:
    """A meter that is instructed by signature. ``trusts`` is None where that is not known, the newest last."""

    property_id: int
    code: str
    meter_id: int
    serial: str
    trusts: tuple[bytes, ...] | None
    understands: int
    next_key: bytes | None
    verified_at: datetime | None

    def way_to(self, key_id: bytes, *, ours: Collection[bytes]) -> Way:
        """How far it is, where ``ours`` are all keys that ever were in the file."""
        if self.trusts is None:
            return Way.SILENT
        if not set(ours).issuperset(self.trusts):
            return Way.FOREIGN
        if key_id in self.trusts:
            return Way.DONE if self.trusts == (key_id,) else Way.TRUSTS
        can = self.understands == 0 or self.understands & 1 << Operation.TRUST
        return Way.WAITS if can else Way.CANNOT

    def is_lost_without(self, key_id: bytes, *, living: Collection[bytes]) -> bool:
        """Whether nobody could instruct it any more if this key were revoked, or that cannot be known."""
        others = set(living) - {key_id}
        return self.trusts is None or (key_id in self.trusts and not others & set(self.trusts))


def trusting(*, actor: Actor, property_ids: Sequence[int] | None = None) -> list[Trusting]:
    """Every meter that has a key which is not revoked, by property and serial, and what it trusts."""
    require(actor, "estate.meters")
    with scope(actor):
        rows = fetch(
            f"""SELECT p.id, p.code, m.id, m.serial, t.trusts, coalesce(s.understands, 0), s.next_key, s.verified_at
                FROM meter m JOIN property p ON p.id = m.property_id
                LEFT JOIN instruction_state s ON s.meter_id = m.id
                LEFT JOIN LATERAL (SELECT {TRUSTED} AS trusts) t ON true
                WHERE EXISTS (SELECT FROM meter_key k WHERE k.meter_id = m.id AND k.revoked_at IS NULL)
                  AND (%s::bigint[] IS NULL OR p.id = ANY (%s::bigint[]))
                ORDER BY p.code, m.serial""",  # noqa: S608 - our own column
            [None if property_ids is None else integers(property_ids)] * 2,
        )
    return [
        Trusting(
            place, code, meter_id, serial, None if trusts is None else ids_of(bytes(trusts)), understands,
            None if key is None else bytes(key), verified_at,
        )
        for place, code, meter_id, serial, trusts, understands, key, verified_at in rows
    ]  # fmt: skip


def offered_sessions(*, actor: Actor, key_id: bytes) -> list[tuple[str, str]]:
    """Meters (property, serial) that took the session of the short form that they have by this key, and trust no other.

    It lasts without the key; the next one does not reach them.
    """
    require(actor, "estate.meters")
    with scope(actor):
        rows = fetch(
            """SELECT p.code, m.serial FROM instruction_session z
               JOIN meter m ON m.id = z.meter_id JOIN property p ON p.id = m.property_id
               WHERE z.ended_at IS NULL AND substring(z.offer FROM 9 FOR 16) = %b ORDER BY 1, 2""",
            [key_id],
        )
    return [(str(code), str(serial)) for code, serial in rows]


def lead(*, actor: Actor, meters: Sequence[Trusting], key_id: bytes, now: datetime) -> int:
    """Have these meters come to trust this key alone, in the end; returns how many are to be told.

    One that knew the first form alone when it was asked is asked again: it may have other firmware now.
    """
    places: dict[int, list[int]] = {}
    for each in meters:
        if each.trusts != (key_id,):
            places.setdefault(each.property_id, []).append(each.meter_id)
    count = 0
    for place, ids in sorted(places.items()):
        require(actor, "estate.meters", property_id=place)
        with scope(actor, deed="estate.meters"):
            execute(
                """INSERT INTO instruction_state (meter_id, property_id, known_hash)
                   SELECT m, %s, %b FROM unnest(%s::bigint[]) AS n(m) ON CONFLICT (meter_id) DO NOTHING""",
                [place, NOTHING, integers(ids)],
            )
            led = fetch(
                """UPDATE instruction_state SET next_key = %b,
                       understands = CASE WHEN understands = %s THEN 0 ELSE understands END
                   WHERE meter_id = ANY (%s::bigint[]) AND next_key IS DISTINCT FROM %b RETURNING meter_id""",
                [key_id, _FIRST_FORM, integers(ids), key_id],
            )
            if led:
                audit.record(
                    actor=actor.code, code="instructions.rotation.led", property_id=place,
                    subject=f"key:{key_id.hex()}", now=now, amount=len(led),
                )  # fmt: skip
        count += len(led)
    return count
