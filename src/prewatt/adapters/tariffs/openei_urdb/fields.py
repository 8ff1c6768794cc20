"""The fields of a URDB item: which are read, which say nothing about a price, and which are
refused when they hold something.

After the rate API's versions 7 and 8, with two keys that published copies of the data set add
(`startdate_iso`, `holidays`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

READ: Final = frozenset(
    {
        "country",
        "energyratestructure",
        "energyweekdayschedule",
        "energyweekendschedule",
        "fixedchargefirstmeter",
        "fixedchargeunits",
        "mincharge",
        "minchargeunits",
        "flatdemandstructure",
        "flatdemandmonths",
        "flatdemandunit",
        "demandratestructure",
        "demandweekdayschedule",
        "demandweekendschedule",
        "demandrateunit",
        "demandwindow",
    }
)

ABOUT: Final = frozenset(
    {
        "label",
        "utility",
        "name",
        "uri",
        "eiaid",
        "approved",
        "is_default",
        "startdate",
        "startdate_iso",
        "enddate",
        "enddate_iso",
        "supercedes",
        "supersedes",
        "revisions",
        "sector",
        "source",
        "sourceparent",
        "description",
        "phasewiring",
        "voltagecategory",
        "voltageminimum",
        "voltagemaximum",
        "peakkwcapacitymin",
        "peakkwcapacitymax",
        "peakkwcapacityhistory",
        "peakkwhusagemin",
        "peakkwhusagemax",
        "peakkwhusagehistory",
        "demandunits",
    }
)
"""Who may have the plan, since when, and where it was found: nothing of it changes a price."""

SAID: Final[Mapping[str, str]] = MappingProxyType(
    {
        "holidays": "holidays are billed as their weekday",
        "basicinformationcomments": "its comments are for people and are not read",
        "energycomments": "its comments are for people and are not read",
        "demandcomments": "its comments are for people and are not read",
        "servicetype": "it covers the service type that it names",
    }
)
"""Honoured as the conventions have it, and said aloud."""

REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "usenetmetering": "asks for net metering, and Prewatt bills no export",
        "dgrules": "has rules for own generation, and Prewatt bills no export",
        "fixedchargeeaaddl": "charges for further meters, and a load is one meter's",
        "fixedattrs": "has charges in words",
        "energyattrs": "has charges in words",
        "demandattrs": "has charges in words",
        "fueladjustmentsmonthly": "changes prices by month apart from the tiers",
        "demandratchetpercentage": "has a ratchet by month",
        "lookbackmonths": "has a demand that looks back",
        "lookbackpercent": "has a demand that looks back",
        "lookbackrange": "has a demand that looks back",
        "demandreactivepowercharge": "charges for reactive power",
        "coincidentratestructure": "charges for demand at the system's peak",
        "coincidentrateschedule": "charges for demand at the system's peak",
        "coincidentrateunit": "charges for demand at the system's peak",
        "fixedmonthlycharge": "is of an older form of the item; fixedchargefirstmeter is the new one",
        "minmonthlycharge": "is of an older form of the item; mincharge is the new one",
        "annualmincharge": "is of an older form of the item; mincharge is the new one",
    }
)
"""Refused unless they hold nothing: null, empty, false, 0, or a list of such."""
