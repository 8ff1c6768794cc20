"""Refunds due: the list, and paying one out once, by a named person, with a receipt."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.approvals.operations import Wanted
from prewatt.reports.debts import (
    REFUND_SHOWS,
    REFUND_SORTS,
    RefundPage,
    refund_page,
    refunds,
)
from prewatt.reports.lists_query import PAGE_MAX
from prewatt.vending.by_agreement import wanted_refund
from prewatt.vending.refunds import WAYS, RefundRefused
from prewatt.web import clock
from prewatt.web.console import deeds, export
from prewatt.web.console.agreeing import agreed_or_proposed, agreement_context, waiting_context
from prewatt.web.console.asked import Asked, wants
from prewatt.web.session import actor_of
from prewatt.web.ui import money_words


def refunds_view(request: HttpRequest) -> HttpResponse:
    """Refunds due and paid out."""
    wanted, address = deeds.chosen(request, shows=REFUND_SHOWS, sorts=REFUND_SORTS)
    found = refunds(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.show_list(
        request, "refunds", found, address, path="/refunds", tab="refunds",
        shows=money_words.REFUND_SHOW.items(), sorts=money_words.REFUND_SORT.items(),
    )  # fmt: skip


def refunds_csv(request: HttpRequest) -> HttpResponse:
    """The same selection as a file."""
    wanted, _ = deeds.chosen(request, shows=REFUND_SHOWS, sorts=REFUND_SORTS)
    wanted["limit"] = PAGE_MAX
    found = refunds(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.as_csv("refunds", lambda writer: export.refunds(writer, found))


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def refund_view(request: HttpRequest, refund_id: int) -> HttpResponse:
    """One refund: how it is paid out, then a last look with amount and name, then its receipt."""
    page = refund_page(actor=actor_of(request), refund_id=refund_id, now=clock.now())
    if request.method != "POST":
        return _show(request, page, None, way=WAYS[0])
    require(actor_of(request), "vending.pay_refund")
    asked = Asked(request.POST)
    way = asked.choice("way", WAYS)
    reference = asked.line("reference", most=80)
    if asked.faults:
        return _show(request, page, asked, status=422)
    try:
        wanted = wanted_refund(
            actor=actor_of(request), refund_id=refund_id, way=way, reference=reference
        )
    except RefundRefused as refused:
        # Somebody else may have paid it since the page was read: it must not be called owed.
        page = refund_page(actor=actor_of(request), refund_id=refund_id, now=page.now)
        return _show(request, page, asked, problem=money_words.refused(refused), status=409)
    if wants(request):
        reason = str(gettext("To be paid out"))
        address = agreed_or_proposed(request, asked, wanted, reason, page.now)
        if address is not None:
            paid = address.endswith("?done=alone")
            return redirect(f"/refunds/{refund_id}?paid=1" if paid else address)
    return _show(request, page, asked, wanted=wanted, status=422 if asked.faults else 200)


def _show(
    request: HttpRequest,
    page: RefundPage,
    asked: Asked | None,
    *,
    wanted: Wanted | None = None,
    problem: str = "",
    status: int = 200,
    **defaults: str,
) -> HttpResponse:
    return deeds.show(
        request, "refund", place=page.place, now=page.now, tab="refunds", status=status, page=page,
        refund=page.refund, who=page.refund.who, holding=page.holding, sure=wanted is not None,
        problem=problem,
        ways=money_words.REFUND_WAY.items(), just_paid=request.GET.get("paid") == "1",
        **deeds.form_context(asked, **defaults), **agreement_context(request, wanted),
        **waiting_context(request, f"refund:{page.refund.refund_id}", page.now),
    )  # fmt: skip
