"""What the pages about tariffs show: the list, one tariff with its history, one draft.

As on the other pages, these classes hold figures, codes and checked tariffs; sentences are made by
the web, per language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from prewatt.core.tariff import Tariff
from prewatt.reports.lists import Listing
from prewatt.reports.tariff_changes import Change
from prewatt.reports.today import Place


@dataclass(frozen=True, slots=True)
class DraftLine:
    """A draft as a line: who made it when, and what the last trial of its edition came to."""

    draft_id: int
    code: str
    name: str
    edition: int
    reason: str
    made_by: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class TariffRow:
    """A tariff of the list. ``number`` is None where nothing is in force, as for a new draft."""

    code: str
    name: str
    number: int | None
    since: datetime | None
    accounts: int
    next_number: int | None
    next_from: datetime | None
    draft: DraftLine | None


TariffList = Listing[TariffRow]


@dataclass(frozen=True, slots=True)
class VersionLine:
    """A version in the history: from when until when, by whom, and what it changed.

    ``until`` is when the next one begins. ``changes`` is None for the first version.
    """

    number: int
    valid_from: datetime
    until: datetime | None
    made_by: str
    approved_by: str
    approved_at: datetime
    digest: str
    changes: tuple[Change, ...] | None


@dataclass(frozen=True, slots=True)
class TariffPage:
    """One tariff with the plan of the version that is shown, and all versions, latest first."""

    place: Place
    now: datetime
    code: str
    name: str
    shown: VersionLine
    tariff: Tariff
    in_force: int | None
    next_from: datetime | None
    accounts: int
    versions: tuple[VersionLine, ...]
    draft: DraftLine | None


@dataclass(frozen=True, slots=True)
class DraftPage:
    """A draft with its document, and the version in force that it would replace, if any."""

    place: Place
    now: datetime
    draft: DraftLine
    document: Mapping[str, object]
    tariff: Tariff
    in_force: Tariff | None
    in_force_number: int | None
    next_number: int
    accounts: int


@dataclass(frozen=True, slots=True)
class BuilderPage:
    """Where a new plan is built: the place, and the tariffs whose version in force can be copied."""

    place: Place
    now: datetime
    tariffs: tuple[TariffRow, ...]
