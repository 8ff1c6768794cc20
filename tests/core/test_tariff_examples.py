"""The worked examples that are shipped: each is a plan with a source, and says what its source says."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

import prewatt
from core.exact_model import band_at
from core.test_tariff_schema import VALIDATOR
from prewatt.core.tariff import Tariff, canonical_json, load_tariff
from prewatt.core.tariff.model import BoothUnit, StepScope, Window
from prewatt.core.tariff.summary import summary_lines

FOLDER = Path(prewatt.__file__).parent / "data" / "tariffs"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem != "schema")


def example(name: str) -> Tariff:
    return load_tariff((FOLDER / f"{name}.json").read_bytes())


def test_every_kind_of_plan_that_is_promised_is_there() -> None:
    assert EXAMPLES == [
        "cn-ladder-four-bands",
        "cn-shanghai-residential",
        "de-shop-time-of-use",
        "gb-prepayment",
        "market-booth-day",
        "merchant-season",
        "us-pge-e-tou-c",
        "za-tshwane-domestic",
    ]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_valid_plan_that_names_its_source(name: str) -> None:
    VALIDATOR.validate(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))
    tariff = example(name)
    assert tariff.source and tariff.note
    assert load_tariff(canonical_json(tariff)) == tariff
    assert all(line.isprintable() for line in summary_lines(tariff))


#: What a kWh costs as written, at a moment and a step (from 0), by the price sheet.
PRICES = (
    ("cn-shanghai-residential", "2026-01-07T05:59", 0, "0.307"),
    ("cn-shanghai-residential", "2026-01-07T06:00", 1, "0.677"),
    ("cn-shanghai-residential", "2026-01-07T22:00", 2, "0.487"),
    ("cn-ladder-four-bands", "2026-07-01T11:00", 0, "0.6816"),
    ("cn-ladder-four-bands", "2026-06-30T11:00", 0, "0.568"),
    ("cn-ladder-four-bands", "2026-08-31T16:59", 2, "0.9816"),
    ("cn-ladder-four-bands", "2026-09-01T16:59", 2, "0.838"),
    ("za-tshwane-domestic", "2026-03-01T12:00", 0, "2.0970"),
    ("za-tshwane-domestic", "2026-03-01T12:00", 3, "2.8824"),
    ("gb-prepayment", "2026-03-01T12:00", 0, "0.2492"),
    ("us-pge-e-tou-c", "2026-06-01T16:00", 0, "0.441"),
    ("us-pge-e-tou-c", "2026-09-30T20:59", 1, "0.5224"),
    ("us-pge-e-tou-c", "2026-10-01T21:00", 1, "0.36757"),
    # (23.56 + 2.05) × 1.19, (22.06 + 2.05) × 1.19 cents; a Saturday and a Sunday.
    ("de-shop-time-of-use", "2026-02-07T12:00", 0, "0.304759"),
    ("de-shop-time-of-use", "2026-02-08T12:00", 1, "0.286909"),
)


@pytest.mark.parametrize(("name", "moment", "step", "price"), PRICES)
def test_an_example_costs_what_its_price_sheet_says(
    name: str, moment: str, step: int, price: str
) -> None:
    document = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    band = document["energy"]["bands"][
        band_at(document, datetime.fromisoformat(moment), frozenset())
    ]
    prices = band.get("prices", [band.get("price")])
    assert float(prices[step]) == float(price)


def test_the_chinese_ladder_grows_with_the_household() -> None:
    steps = example("cn-shanghai-residential").steps
    assert steps is not None
    assert (steps.window, steps.scope) == (Window.YEAR, StepScope.ALL)
    assert (steps.limits_wh, steps.members_included) == (((3_120_000, 4_800_000),), 4)
    assert steps.add_wh == (1_200_000, 1_200_000)


def test_the_south_african_allowance_expires_with_its_month() -> None:
    tariff = example("za-tshwane-domestic")
    (allowance,) = tariff.allowances
    assert (allowance.free_wh, allowance.window) == (50_000, Window.MONTH)
    assert [(tax.rate_ppm, tax.inclusive) for tax in tariff.taxes] == [(150_000, False)]


def test_the_british_plan_recovers_a_debt_and_contains_its_tax() -> None:
    tariff = example("gb-prepayment")
    assert tariff.debt is not None
    assert (tariff.debt.share_ppm, tariff.debt.weekly_cap_nano) == (250_000, 5_000_000_000)
    assert [charge.amount_nano for charge in tariff.dated] == [513_700_000]
    assert [(tax.rate_ppm, tax.inclusive) for tax in tariff.taxes] == [(50_000, True)]


def test_temporary_plans_end_by_themselves() -> None:
    booth, season = (example(name).temporary for name in ("market-booth-day", "merchant-season"))
    assert booth is not None and season is not None
    assert (booth.unit, booth.fee_nano, booth.deposit_nano) == (
        BoothUnit.DAY,
        15_000_000_000,
        100_000_000_000,
    )
    # 24 November to 7 January, over the new year.
    assert season.season == (328, 6)
