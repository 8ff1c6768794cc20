"""What accounts are and what was announced to them: terms, tariffs to come, peaks, real-time prices.

All three are append-only and change the price of somebody, so each advances the property's tariff
epoch and a running book follows it. An announced price is never taken back for what has been used:
an event is announced before it begins, and a withdrawal ends it, it does not undo it.

Announcements take the idempotency key of the form that asks for them: a form pressed twice is one deed, and
its key with anything else is refused (KeyReused). Terms and changes of plan are proposals (``agreed_terms``,
``plans``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import saying_what_changed
from prewatt.audit.operations import record
from prewatt.billing.models import (
    PriceEvent,
    PriceOfSeries,
    Tariff,
    TariffAssignment,
)
from prewatt.billing.operations import advance_epoch, put_on_plan
from prewatt.billing.queries import OnPlan, Terms, plans_at, terms_at, terms_of
from prewatt.billing.rerate_requests import PRICES, TERMS, request_rerating
from prewatt.core.civil_time import LocalCalendar, instant_us, utc_datetime
from prewatt.core.tariff import MAX_PRICE_NANO, parse_tariff
from prewatt.ledger.idempotency import store_answer, stored_answer
from prewatt.ledger.operations import UnknownAccount
from prewatt.mdm.archived import correctable_from_us

#: The kind of proposal by which an account's terms change (``agreed_terms``).
TERMS_KIND: Final = "billing.terms"
#: The kind of proposal by which accounts come to another plan (``plans``).
PLANS: Final = "billing.plans"
MOST_MEMBERS = 10_000
MOST_CONTRACTED_W = 10**12
_MOST_WORD = 40


class TermsRefused(ValueError):
    """Terms cannot hold; ``reason`` is ``members``, ``contracted_w``, ``words``, ``not_midnight``,
    ``before_account``, ``books_closed``, ``archived``, ``closed`` or ``same``.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class ChangeRefused(ValueError):
    """An account cannot go on with that tariff; ``reason`` is ``past``, ``not_midnight``,
    ``unknown``, ``temporary``, ``not_in_force``, ``closed`` or ``same``.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class WithdrawalRefused(ValueError):
    """A change stays; ``reason`` is ``unknown``, ``begun`` or ``only``, the account's first tariff."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class EventRefused(ValueError):
    """An event cannot be announced or withdrawn.

    ``reason`` is ``empty``, ``begun``, ``overlaps``, ``words``, ``unknown``, ``withdrawn`` or ``over``.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class PricesRefused(ValueError):
    """A series does not go on like that; ``row`` is the first bad price's position in the call.

    ``reason`` is ``empty``, ``order``, ``price`` or ``words``.
    """

    def __init__(self, reason: str, row: int, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.row = row


@dataclass(frozen=True, slots=True)
class SeriesPrice:
    """A real-time price for [from_at, until_at), in nano-units per kWh; it may be negative."""

    from_at: datetime
    until_at: datetime
    price_nano: int


def set_terms(
    *,
    actor: Actor,
    property_id: int,
    account_id: int,
    valid_from: datetime,
    members: int,
    contracted_w: int,
    now: datetime,
    exempt: Sequence[str] = (),
    overlay_groups: Sequence[str] = (),
    reason: str = "",
    made_by: str = "",
) -> int:
    """Write an account's terms from a local midnight on and return the row's id.

    In the transaction in which ``actor`` agreed to what ``made_by`` proposed (``agreed_terms``), for the
    database asks for that. A step window keeps the members and the contracted power of its first instant.
    Terms that begin in the past have the account rated anew; not before the account began, nor in closed
    books. Terms that hold already are no change. ``reason`` is said in the audit trail. Raises TermsRefused,
    Changed, UnknownAccount, PermissionRefused.
    """
    require(actor, "billing.terms", property_id=property_id)
    wanted = wanted_terms_of(valid_from, members, contracted_w, exempt, overlay_groups)
    with scope(actor):
        _refuse_foreign(property_id, [account_id])
        if not _is_midnight(property_id, valid_from):
            raise TermsRefused("not_midnight", f"{valid_from.isoformat()} begins no local day")
        # First the epoch: its row keeps two changes of a property apart.
        advance_epoch(property_id)
        begun_us = _refuse_bad_day(account_id, valid_from, now)
        known = terms_of([account_id]).get(account_id, ())
        held = terms_at(known, wanted.from_us)
        if content_of(held) == content_of(wanted):
            raise TermsRefused("same", "these terms hold on that day already")
        since = None
        if not any(each.from_us <= wanted.from_us for each in known) and wanted.from_us > begun_us:
            # The first terms also hold before their start. What held until now goes on until then.
            since = utc_datetime(begun_us)
        by = made_by or actor.code
        row = _write_terms(by, property_id, account_id, wanted, now, since=since)
        request_rerating(from_at={account_id: valid_from}, reason=TERMS, now=now)
        record(
            actor=by,
            code="billing.terms.set",
            property_id=property_id,
            subject=f"account:{account_id}",
            now=now,
            valid_from=valid_from,
            before=content_of(held),
            after=content_of(wanted),
            reason=reason,
            **({"approved_by": actor.code} if made_by else {}),
        )
    return row


def wanted_terms_of(
    valid_from: datetime, members: int, contracted_w: int, exempt: Sequence[str],
    overlay_groups: Sequence[str],
) -> Terms:  # fmt: skip
    """Terms that an account could have. Raises TermsRefused `members`, `contracted_w` or `words`."""
    if not 1 <= members <= MOST_MEMBERS:
        raise TermsRefused("members", f"a household has 1 to {MOST_MEMBERS} members")
    if not 0 <= contracted_w <= MOST_CONTRACTED_W:
        raise TermsRefused("contracted_w", f"contracted power is 0 to {MOST_CONTRACTED_W} W")
    if not all(_is_word(each) for each in (*exempt, *overlay_groups)):
        raise TermsRefused("words", "a tax code or group is a printable word of 1 to 40 characters")
    return Terms(
        instant_us(valid_from), members, contracted_w, frozenset(exempt), frozenset(overlay_groups)
    )


def change_plans(
    *,
    actor: Actor,
    property_id: int,
    account_ids: Sequence[int],
    tariff_code: str,
    valid_from: datetime,
    now: datetime,
    reason: str = "",
    made_by: str = "",
    about: str = "",
) -> None:
    """Put accounts on another tariff from a local midnight to come.

    In the transaction in which ``actor`` agreed to what ``made_by`` proposed about the subject ``about``, for
    the database asks for that. What has begun was priced; a day that has passed is put right by
    ``rerating.correct_tariff``. ``reason`` is said in the audit trail. Raises ChangeRefused, Changed,
    UnknownAccount, PermissionRefused.
    """
    require(actor, "estate.write", property_id=property_id)
    accounts = sorted(set(account_ids))
    with scope(actor):
        advance_epoch(property_id)
        before, tariff = changeable(property_id, accounts, tariff_code, valid_from, now)
        if any(each.code == tariff_code for each in before.values()):
            raise ChangeRefused("same", f"they are on {tariff_code!r} on that day already")
        put_on_plan(property_id, accounts, tariff.pk, valid_from, kind=PLANS, about=about or None)
        for each in accounts:
            was = before.get(each)
            record(
                actor=made_by or actor.code, code="billing.tariff.changed",
                property_id=property_id, subject=f"account:{each}", now=now,
                valid_from=valid_from, before=None if was is None else was.code,
                after=tariff_code, reason=reason, approved_by=actor.code,
            )  # fmt: skip


def changeable(
    property_id: int,
    account_ids: Sequence[int],
    tariff_code: str,
    valid_from: datetime,
    now: datetime,
) -> tuple[dict[int, OnPlan], Tariff]:
    """(what each account is on by then, the tariff), in the caller's scope.

    The tariff must have a version in force by then: an account without a price stops its neighbours.
    Raises ChangeRefused, UnknownAccount.
    """
    _refuse_foreign(property_id, account_ids)
    if valid_from <= now:
        raise ChangeRefused("past", "a tariff changes from a day to come")
    if not _is_midnight(property_id, valid_from):
        raise ChangeRefused("not_midnight", f"{valid_from.isoformat()} begins no local day")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM account WHERE id = ANY(%s) AND closed_at IS NOT NULL",
            [list(account_ids)],
        )
        if cursor.fetchone()[0]:
            raise ChangeRefused("closed", "the account is closed")
    tariff = Tariff.objects.filter(property_id=property_id, code=tariff_code).first()
    if tariff is None:
        raise ChangeRefused("unknown", f"there is no tariff {tariff_code!r} at this property")
    version = tariff.versions.filter(valid_from__lte=valid_from).order_by("-valid_from").first()
    if version is None:
        raise ChangeRefused("not_in_force", f"{tariff_code!r} has no version in force by then")
    if parse_tariff(version.content).temporary is not None:
        raise ChangeRefused("temporary", f"{tariff_code!r} is for places that are let for a time")
    return plans_at(account_ids, valid_from), tariff


def withdraw_terms(
    *,
    actor: Actor,
    property_id: int,
    account_id: int,
    valid_from: datetime,
    now: datetime,
    reason: str = "",
    made_by: str = "",
) -> None:
    """Take away terms that have not begun: what holds before their day goes on.

    Terms that have begun are ended by other terms. In the transaction of the agreement, as `set_terms` is.
    Raises WithdrawalRefused, Changed, UnknownAccount, PermissionRefused.
    """
    require(actor, "billing.terms", property_id=property_id)
    by = made_by or actor.code
    with scope(actor):
        advance_epoch(property_id)
        gone, stays, was_first = withdrawable_terms(property_id, account_id, valid_from, now)
        _write_terms(by, property_id, account_id, gone, now, withdraws=True)
        if was_first:
            # They were the account's first and held until now too.
            begun = utc_datetime(_life_of(account_id).begun_us)
            request_rerating(from_at={account_id: begun}, reason=TERMS, now=now)
        record(
            actor=by,
            code="billing.terms.withdrawn",
            property_id=property_id,
            subject=f"account:{account_id}",
            now=now,
            valid_from=valid_from,
            before=content_of(gone),
            after=content_of(stays),
            reason=reason,
            **({"approved_by": actor.code} if made_by else {}),
        )


def withdrawable_terms(
    property_id: int, account_id: int, valid_from: datetime, now: datetime
) -> tuple[Terms, Terms, bool]:
    """(terms that begin then, those that hold without them, whether they are the account's first), in the
    caller's scope. Raises WithdrawalRefused, UnknownAccount.
    """
    _refuse_foreign(property_id, [account_id])
    known = terms_of([account_id]).get(account_id, ())
    at_us = instant_us(valid_from)
    gone = next((each for each in known if each.from_us == at_us), None)
    _refuse_withdrawal(gone, valid_from, now)
    assert gone is not None, "an unknown one was refused"
    left = [each for each in known if each is not gone]
    return gone, terms_at(left, at_us), known[0] is gone


def withdraw_tariff(
    *,
    actor: Actor,
    property_id: int,
    account_id: int,
    valid_from: datetime,
    now: datetime,
    reason: str = "",
    made_by: str = "",
    about: str = "",
) -> None:
    """Take away a change of tariff that has not begun: the account stays on the one before.

    One that has begun is ended by another change. In the transaction of the agreement, as `change_plans` is.
    Raises WithdrawalRefused, Changed, UnknownAccount, PermissionRefused.
    """
    require(actor, "estate.write", property_id=property_id)
    with scope(actor):
        advance_epoch(property_id)
        gone, before = withdrawable(property_id, account_id, valid_from, now)
        put_on_plan(
            property_id, [account_id], gone.tariff_id, valid_from, kind=PLANS, about=about or None,
            withdraws=True,
        )  # fmt: skip
        record(
            actor=made_by or actor.code,
            code="billing.tariff.withdrawn",
            property_id=property_id,
            subject=f"account:{account_id}",
            now=now,
            valid_from=valid_from,
            before=gone.code,
            after=before.code,
            reason=reason,
            approved_by=actor.code,
        )


def withdrawable(
    property_id: int, account_id: int, valid_from: datetime, now: datetime
) -> tuple[OnPlan, OnPlan]:
    """(the plan that begins then, the one before it), in the caller's scope.

    Raises WithdrawalRefused, UnknownAccount.
    """
    _refuse_foreign(property_id, [account_id])
    at_that = TariffAssignment.objects.filter(account_id=account_id, valid_from=valid_from)
    latest = at_that.select_related("tariff").order_by("-pk").first()
    gone = None if latest is None or latest.withdraws else latest
    _refuse_withdrawal(gone, valid_from, now)
    assert gone is not None, "an unknown one was refused"
    before = plans_at([account_id], valid_from - _INSTANT).get(account_id)
    if before is None:
        raise WithdrawalRefused("only", "the account begins with that tariff")
    return OnPlan(gone.tariff_id, gone.tariff.code, gone.tariff.name), before


_INSTANT = timedelta(microseconds=1)


def _refuse_withdrawal(gone: object | None, valid_from: datetime, now: datetime) -> None:
    if gone is None:
        raise WithdrawalRefused("unknown", f"nothing changes at {valid_from.isoformat()}")
    if valid_from <= now:
        raise WithdrawalRefused("begun", f"it began at {valid_from.isoformat()}")


@dataclass(frozen=True, slots=True)
class _Life:
    """When an account began, as its first local midnight; whether it is closed; what books are open."""

    begun_us: int
    closed: bool
    books_us: int | None


def _life_of(account_id: int) -> _Life:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT a.opened_at, a.closed_at IS NOT NULL, p.time_zone,
                      l.open_from::timestamp AT TIME ZONE p.time_zone
               FROM account a JOIN property p ON p.id = a.property_id
               LEFT JOIN ledger_period l ON l.property_id = p.id WHERE a.id = %s""",
            [account_id],
        )
        opened_at, closed, zone, open_from = cursor.fetchone()
    calendar = LocalCalendar(zone)
    begun_us = calendar.start_of_day(calendar.local_date(instant_us(opened_at)))
    return _Life(begun_us, closed, None if open_from is None else instant_us(open_from))


