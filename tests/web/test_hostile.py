"""Every address of the web with what nobody would type: an answer that says so, never a 500."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from tests.fernmoor import Fernmoor

from cases import cases

#: In an address, percent-encoded: beyond bigint, NUL, very long, bad UTF-8, negative, half a surrogate.
HOSTILE = (
    str(2**63), "9" * 5_000, "%00", "a%00b", "x" * 3_000, "%ff%fe", "-1", "0", "%ED%A0%80",
    "%E2%80%AE", "..%2f..", "1e9", "%27%22%3C",
)  # fmt: skip
#: Every parameter that a page reads from its address.
PARAMETERS = re.compile(r"""request\.GET(?:\.get|\.getlist)?[(\[]\s*["'](\w+)["']""")


def some(values: Sequence[str]) -> list[str]:
    """Others of them for each page and run: by default a quarter, as of all random cases."""
    return random.sample(values, min(len(values), cases(len(values))))


@cache
def parameters() -> set[str]:
    """Read from the views themselves, so that a new one is tried without being told of."""
    from pathlib import Path

    import prewatt.web

    folder = Path(prewatt.web.__file__).parent
    found = {name for path in folder.rglob("*.py") for name in PARAMETERS.findall(path.read_text())}
    return found | {"from", "to", "page", "q"}


def routes(inside: URLResolver | None = None, before: str = "") -> Iterator[str]:
    for each in (inside or get_resolver()).url_patterns:
        name = before + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from routes(each, name)
        else:
            assert isinstance(each, URLPattern)
            yield name


def filled(route: str, value: str) -> str:
    return "/" + re.sub(r"<[^>]+>", lambda _: value, route)


def real(route: str, place: Fernmoor) -> str:
    account, unit = place.accounts["N-305"], next(iter(place.units.values()))
    names = {
        "account_id": account,
        "unit_id": unit,
        "event_id": 1,
        "deed": "in",
        "day": "2026-11-16",
    }
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda m: str(names.get(m[1], "x")), route)


@pytest.fixture
def ask(fernmoor: Fernmoor, sign_in: Callable[..., Any]) -> Callable[..., int]:
    client = sign_in(fernmoor)
    client.raise_request_exception = False

    def answer(address: str, method: str = "get", **form: str) -> int:
        if address.startswith("/live"):
            return 200
        status = int(getattr(client, method)(address, form or None).status_code)
        assert status < 500, f"{method} {address[:120]} {list(form)}: {status}"
        return status

    return answer


def test_no_address_is_too_much_for_any_route(ask: Callable[..., int]) -> None:
    for route in routes():
        if "<" in route:
            for value in some(HOSTILE):
                ask(filled(route, value))


def test_no_parameter_is_too_much_for_any_page(ask: Callable[..., int], fernmoor: Fernmoor) -> None:
    for route in routes():
        address = real(route, fernmoor)
        for value in some(HOSTILE):
            ask(f"{address}?" + "&".join(f"{name}={value}" for name in sorted(parameters())))


def test_no_form_is_too_much_for_any_page(ask: Callable[..., int], fernmoor: Fernmoor) -> None:
    fields = parameters() | {"email", "password", "key", "amount", "way", "next", "language",
                             "theme", "code", "name", "reason", "days", "property_id"}  # fmt: skip
    for route in routes():
        if "sign-out" in route:
            continue
        for value in some((str(2**63), "9" * 5_000, "a\0b", "x" * 3_000, "-1", "\u202e", "")):
            ask(real(route, fernmoor), "post", **dict.fromkeys(fields, value))


def test_a_nul_is_refused_as_a_bad_request(ask: Callable[..., int]) -> None:
    assert ask("/tariffs/%00") == 400
    assert ask("/accounts?q=a%00b") == 400
    assert ask("/sign-in", "post", email="a\0@example.com", password="x") == 400
