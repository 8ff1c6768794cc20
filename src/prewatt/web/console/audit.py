"""The auditor's console: what happened, by search, person and object; what is watched for and found."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from prewatt.access.scope import require
from prewatt.oversight.kinds import BY_CODE, Figure, ParameterRefused, checked, defaults
from prewatt.oversight.operations import (
    NAME_MAX,
    NOTE_MAX,
    WatchRefused,
    answer_finding,
    save_watch,
)
from prewatt.reports import audit_watches
from prewatt.reports.audit_export import signed_export
from prewatt.reports.audit_trail import (
    PAGE,
    SHOWS,
    Trail,
    Wanted,
    event_page,
    every_event,
    people,
    trail,
)
from prewatt.reports.paging import Neighbours, Page
from prewatt.reports.place import NoSuchThing, place_for
from prewatt.reports.today import Place
from prewatt.signing.keyring import NoSigningKey, open_keyring
from prewatt.signing.keys import KeyRole
from prewatt.signing.store import KeyStoreRefused
from prewatt.web import clock
from prewatt.web.console import deeds, export, streaming
from prewatt.web.console.asked import Asked, local_instant
from prewatt.web.console.views import beside, page_of
from prewatt.web.session import actor_of
from prewatt.web.ui import audit_words

_MONEY_MAX: Final = 10**9 * 1_000_000


def audit_view(request: HttpRequest) -> HttpResponse:
    """Every event that a search finds."""
    place = place_for(actor_of(request))
    return _show(request, place, *_wanted(request, place), path="/audit", tab="audit")


def person_view(request: HttpRequest, user_id: int) -> HttpResponse:
    """Everything that one person did, looked at and was refused."""
    place, everybody = people(actor=actor_of(request), now=clock.now())
    person = next((each for each in everybody if each.user_id == user_id), None)
    if person is None:
        raise NoSuchThing(f"no person {user_id}")
    wanted, given = _wanted(request, place, actor=f"user:{user_id}", show="all")
    return _show(
        request, place, wanted, given, path=f"/audit/people/{user_id}", tab="audit-people",
        person=person,
    )  # fmt: skip


def object_view(request: HttpRequest, kind: str, number: int) -> HttpResponse:
    """Everything that happened to one thing, and who looked at it."""
    place = place_for(actor_of(request))
    subject = f"{kind}:{number}"
    if kind not in audit_words.KIND:
        raise NoSuchThing(subject)
    wanted, given = _wanted(request, place, subject=subject, show="all")
    return _show(
        request, place, wanted, given, path=f"/audit/of/{subject}", tab="audit", subject=subject
    )


def _show(
    request: HttpRequest, place: Place, wanted: Wanted, given: dict[str, str], *, path: str, tab: str,
    **more: Any,
) -> HttpResponse:  # fmt: skip
    asked = page_of(request)
    page = Page(asked.after, asked.before, PAGE)
    found: Trail = trail(actor=actor_of(request), now=clock.now(), wanted=wanted, page=page)
    query = urlencode({key: value for key, value in wanted.as_query().items() if value} | given)
    return deeds.show(
        request, "audit", place=place, now=found.now, tab=tab, list=found, path=path, given=given,
        wanted=wanted, filters=query, shows=audit_words.SHOW.items(),
        codes=sorted(audit_words.CODE.items(), key=lambda each: str(each[1])),
        **_turned(path, given, found.beside), **more,
    )  # fmt: skip


def _turned(path: str, chosen: dict[str, str], neighbours: Neighbours) -> dict[str, Any]:
    return dict(beside(path, chosen, neighbours))


def _wanted(
    request: HttpRequest, place: Place, *, actor: str = "", subject: str = "", show: str = SHOWS[0]
) -> tuple[Wanted, dict[str, str]]:
    """What an address asks for, and the same as its form shows it again."""
    given = {
        name: " ".join(request.GET.get(name, "").split())[:80]
        for name in ("show", "actor", "code", "subject", "address", "q", "from", "until")
    }
    given["show"] = given["show"] if given["show"] in SHOWS else show
    from_at, until_at = (local_instant(given[name], place.time_zone) if given[name] else None
                         for name in ("from", "until"))  # fmt: skip
    wanted = Wanted(
        given["show"], actor or given["actor"], given["code"], subject or given["subject"],
        given["address"], given["q"], from_at, until_at,
    )  # fmt: skip
    return wanted, given


def event_view(request: HttpRequest, event_id: int) -> HttpResponse:
    """One event, what it changed, and what else its request did."""
    page = event_page(actor=actor_of(request), event_id=event_id, now=clock.now())
    return deeds.show(
        request, "audit_event", place=page.place, now=page.now, tab="audit", page=page,
        row=page.event,
    )  # fmt: skip


def people_view(request: HttpRequest) -> HttpResponse:
    """Who has a duty here, and how much they did in thirty days."""
    now = clock.now()
    place, found = people(actor=actor_of(request), now=now)
    sort = request.GET.get("sort", "")
    orders = {"deeds", "reads", "refused"}
    rows = sorted(found, key=lambda each: -getattr(each, sort)) if sort in orders else found
    return deeds.show(
        request, "audit_people", place=place, now=now, tab="audit-people", rows=rows, sort=sort
    )


def audit_csv(request: HttpRequest) -> StreamingHttpResponse:
    """The events of a search as a file for a spreadsheet."""
    actor = actor_of(request)
    place = place_for(actor)
    wanted, _given = _wanted(request, place)
    found = export.events_of_audit(every_event(actor=actor, wanted=wanted), place)
    return streaming.csv_file(request, "audit.csv", found)


def audit_zip(request: HttpRequest) -> HttpResponse:
    """A signed copy of the same; without a key that signs there is none."""
    actor, now = actor_of(request), clock.now()
    require(actor, "audit.read")
    wanted, _given = _wanted(request, place_for(actor))
    try:
        ring = open_keyring()
        ring.signer(KeyRole.AUDIT_EXPORT, now=now)
    except (NoSigningKey, KeyStoreRefused):
        return deeds.show(
            request, "audit_unsigned", place=place_for(actor), now=now, tab="audit", status=409
        )
    content = signed_export(
        actor=actor, wanted=wanted, now=now,
        sign=lambda document: ring.sign(KeyRole.AUDIT_EXPORT, document, now=now),
    )  # fmt: skip
    response = HttpResponse(content, content_type="application/zip")
    response["Content-Disposition"] = 'attachment; filename="audit.zip"'
    return response


def findings_view(request: HttpRequest) -> HttpResponse:
    """What the watches found: what waits for the auditor first."""
    show, kind = request.GET.get("show", ""), request.GET.get("kind", "")
    chosen = {
        "show": show if show in audit_watches.SHOWS else "new",
        "kind": kind if kind in audit_words.WATCH else "",
    }
    asked = page_of(request)
    found = audit_watches.findings(
        actor=actor_of(request),
        now=clock.now(),
        **chosen,
        page=Page(asked.after, asked.before, PAGE),
    )
    return deeds.show(
        request, "audit_findings", place=found.place, now=found.now, tab="findings", list=found,
        chosen=chosen, filters=urlencode(chosen), kinds=audit_words.WATCH.items(),
        shows=audit_words.FINDING_SHOW.items(),
        **_turned("/audit/findings", chosen, found.beside),
    )  # fmt: skip


def findings_csv(request: HttpRequest) -> HttpResponse:
    """The same as a file."""
    found = audit_watches.findings(
        actor=actor_of(request), now=clock.now(), show="all", page=Page(limit=2_000)
    )
    return deeds.as_csv("findings", lambda writer: export.findings(writer, found))


@require_http_methods(["GET", "POST"])
def finding_view(request: HttpRequest, finding_id: int) -> HttpResponse:
    """One finding; and what the auditor found out about it."""
    actor, now = actor_of(request), clock.now()
    place, row = audit_watches.finding_page(actor=actor, finding_id=finding_id)
    asked, problem, status = None, "", 200
    if request.method == "POST":
        asked = Asked(request.POST)
        note = asked.line("note", most=NOTE_MAX, needed=True)
        if not asked.faults:
            try:
                answer_finding(actor=actor, finding_id=finding_id, note=note, now=now)
                return redirect("/audit/findings")
            except WatchRefused as refused:
                problem, status = audit_words.refused(refused), 409
        else:
            status = 422
    return deeds.show(
        request, "audit_finding", place=place, now=now, tab="findings", status=status, row=row,
        says=audit_words.WATCH_SAYS[row.kind], problem=problem, **deeds.form_context(asked),
    )  # fmt: skip


def watches_view(request: HttpRequest) -> HttpResponse:
    """What is watched for, with the figures of each."""
    now = clock.now()
    place, found = audit_watches.watches(actor=actor_of(request), now=now)
    return deeds.show(
        request, "audit_watches", place=place, now=now, tab="watches", rows=found,
        kinds=[(code, name, audit_words.WATCH_SAYS[code]) for code, name in audit_words.WATCH.items()],
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
def watch_view(request: HttpRequest, watch_id: int) -> HttpResponse:
    """One watch, to be changed."""
    place, row = audit_watches.watch_page(actor=actor_of(request), watch_id=watch_id)
    return _watch_form(
        request, place, row.kind.code, watch_id, dict(row.figures), name=row.name, is_on=row.is_on
    )


@require_http_methods(["GET", "POST"])
def new_watch_view(request: HttpRequest, kind: str) -> HttpResponse:
    """A further watch of a kind."""
    place, _rows = audit_watches.watches(actor=actor_of(request), now=clock.now())
    known = BY_CODE.get(kind)
    if known is None:
        raise NoSuchThing(kind)
    return _watch_form(request, place, kind, None, defaults(known), name="", is_on=True)


def _watch_form(
    request: HttpRequest, place: Place, code: str, watch_id: int | None, figures: dict[str, int], *,
    name: str, is_on: bool,
) -> HttpResponse:  # fmt: skip
    kind, now = BY_CODE[code], clock.now()
    first = {each.name: _written(each, figures[each.name]) for each in kind.figures}
    first |= {"name": name, "is_on": "1" if is_on else ""}
    asked, problem, status = None, "", 200
    if request.method == "POST":
        asked = Asked(request.POST)
        wanted = {each.name: _read(asked, each, place.currency) for each in kind.figures}
        called = asked.line("name", most=NAME_MAX)
        status = 422
        if not asked.faults:
            try:
                checked(kind, wanted)
                save_watch(
                    actor=actor_of(request), watch_id=watch_id, kind=code, name=called, figures=wanted,
                    is_on=asked.text("is_on") == "1", now=now,
                )  # fmt: skip
                return redirect("/audit/watches?done=1")
            except ParameterRefused as refused:
                asked.faults[refused.name] = _("Choose a later time.")
            except WatchRefused as refused:
                problem, status = audit_words.refused(refused), 409
        first = {"is_on": ""}
    return deeds.show(
        request, "audit_watch", place=place, now=now, tab="watches", status=status, kind=code,
        watch_id=watch_id, says=audit_words.WATCH_SAYS[code], problem=problem,
        figures=[
            (each.name, audit_words.figure_name(code, each.name), each.shape) for each in kind.figures
        ],
        **deeds.form_context(asked, **first),
    )  # fmt: skip


def _written(figure: Figure, value: int) -> str:
    if figure.shape == "money":
        return export.decimal(value)
    if figure.shape == "flag":
        return "1" if value else ""
    return f"{value // 60:02d}:{value % 60:02d}" if figure.shape == "minutes" else str(value)


def _read(asked: Asked, figure: Figure, currency: str) -> int:
    if figure.shape == "money":
        return asked.amount(
            figure.name, limit_micro=figure.most, currency=currency, allow_zero=True
        )
    if figure.shape == "flag":
        return int(asked.text(figure.name) == "1")
    if figure.shape != "minutes":
        return asked.whole(figure.name, least=figure.least, most=figure.most)
    hours, colon, minutes = asked.text(figure.name).partition(":")
    if not (colon and hours.isdecimal() and minutes.isdecimal() and int(minutes) < 60):
        asked.faults[figure.name] = _("Write a time such as 07:30.")
        return figure.default
    at = int(hours[:3]) * 60 + int(minutes[:2])
    if not figure.least <= at <= figure.most:
        asked.faults[figure.name] = _("Write a time such as 07:30.")
    return at