def _refuse_bad_day(account_id: int, valid_from: datetime, now: datetime) -> int:
    """No terms before an account, in closed books or of usage that is archived; returns its beginning."""
    life, at_us = _life_of(account_id), instant_us(valid_from)
    if life.closed:
        raise TermsRefused("closed", "the account is closed")
    if at_us < life.begun_us:
        raise TermsRefused("before_account", f"the account began after {valid_from.isoformat()}")
    if life.books_us is not None and at_us < life.books_us:
        raise TermsRefused("books_closed", f"the books of {valid_from.isoformat()} are closed")
    if valid_from < now and at_us < correctable_from_us():
        raise TermsRefused("archived", "usage of that day can no longer be rated anew")
    return life.begun_us


def held_terms(account_id: int, at: datetime) -> dict[str, object]:
    """What an account's terms say at an instant, in the caller's scope."""
    return content_of(terms_at(terms_of([account_id]).get(account_id, ()), instant_us(at)))


def terms_effect(account_id: int, valid_from: datetime, terms: Terms) -> dict[str, Any]:
    """What the database compares an agreement about terms by; ``before`` is still to be said."""
    return {
        "account": account_id, "valid_from": valid_from.isoformat(), "terms": content_of(terms),
        "withdraws": False,
    }  # fmt: skip


