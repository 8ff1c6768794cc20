"""What a program may read: the lists and pages of the console, as JSON, by the same queries."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from django.http import HttpRequest
from ninja import Query, Router

from prewatt.access.scope import Actor, require
from prewatt.core.vocabulary import BoardState
from prewatt.reports import alerts, estate_query, lists_query, tariff_query
from prewatt.reports.account_query import account_page
from prewatt.reports.paging import PAGE
from prewatt.reports.paging import Page as Wanted
from prewatt.web import clock
from prewatt.web.api import shapes
from prewatt.web.api.bearer import actor_of
from prewatt.web.api.problems import REFUSED

router = Router(tags=["reading"])

Text = Annotated[
    str, Query(max_length=80, pattern=shapes.PLAIN, description="Words that all have to be found.")
]
After = Annotated[
    str,
    Query(pattern=r"^(-?[0-9]{1,18}_[0-9]{1,18})?$", description="The mark of the page before."),
]
_State = StrEnum("_State", {each.name: each.word for each in BoardState})  # type: ignore[misc]
Limit = Annotated[int, Query(ge=1, le=PAGE)]


def _reader(request: HttpRequest) -> Actor:
    actor = actor_of(request)
    require(actor, "accounts.read")
    return actor


@router.get("/property", response={200: shapes.Property, **REFUSED}, operation_id="read_property")
def read_property(request: HttpRequest) -> shapes.Property:
    """The property that the key is for."""
    return shapes.Property.of(estate_query.property_page(actor=_reader(request), now=clock.now()))


@router.get("/units", response={200: shapes.Units, **REFUSED}, operation_id="list_units")
def list_units(
    request: HttpRequest, find: Text = "", after: After = "", limit: Limit = PAGE
) -> shapes.Units:
    """Units with who is there now, by building and floor."""
    found = estate_query.unit_list(
        actor=_reader(request), now=clock.now(), query=find, page=Wanted.of(after, "", limit)
    )
    rows = [shapes.Unit.of(row) for row in found.rows]
    return shapes.Units(rows=rows, total=found.total, next=found.beside.next)


@router.get("/accounts", response={200: shapes.Accounts, **REFUSED}, operation_id="list_accounts")
def list_accounts(
    request: HttpRequest,
    find: Text = "",
    state: _State | None = None,
    sort: Literal["unit", "time", "balance"] = "unit",
    after: After = "",
    limit: Limit = PAGE,
) -> shapes.Accounts:
    """Accounts with their balances, found by text and state."""
    found = lists_query.accounts(
        actor=_reader(request), now=clock.now(), query=find,
        state=None if state is None else BoardState[state.name], sort=sort,
        page=Wanted.of(after, "", limit),
    )  # fmt: skip
    rows = [shapes.Account.of(row) for row in found.rows]
    return shapes.Accounts(
        rows=rows, sum_micro=found.sum_micro, total=found.total, next=found.beside.next
    )


@router.get(
    "/accounts/{account_id}",
    response={200: shapes.OneAccount, **REFUSED, 404: shapes.Problem},
    operation_id="read_account",
)
def read_account(request: HttpRequest, account_id: shapes.Id) -> shapes.OneAccount:
    """One account: wallet, supply and the days of the last weeks."""
    return shapes.OneAccount.of(
        account_page(actor=_reader(request), account_id=account_id, now=clock.now())
    )


@router.get("/meters", response={200: shapes.Meters, **REFUSED}, operation_id="list_meters")
def list_meters(
    request: HttpRequest,
    find: Text = "",
    show: Literal["", "silent", "open", "held"] = "",
    after: After = "",
    limit: Limit = PAGE,
) -> shapes.Meters:
    """Meters as they were last heard: all, silent ones, those with an open relay or held readings."""
    found = lists_query.meters(
        actor=_reader(request), now=clock.now(), show=show, query=find,
        page=Wanted.of(after, "", limit),
    )  # fmt: skip
    rows = [shapes.Meter.of(row) for row in found.rows]
    return shapes.Meters(rows=rows, total=found.total, next=found.beside.next)


@router.get("/recharges", response={200: shapes.Sales, **REFUSED}, operation_id="list_recharges")
def list_recharges(
    request: HttpRequest,
    days: Annotated[int, Query(ge=1, le=400, description="Local days, today included.")] = 1,
    after: After = "",
    limit: Limit = PAGE,
) -> shapes.Sales:
    """The recharges of the last days, newest first."""
    found = lists_query.money(
        actor=_reader(request), now=clock.now(), days=days, page=Wanted.of(after, "", limit)
    )
    rows = [shapes.Sale.of(row) for row in found.rows]
    return shapes.Sales(
        rows=rows, sum_micro=found.sum_micro, total=found.total, next=found.beside.next
    )


@router.get("/alerts", response={200: shapes.Alerts, **REFUSED}, operation_id="list_alerts")
def list_alerts(request: HttpRequest, find: Text = "") -> shapes.Alerts:
    """Alerts that are open, the latest first."""
    found = alerts.alert_list(actor=_reader(request), now=clock.now(), query=find)
    return shapes.Alerts(
        rows=[shapes.Alert.of(row) for row in found.rows], total=found.total, next=""
    )


@router.get("/tariffs", response={200: shapes.Tariffs, **REFUSED}, operation_id="list_tariffs")
def list_tariffs(request: HttpRequest) -> shapes.Tariffs:
    """The tariffs of the property with the versions that hold now."""
    found = tariff_query.tariff_list(actor=_reader(request), now=clock.now())
    rows = [shapes.Tariff.of(row) for row in found.rows]
    return shapes.Tariffs(rows=rows, total=found.total, next="")
