"""What other terms or another plan would come to, looked at before anybody decides.

Two answers. What the account would have paid for its last days under both, part by part: the usage that
stands is rated twice, as a trial does. And what is booked at once where the change is back-dated: the
operation itself is done, rated anew and taken back, so these are the very transfers to come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import numpy as np
from django.db import connection

from prewatt.access.scope import Actor, rehearsal, require, scope
from prewatt.approvals.operations import Wanted, rehearse
from prewatt.billing.models import TariffVersion
from prewatt.billing.plan_costs import (
    Load,
    Part,
    Place,
    costs_of,
    counts_from_us,
    place_of_days,
)
from prewatt.billing.queries import Terms, plans_at, tariff_code_at, terms_at, terms_of
from prewatt.billing.rerate_requests import TERMS
from prewatt.billing.rerating import rerate
from prewatt.billing.terms import (
    TERMS_KIND,
    changeable,
    held_terms,
    set_terms,
    terms_effect,
    wanted_terms_of,
)
from prewatt.billing.trial_months import left_out
from prewatt.billing.usage import read_usage
from prewatt.core.accounts import TransferKind
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import LocalCalendar, day_date, instant_us, utc_datetime
from prewatt.core.rating import Component
from prewatt.core.tariff import Tariff, parse_tariff
from prewatt.ledger.operations import UnknownAccount, lock_accounts

#: Days looked back over, fewer for an account that is younger.
DAYS: Final = 30
#: Accounts whose days are read and rated at a time.
CHUNK: Final = 250


@dataclass(frozen=True, slots=True)
class PartLine:
    """One part of the bill in micro-units, as it is now and after the change."""

    part: Part
    before: int
    after: int

    @property
    def difference(self) -> int:
        """What is paid more after the change."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class ToCome:
    """What rating anew books of one component: so many transfers, of the service days [first, end)."""

    component: Component
    transfers: int
    first: datetime
    end: datetime
    amount: int


@dataclass(frozen=True, slots=True)
class ChangeLook:
    """What a change comes to. ``days`` is 0 where there is nothing to compare yet.

    ``left_out`` names what of the plans is in no figure (``trial_months.left_out``).
    """

    days: int
    first_day: date
    last_day: date
    energy_wh: int
    lines: tuple[PartLine, ...]
    left_out: tuple[str, ...]
    to_come: tuple[ToCome, ...]
    available_before: int
    available_after: int

    @property
    def before(self) -> int:
        """The whole bill of these days as it is now."""
        return sum(each.before for each in self.lines)

    @property
    def after(self) -> int:
        """The whole bill of these days after the change."""
        return sum(each.after for each in self.lines)

    @property
    def saved(self) -> int:
        """What these days would have cost less."""
        return -self.difference

    @property
    def booked(self) -> int:
        """What the transfers to come add to the wallet, or take from it."""
        return sum(each.amount for each in self.to_come)

    @property
    def difference(self) -> int:
        """What these days would have cost more."""
        return self.after - self.before


def look_at_terms(
    *, actor: Actor, property_id: int, account_id: int, valid_from: datetime, members: int,
    contracted_w: int, exempt: Sequence[str], overlay_groups: Sequence[str], now: datetime,
) -> ChangeLook:  # fmt: skip
    """What ``terms.set_terms`` would come to. Raises as it does."""
    require(actor, "billing.terms", property_id=property_id)
    terms = wanted_terms_of(valid_from, members, contracted_w, exempt, overlay_groups)
    subject = f"account:{account_id}"
    effect = terms_effect(account_id, valid_from, terms)
    wanted_now = Wanted(TERMS_KIND, property_id, subject, effect, b"")

    def deed() -> None:
        with scope(actor):
            # The database asks for what others agreed to, also where the deed is taken back.
            effect["before"] = held_terms(account_id, valid_from)
            rehearse(wanted_now)
        set_terms(
            actor=actor, property_id=property_id, account_id=account_id, valid_from=valid_from,
            members=members, contracted_w=contracted_w, exempt=exempt,
            overlay_groups=overlay_groups, now=now,
        )  # fmt: skip

    booked = _rehearsed(actor, account_id, valid_from, now, deed)
    with scope(actor):
        at = max(valid_from, now)
        plan = _plan_at(property_id, tariff_code_at(account_id, at), at)
        own = terms_at(terms_of([account_id]).get(account_id, ()), instant_us(valid_from))
        wanted = Terms(0, members, contracted_w, frozenset(exempt), frozenset(overlay_groups))
        return _look(property_id, account_id, ((plan, own), (plan, wanted)), booked, now)


