"""What the web reads of requests: bodies of the API, forms, price plans, uploaded tables. Without a database.

Each is the reader that the page or route has, under the handlers that stand around it; what it would ask the database
for is given or put aside. An answer of 500 is a finding, and so is what would reach the desk and is no recharge.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from unittest.mock import patch

from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.multipartparser import MultiPartParserError
from django.test import RequestFactory
from django.urls import URLPattern

from prewatt.access.models import Duty
from prewatt.access.scope import Actor
from prewatt.core.money import MICRO
from prewatt.core.tariff import TariffRefused, load_tariff, parse_tariff, to_document
from prewatt.estate.fittings import plan_fittings
from prewatt.estate.sheets import ImportRefused, read_uploads
from prewatt.vending.operations import LIMIT_MICRO
from prewatt.vending.words import Recharge, RechargeRefused
from prewatt.web.api.app import api
from prewatt.web.api.bearer import Key
from prewatt.web.console.asked import Asked
from prewatt.web.console.plan_document import state_of
from prewatt.web.console.plan_fields import check, check_document
from prewatt.web.console.plan_rows import act
from prewatt.web.console.plan_state import posted

_NOW: Final = datetime(2027, 1, 15, 8, tzinfo=UTC)
_ZONE: Final = "Europe/Berlin"
_CURRENCY: Final = "EUR"
_BOUNDARY: Final = "x"
_REFUSED: Final = (400, 409, 422)
"""What the API answers to a body that is none, and to each recharge here, which nobody takes."""


def _recharge_view() -> Callable[..., HttpResponse]:
    """The view of the route by its name: a path is resolved in front of it, by Django."""
    found = next(each for each in api.urls[0] if getattr(each, "name", "") == "recharge_account")
    assert isinstance(found, URLPattern)
    return found.callback


_RECHARGE: Final = _recharge_view()


def recharge(data: bytes) -> None:
    """A recharge by the API: the account, the key and the body, parted by line ends."""
    account, _, rest = data.partition(b"\n")
    key, _, body = rest.partition(b"\n")
    request = RequestFactory().post(
        "/api/v1/", body, content_type="application/json",
        HTTP_IDEMPOTENCY_KEY=key.decode("latin-1"), HTTP_AUTHORIZATION="Bearer pwk_x",
    )  # fmt: skip
    with (
        patch.object(Key, "authenticate", _let_in),
        patch("prewatt.web.till.recharge", _sold),
    ):
        answer = _RECHARGE(request, account_id=account.decode("latin-1"))
    assert answer.status_code in _REFUSED, answer.content


def _let_in(_key: Key, request: HttpRequest, _token: str) -> Actor:
    actor = Actor("api:1", Duty.OPERATOR, (1,))
    request.auth = actor  # type: ignore[attr-defined]  # as `Key` does
    return actor


def _sold(*, actor: Actor, wish: Recharge, now: datetime) -> RechargeRefused:
    """Takes nothing, and looks that what comes is a recharge."""
    assert 0 < wish.amount <= LIMIT_MICRO and wish.amount % (MICRO // 100) == 0
    assert 0 < wish.account_id < 2**63 and wish.key.isprintable() and 0 < len(wish.key) <= 128
    assert "\0" not in wish.reference and wish.reference.encode() is not None
    return RechargeRefused(wish.key, "vending.recharge.key_reused", "")


def form(data: bytes) -> None:
    """The fields of a form, each read in every way there is; what is read is within its bounds, or a fault is said."""
    asked = Asked(QueryDict(data))
    for name in list(asked.data):
        amount = asked.amount(name, limit_micro=LIMIT_MICRO, currency=_CURRENCY)
        assert 0 <= amount <= LIMIT_MICRO and (amount > 0 or name in asked.faults)
        assert 0 <= asked.percent(name) <= MICRO
        assert 1 <= asked.whole(name, least=1, most=28) <= 28
        assert asked.line(name, most=60, needed=True).isprintable() or name in asked.faults
        for figure in (asked.price(name), asked.thousandths(name)):
            assert figure is None or 0 <= abs(figure) < 2**63
        for at in (asked.day(name, _ZONE), asked.instant(name, _ZONE)):
            assert at is None or at.utcoffset() is not None
        asked.choice(name, ("cash", "online"))
        asked.several(name)
    assert all("\0" not in each for each in asked.values.values())


def plan(data: bytes) -> None:
    """A price plan as the fields of its form, after the deed of the first line; or, after an empty one, as its JSON."""
    deed, _, rest = data.partition(b"\n")
    if not deed:
        with contextlib.suppress(TariffRefused, UnicodeDecodeError):
            tariff = load_tariff(rest.decode())
            assert parse_tariff(to_document(tariff)) == tariff
            # Whatever a document says has its field, and the fields say the same plan.
            checked = check(state_of(to_document(tariff)), tariff.currency)
            assert checked.tariff == tariff, checked.refusal
        return
    state = act(posted(QueryDict(rest)), deed.decode("latin-1"))
    checked = check(state, _CURRENCY)
    if checked.tariff is not None:
        assert check_document(to_document(checked.tariff), _CURRENCY).tariff == checked.tariff


def upload(data: bytes) -> None:
    """Files of one request, as browsers send them, and the table of meters to be fitted among them."""
    request = RequestFactory().post(
        "/", data, content_type=f"multipart/form-data; boundary={_BOUNDARY}"
    )
    with contextlib.suppress(MultiPartParserError, SuspiciousOperation, ImportRefused):
        files = [(str(each.name), each.read()) for each in request.FILES.getlist("files")]
        fitted = plan_fittings(
            read_uploads(files), units={("A", "1"): 1, ("A", "2"): 2}, concentrators=("CC-1",),
            time_zone=_ZONE, now=_NOW, most=100,
        )  # fmt: skip
        assert all(each.opening_wh >= 0 and each.at <= _NOW for each in fitted)
