"""The ladders of a property: above which amount of a kind how many others have to agree.

Changed by a proposal like all else that takes others, and as a whole: `Rung` by `Rung`, from nothing on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final, NamedTuple

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, Kind
from prewatt.approvals.operations import Wanted, wanted_change

KIND: Final = "approvals.ladder"
RUNGS_MAX: Final = 5
APPROVERS_MAX: Final = 5


class Rung(NamedTuple):
    """Above so much (money in micro-units, or a number of accounts) so many others agree."""

    above: int
    approvers: int


class LadderRefused(Exception):
    """The ladder cannot hold; ``reason`` is `unknown` (the kind has none), `same`, `first` (it begins at
    nothing), `rising` (amounts and people rise), `many` or `alone` (small ones need somebody, too).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def ladders(*, actor: Actor, property_id: int) -> dict[str, tuple[Rung, ...]]:
    """The ladders that hold at a property, its own or the usual ones, by kind."""
    require(actor, "accounts.read", property_id=property_id)
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """SELECT u.kind, u.above, u.approvers FROM usual_limits() u
               WHERE NOT EXISTS (SELECT FROM amount_limit l
                                 WHERE l.property_id = %(place)s AND l.kind = u.kind)
               UNION ALL
               SELECT l.kind, l.above, l.approvers FROM amount_limit l
               WHERE l.property_id = %(place)s ORDER BY 1, 2""",
            {"place": property_id},
        )
        found: dict[str, tuple[Rung, ...]] = {}
        for kind, above, approvers in cursor.fetchall():
            found[kind] = (*found.get(kind, ()), Rung(above, approvers))
    return found


def wanted_ladder(*, actor: Actor, property_id: int, kind: str, rungs: Sequence[Rung]) -> Wanted:
    """What proposing another ladder of a kind would ask for. Raises LadderRefused."""
    require(actor, "approvals.propose", property_id=property_id)
    known = ladders(actor=actor, property_id=property_id)
    if kind not in known:
        raise LadderRefused("unknown")
    _refuse(kind, rungs, known[kind])
    with scope(actor):
        return wanted_change(
            kind=KIND, property_id=property_id, subject=f"ladder:{kind}",
            effect={
                "of": kind, "before": [list(each) for each in known[kind]],
                "rungs": [list(each) for each in rungs],
            },
        )  # fmt: skip


def may_be_alone(kind: str) -> bool:
    """Whether a ladder of this kind may say that small ones need nobody else."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT may_be_alone(%s)", [kind])
        return bool(cursor.fetchone()[0])


def _refuse(kind: str, rungs: Sequence[Rung], known: Sequence[Rung]) -> None:
    if tuple(rungs) == tuple(known):
        raise LadderRefused("same")
    if not rungs or rungs[0].above != 0:
        raise LadderRefused("first")
    if len(rungs) > RUNGS_MAX or max(each.approvers for each in rungs) > APPROVERS_MAX:
        raise LadderRefused("many")
    pairs = list(pairwise(rungs))
    if any(a.above >= b.above or a.approvers >= b.approvers for a, b in pairs):
        raise LadderRefused("rising")
    if rungs[0].approvers == 0 and not may_be_alone(kind):
        raise LadderRefused("alone")


def _change(_actor: Actor, agreed: Agreed, _now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT change_ladder(%s, %s)", [agreed.property_id, agreed.effect["of"]])


LADDER: Final = Kind(KIND, _change)