def content_of(terms: Terms) -> dict[str, object]:
    """What terms say, whenever they begin; as it stands in the audit trail and in a proposal."""
    return {
        "members": terms.members, "contracted_w": terms.contracted_w,
        "exempt": sorted(terms.exempt), "overlay_groups": sorted(terms.groups),
    }  # fmt: skip


def _write_terms(
    by: str, property_id: int, account_id: int, terms: Terms, now: datetime, *,
    withdraws: bool = False, since: datetime | None = None,
) -> int:  # fmt: skip
    """The row's id; no login writes terms otherwise than by this function of the database."""
    with saying_what_changed(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT write_terms(%s, %s, %s, %s::jsonb, %s, %s, %s, %s)",
            [property_id, account_id, utc_datetime(terms.from_us), json.dumps(content_of(terms)),
             withdraws, since, by, now],
        )  # fmt: skip
        return int(cursor.fetchone()[0])


def announce_event(
    *,
    actor: Actor,
    property_id: int,
    overlay_group: str,
    from_at: datetime,
    until_at: datetime,
    now: datetime,
    key: str | None = None,
) -> int:
    """Announce a critical peak to a group before it begins; returns the event's id.

    What it costs stands in the approved tariffs of the group's accounts. Raises EventRefused,
    PermissionRefused, KeyReused.
    """
    require(actor, "billing.announce", property_id=property_id)
    if not _is_word(overlay_group):
        raise EventRefused("words", "a group is a printable word of 1 to 40 characters")
    if from_at >= until_at:
        raise EventRefused("empty", "an event ends after it begins")
    body = {
        "op": "billing.announce", "property": property_id, "group": overlay_group,
        "from": from_at, "until": until_at,
    }  # fmt: skip
    with scope(actor):
        before = stored_answer(actor=actor, key=key, body=body)
        if before is not None:
            return _id(before)
        if from_at <= now:
            raise EventRefused("begun", "an event is announced before it begins")
        # First the epoch: its row keeps two announcements of a property apart.
        advance_epoch(property_id)
        if _held_event(property_id, overlay_group, from_at, until_at):
            raise EventRefused("overlaps", f"group {overlay_group!r} has an event in that time")
        event = PriceEvent.objects.create(
            property_id=property_id,
            overlay_group=overlay_group,
            from_at=from_at,
            until_at=until_at,
            announced_at=now,
            made_by=actor.code,
        )
        record(
            actor=actor.code,
            code="billing.event.announced",
            property_id=property_id,
            subject=f"price_event:{event.pk}",
            now=now,
            group=overlay_group,
            from_at=from_at,
            until_at=until_at,
        )
        _keep(actor, key, body, property_id, {"id": event.pk}, now)
    return int(event.pk)


