"""Cases of tampering as pages show them: which are open or closed, and one with its evidence and the usage around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from prewatt.access.scope import Actor, scope
from prewatt.core.vocabulary import CaseState, TamperKind, TamperResponse
from prewatt.reports.lists import Listing
from prewatt.reports.lists_query import PAGE, actor_names
from prewatt.reports.paging import words
from prewatt.reports.place import NoSuchThing, json_of, place_of, rows
from prewatt.reports.today import Place
from prewatt.reports.units import unit_name

CASE_SHOWS: Final = ("open", "closed", "all")
_ORDERS: Final = {
    "opened": "c.opened_at DESC, c.id DESC",
    "oldest": "c.opened_at, c.id",
    "evidence": "c.evidence_count DESC, c.id DESC",
    "unit": "b.code NULLS LAST, u.code, c.opened_at DESC, c.id DESC",
    "kind": "c.kind, c.opened_at DESC, c.id DESC",
}
CASE_SORTS: Final = tuple(_ORDERS)
#: The chart shows so much before the first evidence and after the last, in so many parts at most.
_AROUND: Final = timedelta(hours=36)
_PARTS: Final = 96
#: A case's page shows so much of its evidence, the first of it.
_EVIDENCE_SHOWN: Final = 100
_OF_UNIT_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One case. ``count`` is all evidence that came; names of people are empty where the system acted."""

    case_id: int
    kind: TamperKind
    state: CaseState
    opened_at: datetime
    first_at: datetime
    last_at: datetime
    count: int
    looked_by: str
    looked_at: datetime | None
    closed_by: str
    closed_at: datetime | None
    close_reason: str
    close_note: str
    meter_id: int
    serial: str
    account_id: int | None
    number: str
    customer: str
    unit_id: int | None
    unit: str
    response: TamperResponse | None
    responded_at: datetime | None
    response_kept: str

    @property
    def is_open(self) -> bool:
        """Whether nobody has closed it."""
        return self.state is not CaseState.CLOSED


# Without slots: as `Listing`.
@dataclass(frozen=True)
class CaseList(Listing[CaseRow]):
    """Cases of a selection; ``last_at`` is when the latest of all was opened, None if there was none."""

    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """What a case rests on. ``told_at`` is what the device said, None where it said nothing believable."""

    source: str
    code: str
    happened_at: datetime
    received_at: datetime
    is_dated: bool
    detail: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class NoteRow:
    """What somebody found at the meter; ``noted_by`` is a name, empty where it may not be known."""

    noted_at: datetime
    noted_by: str
    text: str


@dataclass(frozen=True, slots=True)
class UsagePart:
    """Energy between two instants around a case."""

    begins: datetime
    ends: datetime
    wh: int


@dataclass(frozen=True, slots=True)
class CasePage:
    """One case with its evidence, the earliest first, and the usage of its meter around it."""

    place: Place
    now: datetime
    case: CaseRow
    evidence: tuple[EvidenceRow, ...]
    notes: tuple[NoteRow, ...]
    usage: tuple[UsagePart, ...]
    begins: datetime
    ends: datetime

    @property
    def beyond(self) -> int:
        """How much evidence there is that is not shown."""
        return self.case.count - len(self.evidence)


#: A case's unit is the one that its meter hangs in or hung in last, its account who paid when it was opened.
_CASES: Final = """
SELECT c.id, c.kind, c.state, c.opened_at, c.first_at, c.last_at, c.evidence_count,
       c.looked_by, c.looked_at, c.closed_by, c.closed_at, c.close_reason, c.close_note,
       m.id, m.serial, a.id, coalesce(a.number, ''), coalesce(p.name, ''),
       u.id, coalesce(b.code, ''), coalesce(u.code, ''), count(*) OVER (),
       c.response, c.responded_at, c.response_kept
FROM tamper_case c
JOIN meter m ON m.id = c.meter_id
LEFT JOIN account a ON a.id = c.account_id
LEFT JOIN customer p ON p.id = a.customer_id
LEFT JOIN LATERAL (SELECT e.unit_id FROM installation i
    JOIN metering_point e ON e.id = i.metering_point_id
    WHERE i.meter_id = m.id ORDER BY lower(i.period) DESC LIMIT 1) h ON true
LEFT JOIN unit u ON u.id = h.unit_id
LEFT JOIN building b ON b.id = u.building_id
WHERE c.property_id = %(property)s
"""


