"""The guide's figures, in both languages, around midnight, far dates and rounding."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from prewatt.web.ui import format as fmt

NOW = datetime(2026, 11, 17, 13, 30, tzinfo=UTC)
ZONE = "Europe/Berlin"


def test_money_has_a_true_minus_and_its_sign_attached() -> None:
    assert fmt.money(-2_650_000, "EUR") == "−€2.65"
    assert fmt.signed_money(20_000_000, "EUR") == "+€20.00"
    assert fmt.signed_money(0, "EUR") == "€0.00"
    assert fmt.money(1_482_500_000, "CNY") == "¥1,482.50"


@pytest.mark.parametrize(
    ("wh", "en", "zh"),
    [
        (9_149, "9.1 kWh", "9.1 度"),
        (9_150, "9.2 kWh", "9.2 度"),
        (0, "0.0 kWh", "0.0 度"),
        (587_400, "587 kWh", "587 度"),
        (-2_040, "−2.0 kWh", "−2.0 度"),
    ],
)
def test_energy_has_one_decimal_below_a_hundred(wh: int, en: str, zh: str) -> None:
    assert fmt.energy(wh, "en") == en
    assert fmt.energy(wh, "zh-hans") == zh


def test_a_forecast_says_about_by_weekday_then_by_date() -> None:
    thursday = NOW + timedelta(days=2, hours=3, minutes=29)
    assert fmt.about(thursday, NOW, ZONE, "en") == "Thu about 18:00"
    assert fmt.about(thursday, NOW, ZONE, "en", long=True) == "Thursday about 18:00"
    assert fmt.about(thursday, NOW, ZONE, "zh-hans") == "约周四 18:00"
    assert fmt.about(NOW + timedelta(days=15), NOW, ZONE, "en") == "about 2 Dec"
    assert fmt.about(NOW + timedelta(days=60), NOW, ZONE, "en") == "about 16 Jan 2027"
    assert fmt.about(NOW - timedelta(seconds=1), NOW, ZONE, "en") == "any moment now"
    assert fmt.forecast(NOW + timedelta(hours=7, minutes=14), NOW, ZONE, "en") == "today 21:40"


def test_what_happened_is_named_by_how_near_it_is() -> None:
    assert fmt.stamp(NOW - timedelta(minutes=85), NOW, ZONE, "en") == "13:05"
    assert fmt.stamp(NOW - timedelta(days=1), NOW, ZONE, "en") == "yesterday 14:30"
    assert fmt.stamp(NOW - timedelta(days=5), NOW, ZONE, "en") == "Thu 12, 14:30"
    assert fmt.stamp(NOW - timedelta(days=8), NOW, ZONE, "zh-hans") == "11月9日 14:30"
    assert fmt.stamp(NOW - timedelta(seconds=15), NOW, ZONE, "en", seconds=True) == "14:29:45"
    # Yesterday is a local day: 23:30 UTC of the 16th is already the 17th in Berlin.
    assert fmt.stamp(datetime(2026, 11, 16, 23, 30, tzinfo=UTC), NOW, ZONE, "en") == "00:30"


def test_days_left_turn_into_hours_below_three_days() -> None:
    assert fmt.time_left(72, "en") == "3 days left"
    assert fmt.time_left(71, "en") == "71 hours left"
    assert fmt.time_left(1, "en") == "1 hour left"
    assert fmt.time_left(0, "zh-hans") == "剩 0 小时"
    assert fmt.time_left(None, "en") == ""


def test_ranges_and_registers() -> None:
    assert fmt.day_range(date(2026, 11, 16), date(2026, 11, 17), NOW, ZONE, "en") == "Mon 16"
    assert fmt.weekdays({0, 1, 2, 3, 4}, "en") == "Mon to Fri"
    assert fmt.weekdays({0, 2}, "zh-hans") == "周一、周三"
    assert fmt.register(2_112_756) == "2\u202f112.756"
