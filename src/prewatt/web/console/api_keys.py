"""Keys of programs: proposed by one administrator, approved by another, ended by any."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.models import Duty
from prewatt.access.scope import require
from prewatt.api_keys.operations import NAME_MAX, KeyRefused, end_key, new_key, wanted_key
from prewatt.reports.api_keys import KEY_SHOWS, KEY_SORTS, key_by_id, keys
from prewatt.reports.lists_query import PAGE_MAX
from prewatt.reports.place import place_for
from prewatt.web import clock
from prewatt.web.console import deeds, export
from prewatt.web.console.agreeing import (
    REASON_MAX,
    agreed_or_proposed,
    look_context,
    presses,
)
from prewatt.web.console.asked import Asked
from prewatt.web.session import actor_of
from prewatt.web.ui import key_words

PATH: Final = "/property/keys"
_READING: Final = frozenset({"accounts.read", "estate.read"})


@dataclass(frozen=True, slots=True)
class Use:
    """What a program is for, and the least it needs: one that only reads is held to that by the database."""

    name: str | Promise
    duty: Duty
    permissions: frozenset[str]


USES: Final = {
    "read": Use(_("Read accounts, meters and recharges"), Duty.AUDITOR, _READING),
    "sell": Use(_("Read them, and sell recharges"), Duty.OPERATOR, _READING | {"vending.recharge"}),
}
#: Days that a key can be made for, and what they are called.
LASTS: Final = {"30": _("30 days"), "90": _("90 days"), "365": _("One year")}


def keys_view(request: HttpRequest) -> HttpResponse:
    """Which keys hold, and which did."""
    wanted, address = deeds.chosen(request, shows=KEY_SHOWS, sorts=KEY_SORTS)
    found = keys(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.show_list(
        request, "api_keys", found, address, path=PATH, tab="keys",
        shows=key_words.KEY_SHOW.items(), sorts=key_words.KEY_SORT.items(),
    )  # fmt: skip


def keys_csv(request: HttpRequest) -> HttpResponse:
    """The same selection as a file."""
    wanted, _address = deeds.chosen(request, shows=KEY_SHOWS, sorts=KEY_SORTS)
    found = keys(actor=actor_of(request), now=clock.now(), **wanted | {"limit": PAGE_MAX})
    return deeds.as_csv("keys", lambda writer: export.api_keys(writer, found))


@sensitive_post_parameters("code", "passkey", "key")
@never_cache
@require_http_methods(["GET", "POST"])
def new_key_view(request: HttpRequest) -> HttpResponse:
    """Who needs a key and for what; then the key, to be seen this once, and the press that proposes it."""
    actor, now = actor_of(request), clock.now()
    require(actor, "approvals.propose")
    place = place_for(actor)
    asked = Asked(request.POST) if request.method == "POST" else None
    wanted, key = None, ""
    if asked is not None:
        reason = asked.line("reason", most=REASON_MAX, needed=True)
        name = asked.line("name", most=NAME_MAX, needed=True)
        use, days = asked.choice("use", list(USES)), asked.choice("days", list(LASTS))
        if not asked.faults:
            key = asked.text("key", 80) or new_key()
            try:
                wanted = wanted_key(
                    actor=actor, property_id=place.property_id, key=key, name=name, now=now,
                    duty=USES[use].duty, permissions=USES[use].permissions,
                    expires_at=now.replace(minute=0, second=0, microsecond=0) + timedelta(int(days)),
                )  # fmt: skip
            except KeyRefused as refused:
                asked.faults["name"] = str(key_words.KEY_REFUSED[refused.reason])
        if wanted is not None and presses(request):
            address = agreed_or_proposed(request, asked, wanted, reason, now)
            if address is not None:
                return redirect(address)
    context = look_context(request, asked, wanted, now, use="read", days="365")
    if wanted is not None:
        context["form"]["key"] = key
    return deeds.show(
        request, "api_key_new", place=place, now=now, tab="keys", key=key,
        uses=[(word, use.name) for word, use in USES.items()], lasts=LASTS.items(), **context,
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
def end_key_view(request: HttpRequest, key_id: int) -> HttpResponse:
    """End a key at once; one administrator is enough to stop a program."""
    actor, now = actor_of(request), clock.now()
    require(actor, "approvals.propose")
    found, row = key_by_id(actor=actor, key_id=key_id, now=now)
    asked = Asked(request.POST) if request.method == "POST" else None
    problem = ""
    if asked is not None:
        reason = asked.line("reason", most=REASON_MAX, needed=True)
        if not asked.faults:
            try:
                end_key(actor=actor, key_id=key_id, reason=reason, now=now)
            except KeyRefused as refused:
                problem = str(key_words.KEY_REFUSED[refused.reason])
            else:
                return redirect(PATH)
    return deeds.show(
        request, "api_key_end", place=found.place, now=now, tab="keys", row=row, problem=problem,
        status=422 if problem or (asked is not None and asked.faults) else 200,
        **deeds.form_context(asked),
    )  # fmt: skip
