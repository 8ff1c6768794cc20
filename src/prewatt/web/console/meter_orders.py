"""What meters are told and asked: the list of orders, one meter's line, and bulks with their brake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.approvals.operations import Wanted as Change
from prewatt.core.fleet import PER_GATEWAY_MIN_MAX, PER_S_MAX, drivers_that_can
from prewatt.core.vocabulary import RequestKind
from prewatt.fleet.bulks import MOVES, BulkOrder, BulkRefused, move_bulk, wanted_bulk
from prewatt.fleet.requests import RequestRefused, ask_meter, cancel_request
from prewatt.reports.meter_orders import (
    FILE_MAX,
    KINDS,
    SHOWS,
    SORTS,
    MeterPage,
    OrderRow,
    Wanted,
    bulk_list,
    bulk_page,
    choices,
    meter_page,
    order_list,
)
from prewatt.reports.paging import Page
from prewatt.reports.place import place_for
from prewatt.web import clock
from prewatt.web.console import deeds, export, streaming
from prewatt.web.console.agreeing import REASON_MAX, agreed_or_proposed, look_context, presses
from prewatt.web.console.asked import Asked, written_local
from prewatt.web.console.views import beside, page_of
from prewatt.web.session import actor_of
from prewatt.web.ui import fleet_words

_FILE_PAGE: Final = 5_000
_REFUSED: Final = {
    "driver": gettext_lazy("Its driver cannot be asked this."),
    "span": gettext_lazy("A span of at most 62 days that has passed."),
    "clock": gettext_lazy("Nothing is known to move it by, or it is off by more than a day."),
    "many": gettext_lazy("Three requests wait for this meter already."),
    "ended": gettext_lazy("It has gone out, or has ended."),
    "none": gettext_lazy("No meter matches that can be asked this."),
    "pace": gettext_lazy("This pace is not possible."),
    "bound": gettext_lazy("Between 1 and 100."),
    "kind": gettext_lazy("There is no such choice."),
    "state": gettext_lazy("It stands otherwise by now."),
    "unknown": gettext_lazy("It is not there."),
}
#: Under which field of the bulk's form a refusal stands.
_FIELD: Final = {"span": "from", "pace": "per_s", "bound": "bound", "kind": "kind", "none": "kind"}


@require_http_methods(["GET", "POST"])
def orders_view(request: HttpRequest) -> HttpResponse:
    """All orders to meters, those that wait and those that have ended; one that has not gone out is taken back."""
    if request.method == "POST":
        return _cancel(request)
    wanted, given = _wanted(request)
    asked = page_of(request)
    found = order_list(
        actor=actor_of(request), now=clock.now(), wanted=wanted, page=Page(asked.after, asked.before, 100)
    )  # fmt: skip
    turned: dict[str, Any] = dict(beside("/meters/orders", given, found.beside))
    return deeds.show(
        request, "orders", place=found.place, now=found.now, tab="orders", list=found, given=given,
        filters=urlencode(given), shows=fleet_words.ORDER_SHOW.items(),
        sorts=fleet_words.ORDER_SORT.items(),
        kinds=[(word, fleet_words.ORDER_KIND[word]) for word in KINDS], problem=_problem(request),
        **turned,
    )  # fmt: skip


def orders_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The same selection as a file for a spreadsheet, page after page by key."""
    wanted, _given = _wanted(request)
    place = place_for(actor_of(request))
    return streaming.csv_file(
        request, "orders.csv", export.meter_orders(_every_order(request, wanted), place)
    )


def _every_order(request: HttpRequest, wanted: Wanted) -> Iterator[OrderRow]:
    page, count = Page(limit=_FILE_PAGE), 0
    while count < FILE_MAX:
        found = order_list(actor=actor_of(request), now=clock.now(), wanted=wanted, page=page)
        yield from found.rows
        count += len(found.rows)
        if not found.beside.next:
            return
        page = Page(found.rows[-1].mark, None, _FILE_PAGE)