def look_at_tariff(
    *, actor: Actor, property_id: int, account_id: int, tariff_code: str, valid_from: datetime,
    now: datetime,
) -> ChangeLook:  # fmt: skip
    """What ``terms.change_plans`` would come to for one account. Raises as it does."""
    require(actor, "estate.write", property_id=property_id)
    with scope(actor):
        changeable(property_id, [account_id], tariff_code, valid_from, now)
        available, _ = _standing(actor, account_id)
        present = _plan_at(property_id, tariff_code_at(account_id, valid_from), valid_from)
        wanted = _plan_at(property_id, tariff_code, valid_from)
        own = terms_at(terms_of([account_id]).get(account_id, ()), instant_us(valid_from))
        sides = ((present, own), (wanted, own))
        return _look(property_id, account_id, sides, _Booked((), available, available), now)


@dataclass(frozen=True, slots=True)
class PlansLook:
    """What another plan would have cost many accounts together on their last days, in micro-units."""

    days: int
    before: int
    after: int
    pay_more: int
    pay_less: int


def look_at_plans(
    *,
    property_id: int,
    account_ids: Sequence[int],
    tariff_code: str,
    valid_from: datetime,
    now: datetime,
) -> PlansLook:
    """What ``terms.change_plans`` would come to for accounts, in the caller's scope.

    An account is compared under the plan that it is on by then; one that is on none is in no figure.
    """
    on = plans_at(account_ids, valid_from)
    plans = {each.code: _plan_at(property_id, each.code, valid_from) for each in on.values()}
    plans[tariff_code] = _plan_at(property_id, tariff_code, valid_from)
    found = PlansLook(DAYS, 0, 0, 0, 0)
    priced = sorted(each for each in on if plans[on[each].code] is not None)
    for at in range(0, len(priced), CHUNK):
        chunk = priced[at : at + CHUNK]
        codes = {each: on[each].code for each in chunk}
        place = place_of_days(property_id=property_id, days=DAYS, now=now, account_ids=chunk)
        before, after = _compared(place, chunk, codes, plans, tariff_code)
        found = PlansLook(
            DAYS,
            found.before + int(before.sum()),
            found.after + int(after.sum()),
            found.pay_more + int((after > before).sum()),
            found.pay_less + int((after < before).sum()),
        )
    return found


def _compared(
    place: Place, accounts: Sequence[int], codes: Mapping[int, str],
    plans: Mapping[str, Tariff | None], wanted: str,
) -> tuple[Int64, Int64]:  # fmt: skip
    """What each account pays on the days under its own plan, and under the wanted one."""
    used = [plan for code in {*codes.values(), wanted} if (plan := plans[code]) is not None]
    since = utc_datetime(min(counts_from_us(place, plan) for plan in used))
    terms = terms_of(accounts)

    def paid(chosen: Sequence[int], code: str) -> Int64:
        plan = plans[code]
        assert plan is not None, "accounts without a price are left out"
        usage = read_usage(account_ids=chosen, from_at=since, until_at=utc_datetime(place.until_us))
        day = place.calendar.local_day(usage.start_at_us) - place.first_day
        total: Int64 = costs_of(place, plan, Load(chosen, terms, usage, day)).total.sum(axis=1)
        return total

    after = paid(accounts, wanted)
    before = np.zeros(len(accounts), dtype=np.int64)
    for code in sorted(set(codes.values())):
        chosen = [each for each in accounts if codes[each] == code]
        before[np.isin(np.array(accounts), np.array(chosen))] = paid(chosen, code)
    return before, after


#: A plan, None where the account is on none, and terms.
_Side = tuple[Tariff | None, Terms]


@dataclass(frozen=True, slots=True)
class _Booked:
    """What a rehearsal booked, and the money that was available before and after it."""

    to_come: tuple[ToCome, ...]
    before: int
    after: int