def case_list(
    *,
    actor: Actor,
    now: datetime,
    show: str = CASE_SHOWS[0],
    kind: TamperKind | None = None,
    query: str = "",
    sort: str = "opened",
    limit: int = PAGE,
) -> CaseList:
    """Cases that are open, or were closed; of one kind, or of all."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            _CASES
            + """ AND (%(show)s = 'all' OR (c.state = 3) = (%(show)s = 'closed'))
                  AND (%(kind)s::smallint IS NULL OR c.kind = %(kind)s)
                  AND lower(concat_ws(' ', m.serial, b.code || '-' || u.code, u.code, p.name, a.number))
                      LIKE ALL (%(words)s)
                  ORDER BY """
            + _ORDERS[sort]
            + " LIMIT %(limit)s",
            {
                "property": place.property_id,
                "show": show,
                "kind": None if kind is None else int(kind),
                "words": words(query),
                "limit": limit,
            },
        )
        last_at = rows(
            "SELECT max(opened_at) FROM tamper_case WHERE property_id = %s", [place.property_id]
        )[0][0]
        names = _names(found)
    total = int(found[0][21]) if found else 0
    return CaseList(place, now, tuple(_row(row, names) for row in found), total, last_at=last_at)


def open_cases_of_unit(*, property_id: int, unit_id: int) -> tuple[CaseRow, ...]:
    """The open cases of a unit's meters, the latest first; inside the caller's scope."""
    found = rows(
        _CASES
        + """ AND c.state <> 3 AND u.id = %(unit)s
              ORDER BY c.opened_at DESC, c.id DESC LIMIT %(limit)s""",
        {"property": property_id, "unit": unit_id, "limit": _OF_UNIT_MAX},
    )
    return tuple(_row(row, {}) for row in found)


def open_cases_of_account(*, property_id: int, account_id: int) -> tuple[CaseRow, ...]:
    """The open cases of an account, the latest first; inside the caller's scope."""
    found = rows(
        _CASES
        + """ AND c.state <> 3 AND c.account_id = %(account)s
              ORDER BY c.opened_at DESC, c.id DESC LIMIT %(limit)s""",
        {"property": property_id, "account": account_id, "limit": _OF_UNIT_MAX},
    )
    return tuple(_row(row, {}) for row in found)


@dataclass(frozen=True, slots=True)
class VersionLine:
    """Since when a meter tells a version of its ``part``, firmware or configuration."""

    serial: str
    part: str
    version: str
    since: datetime


@dataclass(frozen=True, slots=True)
class ClockLine:
    """A clock that was off by ``before_s``, and what it was off by once it was put right; None: not known yet."""

    serial: str
    asked_at: datetime
    before_s: int
    after_s: int | None


def versions_of_unit(unit_id: int) -> tuple[VersionLine, ...]:
    """The versions that the meters of a unit told, the latest first; inside the caller's scope."""
    return tuple(
        VersionLine(*row)
        for row in rows(
            f"""SELECT m.serial, v.part, v.version, v.since FROM meter_version v
                JOIN meter m ON m.id = v.meter_id
                WHERE v.meter_id IN ({_METERS_OF_UNIT}) ORDER BY v.since DESC, v.id DESC LIMIT %s""",  # noqa: S608 - our own text
            [unit_id, _OF_UNIT_MAX],
        )
    )


def clocks_of_unit(unit_id: int) -> tuple[ClockLine, ...]:
    """The corrections of the clocks of a unit's meters, the latest first; inside the caller's scope."""
    return tuple(
        ClockLine(*row)
        for row in rows(
            f"""SELECT m.serial, c.asked_at, c.before_s, c.after_s FROM clock_correction c
                JOIN meter m ON m.id = c.meter_id
                WHERE c.meter_id IN ({_METERS_OF_UNIT}) ORDER BY c.asked_at DESC LIMIT %s""",  # noqa: S608 - our own text
            [unit_id, _CLOCKS_SHOWN],
        )
    )