def _wanted(request: HttpRequest) -> tuple[Wanted, dict[str, str]]:
    """What an address asks for, and the same as its form shows it again."""
    get = request.GET
    show, kind, sort = get.get("show", ""), get.get("kind", ""), get.get("sort", "")
    given = {
        "show": show if show in SHOWS else SHOWS[0],
        "kind": kind if kind in KINDS else "",
        "q": get.get("q", "").replace("\0", "").strip()[:80],
        "sort": sort if sort in SORTS else SORTS[0],
    }
    numbers = {}
    for name in ("meter", "bulk"):
        text = get.get(name, "")
        if text.isascii() and text.isdigit() and len(text) < 19:
            given[name], numbers[name] = text, int(text)
    wanted = Wanted(
        given["show"], given["kind"], given["q"], given["sort"], numbers.get("meter"), numbers.get("bulk")
    )  # fmt: skip
    return wanted, given


def _cancel(request: HttpRequest) -> HttpResponse:
    actor = actor_of(request)
    place = place_for(actor)
    number = Asked(request.POST).whole("request", least=1, most=2**62)
    problem = {}
    try:
        cancel_request(
            actor=actor, property_id=place.property_id, request_id=number, now=clock.now()
        )
    except RequestRefused as refused:
        problem = {"problem": refused.reason}
    _wanted_again, given = _wanted(request)
    return redirect(f"/meters/orders?{urlencode(given | problem)}")


def _problem(request: HttpRequest) -> str:
    return str(_REFUSED.get(request.GET.get("problem", ""), ""))


@require_http_methods(["GET", "POST"])
def meter_view(request: HttpRequest, meter_id: int) -> HttpResponse:
    """One meter's line: its days, its gaps, its orders; and asking it."""
    actor, now = actor_of(request), clock.now()
    page = meter_page(actor=actor, meter_id=meter_id, now=now)
    if request.method != "POST":
        return _show_meter(request, page, None)
    asked = Asked(request.POST)
    word = asked.choice("kind", [each.word for each in fleet_words.ASKED])
    kind = fleet_words.KIND_OF.get(word, RequestKind.READ)
    reason = asked.line("reason", most=REASON_MAX, needed=True)
    span = {}
    if kind is RequestKind.HISTORY:
        span = {f"{name}_at": asked.instant(name, page.place.time_zone) for name in ("from", "to")}
    if asked.faults:
        return _show_meter(request, page, asked, 422)
    try:
        ask_meter(
            actor=actor, property_id=page.place.property_id, meter_id=meter_id, kind=kind,
            reason=reason, now=now, **span,
        )  # fmt: skip
    except RequestRefused as refused:
        field = "from" if refused.reason == "span" else "kind"
        asked.faults[field] = str(_REFUSED[refused.reason])
        return _show_meter(request, page, asked, 422)
    return redirect(f"/meters/{meter_id}")


def _show_meter(
    request: HttpRequest, page: MeterPage, asked: Asked | None, status: int = 200
) -> HttpResponse:
    zone = page.place.time_zone
    first = page.gaps[0] if page.gaps else None
    able = [
        (kind.word, fleet_words.REQUEST_KIND[kind])
        for kind in fleet_words.ASKED
        if page.driver in drivers_that_can(kind)
    ]
    defaults = {"kind": "read", "reason": ""}
    if first is not None:
        # What one would ask for first: the span that is missing.
        defaults |= {"from": written_local(first.from_at, zone), "to": written_local(first.to_at, zone)}  # fmt: skip
    return deeds.show(
        request, "meter", place=page.place, now=page.now, tab="fleet", status=status, page=page, able=able,
        **deeds.form_context(asked, **defaults),
    )  # fmt: skip


def bulks_view(request: HttpRequest) -> HttpResponse:
    """The latest bulks."""
    found = bulk_list(actor=actor_of(request), now=clock.now())
    return deeds.show(request, "bulks", place=found.place, now=found.now, tab="bulks", list=found)