def _rehearsed(
    actor: Actor, account_id: int, valid_from: datetime, now: datetime, deed: Callable[[], None]
) -> _Booked:
    with rehearsal():
        # The account first, as a batch of readings does: all of it is one transaction here.
        before, seq = _standing(actor, account_id)
        deed()
        if valid_from >= now:
            return _Booked((), before, before)
        rerate(actor=actor, account_ids=[account_id], from_at=valid_from, reason=TERMS, now=now)
        after, _ = _standing(actor, account_id)
        with scope(actor), connection.cursor() as cursor:
            # What was used and not posted yet is posted before a correction; that charges nothing new.
            cursor.execute(
                """SELECT component, count(*), min(service_from), max(service_to), sum(amount)::bigint
                   FROM transfer WHERE account_id = %s AND seq > %s AND kind <> %s
                   GROUP BY component ORDER BY component""",
                [account_id, seq, int(TransferKind.USAGE)],
            )
            to_come = tuple(ToCome(Component(row[0]), *row[1:]) for row in cursor.fetchall())
        return _Booked(to_come, before, after)


def _standing(actor: Actor, account_id: int) -> tuple[int, int]:
    """(available, number of the last transfer), under the account's lock."""
    with scope(actor), connection.cursor() as cursor:
        lock_accounts([account_id])
        cursor.execute(
            "SELECT available, transfer_seq FROM account_state WHERE account_id = %s", [account_id]
        )
        row = cursor.fetchone()
    if row is None:
        raise UnknownAccount(f"there is no account {account_id} at your properties")
    return int(row[0]), int(row[1])


def _plan_at(property_id: int, code: str | None, at: datetime) -> Tariff | None:
    """The version of a tariff that is in force at an instant."""
    version = (
        TariffVersion.objects.filter(property_id=property_id, tariff__code=code, valid_from__lte=at)
        .order_by("-valid_from")
        .first()
    )
    return None if version is None else parse_tariff(version.content)


def _look(
    property_id: int, account_id: int, sides: tuple[_Side, _Side], booked: _Booked, now: datetime
) -> ChangeLook:
    days = min(DAYS, _days_of(account_id, now))
    place = place_of_days(property_id=property_id, days=days, now=now, account_ids=[account_id])
    plans = [plan for plan, _ in sides if plan is not None]
    if not days or len(plans) < len(sides):
        first = last = day_date(place.first_day)
        return ChangeLook(
            0, first, last, 0, (), (), booked.to_come, booked.before, booked.after
        )  # fmt: skip
    usage = read_usage(
        account_ids=[account_id],
        from_at=utc_datetime(min(counts_from_us(place, plan) for plan in plans)),
        until_at=utc_datetime(place.until_us),
    )
    day = place.calendar.local_day(usage.start_at_us) - place.first_day
    costs = [
        _sums(place, plan, Load([account_id], {account_id: (terms,)}, usage, day))
        for plan, terms in sides
        if plan is not None
    ]
    return ChangeLook(
        days,
        day_date(place.first_day),
        day_date(place.first_day + days - 1),
        int(usage.energy_wh[day >= 0].sum()),
        tuple(
            PartLine(part, costs[0][part], costs[1][part])
            for part in Part
            if costs[0][part] or costs[1][part]
        ),
        tuple(sorted({word for plan in plans for word in left_out(plan, place.first_day, days)})),
        booked.to_come,
        booked.before,
        booked.after,
    )


def _sums(place: Place, plan: Tariff, load: Load) -> dict[Part, int]:
    return {part: int(amounts.sum()) for part, amounts in costs_of(place, plan, load).parts.items()}


def _days_of(account_id: int, now: datetime) -> int:
    """Whole local days that an account has lived, the one on which it was opened included."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT a.opened_at, p.time_zone FROM account a JOIN property p ON p.id = a.property_id
               WHERE a.id = %s""",
            [account_id],
        )
        opened_at, zone = cursor.fetchone()
    calendar = LocalCalendar(zone)
    lived = calendar.local_date(instant_us(now)) - calendar.local_date(instant_us(opened_at))
    return max(0, lived.days)
