"""From a document to a checked tariff, or a refusal with its place, before any number is computed.

The parts of a document are read by `parse_energy` (with `parse_calendar`), `parse_charges` and
`parse_plan`; `reading` knows the shapes and `words` the quantities. What a part may not say
beside another is refused here and there, where both are known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from prewatt.core.tariff.model import Tariff
from prewatt.core.tariff.parse_charges import (
    allowances_of,
    bounds_of,
    demand_of,
    fees_of,
    refuse_shared_codes,
    standing_of,
    taxes_of,
)
from prewatt.core.tariff.parse_energy import energy_part
from prewatt.core.tariff.parse_plan import debt_of, overlays_of, temporary_of
from prewatt.core.tariff.reading import entry_of, mapping, shown, text, whole
from prewatt.core.tariff.words import FORMAT, MAX_NAME, MAX_NOTE, TariffRefused, month_day

MAX_BILLING_DAY: Final = 28
"""Every month has one."""
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_NEEDED: Final = ("format", "name", "currency", "energy")
_OPTIONAL: Final = (
    "standing",
    "fees",
    "minimum",
    "maximum",
    "demand",
    "taxes",
    "allowances",
    "overlays",
    "debt_recovery",
    "temporary",
    "billing_day",
    "year_from",
    "note",
    "source",
)


def load_tariff(written: str | bytes) -> Tariff:
    """Parse JSON text, in which a repeated key is refused rather than silently the last one."""
    try:
        document = json.loads(written, object_pairs_hook=_unique_keys, parse_float=_no_float)
    except (ValueError, RecursionError) as error:
        if isinstance(error, TariffRefused):
            raise
        raise TariffRefused("document", "is not JSON") from error
    return parse_tariff(mapping(document, "document"))


def parse_tariff(document: Mapping[str, object]) -> Tariff:
    """The tariff of a document, or `TariffRefused` with the first fault's place and reason."""
    document = entry_of(document, "document", needed=_NEEDED, optional=_OPTIONAL)
    if document["format"] != FORMAT:
        raise TariffRefused("format", f"must be {FORMAT!r}")
    currency = document["currency"]
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise TariffRefused("currency", "must be an ISO 4217 code of three capital letters")
    billing_day = whole(document.get("billing_day", 1), "billing_day", 1, MAX_BILLING_DAY)
    year_from = month_day(document.get("year_from", "01-01"), "year_from")
    energy = energy_part(document["energy"], billing_day=billing_day, year_from=year_from)
    dated_fees, usage_fees = fees_of(document)
    minimum, maximum = bounds_of(document)
    tariff = Tariff(
        name=text(document["name"], "name", MAX_NAME),
        currency=currency,
        bands=energy.bands,
        seasons=energy.seasons,
        day_classes=energy.day_classes,
        schedules=energy.schedules,
        steps=energy.steps,
        dated=(*standing_of(document), *dated_fees),
        usage_fees=usage_fees,
        minimum=minimum,
        maximum=maximum,
        demand=demand_of(document, energy.bands),
        taxes=taxes_of(document),
        allowances=allowances_of(document, energy.seasons),
        overlays=overlays_of(document),
        debt=debt_of(document),
        temporary=temporary_of(document),
        billing_day=billing_day,
        year_from=year_from,
        note=_remark(document, "note"),
        source=_remark(document, "source"),
    )
    refuse_shared_codes(document)
    return tariff


def _remark(document: Mapping[str, object], key: str) -> str:
    return text(document[key], key, MAX_NOTE) if key in document else ""


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries: dict[str, object] = {}
    for key, value in pairs:
        if key in entries:
            raise TariffRefused("document", f"has {shown(key)} twice in the same object")
        entries[key] = value
    return entries


def _no_float(number: str) -> object:
    raise TariffRefused("document", f"the number {number[:20]} must be written in quotes")
