"""Writes about debts: opened, settled, written off; agreements and policies changed.

A debt is a receivable of the property beside the wallet. Money between the two is transfers with
counter-account DEBTS and the debt's code, so the books alone say what is left of it; a debt never
hides in a balance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed, saying_what_changed
from prewatt.audit.operations import record
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.debts.models import PPM, Debt, DebtPolicy
from prewatt.debts.recovery import debt_leg
from prewatt.debts.telling import tell_agreement, tell_opened, tell_reduced, tell_written_off
from prewatt.debts.words import (
    AgreementRefused,
    AmountRefused,
    DebtOpened,
    DebtReduced,
    NamedDebt,
    NewDebt,
    Policy,
    UnknownDebt,
)
from prewatt.ledger.idempotency import store_answer, stored_answer
from prewatt.ledger.operations import (
    Event,
    Leg,
    append_events,
    lock_accounts,
    new_event_ids,
    next_document_number,
)
from prewatt.supply.operations import decide_after_credit, decide_for_crossings

SERIES = "D"


@dataclass(frozen=True, slots=True)
class _Account:
    """Where a locked account is and what it has."""

    property_id: int
    legal_entity_id: int
    available_micro: int
    watch_below_micro: int


def open_debt(
    *,
    actor: Actor,
    account_id: int,
    amount_micro: int,
    reason: Debt.Reason,
    note: str,
    share_ppm: int,
    weekly_cap_micro: int,
    key: str,
    now: datetime,
) -> DebtOpened:
    """Write down a debt with its agreement and return it with its number.

    ARREARS lends the wallet what it lacks, at most up to zero; any other reason is money owed
    beside the wallet, which stays as it is. Idempotent by ``key``. Raises DebtRefused,
    PermissionRefused, PeriodClosed, KeyReused.
    """
    require(actor, "debts.manage")
    _refuse_agreement(share_ppm, weekly_cap_micro)
    body = {
        "op": "debt.open", "account": account_id, "amount": amount_micro, "reason": reason.value,
        "note": note, "share": share_ppm, "cap": weekly_cap_micro,
    }  # fmt: skip
    with scope(actor):
        before = stored_answer(actor=actor, key=key, body=body)
        if before is not None:
            return DebtOpened(**_again(before))
        account = _locked(actor, account_id)
        _refuse_amount(amount_micro, _most(reason, account))
        (event,) = new_event_ids(1)
        new = NewDebt(
            account_id, account.property_id, account.legal_entity_id, amount_micro, reason,
            share_ppm, weekly_cap_micro, note,
        )  # fmt: skip
        (debt,) = name_debts(actor_code=actor.code, debts=[new], event_ids=[event], now=now)
        lends = reason is Debt.Reason.ARREARS
        legs = [opening_leg(debt, amount_micro, reason, now)]
        if not lends:
            legs.append(_against(debt, -amount_micro, f"debt.{reason.value}", now))
        _append(actor, event, legs, now)
        if lends:
            decide_after_credit(account_ids=[account_id], now=now)
        answer = DebtOpened(
            debt.debt_id,
            account_id,
            debt.code,
            amount_micro,
            event,
            account.available_micro + (amount_micro if lends else 0),
        )
        tell_opened(
            new=new, debt=debt, event_id=event, available_micro=answer.available_after_micro,
            now=now,
        )  # fmt: skip
        _keep(actor, key, body, account, account_id, asdict(answer), now)
    return answer


def _most(reason: Debt.Reason, account: _Account) -> int | None:
    return max(0, -account.available_micro) if reason is Debt.Reason.ARREARS else None


def name_debts(
    *, actor_code: str, debts: Sequence[NewDebt], event_ids: Sequence[int], now: datetime
) -> list[NamedDebt]:
    """Number debts that arise in events of the caller's transaction, which books their transfers.

    The caller holds the accounts' locks. Numbers are without gaps per legal entity; each debt is a
    document and an audit event of its own.
    """
    named = []
    for debt, event in zip(debts, event_ids, strict=True):
        number = next_document_number(legal_entity_id=debt.legal_entity_id, series=SERIES)
        code = f"{SERIES}-{number}"
        row = Debt.objects.create(
            property_id=debt.property_id,
            legal_entity_id=debt.legal_entity_id,
            account_id=debt.account_id,
            number=number,
            code=code,
            reason=debt.reason,
            note=debt.note,
            principal_micro=debt.amount_micro,
            origin_event_id=event,
            share_ppm=debt.share_ppm,
            weekly_cap_micro=debt.weekly_cap_micro,
            opened_at=now,
            opened_by=actor_code,
        )
        _document(debt, number, event, now)
        record(
            actor=actor_code,
            code="debts.debt.opened",
            property_id=debt.property_id,
            subject=f"account:{debt.account_id}",
            now=now,
            debt=code,
            amount=debt.amount_micro,
            reason=debt.reason.value,
            share_ppm=debt.share_ppm,
            weekly_cap=debt.weekly_cap_micro,
            event=event,
        )
        named.append(NamedDebt(row.pk, debt.account_id, number, code))
    return named


def opening_leg(debt: NamedDebt, amount_micro: int, reason: Debt.Reason, now: datetime) -> Leg:
    """What a new debt lends to the wallet."""
    return debt_leg(
        debt.account_id,
        amount_micro,
        debt.code,
        now,
        kind=TransferKind.DEBT,
        reason=f"debt.{reason.value}",
    )


def settle_debt(
    *, actor: Actor, debt_id: int, amount_micro: int | None, key: str, now: datetime
) -> DebtReduced:
    """Pay a debt, or part of it, out of the wallet at the customer's wish (None: what is left).

    Never more than is available: a debt that is paid must not make another one. Idempotent by
    ``key``. Raises DebtRefused, PermissionRefused, PeriodClosed, KeyReused.
    """
    body = {"op": "debt.settle", "debt": debt_id, "amount": amount_micro}
    return _reduce(
        actor, debt_id, amount_micro, body, key, now, ending=Debt.Ending.PAID, reason="debt.settled"
    )


def write_off_debt(
    *,
    actor: Actor,
    debt_id: int,
    why: str,
    key: str,
    now: datetime,
    amount_micro: int | None = None,
    agreed: Agreed | None = None,
) -> DebtReduced:
    """Give up what is left of a debt; the property bears it and the wallet stays as it is.

    People do it by a proposal (`by_agreement`), which says how much is left; the database asks for it.
    Idempotent by ``key``. Raises DebtRefused, PermissionRefused, PeriodClosed, KeyReused.
    """
    body = {"op": "debt.write_off", "debt": debt_id, "why": why}
    return _reduce(
        actor, debt_id, amount_micro, body, key, now,
        ending=Debt.Ending.WRITTEN_OFF, reason="debt.written_off", agreed=agreed,
    )  # fmt: skip


def _reduce(
    actor: Actor,
    debt_id: int,
    amount_micro: int | None,
    body: Mapping[str, object],
    key: str,
    now: datetime,
    *,
    ending: Debt.Ending,
    reason: str,
    agreed: Agreed | None = None,
) -> DebtReduced:
    """Take a debt down, at the wallet's cost or the property's."""
    require(actor, "debts.manage")
    with scope(actor):
        before = stored_answer(actor=actor, key=key, body=body)
        if before is not None:
            return DebtReduced(**_again(before))
        debt, account = _locked_debt(actor, debt_id)
        left = left_of(debt.account_id, debt.code)
        amount = left if amount_micro is None else amount_micro
        by_wallet = ending is Debt.Ending.PAID
        _refuse_amount(amount, min(left, max(0, account.available_micro)) if by_wallet else left)
        (event,) = new_event_ids(1)
        named = NamedDebt(debt.pk, debt.account_id, debt.number, debt.code)
        kind = TransferKind.DEBT if by_wallet else TransferKind.WRITE_OFF
        legs = [debt_leg(debt.account_id, -amount, debt.code, now, kind=kind, reason=reason)]
        if not by_wallet:
            legs.append(_against(named, amount, reason, now, kind=kind))
        _append(actor, event, legs, now)
        if left == amount:
            Debt.objects.filter(pk=debt.pk).update(closed_at=now, ending=ending)
        if by_wallet and account.available_micro - amount < account.watch_below_micro:
            decide_for_crossings(account_ids=[debt.account_id], now=now, fresh=True)
        answer = DebtReduced(debt.pk, debt.code, amount, left - amount, event)
        if by_wallet:
            tell_reduced(
                debt=debt, amount_micro=amount, left_micro=answer.left_micro, now=now,
                event_id=event, available_micro=account.available_micro - amount,
            )  # fmt: skip
        else:
            tell_written_off(debt=debt, amount_micro=amount, event_id=event, now=now)
        record(
            actor=actor.code,
            code=f"debts.{reason}",
            property_id=account.property_id,
            subject=f"account:{debt.account_id}",
            now=now,
            debt=debt.code,
            amount=amount,
            left=answer.left_micro,
            event=event,
            why=body.get("why", ""),
            **(agreed.audited if agreed else {}),
        )
        _keep(actor, key, body, account, debt.account_id, asdict(answer), now)
    return answer


def reopen_debts(*, codes: Mapping[int, Sequence[str]]) -> None:
    """Open again debts that get back what a recharge had paid of them; codes by account.

    The caller holds the accounts' locks and books the transfers.
    """
    for account_id, own in codes.items():
        closed = Debt.objects.filter(account_id=account_id, code__in=own, closed_at__isnull=False)
        closed.update(closed_at=None, ending=Debt.Ending.OPEN)


def change_agreement(
    *, actor: Actor, debt_id: int, share_ppm: int, weekly_cap_micro: int, now: datetime
) -> None:
    """Agree anew on what an open debt takes of each recharge. Raises DebtRefused."""
    require(actor, "debts.manage")
    _refuse_agreement(share_ppm, weekly_cap_micro)
    with scope(actor):
        debt, account = _locked_debt(actor, debt_id)
        Debt.objects.filter(pk=debt.pk).update(
            share_ppm=share_ppm, weekly_cap_micro=weekly_cap_micro
        )
        record(
            actor=actor.code,
            code="debts.agreement.changed",
            property_id=account.property_id,
            subject=f"account:{debt.account_id}",
            now=now,
            debt=debt.code,
            before={"share_ppm": debt.share_ppm, "weekly_cap": debt.weekly_cap_micro},
            after={"share_ppm": share_ppm, "weekly_cap": weekly_cap_micro},
        )
        if (debt.share_ppm, debt.weekly_cap_micro) != (share_ppm, weekly_cap_micro):
            debt.share_ppm, debt.weekly_cap_micro = share_ppm, weekly_cap_micro
            tell_agreement(debt=debt, left_micro=left_of(debt.account_id, debt.code), now=now)


def set_policy(
    *, actor: Actor, property_id: int, policy: Policy, now: datetime, made_by: str = "",
    reason: str = "",
) -> None:  # fmt: skip
    """Say what a property does about used credit that is taken back.

    In the transaction in which ``actor`` agreed to what ``made_by`` proposed (``by_agreement``), for the
    database asks for that. Raises AgreementRefused, Changed.
    """
    require(actor, "debts.policy", property_id=property_id)
    refuse_policy(policy)
    with scope(actor):
        former = stored_policy(property_id)
        with saying_what_changed(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT change_debt_policy(%s, %s::jsonb, %s)",
                [property_id, json.dumps(asdict(policy)), now],
            )
        record(
            actor=made_by or actor.code,
            code="debts.policy.set",
            property_id=property_id,
            subject=f"property:{property_id}",
            now=now,
            before=former,
            after=asdict(policy),
            **({"reason": reason, "approved_by": actor.code} if made_by else {}),
        )


def refuse_policy(policy: Policy) -> None:
    """Refuse what no property may say. Raises AgreementRefused."""
    _refuse_agreement(policy.share_ppm, policy.weekly_cap_micro)
    if policy.let_shortfall is DebtPolicy.Missing.REFUSE:
        raise AgreementRefused("the end of a let cannot be refused: name a debt, or bear the loss")


def stored_policy(property_id: int) -> dict[str, Any] | None:
    """What a property said last, in the caller's scope; None where it has said nothing."""
    found = DebtPolicy.objects.filter(pk=property_id).values(*asdict(Policy())).first()
    return None if found is None else dict(found)


