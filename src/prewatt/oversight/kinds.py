"""The kinds of watches: what each looks for, the figures that an auditor sets, and its statement.

A statement sees the events of one look, those of transactions that ended since the last (``fresh``),
and gives findings: (key, actor, subject, event id, instant, detail). The key names a finding within its
watch for ever, so a look that is repeated finds nothing twice. All are set-based.
"""

# ruff: noqa: S608 - statements are put together of our own constants; what is asked for are parameters

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prewatt.core.civil_time import HOLIDAY
from prewatt.core.money import MICRO


@dataclass(frozen=True, slots=True)
class Figure:
    """A whole number that an auditor sets: its bounds, and what it is at first.

    ``shape`` says how it is written: `count`, `hours`, `days`, `minutes` (of the day), `money`
    (micro-units of the property's currency) or `flag` (0 or 1).
    """

    name: str
    shape: str
    default: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of watch. ``statement`` takes `place`, `zone`, `fresh_from`, `fresh_to`, the figures, and
    `closed_days`: the local dates on which nobody works there, by `CLOSED` (``operations._closed_days``).
    """

    code: str
    figures: tuple[Figure, ...]
    statement: str


class ParameterRefused(ValueError):
    """A figure of a watch is missing or out of its bounds; ``name`` says which."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


_COUNT: Final = Figure("count", "count", 3, 1, 1000)
_DAYS: Final = Figure("days", "days", 7, 1, 366)
#: The figures that close an office for a whole day, each with the kinds of days (``core/civil_time``).
CLOSED: Final[Mapping[str, int]] = {"saturdays": 5, "sundays": 6, "holidays": HOLIDAY}

#: Events that this look sees for the first time.
_FRESH: Final = """
    SELECT e.* FROM audit_event e
    WHERE e.transaction >= %(fresh_from)s AND e.transaction < %(fresh_to)s
      AND e.property_id = %(place)s
"""
#: One finding for each event of ``fresh``.
_EACH: Final = """
    SELECT 'event:' || f.id, f.actor, f.subject, f.id, f.happened_at, f.detail FROM fresh f
"""
#: Too many of one person's events within a time: the first in a stretch, told with its count.
_MANY: Final = """
    SELECT 'day:' || f.actor || ':' || (f.happened_at AT TIME ZONE %(zone)s)::date, f.actor, f.subject,
           f.id, f.happened_at, jsonb_build_object('count', many.n, 'sum', many.total)
    FROM fresh f CROSS JOIN LATERAL (
        SELECT count(*) AS n, sum((e.detail ->> 'amount')::bigint) AS total FROM audit_event e
        WHERE e.property_id = f.property_id AND e.actor = f.actor AND e.code = f.code
          AND e.happened_at > f.happened_at - make_interval(secs => %(within_s)s)
          AND e.happened_at <= f.happened_at AND {which}) AS many
    WHERE many.n >= %(count)s
"""


def _of(condition: str) -> str:
    return f"WITH fresh AS ({_FRESH} AND {condition})"