def withdraw_event(*, actor: Actor, event_id: int, now: datetime, key: str | None = None) -> int:
    """End an event now, or take it away before it begins; returns the withdrawing row's id.

    What was used in it keeps its price. Raises EventRefused, PermissionRefused, KeyReused.
    """
    require(actor, "billing.announce")
    body = {"op": "billing.withdraw", "event": event_id}
    with scope(actor):
        before = stored_answer(actor=actor, key=key, body=body)
        if before is not None:
            return _id(before)
        event = PriceEvent.objects.filter(pk=event_id, withdraws__isnull=True).first()
        if event is None:
            raise EventRefused("unknown", f"there is no event {event_id}")
        require(actor, "billing.announce", property_id=event.property_id)
        advance_epoch(event.property_id)
        if PriceEvent.objects.filter(withdraws=event).exists():
            raise EventRefused("withdrawn", f"event {event_id} is withdrawn already")
        if event.until_at <= now:
            raise EventRefused("over", f"event {event_id} is over")
        row = PriceEvent.objects.create(
            property_id=event.property_id,
            overlay_group=event.overlay_group,
            from_at=event.from_at,
            until_at=max(now, event.from_at),
            announced_at=now,
            made_by=actor.code,
            withdraws=event,
        )
        record(
            actor=actor.code,
            code="billing.event.withdrawn",
            property_id=event.property_id,
            subject=f"price_event:{event_id}",
            now=now,
            until_at=row.until_at,
        )
        _keep(actor, key, body, event.property_id, {"id": row.pk}, now)
    return int(row.pk)


