"""What Prewatt ships with, in the reader's words: packs of price rules and worked examples, by their keys.

Their files speak one language each, that of the law or the market that they are from. A source is a
quotation and stays as its file has it, but for what a pack says beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Text = str | Promise

#: A pack's name, by its jurisdiction.
PACK_NAME: Final[Mapping[str, Text]] = {
    "CN": _("Resale by a property’s own network (转供电)"),
    "DE-MIETERSTROM": _("Power made and sold in the house (Mieterstrom)"),
    "GB": _("Maximum resale price"),
    "ZA": _("Electricity resale"),
}
#: Whom a pack protects.
PACK_APPLIES: Final[Mapping[str, Text]] = {
    "CN": _("Shops, offices and flats supplied through the property’s own network."),
    "DE-MIETERSTROM": _("Flats supplied under a Mieterstrom contract."),
    "GB": _(
        "Electricity resold for domestic use. Shops and offices are a matter of their contract."
    ),
    "ZA": _("All customers of a reseller, in flats, malls and offices."),
}
#: The law or notice that a pack is from.
PACK_SOURCE: Final[Mapping[str, Text]] = {
    "CN": _(
        "National Development and Reform Commission, notice 787 of 2018 on charges of the grid and of resellers (发改办价格〔2018〕787号). The loss limit of 10 per cent follows provincial notices and differs by province."
    ),
    "DE-MIETERSTROM": _(
        "EnWG § 42a (4): at most 90 per cent of the basic supply tariff of the network area, by its standing and energy price."
    ),
    "GB": _(
        "Ofgem, The resale of gas and electricity: guidance for resellers (October 2005), under section 44 of the Electricity Act 1989."
    ),
    "ZA": _(
        "NERSA, Guidelines on Electricity Resale (2016), under the Electricity Regulation Act 4 of 2006."
    ),
}
#: A worked example's name, by the name of its file.
EXAMPLE_NAME: Final[Mapping[str, Text]] = {
    "cn-ladder-four-bands": _("China: yearly ladder with sharp, peak, flat and valley hours"),
    "cn-shanghai-residential": _("Shanghai, residential: two rates and a yearly ladder"),
    "de-shop-time-of-use": _("Germany, shop: two rates with zones of usage"),
    "gb-prepayment": _("Great Britain, prepayment meter, single rate"),
    "market-booth-day": _("Market booth by the day"),
    "merchant-season": _("Christmas market, season"),
    "us-pge-e-tou-c": _("California, PG&E E-TOU-C: time of use with a baseline"),
    "za-tshwane-domestic": _("City of Tshwane, domestic, prepaid: rising blocks"),
}
#: What a worked example leaves out, invents or simplifies.
EXAMPLE_NOTE: Final[Mapping[str, Text]] = {
    "cn-ladder-four-bands": _(
        "Composed, and in force nowhere as a whole: the ladder and the flat, peak and valley prices are Zhejiang's for households, the hours are Beijing's for shops, the sharp price is the peak price and a fifth, the least that the national rule of 2021 asks. What a fifth member adds is Shanghai's. It shows a ladder that counts four bands together."
    ),
    "cn-shanghai-residential": _(
        "Simplified: Shanghai gives every household of five or more the same 100 kWh a month on top, so enter five members for it, never more. A connection that begins within the year has the whole year's limits here."
    ),
    "de-shop-time-of-use": _(
        "All prices with 19 % VAT: net prices and 2.05 ct electricity tax, times 1.19; the offer ends at 100,000 kWh a year. The hours of the low tariff are the network's and differ by place; the service fee is the property's own example, not the supplier's."
    ),
    "gb-prepayment": _(
        "The average over Great Britain of the cap for prepayment, July to September 2025, with VAT; a supplier's own figures differ by region. The share and cap of debt recovery are an example: a real agreement follows what the customer can afford."
    ),
    "market-booth-day": _(
        "An invented property: 15 euros for each started day with the connection, a deposit of 100 euros returned when the booth is given back. The energy price is that of the shop plan's first zone."
    ),
    "merchant-season": _(
        "An invented property. The plan holds from 24 November until 6 January inclusive, then closes by itself and refunds deposit and credit; nothing is paid for the days but the electrician on call."
    ),
    "us-pge-e-tou-c": _(
        "The baseline is kWh a day times the days of the calendar month; PG&E counts by its own billing periods. The baseline credit is part of the first step's prices. Without local utility users' taxes."
    ),
    "za-tshwane-domestic": _(
        "Prices of July 2022 to June 2023 without VAT. The free basic electricity is the national 50 kWh a month for registered indigent households; municipalities may give more, and other households use the same plan without the allowance. Free kWh count towards the blocks, and what is not used by the end of the month is gone."
    ),
}
