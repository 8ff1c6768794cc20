"""Building a plan: a form with a live picture beside it, or its JSON; saved as a draft.

The whole form travels with every change and the answer is made from it alone, so nothing is kept in
the server between two keystrokes. The plan itself is only ever read by `core.tariff`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from prewatt.billing.drafts import DraftRefused, save_draft
from prewatt.core.tariff import Tariff, TariffRefused, load_tariff, to_document
from prewatt.core.tariff.model import DAY_KINDS
from prewatt.reports.place import NoSuchThing
from prewatt.reports.tariff_changes import changes_between
from prewatt.reports.tariff_examples import examples
from prewatt.reports.tariff_pages import DraftPage
from prewatt.reports.tariff_query import builder_page, draft_page, tariff_page
from prewatt.reports.today import Place
from prewatt.web import clock
from prewatt.web.console.plan_document import state_of
from prewatt.web.console.plan_fields import Checked, Refusal, check, energy_alone
from prewatt.web.console.plan_rows import act
from prewatt.web.console.plan_state import State, blank, pairs, posted, step_count
from prewatt.web.console.tariffs import may_draft, path_of
from prewatt.web.console.views import is_partial
from prewatt.web.session import actor_of
from prewatt.web.ui import format as fmt
from prewatt.web.ui import plan, sentences, shipped_words

CODE_MAX: Final = 24
REASON_MAX: Final = 400
_JSON_MAX: Final = 200_000
#: Addresses beside that of a tariff; a code cannot be one of them.
_TAKEN: Final = frozenset({"new", "drafts", "announced", "announced.csv", "rules"})


@dataclass(slots=True)
class _Work:
    """A form between request and answer. ``edition`` is the one that the changes are made on."""

    place: Place
    state: State
    code: str = ""
    reason: str = ""
    edition: int = 0
    as_json: bool = False
    written: str = ""
    #: The currency of the example that the figures came from, if it is another.
    from_currency: str = ""
    problems: dict[str, str] = field(default_factory=dict)
    conflict: str = ""
    refusal: Refusal | None = None
    checked: Checked | None = None


@require_http_methods(["GET", "POST"])
def new_view(request: HttpRequest) -> HttpResponse:
    """A new plan: first what to start from, then the form."""
    page = builder_page(actor=actor_of(request), now=clock.now())
    if not may_draft(actor_of(request)):
        raise NoSuchThing("only who may draft builds a plan")
    if request.method == "POST":
        return _answer(request, _posted(request, page.place), draft=None, saved_as="")
    start = request.GET.get("start", "")[:80]
    if not start:
        return render(
            request,
            "prewatt/pages/plan_start.html",
            {
                "page": page,
                "place": page.place,
                "now": page.now,
                "tab": "tariffs",
                "examples": examples(),
            },
        )
    kind, _colon, key = start.partition(":")
    if kind == "tariff" and any(row.code == key and row.draft for row in page.tariffs):
        return redirect(f"/tariffs/drafts/{path_of(key)}")
    return _show(request, _started(request, page.place, kind, key), draft=None)


@require_http_methods(["GET", "POST"])
def draft_view(request: HttpRequest, code: str) -> HttpResponse:
    """A draft in its form; who may not change it reads the plan."""
    draft = draft_page(actor=actor_of(request), code=code, now=clock.now())
    if not may_draft(actor_of(request)):
        return render(request, "prewatt/pages/draft.html", _draft_context(draft))
    if request.method == "POST":
        return _answer(request, _posted(request, draft.place), draft=draft, saved_as=code)
    work = _Work(
        draft.place,
        state_of(draft.document),
        code=code,
        reason=draft.draft.reason,
        edition=draft.draft.edition,
    )
    return _show(request, work, draft=draft)


def _started(request: HttpRequest, place: Place, kind: str, key: str) -> _Work:
    """The form that a worked example, a version in force or nothing at all fills in."""
    if kind == "example":
        found = [each.tariff for each in examples() if each.key == key]
        if not found:
            raise NoSuchThing(f"there is no example {key!r}")
        state = state_of(to_document(found[0]))
        # A plan begins in the words of whoever makes it; its source stays a quotation.
        state["name"] = sentences.said(shipped_words.EXAMPLE_NAME, key)
        state["note"] = sentences.said(shipped_words.EXAMPLE_NOTE, key)
        foreign = found[0].currency if found[0].currency != place.currency else ""
        return _Work(place, state | {"currency": place.currency}, from_currency=foreign)
    if kind == "tariff":
        page = tariff_page(actor=actor_of(request), code=key, now=clock.now())
        return _Work(place, state_of(to_document(page.tariff)), code=key)
    return _Work(place, blank(place.currency))


def _posted(request: HttpRequest, place: Place) -> _Work:
    """What the browser sent, one row more or less where it was asked for."""
    data, do = request.POST, request.POST.get("do", "")
    edition = data.get("edition", "")
    work = _Work(
        place,
        posted(data) | {"currency": place.currency},
        code=data.get("code", "").strip()[: CODE_MAX + 1],
        reason=" ".join(data.get("reason", "").split())[: REASON_MAX + 1],
        edition=int(edition)
        if edition.isascii() and edition.isdigit() and len(edition) < 10
        else 0,
        as_json=data.get("tab") == "json",
        written=data.get("json", "")[:_JSON_MAX],
        from_currency=data.get("from_currency", "")[:3],
    )
    work.state["note"], work.state["source"] = (
        " ".join(work.state[key].split()) for key in ("note", "source")
    )
    if work.as_json:
        _read_json(work)
        if do == "tab:form" and work.refusal is None:
            work.as_json = False
    else:
        work.state = act(work.state, do)
        if do == "tab:json":
            work.as_json = True
            _write_json(work)
    return work


def _read_json(work: _Work) -> None:
    try:
        tariff = load_tariff(work.written)
        if tariff.currency != work.place.currency:
            raise TariffRefused(
                "currency", f"must be {work.place.currency}, the currency of this property"
            )
    except TariffRefused as refused:
        work.refusal = Refusal("json", refused.place, refused.reason)
        return
    work.state = state_of(to_document(tariff))


def _write_json(work: _Work) -> None:
    checked = check(work.state, work.place.currency)
    document = checked.document if checked.tariff is None else to_document(checked.tariff)
    work.written = json.dumps(document, ensure_ascii=False, indent=2)


def _answer(
    request: HttpRequest, work: _Work, *, draft: DraftPage | None, saved_as: str
) -> HttpResponse:
    do = request.POST.get("do", "")
    if do == "save" or do.startswith("save:"):
        over = do.removeprefix("save:")
        if over.isascii() and over.isdigit() and len(over) < 10:
            work.edition = int(over)
        response = _saved(request, work, code=saved_as or work.code)
        if response is not None:
            return response
        return _show(request, work, draft=draft, status=422)
    return _show(request, work, draft=draft)


def _saved(request: HttpRequest, work: _Work, *, code: str) -> HttpResponse | None:
    """Save the draft and go to it; None when something has to be put right first."""
    _check(work)
    if not code or len(code) > CODE_MAX or "/" in code or code in _TAKEN:
        work.problems["code"] = _(
            "A code has 1 to 24 letters and digits, without a slash. “new”, “drafts”, “announced” and "
            "“rules” are taken."
        )
    if len(work.reason) > REASON_MAX:
        work.problems["reason"] = _("At most 400 characters.")
    if work.problems or work.refusal is not None or work.checked is None:
        return None
    try:
        save_draft(
            actor=actor_of(request),
            property_id=work.place.property_id,
            code=code,
            name=work.state["name"],
            document=work.checked.document,
            reason=work.reason,
            now=clock.now(),
            edition=work.edition,
        )
    except DraftRefused as refused:
        if refused.reason == "changed_meanwhile":
            work.conflict = code
        else:
            work.problems["code"] = _("A code has 1 to 24 characters.")
        return None
    return redirect(f"/tariffs/drafts/{path_of(code)}?saved=1")


def _check(work: _Work) -> None:
    if work.refusal is None:
        work.checked = check(work.state, work.place.currency)
        work.refusal = work.checked.refusal


def _show(
    request: HttpRequest, work: _Work, *, draft: DraftPage | None, status: int = 200
) -> HttpResponse:
    _check(work)
    tariff = work.checked.tariff if work.checked else None
    picture = tariff
    if picture is None and work.checked is not None:
        picture = energy_alone(work.checked.document)
    page = "prewatt/parts/builder.html" if is_partial(request) else "prewatt/pages/builder.html"
    context = {
        "place": work.place,
        "now": clock.now(),
        "tab": "tariffs",
        "work": work,
        "form": work.state,
        "refusal": work.refusal,
        "tariff": picture,
        "whole": tariff is not None,
        "draft": draft,
        "address": request.path,
        # Nobody has written anything yet: what is missing is said, and no field is blamed.
        "fresh": request.method == "GET" and draft is None,
        "saved": request.method == "GET" and "saved" in request.GET,
        **_rows_context(work.state),
        **_against(draft, tariff),
    }
    if work.conflict:
        context["theirs"] = draft_page(
            actor=actor_of(request), code=work.conflict, now=clock.now()
        ).draft
    return render(request, page, context, status=status)


def _rows_context(state: State) -> dict[str, Any]:
    """What the form's tables need besides the fields: heads, choices, pairs of season and class."""
    bands = [
        (str(at), band["label"].strip() or band["name"].strip() or str(at + 1))
        for at, band in enumerate(state["bands"])
    ]
    return {
        "steps_shown": range(step_count(state)),
        "band_options": bands,
        "day_kinds": [
            *(
                (kind, fmt.weekdays([at], get_language() or "en"))
                for at, kind in enumerate(DAY_KINDS[:7])
            ),
            (DAY_KINDS[7], _("Holiday")),
        ],
        "day_pairs": [
            {
                "key": key,
                "season": plan.season_name(state["seasons"][season]["name"])
                if state["seasons"]
                else "",
                "kind": state["classes"][each]["name"] if state["classes"] else "",
            }
            for key, season, each in pairs(state)
        ],
    }


def _against(draft: DraftPage | None, tariff: Tariff | None) -> dict[str, Any]:
    if draft is None or draft.in_force is None or tariff is None:
        return {}
    return {
        "before": draft.in_force,
        "changes": changes_between(draft.in_force, tariff),
    }


def _draft_context(draft: DraftPage) -> dict[str, Any]:
    return {
        "draft": draft,
        "place": draft.place,
        "now": draft.now,
        "tab": "tariffs",
        "tariff": draft.tariff,
        "code_path": path_of(draft.draft.code),
        **_against(draft, draft.tariff),
    }
