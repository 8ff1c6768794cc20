"""On which plan accounts are: proposed ahead, for one or many, or put right for days that have passed.

A change ahead counts its accounts on the ladder `billing.plans`; a wrong plan put right counts the money that
it moves on `billing.correction`, and takes another person however little that is. What is proposed names every
account with the plan it is on, so that whoever was moved in the meantime makes it void.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import Actor, rehearsal, require, scope
from prewatt.approvals.kinds import Agreed, Changed, Kind
from prewatt.approvals.operations import Wanted, rehearse, wanted_change
from prewatt.billing.change_looks import look_at_plans
from prewatt.billing.models import Tariff
from prewatt.billing.queries import plans_at
from prewatt.billing.rerating import CORRECTION, CorrectionRefused, correct_tariff
from prewatt.billing.terms import (
    PLANS,
    ChangeRefused,
    WithdrawalRefused,
    change_plans,
    changeable,
    withdraw_tariff,
    withdrawable,
)
from prewatt.ledger.operations import UnknownAccount, lock_accounts

#: One proposal names so many accounts at most; its effect is read, signed for and shown whole.
ACCOUNTS_MAX: Final = 2_000


def wanted_plans(
    *,
    actor: Actor,
    property_id: int,
    account_ids: Sequence[int],
    tariff_code: str,
    valid_from: datetime,
    now: datetime,
) -> Wanted:
    """Accounts on another plan from a local midnight to come, with what their last days would have cost.

    Those that are on it by then are left out. Raises ChangeRefused, also ``many`` and ``nobody``.
    """
    require(actor, "estate.write", property_id=property_id)
    named = sorted(set(account_ids))
    if not named:
        raise ChangeRefused("nobody", "no account was chosen")
    if len(named) > ACCOUNTS_MAX:
        raise ChangeRefused("many", f"at most {ACCOUNTS_MAX} accounts at once")
    with scope(actor):
        before, tariff = changeable(property_id, named, tariff_code, valid_from, now)
        accounts = [
            each for each in named if each not in before or before[each].code != tariff_code
        ]
        if not accounts:
            raise ChangeRefused("same", f"they are on {tariff_code!r} on that day already")
        looked = look_at_plans(
            property_id=property_id, account_ids=accounts, tariff_code=tariff_code,
            valid_from=valid_from, now=now,
        )  # fmt: skip
        was = [before.get(each) for each in accounts]
        effect = {
            **_of_plan(tariff.pk, tariff.code, tariff.name, valid_from, accounts),
            "before": [None if each is None else each.tariff_id for each in was],
            "from": sorted({each.name for each in was if each is not None}),
            "amount": len(accounts), "days": looked.days, "pays_before": looked.before,
            "pays_after": looked.after, "pay_more": looked.pay_more, "pay_less": looked.pay_less,
        }  # fmt: skip
        return wanted_change(
            kind=PLANS, property_id=property_id, subject=_subject(accounts, tariff_code, valid_from),
            effect=effect,
        )  # fmt: skip


def wanted_withdrawal(
    *, actor: Actor, property_id: int, account_id: int, valid_from: datetime, now: datetime
) -> Wanted:
    """A change of plan taken back before it begins. Raises WithdrawalRefused, UnknownAccount."""
    require(actor, "estate.write", property_id=property_id)
    with scope(actor):
        gone, before = withdrawable(property_id, account_id, valid_from, now)
        effect = {
            **_of_plan(gone.tariff_id, gone.code, gone.name, valid_from, [account_id]),
            "before": [gone.tariff_id], "from": [gone.name], "stays": before.name, "amount": 1,
            "withdraws": True,
        }  # fmt: skip
        return wanted_change(
            kind=PLANS, property_id=property_id, subject=f"account:{account_id}", effect=effect
        )


@dataclass(frozen=True, slots=True)
class CorrectionPreview:
    """What a correction would do to one account: its charges and what it has, before and after."""

    charged_before: int
    charged_after: int
    available_before: int
    available_after: int

    @property
    def by_days(self) -> int:
        """What charges by the day add or give back besides the energy's difference."""
        moved = self.available_after - self.available_before
        return moved - (self.charged_before - self.charged_after)


