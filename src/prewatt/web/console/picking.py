"""Choosing a customer in a form: a search in the form itself, with or without script, by keyboard alone.

The field ``NAME`` has the chosen id, ``NAME_q`` what is looked for, ``NAME_asked`` what the list that is
shown was found by, and ``NAME_page`` a further page of it. Where what is looked for is not what the list
shows, sending the form is a search: Enter in the search field never does anything else.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render

from prewatt.reports.customers import OFFERED, Find, picker
from prewatt.reports.paging import Page
from prewatt.reports.place import NoSuchThing
from prewatt.web.session import actor_of

#: The fields by which forms choose a customer; True: somebody new can be chosen in the same list.
FIELDS = {"who": True, "customer": False}


def find_in(data: QueryDict, name: str) -> Find:
    """What a form looks for among the customers."""
    query = data.get(f"{name}_q", "").replace("\x00", "").strip()[:80]
    way, _, mark = data.get(f"{name}_page", "").partition(":")
    page = Page.of(
        mark if way == "after" else "", mark if way == "before" else "", limit=OFFERED
    )  # fmt: skip
    written = data.get(name, "")
    known = written.isascii() and written.isdigit() and 0 < len(written) < 19
    return Find(query, page, (int(written) or None) if known else None)


def is_search(data: QueryDict, name: str) -> bool:
    """Whether a form that was sent looks for a customer, and for nothing else yet."""
    if data.get("do") == "confirm":
        return False
    asked = f"{name}_q" in data and data.get(f"{name}_q", "").strip() != data.get(
        f"{name}_asked", ""
    )
    return data.get("do") == "find" or bool(data.get(f"{name}_page")) or asked


def pick_view(request: HttpRequest, name: str) -> HttpResponse:
    """The list of a picker alone, while somebody types."""
    if name not in FIELDS:
        raise NoSuchThing(f"no form chooses a customer as {name!r}")
    found = picker(actor=actor_of(request), find=find_in(request.GET, name))
    context = {
        "picker": found, "pick": name, "with_new": FIELDS[name],
        "is_new": request.GET.get(name) == "0",
    }  # fmt: skip
    return render(request, "prewatt/parts/pick_list.html", context)
