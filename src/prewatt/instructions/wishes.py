"""What meters are to become, told step by step until their own signed answers say that they are: keys and limits.

A meter that is to trust another key has that as its `next_key`, one that is to have a limit has it as its `next_limit_w`. What is
told next follows from that and from what it last said of itself (`step_of`), so a step that is lost is told again, and
nothing is remembered of what was under way. Before all else a meter says in full how it stands: one that knows the
first form alone is told of neither, and is named by `prewatt instruct rotate`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from prewatt.access.scope import Actor, require, scope
from prewatt.audit import operations as audit
from prewatt.core.cose import Sealer
from prewatt.core.instructions import IN_FULL, KeyStep, Operation, ids_of
from prewatt.instructions.operations import Wanted
from prewatt.instructions.seals import Seals
from prewatt.runtime.prepared import fetch

PER_LOOK: Final = 200
#: A meter that does not answer, or refuses, is told again after so long.
AGAIN_AFTER: Final = timedelta(hours=1)
#: So many instructions at most are answered by a meter within this time before it has a rest from these.
_STEPS_MAX: Final = 8
_STEPS_WITHIN: Final = timedelta(minutes=5)


def step_of(
    trusts: Sequence[bytes] | None,
    understands: int,
    wanted: bytes,
    *,
    signing: Collection[bytes],
    ended: Collection[bytes],
) -> tuple[Operation, int] | None:
    """What a meter is told next on its way to a key, with its argument; None where there is nothing to tell.

    ``understands`` is 0 for a meter that was not asked. One that trusts none of our ``signing`` keys is asked, for that may
    be true no more. One that cannot be told, or whose newest key is not the wanted one though it trusts that, is left to
    people.
    """
    if not understands or (trusts is not None and not set(signing) & set(trusts)):
        return Operation.READ, IN_FULL
    if not understands & 1 << Operation.TRUST or trusts is None:
        return None
    if wanted not in trusts:
        return Operation.TRUST, KeyStep.ADD
    if trusts[-1] == wanted and any(each in ended for each in trusts):
        return Operation.TRUST, KeyStep.DROP_FORMER
    return None


class Wishes:
    """What the head-end asks: what meters are to be told of keys and limits. ``seal`` gives the keys as they are."""

    def __init__(self, actor: Actor, *, seal: Callable[[datetime], Sealer | Seals]) -> None:
        require(actor, "supply.decide")
        self._actor = actor
        self._seal = seal

    def due(self, *, now: datetime) -> list[Wanted]:
        """What meters are to be told. Nothing of one of which anything is under way. Raises NoSigningKey."""
        seals = Seals.of(self._seal(now))
        with scope(self._actor):
            self._spare_protected(now)
            rows = fetch(
                _DUE,
                [
                    now - _STEPS_WITHIN,
                    now - AGAIN_AFTER,
                    now - AGAIN_AFTER,
                    *_joined(seals),
                    PER_LOOK,
                ],
            )
        return [each for row in rows if (each := _wanted(row, seals)) is not None]

    def _spare_protected(self, now: datetime) -> None:
        """Wish no limit of a meter whose supply is protected by now, whenever that came: it would open for a load."""
        for property_id, meter_id in fetch(_SPARE, [now]):
            audit.record(
                actor=self._actor.code, code="instructions.limit.wished", property_id=property_id,
                subject=f"meter:{meter_id}", now=now, watts=0, open_s=0,
            )  # fmt: skip


_SPARE: Final = """
UPDATE instruction_state s SET next_limit_w = 0, next_limit_s = 0
WHERE s.meter_id IN (SELECT l.meter_id FROM instruction_state l WHERE l.limit_w > 0
                     UNION SELECT l.meter_id FROM instruction_state l WHERE l.next_limit_w > 0)
  AND s.next_limit_w IS DISTINCT FROM 0
  AND EXISTS (SELECT FROM meter_assignment a JOIN supply_state v ON v.account_id = a.account_id
              WHERE a.meter_id = s.meter_id AND a.period @> %s::timestamptz AND v.protection <> '')
RETURNING s.property_id, s.meter_id
"""


def _joined(seals: Seals) -> tuple[bytes, bytes]:
    """Ids that a meter may be told of, and those that it is to drop."""
    return b"".join(seals.points), b"".join(seals.ended)


_UNDERSTANDS: Final = "(s.understands = 0 OR s.understands & {} <> 0)".format
#: The last word of a meter stands beside its number; whoever has refused or not answered has a rest.
_DUE: Final = f"""
SELECT s.meter_id, s.property_id, m.serial, s.understands, s.trusts, s.next_key, s.next_limit_w, s.next_limit_s
FROM instruction_state s JOIN meter m ON m.id = s.meter_id
WHERE (s.next_key IS NOT NULL OR s.next_limit_w IS NOT NULL)
  AND NOT EXISTS (SELECT FROM instruction i WHERE i.meter_id = s.meter_id AND i.state IN (1, 2))
  -- Nobody takes so many steps: it does not do what it says, or is told much else.
  AND (SELECT count(*) FROM instruction i WHERE i.meter_id = s.meter_id AND i.sequence > s.last_sequence - {_STEPS_MAX}
         AND i.state IN (3, 4) AND i.answered_at > %s) < {_STEPS_MAX}
  AND NOT EXISTS (
      SELECT FROM instruction i WHERE i.meter_id = s.meter_id AND i.sequence = s.last_sequence
        AND (i.state = 5 AND i.expires_at > %s
             -- A number or a chain that was behind is put right by the same answer.
             OR i.state = 4 AND i.result NOT IN (2, 3) AND i.operation >= 3 AND i.answered_at > %s))
  AND (s.next_limit_w IS NOT NULL AND {_UNDERSTANDS(1 << Operation.LIMIT)}
       OR position(s.next_key IN %b::bytea) > 0 AND {_UNDERSTANDS(1 << Operation.TRUST)}
          AND (s.trusts IS NULL OR position(s.next_key IN s.trusts) = 0
               OR substring(s.trusts FROM length(s.trusts) - 15) = s.next_key AND EXISTS (
                   SELECT FROM generate_series(1, length(s.trusts) - 16, 16) AS g(at)
                   WHERE position(substring(s.trusts FROM g.at FOR 16) IN %b::bytea) > 0)))
ORDER BY s.meter_id LIMIT %s
"""  # noqa: S608 - our own numbers


def _wanted(row: tuple[Any, ...], seals: Seals) -> Wanted | None:
    meter_id, place, serial, understands, trusts, key, limit_w, limit_s = row
    step = None
    if key is not None and bytes(key) in seals.points:
        known = None if trusts is None else ids_of(bytes(trusts))
        step = step_of(known, understands, bytes(key), signing=seals.signing, ended=seals.ended)
    if step is not None:
        more = seals.points[bytes(key)] if step == (Operation.TRUST, KeyStep.ADD) else b""
        return Wanted(meter_id, place, serial, step[0], int(step[1]), more=more)
    if limit_w is None:
        return None
    if not understands:
        return Wanted(meter_id, place, serial, Operation.READ, IN_FULL)
    return Wanted(
        meter_id, place, serial, Operation.LIMIT, limit_w, more=limit_s.to_bytes(4, "big")
    )
