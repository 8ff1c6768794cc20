"""Why a plan was refused, in the page's language, for a person who fills in a form.

The reader of documents gives one reason in English (`core.tariff`); here it is known by its pattern
and said again, with its figures. One that is not known is shown as it is, so nothing is ever hidden.
"""

from __future__ import annotations

import re
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

_REASONS: Final[tuple[tuple[str, str | Promise], ...]] = (
    # Quantities
    (
        r"must be a decimal in quotes.*",
        _("Write a number with digits and a point, such as 0.2480."),
    ),
    (
        r"must be a plain decimal of at most (?P<n>\d+) decimals",
        _("Write a number with digits and a point, with at most %(n)s decimals."),
    ),
    (r"must not be negative", _("This cannot be below zero.")),
    (r"must be more than 0", _("This must be more than zero.")),
    (r"must be at most (?P<n>[\d.]+)", _("This can be at most %(n)s.")),
    (
        r"must be at most (?P<n>[\d.]+) for each contracted kW",
        _("For each contracted kW this can be at most %(n)s."),
    ),
    (
        r"must be a whole number from (?P<least>\d+) to (?P<most>\d+)",
        _("Write a whole number from %(least)s to %(most)s."),
    ),
    (
        r"must be one of (?P<what>[\d, ]+), which divide an hour",
        _("Choose one of these minutes: %(what)s."),
    ),
    (r"must be a time of day .*", _("Write a time of day such as 06:00 or 17:30.")),
    (r"must be a month and day .*", _("Write month and day, such as 06-01 for 1 June.")),
    (r"(?P<what>.+) is not a day of the year", _("%(what)s is not a day of the year.")),
    (r"must be a date such as .*", _("Write a date such as 2027-01-01.")),
    (
        r"must be a text of 1 to (?P<n>\d+) printable characters",
        _("Write a text on one line, at most %(n)s characters long."),
    ),
    (
        r"(?P<what>.*) must be a short word of .*",
        _("Write a short name of small letters, digits, - and _, beginning with a letter."),
    ),
    (r"is there twice", _("This name is used twice. Each needs its own.")),
    (
        r"must be (?P<what>[A-Z]{3}), the currency of this property",
        _("This property's currency is %(what)s."),
    ),
    (r"must be an ISO 4217 code .*", _("The currency is three capital letters, such as EUR.")),
    # Days and hours
    (r"leave a gap at (?P<what>\S+)", _("No season has the day %(what)s (month-day).")),
    (r"leave out (?P<what>.+)", _("These days belong to no kind of day: %(what)s.")),
    (
        r"leave a gap from (?P<what>\S+) until 24:00",
        _("No band holds from %(what)s until midnight."),
    ),
    (r"leaves a gap after (?P<what>\S+)", _("No band holds after %(what)s.")),
    (
        r"overlaps the period until (?P<what>\S+)",
        _("This begins before the period until %(what)s has ended."),
    ),
    (
        r"must be later than 'from'; split a period at midnight",
        _("Each beginning must be later than the one before it."),
    ),
    (r"is missing although there are several bands", _("Say at which hours each band holds.")),
    (r".* have no schedule", _("A season or kind of day has no hours.")),
    (r".* already have a schedule", _("A season or kind of day has its hours twice.")),
    (r"is used by no period", _("This band holds at no hour. Give it hours, or take it out.")),
    (
        r"(?P<what>.+) is used by no period",
        _("“%(what)s” holds at no hour yet. Say when it holds, or take it out."),
    ),
    (r"(?P<what>.*) is not a band of this tariff", _("There is no band %(what)s here.")),
    (r"(?P<what>.*) is not defined", _("There is no %(what)s here.")),
    (
        r"(?P<what>\w+) already belongs to (?P<to>.+)",
        _("The day %(what)s belongs to %(to)s already."),
    ),
    (
        r"overlaps season (?P<what>.+) on (?P<on>\S+)",
        _("The day %(on)s (month-day) belongs to season %(what)s already."),
    ),
    # Bands and steps
    (r"must name between 1 and (?P<n>\d+) bands", _("A plan has from 1 to %(n)s bands.")),
    (
        r"has several prices, but energy.steps is missing",
        _("Several prices need steps. Switch steps on, or leave one price."),
    ),
    (
        r"has limits, but energy.steps is missing",
        _("Limits need steps. Switch steps on, or take the limits out."),
    ),
    (
        r"has (?P<prices>\d+) prices for (?P<steps>\d+) steps.*",
        _("There are %(steps)s steps and %(prices)s prices. Give one price, or one for each step."),
    ),
    (
        r"change no price: .*",
        _("No band has another price at another step. Give a second price, or switch steps off."),
    ),
    (
        r"must be more than the limit before it, (?P<what>.+)",
        _("This must be more than the limit before it, %(what)s."),
    ),
    (
        r"must be at least the entry before it, (?P<what>.+)",
        _("This must be at least the one before it, %(what)s."),
    ),
    (
        r"has (?P<n>\d+) entries for (?P<limits>\d+) limits",
        _("Give one figure for each of the %(limits)s limits; there are %(n)s."),
    ),
    (r"lacks 'limits'.*", _("Say at how many kWh the price changes.")),
    (r"must name at least one limit", _("Say at how many kWh the price changes.")),
    (
        r"must be a list of kWh in quotes.*",
        _("Write limits in kWh with commas between them, such as 230, 400."),
    ),
    (r"must be left out, since .*", _("Every band has its own limits already.")),
    (
        r"need energy.steps.scope to be 'each'",
        _("Limits of a band's own need bands that count each by itself."),
    ),
    (
        r"needs energy.steps.scale to be 'members'",
        _("This needs steps that grow with the persons of the household."),
    ),
    (
        r"'days' needs a window of days, not 'purchase'",
        _("Steps from recharge to recharge cannot be counted by days."),
    ),
    (r".*'season' needs? at least two seasons", _("This needs at least two seasons.")),
    (
        r"differ by season, but a season begins inside a window .*",
        _(
            "Where the reached step prices everything, limits can differ by season only if no count "
            "goes over from one season to the next."
        ),
    ),
    (r"at (?P<what>[\d.]+) kWh would cost .*", _("These figures are too large to add up.")),
    # Charges
    (r"must not be less than the minimum", _("This is less than the minimum.")),
    (r"is for fees per day, month or year", _("A fee on use is not collected by the day.")),
    (
        r"must be later than 'from'",
        _("This must be later than the day on which it begins."),
    ),
    (
        r"must not be 'purchase': .*",
        _("Free energy cannot begin again with each recharge: every recharge would bring it."),
    ),
    (
        r"must have at most one with (?P<what>.+)",
        _("A plan has free energy once and a rebate once."),
    ),
    (
        r"(?P<what>.*) already holds in a part of these dates",
        _("The tax %(what)s holds on some of these days already."),
    ),
    (
        r"needs a tax before it that is on the same",
        _("This is a tax on a tax: put the other one above it."),
    ),
    (
        r"conflicts with (?P<what>.+) before it, which is not included",
        _("A tax in the prices cannot be on %(what)s, which comes on top of them."),
    ),
    (
        r"on (?P<part>\w+) come to (?P<n>[\d.]+) %, which is more than 100 %",
        _("Together the taxes come to %(n)s %%, more than the whole."),
    ),
    (r"is for free energy; a rebate has none", _("A rebate has no such stretch of time.")),
    (
        r"(?P<what>.+) is the code of (?P<place>.+) already",
        _("The short name %(what)s is used already. Each charge needs its own."),
    ),
    # Announced prices, rent
    (
        r"must have either 'price' or 'adder', not both",
        _("Say the price itself, or what comes on top, not both."),
    ),
    (
        r"must have a 'price', an 'adder' or a 'rebate'",
        _("Say a price, what comes on top, or what is given back."),
    ),
    (
        r"must have 'rebate' and 'baseline_days' together or neither",
        _("What is given back needs the number of days that it is compared with."),
    ),
    (
        r"is for a rebate, and there is none",
        _("Only what is given back is compared with days and waits for readings."),
    ),
    (
        r"(?P<what>.+) has an? \w+ price already",
        _("The group %(what)s has such a price already."),
    ),
    (
        r"must leave out a part of the year, or it would never end",
        _("The season must leave out a part of the year, or the plan would never end."),
    ),
    # Documents
    (
        r"the number (?P<what>.+) must be written in quotes",
        _("The number %(what)s must stand in quotes."),
    ),
    (
        r"must be '(?P<what>.+)'(, the only energy unit of this format)?",
        _("This must be %(what)s."),
    ),
    (r"is not JSON", _("This is not JSON. Look for a missing comma, quote or bracket.")),
    (r"has (?P<what>.+) twice in the same object", _("%(what)s is there twice.")),
    (
        r"must have either 'price' or 'prices', not both",
        _("A band has one price, or a list of them."),
    ),
    (r"must be a list with at least one entry", _("At least one entry is needed here.")),
    (r"must have at most (?P<n>\d+) entries", _("At most %(n)s entries can be here.")),
    (r"must be an object", _("This must be an object in curly brackets.")),
    (r"lacks (?P<what>.+)", _("Something is missing here: %(what)s.")),
    (r"has the unknown entry (?P<what>.+)", _("%(what)s is not known here.")),
    (r"must have exactly one of (?P<what>.+)", _("Exactly one of these is needed: %(what)s.")),
    (r"must be true or false", _("This must be true or false.")),
    (
        r"(?P<what>.*) is not one of (?P<choices>.+)",
        _("%(what)s is none of these: %(choices)s."),
    ),
)
_KNOWN: Final = tuple((re.compile(pattern), text) for pattern, text in _REASONS)


def known(reason: str) -> str | None:
    """The sentence of a reason, or None when it has none yet."""
    for pattern, text in _KNOWN:
        match = pattern.fullmatch(reason)
        if match is not None:
            return str(text) % match.groupdict()
    return None


def sentence(reason: str, value: str | None = None) -> str:
    """A reason in words; a field that must have something in it, and has nothing yet, is only asked for.

    Other reasons are said of an empty field too: what is wrong may be a name that was made for it.
    """
    if value is not None and not value.strip() and reason.startswith("must "):
        return gettext("Still to be filled in.")
    return known(reason) or f"{reason[:1].upper()}{reason[1:]}."
