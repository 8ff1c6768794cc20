"""Words of the pages about keys of programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Text = str | Promise

KEY_SHOW: Final[Mapping[str, Text]] = {
    "holding": _("Keys that hold"),
    "past": _("Keys that ended"),
    "all": _("All"),
}
KEY_SORT: Final[Mapping[str, Text]] = {
    "made": _("Latest first"),
    "ends": _("Ending first"),
    "used": _("Last used first"),
}
KEY_REFUSED: Final[Mapping[str, Text]] = {
    "unknown": _("There is no such key that holds. Begin again."),
    "name": _("Write what the key is for, in at most 80 letters."),
    "duty": _("A key reads or sells; nothing else is a program's work."),
    "permissions": _("A key reads or sells; nothing else is a program's work."),
    "expires": _("A key lasts a year at most."),
}
#: What a key that signs is for.
ROLE: Final[Mapping[str, Text]] = {
    "audit-export": _("copies of the audit"),
    "receipt": _("receipts"),
    "checkpoint": _("checkpoints"),
    "instruction": _("instructions to meters"),
    "personal-file": _("files of all that is known of somebody"),
}
#: What a key may do, by the permissions that the pages give.
PERMISSION: Final[Mapping[str, Text]] = {
    "accounts.read": _("reads accounts"),
    "estate.read": _("reads the property"),
    "vending.recharge": _("sells recharges"),
}