def append_prices(
    *,
    actor: Actor,
    property_id: int,
    overlay_group: str,
    prices: Sequence[SeriesPrice],
    now: datetime,
    key: str | None = None,
) -> None:
    """Go on with a group's real-time series, in the order of time.

    Where the series has a gap the band's own price holds. Accounts that were rated in what was a
    gap until now are rated anew. Raises PricesRefused, PermissionRefused, KeyReused.
    """
    require(actor, "billing.announce", property_id=property_id)
    if not _is_word(overlay_group):
        raise PricesRefused("words", 0, "a group is a printable word of 1 to 40 characters")
    _refuse_bad_series(prices)
    body = {
        "op": "billing.prices", "property": property_id, "group": overlay_group,
        "prices": [asdict(each) for each in prices],
    }  # fmt: skip
    with scope(actor):
        if stored_answer(actor=actor, key=key, body=body) is not None:
            return
        advance_epoch(property_id)
        last = (
            PriceOfSeries.objects.filter(property_id=property_id, overlay_group=overlay_group)
            .order_by("-from_at")
            .first()
        )
        if last is not None and prices[0].from_at < last.until_at:
            raise PricesRefused(
                "order", 0, f"the series is known until {last.until_at.isoformat()} already"
            )
        PriceOfSeries.objects.bulk_create(
            PriceOfSeries(
                property_id=property_id,
                overlay_group=overlay_group,
                from_at=each.from_at,
                until_at=each.until_at,
                price_nano=each.price_nano,
                appended_at=now,
                made_by=actor.code,
            )
            for each in prices
        )
        first = prices[0].from_at
        followers = _followers(property_id, overlay_group)
        request_rerating(from_at=dict.fromkeys(followers, first), reason=PRICES, now=now)
        record(
            actor=actor.code,
            code="billing.prices.appended",
            property_id=property_id,
            subject=f"property:{property_id}",
            now=now,
            group=overlay_group,
            prices=len(prices),
            from_at=first,
            until_at=prices[-1].until_at,
        )
        _keep(actor, key, body, property_id, {}, now)