@require_http_methods(["GET", "POST"])
def bulk_view(request: HttpRequest, bulk_id: int) -> HttpResponse:
    """One bulk: how far it is, and its brake."""
    actor = actor_of(request)
    place = place_for(actor)
    problem, status = "", 200
    if request.method == "POST":
        asked = Asked(request.POST)
        deed = asked.choice("do", list(MOVES))
        if not asked.faults:
            try:
                move_bulk(
                    actor=actor, property_id=place.property_id, bulk_id=bulk_id, deed=deed,
                    now=clock.now(),
                )  # fmt: skip
                return redirect(f"/meters/bulks/{bulk_id}")
            except BulkRefused as refused:
                problem, status = str(_REFUSED[refused.reason]), 409
    bulk = bulk_page(actor=actor, bulk_id=bulk_id)
    return deeds.show(
        request, "bulk", place=place, now=clock.now(), tab="bulks", bulk=bulk, problem=problem,
        status=status,
    )  # fmt: skip


#: Choices of the form, in its order.
_CHOICES: Final = ("driver", "model", "firmware", "gateway", "building")
_NAMES: Final = ("kind", *_CHOICES, "serial", "per_s", "per_gateway_min", "bound", "from", "to", "reason")  # fmt: skip


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def bulk_new_view(request: HttpRequest) -> HttpResponse:
    """The form of a bulk, the dry run with its count, and the press that begins or proposes it."""
    actor, now = actor_of(request), clock.now()
    require(actor, "approvals.propose")
    place = place_for(actor)
    asked = Asked(request.POST) if request.method == "POST" else None
    wanted = None
    if asked is not None:
        reason = asked.line("reason", most=REASON_MAX, needed=True)
        wanted = _wanted_bulk(request, asked, place.property_id, place.time_zone)
        if wanted is not None and presses(request):
            address = agreed_or_proposed(request, asked, wanted, reason, now)
            if address is not None:
                # What is done at once is looked at where its brake is.
                return redirect("/meters/bulks" if "done=alone" in address else address)
    known = choices(actor=actor, now=now)
    return deeds.show(
        request, "bulk_new", place=place, now=now, tab="bulks", names=_NAMES,
        kinds=[(kind.word, fleet_words.REQUEST_KIND[kind]) for kind in RequestKind],
        choices=[
            (word, fleet_words.FILTER[word], [("", _("any")), *((each, fleet_words.named(word, each)) for each in known.get(word, ()))])
            for word in _CHOICES
        ],
        **look_context(request, asked, wanted, now, kind="read", per_s="5", per_gateway_min="60", bound="20"),
    )  # fmt: skip


def _wanted_bulk(request: HttpRequest, asked: Asked, property_id: int, zone: str) -> Change | None:
    """What the form asks for; None with its faults."""
    word = asked.choice("kind", [each.word for each in RequestKind])
    chosen = {name: asked.text(name, 60) for name in (*_CHOICES, "serial") if asked.text(name, 60)}
    per_s = asked.whole("per_s", least=1, most=PER_S_MAX)
    per_gateway_min = asked.whole("per_gateway_min", least=1, most=PER_GATEWAY_MIN_MAX)
    bound = asked.whole("bound", least=1, most=100)
    is_history = word == RequestKind.HISTORY.word
    span = [asked.instant(name, zone) if is_history else None for name in ("from", "to")]
    if asked.faults:
        return None
    order = BulkOrder(
        fleet_words.KIND_OF[word], chosen, per_s, per_gateway_min, bound, span[0], span[1]
    )
    try:
        return wanted_bulk(
            actor=actor_of(request), property_id=property_id, order=order, now=clock.now()
        )
    except BulkRefused as refused:
        asked.faults[_FIELD.get(refused.reason, "kind")] = str(_REFUSED[refused.reason])
        return None
