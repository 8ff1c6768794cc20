"""Where energy rightly flows backwards: the register, a point said to feed in, and one that does no longer."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import Actor, require
from prewatt.reports.feed_in import feed_in_list
from prewatt.reports.place import place_for
from prewatt.tamper.feeding import REASON_MAX, FeedInRefused, begin_feed_in, end_feed_in
from prewatt.web import clock
from prewatt.web.console.asked import Asked
from prewatt.web.console.deeds import form_context, show
from prewatt.web.session import actor_of

_REFUSED: Final = {
    "unknown": gettext_lazy("No meter with this serial hangs here now."),
    "is_so": gettext_lazy("It feeds in rightly already."),
    "ended": gettext_lazy("It ended already."),
}


@require_http_methods(["GET", "POST"])
def feed_in_view(request: HttpRequest) -> HttpResponse:
    """The register; an administrator says of a meter's point that it feeds in, or does no longer."""
    actor, now = actor_of(request), clock.now()
    asked = None
    if request.method == "POST":
        require(actor, "tamper.feed_in")
        asked = Asked(request.POST)
        if _done(actor, asked):
            return redirect("/meters/feed-in")
    found = feed_in_list(actor=actor, now=now)
    return show(
        request, "feed_in", place=found.place, now=now, tab="cases", list=found,
        status=422 if asked else 200,
        **form_context(asked, meter=request.GET.get("meter", "").replace("\0", "")[:32]),
    )  # fmt: skip


def _done(actor: Actor, asked: Asked) -> bool:
    place = place_for(actor)
    try:
        if asked.choice("do", ("begin", "end")) == "end":
            number = asked.whole("feed_in", least=1, most=2**62)
            if not asked.faults:
                end_feed_in(
                    actor=actor, property_id=place.property_id, feed_in_id=number, now=clock.now()
                )
            return not asked.faults
        serial = asked.line("meter", most=32, needed=True)
        reason = asked.line("reason", most=REASON_MAX, needed=True)
        if asked.faults:
            return False
        begin_feed_in(
            actor=actor, property_id=place.property_id, serial=serial, reason=reason, now=clock.now()
        )  # fmt: skip
    except FeedInRefused as refused:
        asked.faults["meter"] = str(_REFUSED[refused.reason])
    return not asked.faults
