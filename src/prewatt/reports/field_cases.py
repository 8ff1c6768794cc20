"""Cases as whoever is sent to a meter sees them: what it is, where, what speaks for it and what was found.

Neither money nor a customer's name: it is read under the role of an installer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from prewatt.access.scope import Actor, scope
from prewatt.core.vocabulary import CaseState, TamperKind
from prewatt.reports.lists import Listing
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.reports.tamper import EvidenceRow, NoteRow, evidence_of, notes_of
from prewatt.reports.today import Place
from prewatt.reports.units import UNIT_NAME

LISTED_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class FieldCase:
    """One case; ``count`` is all evidence that came."""

    case_id: int
    kind: TamperKind
    state: CaseState
    first_at: datetime
    last_at: datetime
    count: int
    looked_at: datetime | None
    meter_id: int
    serial: str
    unit: str

    @property
    def is_open(self) -> bool:
        """Whether nobody has closed it."""
        return self.state is not CaseState.CLOSED


@dataclass(frozen=True, slots=True)
class FieldCasePage:
    """One case with its evidence, the earliest first, and what was found so far."""

    place: Place
    now: datetime
    case: FieldCase
    evidence: tuple[EvidenceRow, ...]
    notes: tuple[NoteRow, ...]

    @property
    def beyond(self) -> int:
        """How much evidence there is that is not shown."""
        return self.case.count - len(self.evidence)


_CASES: Final = f"""
SELECT c.id, c.kind, c.state, c.first_at, c.last_at, c.evidence_count, c.looked_at, m.id, m.serial,
       coalesce({UNIT_NAME}, h.code, '')
FROM tamper_case c JOIN meter m ON m.id = c.meter_id
LEFT JOIN LATERAL (SELECT e.unit_id, e.code FROM installation i
    JOIN metering_point e ON e.id = i.metering_point_id
    WHERE i.meter_id = m.id ORDER BY lower(i.period) DESC LIMIT 1) h ON true
LEFT JOIN unit u ON u.id = h.unit_id LEFT JOIN building b ON b.id = u.building_id
WHERE c.property_id = %s"""  # noqa: S608 - our own expression


def field_cases(*, actor: Actor, now: datetime) -> Listing[FieldCase]:
    """The open cases of the property, the oldest first. Raises NoSuchThing, PermissionRefused."""
    with scope(actor):
        place = place_of(actor, "meters.read")
        found = rows(
            _CASES + " AND c.state <> 3 ORDER BY c.first_at, c.id LIMIT %s",
            [place.property_id, LISTED_MAX],
        )
    return Listing(place, now, tuple(_case(row) for row in found), len(found))


def field_case(*, actor: Actor, case_id: int, now: datetime) -> FieldCasePage:
    """One case, open or closed. Raises NoSuchThing, PermissionRefused."""
    with scope(actor):
        place = place_of(actor, "meters.read")
        found = rows(_CASES + " AND c.id = %s", [place.property_id, case_id])
        if not found:
            raise NoSuchThing(f"no case {case_id} in scope")
        return FieldCasePage(
            place, now, _case(found[0]), evidence_of(case_id), notes_of(case_id, {actor.code: actor.name})
        )  # fmt: skip


def _case(row: tuple[Any, ...]) -> FieldCase:
    case_id, kind, state, *rest = row
    return FieldCase(case_id, TamperKind(kind), CaseState(state), *rest)
