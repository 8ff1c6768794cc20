"""Supply against its rules, by people: the brake, a protected supply, a relay by hand; each proposed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.approvals.operations import Wanted
from prewatt.core.vocabulary import Protection, RelayState
from prewatt.reports.holders import holding_by_id
from prewatt.reports.place import place_for
from prewatt.reports.today import Place
from prewatt.supply.by_agreement import (
    brake_is_on,
    wanted_brake,
    wanted_by_hand,
    wanted_protection,
)
from prewatt.supply.operations import SupplyRefused
from prewatt.web import clock
from prewatt.web.console import deeds
from prewatt.web.console.agreeing import (
    REASON_MAX,
    agreed_or_proposed,
    look_context,
    presses,
)
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of

_REFUSED: Final[dict[str, str | Promise]] = {
    "brake_is_off": gettext_lazy("The brake is off."),
    "brake_is_on": gettext_lazy("The brake is on already."),
    "unknown_account": gettext_lazy("This account has no supply."),
    "same_protection": gettext_lazy("It is protected just so already."),
    "not_by_hand": gettext_lazy("Its relay is by the rules already."),
    "late": gettext_lazy("Write an instant that is still to come."),
    "long": gettext_lazy("At most a month; what shall last longer is a matter of the rules."),
}
_RELAYS: Final[dict[str, RelayState | None]] = {
    "closed": RelayState.CLOSED, "open": RelayState.OPEN, "none": None,
}  # fmt: skip


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def brake_view(request: HttpRequest) -> HttpResponse:
    """Release the mass-cut brake where it is on, or put it on."""
    actor = actor_of(request)
    require(actor, "supply.release_brake")
    place = place_for(actor)
    is_on = brake_is_on(actor=actor, property_id=place.property_id)

    def wanted(_asked: Asked) -> Wanted:
        return wanted_brake(actor=actor, property_id=place.property_id, release=is_on)

    about = (
        _("Cuts that wait are decided again at once, and counted from nothing.")
        if is_on
        else _("No cut is made from now on, until it is released.")
    )
    heading = _("Release the mass-cut brake") if is_on else _("Put the mass-cut brake on")
    return _deed(
        request, place, wanted, path="/property/brake", tab="supply-rules", kind="brake",
        names=("reason",), heading=heading, about=about,
    )  # fmt: skip


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def protection_view(request: HttpRequest, account_id: int) -> HttpResponse:
    """Protect a supply from ever being cut for money, or end that."""
    actor = actor_of(request)
    require(actor, "supply.protect")
    place, holding = place_for(actor), holding_by_id(actor=actor, account_id=account_id)

    def wanted(asked: Asked) -> Wanted:
        word = asked.choice("protection", [each.word for each in Protection])
        return wanted_protection(
            actor=actor, property_id=place.property_id, account_id=account_id,
            protection=Protection[word.upper() or "NONE"],
        )  # fmt: skip

    return _deed(
        request, place, wanted, path=f"/accounts/{account_id}/protection", tab="accounts",
        kind="protection", names=("protection", "reason"), who=holding.who,
        heading=_("Protect this supply, or end that"),
        about=_("A protected supply is never cut for money, whatever its balance."),
    )  # fmt: skip


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def by_hand_view(request: HttpRequest, account_id: int) -> HttpResponse:
    """Keep a supply connected or cut until an instant, whatever the rules say."""
    actor = actor_of(request)
    require(actor, "supply.protect")
    place, holding = place_for(actor), holding_by_id(actor=actor, account_id=account_id)
    now = clock.now()

    def wanted(asked: Asked) -> Wanted:
        relay = asked.choice("relay", list(_RELAYS))
        until = asked.instant("until", place.time_zone)
        return wanted_by_hand(
            actor=actor, property_id=place.property_id, account_id=account_id,
            relay=_RELAYS.get(relay), until=until, now=now,
        )  # fmt: skip

    return _deed(
        request, place, wanted, path=f"/accounts/{account_id}/by-hand", tab="accounts",
        kind="by-hand", names=("relay", "until", "reason"), who=holding.who,
        heading=_("Connect or cut this supply by hand"),
        about=_("Against the rules and whatever the balance, until an instant. Then the rules decide again."),
        relays=[
            ("closed", _("Keep connected")), ("open", _("Keep cut")), ("none", _("By the rules again")),
        ],
    )  # fmt: skip


def _deed(
    request: HttpRequest,
    place: Place,
    wanted_of: Callable[[Asked], Wanted],
    *,
    path: str,
    tab: str,
    kind: str,
    names: tuple[str, ...],
    **more: Any,
) -> HttpResponse:
    """The form, the look at what it changes, and the press that proposes it."""
    now = clock.now()
    asked = Asked(request.POST) if request.method == "POST" else None
    wanted = None
    if asked is not None:
        reason = asked.line("reason", most=REASON_MAX, needed=True)
        try:
            wanted = wanted_of(asked)
        except SupplyRefused as refused:
            asked.faults[names[-2] if len(names) > 1 else "reason"] = str(_REFUSED[refused.reason])
        if asked.faults:
            wanted = None
        if wanted is not None and presses(request):
            address = agreed_or_proposed(request, asked, wanted, reason, now)
            if address is not None:
                return redirect(address)
    return deeds.show(
        request, "supply_deed", place=place, now=now, tab=tab, path=path, kind=kind, names=names,
        **more, **look_context(request, asked, wanted, now, protection="none", relay="closed"),
    )  # fmt: skip