KINDS: Final = (
    Kind(
        "self_approval",
        (),
        _of("e.code = 'access.refused' AND (e.detail ->> 'why' = 'own' "
            "OR e.detail ->> 'what' = 'self_approval')")
        + _EACH,
    ),
    Kind(
        "refused",
        (Figure("count", "count", 5, 1, 1000), Figure("hours", "hours", 1, 1, 168)),
        _of("e.code = 'access.refused'") + _MANY.format(which="true"),
    ),
    Kind(
        "night_change",
        (
            Figure("opens", "minutes", 7 * 60, 0, 1439),
            Figure("closes", "minutes", 19 * 60, 1, 1440),
            *(Figure(name, "flag", 1, 0, 1) for name in CLOSED),
        ),
        # Only people: what the system does by night it does by its rules.
        _of("""e.actor LIKE 'user:%%' AND e.code NOT LIKE 'reads.%%' AND e.code NOT LIKE 'oversight.%%'
               AND e.code <> 'vending.recharge.posted'
               AND (extract(epoch FROM (e.happened_at AT TIME ZONE %(zone)s)::time) / 60
                        NOT BETWEEN %(opens)s AND %(closes)s
                    OR (e.happened_at AT TIME ZONE %(zone)s)::date = ANY (%(closed_days)s::date[]))""")
        + """SELECT DISTINCT ON (f.actor, f.code, f.subject, (f.happened_at AT TIME ZONE %(zone)s)::date)
                 concat_ws(':', 'night', f.actor, f.code, f.subject,
                           (f.happened_at AT TIME ZONE %(zone)s)::date),
                 f.actor, f.subject, f.id, f.happened_at, jsonb_build_object('code', f.code)
             FROM fresh f
             ORDER BY f.actor, f.code, f.subject, (f.happened_at AT TIME ZONE %(zone)s)::date, f.id""",
    ),
    Kind(
        "unusual_refund",
        (
            Figure("amount", "money", 200 * MICRO, 0, 10**9 * MICRO),
            Figure("times", "count", 5, 2, 1000),
        ),
        _of("e.code = 'vending.refund.booked'")
        + """SELECT 'event:' || f.id, f.actor, f.subject, f.id, f.happened_at,
                    f.detail || jsonb_build_object('usual', usual.middle)
             FROM fresh f CROSS JOIN LATERAL (
                 SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY (e.detail ->> 'amount')::bigint)
                        AS middle
                 FROM audit_event e
                 WHERE e.property_id = f.property_id AND e.code = f.code AND e.id <> f.id
                   AND e.happened_at > f.happened_at - interval '90 days'
                   AND e.happened_at <= f.happened_at) AS usual
             WHERE (f.detail ->> 'amount')::bigint >= %(amount)s
                OR (f.detail ->> 'amount')::bigint >= usual.middle * %(times)s""",
    ),
    Kind(
        "taken_back",
        (_COUNT, _DAYS),
        _of("e.code = 'vending.recharge.taken_back'") + _MANY.format(which="true"),
    ),
    Kind(
        "small_credits",
        (
            Figure("amount", "money", 2 * MICRO, 1, 10**6 * MICRO),
            Figure("count", "count", 10, 2, 1000),
            Figure("hours", "hours", 24, 1, 168),
        ),
        _of("""e.code = 'vending.recharge.posted' AND e.actor LIKE 'user:%%'
               AND (e.detail ->> 'amount')::bigint <= %(amount)s""")
        + _MANY.format(which="(e.detail ->> 'amount')::bigint <= %(amount)s"),
    ),
    Kind(
        "dormant",
        (Figure("days", "days", 180, 7, 3650),),
        # Nothing since so long, but something before: a new account was never asleep.
        _of("e.code LIKE 'vending.%%' AND e.subject LIKE 'account:%%'")
        + """SELECT DISTINCT ON (f.subject) concat_ws(':', f.subject, last.at::date), f.actor, f.subject,
                    f.id, f.happened_at, jsonb_build_object('code', f.code, 'since', last.at)
             FROM fresh f CROSS JOIN LATERAL (
                 SELECT e.happened_at AS at FROM audit_event e
                 WHERE e.property_id = f.property_id AND e.subject = f.subject
                   AND e.code NOT LIKE 'reads.%%'
                   AND (e.happened_at, e.id) < (f.happened_at, f.id)
                 ORDER BY e.happened_at DESC, e.id DESC LIMIT 1) AS last
             WHERE last.at < f.happened_at - make_interval(days => %(days)s)
             ORDER BY f.subject, f.id""",
    ),
    Kind("broken_glass", (), _of("e.code IN ('approvals.emergency', 'approvals.refused_afterwards')") + _EACH),
    Kind(
        "past_program",
        (),
        """SELECT 'change:' || u.id, u.login, 'table:' || u.table_name, NULL::bigint, u.happened_at,
                  jsonb_build_object('operation', u.operation, 'rows', u.row_count, 'role', u.role,
                      'address', u.address, 'program', u.program, 'transaction', u.transaction)
           FROM unexplained_change u
           WHERE u.transaction >= %(fresh_from)s AND u.transaction < %(fresh_to)s
             AND (u.property_id = %(place)s OR u.property_id IS NULL)""",
    ),
)  # fmt: skip
BY_CODE: Final[Mapping[str, Kind]] = {each.code: each for each in KINDS}


def defaults(kind: Kind) -> dict[str, int]:
    """The figures of a watch that nobody has set."""
    return {each.name: each.default for each in kind.figures}


def checked(kind: Kind, given: Mapping[str, object]) -> dict[str, int]:
    """The figures of a watch, each within its bounds; raises ParameterRefused."""
    figures: dict[str, int] = {}
    for each in kind.figures:
        value = given.get(each.name)
        if not isinstance(value, int) or not each.least <= value <= each.most:
            raise ParameterRefused(each.name)
        figures[each.name] = value
    if figures.get("closes", 1) <= figures.get("opens", 0):
        raise ParameterRefused("closes")
    return figures
