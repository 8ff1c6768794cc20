"""Announced prices and price rules of a property: critical peaks, real-time series, resale, debts."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.approvals.operations import Wanted
from prewatt.billing.resale import ResaleRefused, set_resale_terms
from prewatt.billing.terms import (
    EventRefused,
    PricesRefused,
    SeriesPrice,
    announce_event,
    append_prices,
    withdraw_event,
)
from prewatt.core.tariff import TariffRefused, load_tariff, to_document
from prewatt.core.tariff.model import OverlayKind
from prewatt.debts.by_agreement import wanted_policy
from prewatt.debts.models import DebtPolicy
from prewatt.debts.words import AgreementRefused
from prewatt.ledger.operations import KeyReused
from prewatt.reports.lists_query import PAGE_MAX
from prewatt.reports.place import NoSuchThing
from prewatt.reports.price_pages import (
    EVENT_SHOWS,
    EVENT_SORTS,
    AnnouncedPage,
    RulesPage,
    announced_page,
    event_row,
    rules_page,
)
from prewatt.web import clock
from prewatt.web.console import deeds, export
from prewatt.web.console.agreeing import REASON_MAX, agreed_or_proposed, look_context, presses
from prewatt.web.console.asked import (
    Asked,
    key_of,
    local_instant,
    price_nano,
    wants,
    written_day,
)
from prewatt.web.session import actor_of
from prewatt.web.ui import money_words, refusals, sentences, shipped_words
from prewatt.web.ui.format import percent

#: How long one price of a series holds, in minutes.
LENGTHS: Final = ("60", "30", "15")
#: A month of quarter-hours is written at once at most.
LINES_MAX: Final = 3_000


@require_http_methods(["GET", "POST"])
def announced_view(request: HttpRequest) -> HttpResponse:
    """Peaks and series; a POST announces."""
    wanted, address = deeds.chosen(request, shows=EVENT_SHOWS, sorts=EVENT_SORTS)
    page = announced_page(actor=actor_of(request), now=clock.now(), **wanted)
    if request.method != "POST":
        return _show(request, page, address, None)
    require(actor_of(request), "billing.announce")
    asked = Asked(request.POST)
    deed = asked.choice("deed", ("peak", "series"))
    return (_announce if deed == "peak" else _append)(request, page, address, asked)


def announced_csv(request: HttpRequest) -> HttpResponse:
    """The same peaks as a file."""
    wanted, _address = deeds.chosen(request, shows=EVENT_SHOWS, sorts=EVENT_SORTS)
    wanted["limit"] = PAGE_MAX
    page = announced_page(actor=actor_of(request), now=clock.now(), **wanted)
    return deeds.as_csv(
        "peaks", lambda writer: export.events(writer, page.events, page.place.time_zone)
    )


def _announce(
    request: HttpRequest, page: AnnouncedPage, address: dict[str, str], asked: Asked
) -> HttpResponse:
    zone = page.place.time_zone
    group = asked.choice("group", page.groups(OverlayKind.CRITICAL_PEAK))
    from_at, until_at = _needed(asked, "from", zone), _needed(asked, "until", zone)
    if asked.faults or from_at is None or until_at is None:
        return _show(request, page, address, asked, status=422)
    if from_at <= page.now or from_at >= until_at:
        reason = "begun" if from_at <= page.now else "empty"
        field = "from" if reason == "begun" else "until"
        asked.faults[field] = money_words.refused(EventRefused(reason, ""))
        return _show(request, page, address, asked, status=422)
    if not wants(request):
        follows = next(each for each in page.follows if each.group == group)
        peak = {"group": group, "from_at": from_at, "until_at": until_at, "follows": follows}
        return _show(request, page, address, asked, peak=peak)
    try:
        announce_event(
            actor=actor_of(request), property_id=page.place.property_id, overlay_group=group,
            from_at=from_at, until_at=until_at, key=key_of(request), now=page.now,
        )  # fmt: skip
    except (EventRefused, KeyReused) as refused:
        asked.faults["from"] = money_words.refused(refused)
        return _show(request, page, address, asked, status=422)
    return redirect("/tariffs/announced?done=peak")


def _needed(asked: Asked, name: str, zone: str) -> datetime | None:
    found = asked.instant(name, zone)
    if found is None and name not in asked.faults:
        asked.faults[name] = _("Still to be filled in.")
    return found


def _append(
    request: HttpRequest, page: AnnouncedPage, address: dict[str, str], asked: Asked
) -> HttpResponse:
    group = asked.choice("series_group", page.groups(OverlayKind.REAL_TIME))
    minutes = asked.choice("length", LENGTHS)
    prices = _series(asked, page.place.time_zone, int(minutes or 60))
    if asked.faults:
        return _show(request, page, address, asked, status=422)
    if not wants(request):
        return _show(request, page, address, asked, series_looked=prices)
    try:
        append_prices(
            actor=actor_of(request), property_id=page.place.property_id, overlay_group=group,
            prices=prices, key=key_of(request), now=page.now,
        )  # fmt: skip
    except KeyReused as refused:
        asked.faults["prices"] = money_words.refused(refused)
        return _show(request, page, address, asked, status=422)
    except PricesRefused as refused:
        asked.faults["prices"] = _("Line %(n)s: %(why)s") % {
            "n": refused.row + 1,
            "why": money_words.refused(refused),
        }
        return _show(request, page, address, asked, status=422)
    return redirect("/tariffs/announced?done=series")


def _series(asked: Asked, zone: str, minutes: int) -> list[SeriesPrice]:
    """Lines of `date time price`, each price for so many minutes; the first bad line is named."""
    prices: list[SeriesPrice] = []
    lines = [line for line in asked.text("prices", 400_000).splitlines() if line.strip()]
    if not lines:
        asked.faults["prices"] = _("Still to be filled in.")
    elif len(lines) > LINES_MAX:
        asked.faults["prices"] = _("Write at most %(n)s lines at once.") % {"n": LINES_MAX}
        return []
    for number, line in enumerate(lines, 1):
        found = _line(line, zone) or _line(line.replace(",", " "), zone)
        if found is None:
            asked.faults["prices"] = _(
                "Line %(n)s is not date, time and price, such as 2027-01-01 08:00 0.2480."
            ) % {"n": number}
            return []
        at, nano = found
        prices.append(SeriesPrice(at, at + timedelta(minutes=minutes), nano))
    return prices


def _line(line: str, zone: str) -> tuple[datetime, int] | None:
    """Instant and price of a line, None where it is none; between them is a space, ``;`` or a tab."""
    words = line.replace(";", " ").split()
    at = local_instant(" ".join(words[:-1]), zone) if len(words) in (2, 3) else None
    nano = price_nano(words[-1]) if words else None
    return None if at is None or nano is None else (at, nano)


def _show(
    request: HttpRequest,
    page: AnnouncedPage,
    address: dict[str, str],
    asked: Asked | None,
    *,
    peak: dict[str, object] | None = None,
    series_looked: list[SeriesPrice] | None = None,
    status: int = 200,
) -> HttpResponse:
    return deeds.show_list(
        request, "announced", page.events, address, path="/tariffs/announced", tab="announced",
        page=page, peak=peak, series_looked=series_looked, status=status,
        shows=money_words.EVENT_SHOW.items(), sorts=money_words.EVENT_SORT.items(),
        peak_groups=[(each, each) for each in page.groups(OverlayKind.CRITICAL_PEAK)],
        series_groups=[(each, each) for each in page.groups(OverlayKind.REAL_TIME)],
        lengths=[(each, _("%(n)s minutes") % {"n": each}) for each in LENGTHS],
        done=request.GET.get("done", ""), key=key_of(request),
        **deeds.form_context(asked, length=LENGTHS[0]),
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
def withdraw_view(request: HttpRequest, event_id: int) -> HttpResponse:
    """A peak to be taken away before it begins, or ended now."""
    now = clock.now()
    place, event = event_row(actor=actor_of(request), event_id=event_id)
    if event is None:
        raise NoSuchThing(f"no event {event_id} in scope")
    problem, status = "", 200
    if request.method == "POST":
        try:
            withdraw_event(actor=actor_of(request), event_id=event_id, key=key_of(request), now=now)
        except (EventRefused, KeyReused) as refused:
            problem, status = money_words.refused(refused), 409
        else:
            return redirect("/tariffs/announced?done=withdrawn&show=withdrawn")
    return deeds.show(
        request, "withdraw", place=place, now=now, tab="announced", event=event, problem=problem,
        status=status, begun=event.has_begun(now), is_coming=event.is_coming(now),
        key=key_of(request),
    )  # fmt: skip


@sensitive_post_parameters("code", "passkey")
@require_http_methods(["GET", "POST"])
def rules_view(request: HttpRequest) -> HttpResponse:
    """The price rules of the property and its policy about used credit; a POST sets the rules, or looks at
    another policy and proposes it.
    """
    page = rules_page(actor=actor_of(request), now=clock.now())
    if request.method != "POST":
        return _show_rules(request, page, None)
    asked = Asked(request.POST)
    if asked.choice("deed", ("resale", "policy")) == "policy":
        return _policy(request, page, asked)
    if _set_resale(request, page, asked):
        return redirect("/tariffs/rules?done=resale")
    return _show_rules(request, page, asked, status=422)


def _set_resale(request: HttpRequest, page: RulesPage, asked: Asked) -> bool:
    require(actor_of(request), "billing.resale")
    rules = asked.choice("rules", [each.jurisdiction for each in page.packs])
    valid_from = asked.day("from", page.place.time_zone)
    purchase = asked.price("purchase")
    direct = None
    if asked.text("direct"):
        try:
            direct = to_document(load_tariff(asked.text("direct", 200_000)))
        except TariffRefused as refused:
            asked.faults["direct"] = f"{refusals.sentence(refused.reason, None)} {refused.place}"
    if asked.faults or valid_from is None:
        return False
    try:
        set_resale_terms(
            actor=actor_of(request), property_id=page.place.property_id, rules=rules,
            valid_from=valid_from, purchase_nano_per_kwh=purchase, direct=direct,
            key=key_of(request), now=page.now,
        )  # fmt: skip
    except (ResaleRefused, KeyReused) as refused:
        asked.faults["purchase"] = money_words.refused(refused)
        return False
    return True


def _policy(request: HttpRequest, page: RulesPage, asked: Asked) -> HttpResponse:
    """Another policy: beside its fields what is wrong, else what changes and the press that proposes it."""
    wanted = _wanted_policy(request, page, asked)
    if wanted is None:
        return _show_rules(request, page, asked, status=422)
    if presses(request):
        address = agreed_or_proposed(request, asked, wanted, asked.text("reason"), page.now)
        if address is not None:
            return redirect(address)
    return deeds.show(
        request, "policy_change", place=page.place, now=page.now, tab="rules", names=POLICY_FIELDS,
        **look_context(request, asked, wanted, page.now),
    )  # fmt: skip


#: What the form of a policy carries on to the press.
POLICY_FIELDS = ("reversed_payment", "moved_credit", "let_shortfall", "share", "cap", "reason")


def _wanted_policy(request: HttpRequest, page: RulesPage, asked: Asked) -> Wanted | None:
    require(actor_of(request), "debts.policy")
    kinds = [each.value for each in DebtPolicy.Missing]
    reversed_payment = asked.choice("reversed_payment", kinds)
    moved_credit = asked.choice("moved_credit", kinds)
    let_shortfall = asked.choice("let_shortfall", ("debt", "loss"))
    share = asked.percent("share")
    cap = deeds.cap_of(asked, page.place.currency)
    asked.line("reason", most=REASON_MAX, needed=True)
    if asked.faults:
        return None
    policy = replace(
        page.policy,
        reversed_payment=DebtPolicy.Missing(reversed_payment),
        moved_credit=DebtPolicy.Missing(moved_credit),
        let_shortfall=DebtPolicy.Missing(let_shortfall),
        share_ppm=share,
        weekly_cap_micro=cap,
    )
    try:
        return wanted_policy(
            actor=actor_of(request), property_id=page.place.property_id, policy=policy
        )
    except AgreementRefused:
        asked.faults["reversed_payment"] = _("This policy holds already.")
        return None


def _pack(jurisdiction: str) -> str:
    return sentences.said(shipped_words.PACK_NAME, jurisdiction)


def _show_rules(
    request: HttpRequest, page: RulesPage, asked: Asked | None, *, status: int = 200
) -> HttpResponse:
    in_force, policy = page.in_force, page.policy
    bought = in_force.purchase_nano_per_kwh if in_force else None
    defaults = {
        "rules": in_force.pack.jurisdiction if in_force else page.packs[0].jurisdiction,
        "from": written_day(page.now, page.place.time_zone),
        "purchase": "" if bought is None else money_words.price_digits(bought),
        "reversed_payment": policy.reversed_payment.value,
        "moved_credit": policy.moved_credit.value,
        "let_shortfall": policy.let_shortfall.value,
        "share": percent(policy.share_ppm).removesuffix("%").strip(),
        "cap": export.decimal(policy.weekly_cap_micro) if policy.weekly_cap_micro else "",
    }
    return deeds.show(
        request, "rules", place=page.place, now=page.now, tab="rules", status=status, page=page,
        packs=[
            (each.jurisdiction, each.jurisdiction + _(": ") + _pack(each.jurisdiction))
            for each in page.packs
        ],
        missing=money_words.MISSING.items(),
        short=list(money_words.SHORT.items()), done=request.GET.get("done", ""), key=key_of(request),
        **deeds.form_context(asked, **defaults),
    )  # fmt: skip
