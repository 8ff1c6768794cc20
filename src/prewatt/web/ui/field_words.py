"""Names of figures as the audit stores them: of supply rules, plans, debts, terms and lists of days.

A document in the audit keeps the names that it is stored by. Here is what each is called on a page, and
how the figures are read whose names end in a unit. A test asks for each name that a plan or the supply
rules can have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from prewatt.web.ui import format as fmt
from prewatt.web.ui import rule_words

Text = str | Promise

#: Of the supply rules.
RULES: Final[Mapping[str, Text]] = {
    "freshness_s": _("A reading is fresh for"),
    "clock_skew_s": _("A clock may be ahead by"),
    "notice_s": _("Notice before a cut"),
    "trying_s": _("Time of trying every channel"),
    "reconnect_min_micro": _("Connected again from"),
    "emergency_must_be_repaid": _("Emergency credit is paid back first"),
    "window": _("Time window"),
    "opens_min": _("Cuts from"),
    "closes_min": _("Cuts until"),
    "weekdays": _("Days of cuts"),
    "rest_lead_min": _("No cut so long before a day of rest"),
    "levels": _("Warnings"),
    "level_no": _("Number"),
    "threshold_h": _("Below time left"),
    "threshold_micro": _("Below credit"),
    "margin_bp": _("Rise before a warning repeats, by share"),
    "margin_micro": _("Rise before a warning repeats, by amount"),
    "brake": _("Mass-cut brake"),
    "window_s": _("Within"),
    "cuts_max": _("Cuts at most"),
    "share_bp": _("Share of the connected at most"),
    "order": _("Orders"),
    "first_retry_s": _("First retry after"),
    "longest_retry_s": _("Longest wait between retries"),
    "settle_s": _("Time for the relay to answer"),
    "attempts_max": _("Tries at most"),
    "disconnect_expiry_s": _("A cut expires after"),
    "usage_while_open_wh": _("Tolerance behind an open relay"),
}
#: Of plans (``core/tariff/document.py``).
PLANS: Final[Mapping[str, Text]] = {
    "content": _("Plan"),
    "format": _("Format"),
    "name": _("Name"),
    "label": _("Label"),
    "source": _("Source"),
    "currency": _("Currency"),
    "energy": _("Energy"),
    "unit": _("Unit"),
    "bands": _("Bands"),
    "band": _("Band"),
    "price": _("Price"),
    "prices": _("Prices"),
    "limits": _("Limits"),
    "seasons": _("Seasons"),
    "season": _("Season"),
    "summer": _("Summer"),
    "winter": _("Winter"),
    "day_classes": _("Kinds of days"),
    "days": _("Days"),
    "schedule": _("Week"),
    "periods": _("Times of day"),
    "from": _("From"),
    "until": _("Until"),
    "steps": _("Steps"),
    "scope": _("Counted over"),
    "on_tenant_change": _("When the tenant changes"),
    "members": _("Persons"),
    "included": _("Included"),
    "add": _("More for each"),
    "scale": _("Multiplied by"),
    "standing": _("Standing charges"),
    "fees": _("Fees"),
    "per_day": _("Per day"),
    "per_month": _("Per month"),
    "per_year": _("Per year"),
    "collect": _("Collected"),
    "per_kwh": _("Per kWh"),
    "per_kw": _("Per kW"),
    "share": _("Share"),
    "minimum": _("At least"),
    "maximum": _("At most"),
    "demand": _("Demand charges"),
    "interval_minutes": _("Measured over minutes"),
    "ratchet": _("Highest of former months"),
    "months": _("Months"),
    "power_factor": _("Power factor"),
    "taxes": _("Taxes"),
    "rate": _("Rate"),
    "on": _("Charged on"),
    "inclusive": _("Contained in the prices"),
    "compound": _("On top of other taxes"),
    "allowances": _("Allowances"),
    "free_kwh": _("Free kWh"),
    "overlays": _("Peaks and price series"),
    "group": _("Group"),
    "adder": _("Added per kWh"),
    "rebate": _("Rebate per kWh"),
    "baseline_days": _("Days of comparison"),
    "baseline_highest": _("Highest days of comparison"),
    "wait_hours": _("Hours until the rebate"),
    "debt_recovery": _("Recovery of debts"),
    "weekly_cap": _("Most in a week"),
    "temporary": _("Temporary lets"),
    "fee": _("Fee"),
    "deposit": _("Deposit"),
    "billing_day": _("Day of the month that begins it"),
    "year_from": _("Day that the year begins"),
}
#: Of debts, terms, price rules, quiet hours, the calendar, watches and grounds of a reading.
OTHERS: Final[Mapping[str, Text]] = {
    "reversed_payment": _("A reversed payment whose credit is used"),
    "moved_credit": _("Credit moved that is used"),
    "let_shortfall": _("What a let lacks"),
    "later_let_pays": _("A later let pays former debts"),
    "share_ppm": _("Share of each recharge"),
    "weekly_cap_micro": _("Most in a week"),
    "contracted_w": _("Contracted power"),
    "exempt": _("Exempt from"),
    "overlay_groups": _("Groups of prices"),
    "rules": _("Rules"),
    "purchase_nano_per_kwh": _("Purchase price, billionths per kWh"),
    "direct": _("Bought directly"),
    "starts_min": _("From"),
    "ends_min": _("Until"),
    "list": _("List of holidays"),
    "observed": _("With shifted holidays"),
    "parameters": _("Figures"),
    "is_on": _("It looks"),
    "last_at": _("Last reading at"),
    "last_wh": _("Last register"),
    "available_micro": _("Credit"),
}
NAMES: Final[Mapping[str, Text]] = {**OTHERS, **PLANS, **RULES}


def read(name: str, value: int, lang: str) -> str | None:
    """A whole number by the unit that its name ends in; None where that says none."""
    seconds = {"s": 1, "min": rule_words.MINUTE_S, "h": rule_words.HOUR_S}
    unit = name.rpartition("_")[2]
    if name == "rest_lead_min" or ("_" in name and unit in ("s", "h")):
        return rule_words.length(value * seconds[unit])
    by_unit: Mapping[str, Callable[[], str]] = {
        "min": lambda: f"{value // 60:02d}:{value % 60:02d}",
        "bp": lambda: fmt.percent(value * 100),
        "ppm": lambda: fmt.percent(value),
        "wh": lambda: fmt.energy_wh(value, lang),
        "w": lambda: f"{value} W",
    }
    return by_unit[unit]() if unit in by_unit and "_" in name else None


def days(name: str, value: object, lang: str) -> str | None:
    """A list of weekdays by their names; None for anything else."""
    if name != "weekdays" or not isinstance(value, list):
        return None
    if not all(isinstance(each, int) and 0 <= each < 7 for each in value):
        return None
    return fmt.weekdays(value, lang)