def _id(answer: Mapping[str, object]) -> int:
    """The row that a key stands for."""
    return int(str(answer["id"]))


def _keep(
    actor: Actor,
    key: str | None,
    body: Mapping[str, object],
    property_id: int,
    answer: Mapping[str, object],
    now: datetime,
    *,
    account_id: int = 0,
) -> None:
    """Keep what a form's key stands for; a property's own deed is of no account."""
    store_answer(
        actor=actor, key=key, body=body, account_id=account_id, property_id=property_id,
        answer=answer, now=now,
    )  # fmt: skip


def _is_word(text: str) -> bool:
    return 1 <= len(text) <= _MOST_WORD and text.isprintable() and text == text.strip()


def _refuse_foreign(property_id: int, account_ids: Sequence[int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM account WHERE id = ANY(%s) AND property_id = %s",
            [list(account_ids), property_id],
        )
        if cursor.fetchone()[0] != len(account_ids):
            raise UnknownAccount(f"not all of {list(account_ids)} are accounts of {property_id}")


def _is_midnight(property_id: int, at: datetime) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT time_zone FROM property WHERE id = %s", [property_id])
        (zone,) = cursor.fetchone()
    calendar = LocalCalendar(zone)
    return calendar.start_of_day(calendar.local_date(instant_us(at))) == instant_us(at)


def _held_event(property_id: int, group: str, from_at: datetime, until_at: datetime) -> bool:
    """Whether an event of the group that was not taken away shares an instant with [from, until)."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT 1 FROM price_event e LEFT JOIN price_event w ON w.withdraws_id = e.id
               WHERE e.property_id = %s AND e.overlay_group = %s AND e.withdraws_id IS NULL
                 AND e.from_at < %s AND coalesce(w.until_at, e.until_at) > %s
                 AND coalesce(w.until_at, e.until_at) > e.from_at LIMIT 1""",
            [property_id, group, until_at, from_at],
        )
        return cursor.fetchone() is not None


def _refuse_bad_series(prices: Sequence[SeriesPrice]) -> None:
    if not prices:
        raise PricesRefused("empty", 0, "no prices were given")
    for row, each in enumerate(prices):
        if each.from_at >= each.until_at:
            raise PricesRefused("order", row, f"price {row} ends before it begins")
        if abs(each.price_nano) > MAX_PRICE_NANO:
            raise PricesRefused("price", row, f"price {row} is out of bounds")
    for row, (before, after) in enumerate(pairwise(prices)):
        if after.from_at < before.until_at:
            raise PricesRefused("order", row + 1, f"price {row + 1} overlaps the one before")


def _followers(property_id: int, group: str) -> list[int]:
    """Accounts that ever followed the group's prices."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT DISTINCT account_id FROM account_terms
               WHERE property_id = %s AND overlay_groups @> ARRAY[%s]::varchar[]""",
            [property_id, group],
        )
        return [int(row[0]) for row in cursor.fetchall()]