def wanted_correction(
    *, actor: Actor, property_id: int, account_id: int, tariff_code: str, from_at: datetime,
    now: datetime,
) -> tuple[Wanted, CorrectionPreview]:  # fmt: skip
    """The plan that was right from a past instant on, and what it comes to: found by doing it and taking it
    back. Raises CorrectionRefused, UnknownAccount, Tariff.DoesNotExist.
    """
    require(actor, "billing.correct", property_id=property_id)
    with scope(actor):
        tariff = Tariff.objects.get(property_id=property_id, code=tariff_code)
        before = plans_at([account_id], from_at).get(account_id)
        effect = {
            **_of_plan(tariff.pk, tariff.code, tariff.name, from_at, [account_id]),
            "before": [None if before is None else before.tariff_id],
            "from": [] if before is None else [before.name],
        }  # fmt: skip
        subject = f"account:{account_id}"
        first = Wanted(CORRECTION, property_id, subject, effect, b"")
        looked = _rehearsed(actor, first, account_id, tariff_code, from_at, now)
        effect |= {
            "amount": abs(looked.available_after - looked.available_before),
            "charged_before": looked.charged_before, "charged_after": looked.charged_after,
            "by_days": looked.by_days,
        }  # fmt: skip
        wanted = wanted_change(
            kind=CORRECTION, property_id=property_id, subject=subject, effect=effect
        )
    return wanted, looked


def _rehearsed(
    actor: Actor,
    wanted: Wanted,
    account_id: int,
    tariff_code: str,
    from_at: datetime,
    now: datetime,
) -> CorrectionPreview:
    with rehearsal():
        # The account first, as a batch of readings does: all of it is one transaction here.
        before = _available_of(actor, account_id)
        with scope(actor):
            rehearse(wanted)
        done = correct_tariff(
            actor=actor, property_id=wanted.property_id, account_ids=[account_id],
            tariff_code=tariff_code, from_at=from_at, reason="", made_by="rehearsal",
            about=wanted.subject, now=now,
        )  # fmt: skip
        after = _available_of(actor, account_id)
    return CorrectionPreview(
        sum(each.charged_before for each in done),
        sum(each.charged_after for each in done),
        before,
        after,
    )


def _available_of(actor: Actor, account_id: int) -> int:
    with scope(actor), connection.cursor() as cursor:
        lock_accounts([account_id])
        cursor.execute("SELECT available FROM account_state WHERE account_id = %s", [account_id])
        row = cursor.fetchone()
    if row is None:
        raise UnknownAccount(f"there is no account {account_id} at your properties")
    return int(row[0])


def _of_plan(
    plan: int, code: str, name: str, valid_from: datetime, accounts: Sequence[int]
) -> dict[str, Any]:
    """What the database compares an agreement by, and what it is called; of one account its number too."""
    found = {
        "plan": plan, "code": code, "name": name, "valid_from": valid_from.isoformat(),
        "accounts": list(accounts), "withdraws": False,
    }  # fmt: skip
    return found | ({"account": accounts[0]} if len(accounts) == 1 else {})


def _subject(accounts: Sequence[int], code: str, valid_from: datetime) -> str:
    if len(accounts) == 1:
        return f"account:{accounts[0]}"
    return f"plan:{code}:{valid_from:%Y-%m-%dT%H}"


def _put_on(actor: Actor, agreed: Agreed, now: datetime) -> None:
    """The change that was agreed to, or the end of one. Raises Changed."""
    effect = agreed.effect
    own: dict[str, Any] = {
        "actor": actor, "property_id": agreed.property_id, "now": now, "reason": agreed.reason,
        "made_by": agreed.made_by, "about": agreed.subject,
        "valid_from": datetime.fromisoformat(effect["valid_from"]),
    }  # fmt: skip
    lock_accounts(effect["accounts"])
    try:
        if effect["withdraws"]:
            withdraw_tariff(account_id=effect["account"], **own)
        else:
            change_plans(account_ids=effect["accounts"], tariff_code=effect["code"], **own)
    except (ChangeRefused, WithdrawalRefused) as refused:
        raise Changed(_CHANGED.get(refused.reason, "plan")) from refused


_CHANGED: Final = {"past": "begun", "begun": "begun", "closed": "closed", "archived": "archived"}


def _put_right(actor: Actor, agreed: Agreed, now: datetime) -> None:
    """The wrong plan put right as it was agreed to. Raises Changed, also ``amount``: by now it would move so
    much that more people have to agree.
    """
    effect = agreed.effect
    account_id = int(effect["account"])
    before = _available_of(actor, account_id)
    try:
        correct_tariff(
            actor=actor, property_id=agreed.property_id, account_ids=effect["accounts"],
            tariff_code=effect["code"], from_at=datetime.fromisoformat(effect["valid_from"]),
            reason=agreed.reason, made_by=agreed.made_by, about=agreed.subject, now=now,
        )  # fmt: skip
    except CorrectionRefused as refused:
        raise Changed(_CHANGED.get(refused.reason, "plan")) from refused
    moved = abs(_available_of(actor, account_id) - before)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT p.amount < %s
                   AND approvers_needed(p.kind, p.property_id, %s, p.made_by, p.id) > p.needed
               FROM proposal p WHERE p.id = %s""",
            [moved, moved, agreed.proposal_id],
        )
        if cursor.fetchone()[0]:
            raise Changed("amount")


KINDS: Final = (Kind(PLANS, _put_on), Kind(CORRECTION, _put_right))
