"""All 26 real items, billed for a real load, against what PySAM charges."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from adapters.tariffs.urdb_items import FOLDER, PATHS, expected, household_bill
from prewatt.adapters.tariffs.openei_urdb import load_item
from prewatt.core.statement_lines import Part
from prewatt.core.tariff import parse_tariff, to_document

HALF_A_CENT = Fraction(1, 200)


def differences(path: Path) -> list[Fraction]:
    """How far every month's every component is from PySAM's, in the currency."""
    theirs = expected()[path.name]
    months = household_bill(load_item(path.read_bytes()).tariff).months
    assert [month.first_day.month for month in months] == list(range(1, 13))
    found = []
    for position, month in enumerate(months):
        ours = {str(part): amount / 10**6 for part, amount in month.amounts().items()}
        ours |= {"kwh": month.energy_wh / 1000, "bill": month.total / 10**6}
        given = {
            name: Fraction(Decimal(str(theirs[name][position])))
            for name in ("kwh", "energy", "fixed", "minimum", "bill")
        }
        given["demand"] = sum(
            (
                Fraction(Decimal(str(theirs[name][position])))
                for name in ("demand_flat", "demand_tou")
            ),
            Fraction(0),
        )
        assert ours[Part.TAX] == 0
        found += [abs(ours[name] - amount) for name, amount in given.items()]
    year = sum((month.total for month in months), Fraction(0)) / 10**6
    return [*found, abs(year - Fraction(Decimal(str(theirs["annual"]))))]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_month_and_component_is_what_pysam_charges(path: Path) -> None:
    assert max(differences(path)) < HALF_A_CENT


def test_the_worst_difference_of_all_is_a_rounding_of_the_expectation() -> None:
    assert len(PATHS) == len(expected()) == 26
    worst = max(max(differences(path)) for path in PATHS)
    print(f"worst difference over {len(PATHS)} plans: {float(worst):.2e} USD")
    # The expectations are written with six decimals.
    assert worst <= Fraction(1, 2 * 10**6)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_an_item_becomes_a_tariff_in_its_one_canonical_form(path: Path) -> None:
    tariff = load_item(path.read_bytes()).tariff
    assert parse_tariff(to_document(tariff)) == tariff


def test_the_answer_of_the_api_around_one_item_is_read_too() -> None:
    text = (FOLDER / "fpl-rtr-1.json").read_text()
    assert load_item(f'{{"items": [{text}]}}') == load_item(text)
    assert load_item(text).notes == (
        "holidays: holidays are billed as their weekday",
        "read by the PySAM conventions",
    )