_METERS_OF_UNIT: Final = """SELECT i.meter_id FROM installation i
    JOIN metering_point e ON e.id = i.metering_point_id WHERE e.unit_id = %s AND upper_inf(i.period)"""
_CLOCKS_SHOWN: Final = 5


def case_page(*, actor: Actor, case_id: int, now: datetime) -> CasePage:
    """One case. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            _CASES + " AND c.id = %(case)s", {"property": place.property_id, "case": case_id}
        )
        if not found:
            raise NoSuchThing(f"no case {case_id} in scope")
        case = _row(found[0], _names(found))
        evidence, notes = evidence_of(case_id), notes_of(case_id)
        begins, ends = case.first_at - _AROUND, min(case.last_at + _AROUND, now)
        usage = _usage(case.meter_id, begins, max(ends, begins + _AROUND))
    return CasePage(place, now, case, evidence, notes, usage, begins, max(ends, begins + _AROUND))


def evidence_of(case_id: int) -> tuple[EvidenceRow, ...]:
    """The first of what a case rests on; inside the caller's scope."""
    return tuple(
        EvidenceRow(
            source, code, at, received_at, told_us is None or told_us == at_us,
            json_of(detail), bytes(digest).hex(),
        )
        for source, code, at, at_us, told_us, received_at, detail, digest in rows(
            """SELECT source, code, happened_at, (extract(epoch FROM happened_at) * 1000000)::bigint,
                   told_us, received_at, detail, digest
               FROM tamper_evidence WHERE case_id = %s ORDER BY happened_at, id LIMIT %s""",
            [case_id, _EVIDENCE_SHOWN],
        )
    )  # fmt: skip


def notes_of(case_id: int, names: Mapping[str, str] | None = None) -> tuple[NoteRow, ...]:
    """What was found at the meter, the first first, by ``names`` or those of all people; inside the caller's scope."""
    found = rows(
        "SELECT noted_at, noted_by, text FROM tamper_note WHERE case_id = %s ORDER BY id LIMIT %s",
        [case_id, _EVIDENCE_SHOWN],
    )
    known = actor_names(row[1] for row in found) if names is None else names
    return tuple(NoteRow(at, known.get(by, ""), text) for at, by, text in found)


def _usage(meter_id: int, begins: datetime, ends: datetime) -> tuple[UsagePart, ...]:
    """The usage of a meter in equal parts of a span: what its register rose by from part to part."""
    step = (ends - begins) / _PARTS
    found = rows(
        """WITH latest AS (
               SELECT DISTINCT ON (read_at) read_at, value_wh, quality FROM register_reading
               WHERE meter_id = %(meter)s AND register_code = 1
                 AND read_at BETWEEN %(begins)s AND %(ends)s
               ORDER BY read_at, revision DESC)
           SELECT floor(extract(epoch FROM read_at - %(begins)s) / %(step)s)::int AS part,
                  max(value_wh), max(read_at)
           FROM latest WHERE quality <> 5 GROUP BY part ORDER BY part""",
        {"meter": meter_id, "begins": begins, "ends": ends, "step": step.total_seconds()},
    )
    parts = []
    for (before, low, _), (part, high, _) in pairwise(found):
        parts.append(UsagePart(begins + step * before, begins + step * part, max(high - low, 0)))
    return tuple(parts)


def _names(found: list[tuple[Any, ...]]) -> dict[str, str]:
    return actor_names({row[at] for row in found for at in (7, 9) if row[at]})


def _row(row: tuple[Any, ...], names: Mapping[str, str]) -> CaseRow:
    return CaseRow(
        row[0], TamperKind(row[1]), CaseState(row[2]), row[3], row[4], row[5], row[6],
        names.get(row[7], row[7]), row[8], names.get(row[9], row[9]), row[10], row[11], row[12],
        row[13], row[14], row[15], row[16], row[17], row[18],
        unit_name(row[19], row[20]) if row[20] else "",
        None if row[22] is None else TamperResponse(row[22]), row[23], row[24],
    )  # fmt: skip