def left_of(account_id: int, code: str) -> int:
    """What is left of a debt, from the ledger, in the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT coalesce(sum(amount), 0)::bigint FROM transfer
               WHERE account_id = %s AND counter_account = %s AND code = %s""",
            [account_id, int(CounterAccount.DEBTS), code],
        )
        return int(cursor.fetchone()[0])


def _against(
    debt: NamedDebt,
    amount_micro: int,
    reason: str,
    now: datetime,
    *,
    kind: TransferKind = TransferKind.DEBT,
) -> Leg:
    """The other half of a debt that does not pass through the wallet."""
    return debt_leg(
        debt.account_id,
        amount_micro,
        debt.code,
        now,
        kind=kind,
        counter_account=CounterAccount.ADJUSTMENTS,
        reason=reason,
    )


def _locked(actor: Actor, account_id: int) -> _Account:
    if not lock_accounts([account_id]):
        raise UnknownDebt(f"there is no account {account_id} at your properties")
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT property_id, legal_entity_id, available, watch_below
               FROM account_state WHERE account_id = %s""",
            [account_id],
        )
        account = _Account(*cursor.fetchone())
    require(actor, "debts.manage", property_id=account.property_id)
    return account


def _locked_debt(actor: Actor, debt_id: int) -> tuple[Debt, _Account]:
    """An open debt, read again once its account is locked."""
    seen = Debt.objects.filter(pk=debt_id).first()
    if seen is None:
        raise UnknownDebt(f"there is no debt {debt_id} at your properties")
    account = _locked(actor, seen.account_id)
    debt = Debt.objects.get(pk=debt_id)
    if debt.closed_at is not None:
        raise UnknownDebt(f"{debt.code} is closed ({debt.ending}); nothing is left of it")
    return debt, account


def _refuse_amount(amount_micro: int, most: int | None) -> None:
    if amount_micro <= 0:
        raise AmountRefused("the amount must be more than zero")
    if most is not None and amount_micro > most:
        raise AmountRefused(f"at most {most} micro-units can be taken here, not {amount_micro}")


def _refuse_agreement(share_ppm: int, weekly_cap_micro: int) -> None:
    if not 0 <= share_ppm <= PPM:
        raise AgreementRefused("the share of a recharge lies between 0 and 1,000,000 ppm")
    if weekly_cap_micro < 0:
        raise AgreementRefused("the weekly cap must not be negative; 0 means none")


def _document(debt: NewDebt, number: int, event: int, now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO document (property_id, legal_entity_id, series, number, kind, account_id,
                   event_id, issued_at, amount_micro) VALUES (%s, %s, %s, %s, 'debt', %s, %s, %s, %s)""",
            [
                debt.property_id,
                debt.legal_entity_id,
                SERIES,
                number,
                debt.account_id,
                event,
                now,
                debt.amount_micro,
            ],
        )


def _append(actor: Actor, event: int, legs: Sequence[Leg], now: datetime) -> None:
    append_events(actor_code=actor.code, events=[Event(event, tuple(legs))], now=now)


def _again(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "repeated": True}


def _keep(
    actor: Actor,
    key: str,
    body: Mapping[str, object],
    account: _Account,
    account_id: int,
    answer: Mapping[str, object],
    now: datetime,
) -> None:
    store_answer(
        actor=actor,
        key=key,
        body=body,
        account_id=account_id,
        property_id=account.property_id,
        answer=answer,
        now=now,
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('changed', %s)", [str(account.property_id)])
