"""What a URDB item leaves open, settled once for all items and under one name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from prewatt.core.tariff.model import Per, StepKind, StepScope, Window


@dataclass(frozen=True)
class Conventions:
    """How the fields of an item are understood.

    `tier_kind`, `tier_window` and `tier_scope` say how tiers count. `fixed` gives for each unit of
    a fixed charge what it becomes and the factor on the amount, `minimum` the same for a minimum
    charge. `demand_minutes` is the demand interval of an item that names none. Holidays, daylight
    saving and taxes have no place in an item's schedules and prices, and get none.
    """

    name: str
    currency: str
    tier_kind: StepKind
    tier_window: Window
    tier_scope: StepScope
    fixed: Mapping[str, tuple[Per, Fraction]]
    minimum: Mapping[str, tuple[Per, Fraction]]
    demand_minutes: int


_MONTHLY: Final = {
    "$/month": (Per.MONTH, Fraction(1)),
    "$/day": (Per.MONTH, Fraction(365, 12)),
}

PYSAM_CONVENTIONS: Final = Conventions(
    name="PySAM",
    currency="USD",
    tier_kind=StepKind.GRADUATED,
    tier_window=Window.MONTH,
    tier_scope=StepScope.ALL,
    fixed=MappingProxyType({**_MONTHLY, "$/year": (Per.MONTH, Fraction(1, 12))}),
    minimum=MappingProxyType({**_MONTHLY, "$/year": (Per.YEAR, Fraction(1))}),
    demand_minutes=15,
)
"""As NREL's PySAM bills an item (`utilityrate5`, `URDBv8_to_ElectricityRates`): tiers are
graduated, begin again with each calendar month and count all periods together; a charge per day is
365/12 of it a month, one per year a twelfth; a minimum is a floor on everything else of the month,
or of the year; no holidays, no daylight saving, no tax.
"""
