"""Recharges that were not to be: payments that the bank reversed, credit on the wrong account.

Both take a whole recharge back, and leave the wallet as if it had not been. What debts had of it they
get back and are open again; what is left of the credit goes; emergency credit that it repaid is in use
again, as far as the account may go; and what was used beyond that becomes a named debt of its own, or
the property's loss, or the deed is refused, by the property's policy. Nobody gains emergency credit by
it, and nobody is cut by it without a warning that knows of it. ``docs/corrections.md`` works both
through in numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import Agreed
from prewatt.audit.operations import record
from prewatt.core.accounts import CounterAccount, TransferKind
from prewatt.core.debts import missing_micro
from prewatt.core.rating import Component
from prewatt.debts.models import Debt, DebtPolicy
from prewatt.debts.operations import name_debts, opening_leg, reopen_debts
from prewatt.debts.policy import policy_of
from prewatt.debts.recovery import debt_leg
from prewatt.debts.words import NewDebt, Policy
from prewatt.ledger.idempotency import store_answer, stored_answer
from prewatt.ledger.operations import (
    Event,
    Leg,
    append_events,
    lock_accounts,
    new_event_ids,
    next_document_number,
)
from prewatt.supply.operations import decide_after_credit, decide_after_taking_back
from prewatt.vending.telling import tell_taken_back

SERIES: Final = "V"


class TakeBackRefused(Exception):
    """The recharge cannot be taken back as asked; nothing was changed. ``code`` is a stable word."""

    code = "vending.take_back.refused"


class UnknownRecharge(TakeBackRefused):
    """There is no such recharge in the actor's scope."""

    code = "vending.take_back.unknown"


class AlreadyTakenBack(TakeBackRefused):
    """The recharge was reversed or moved before."""

    code = "vending.take_back.already"


class WrongAccount(TakeBackRefused):
    """Credit moves between two open accounts of one property and legal entity."""

    code = "vending.take_back.wrong_account"


class CreditUsed(TakeBackRefused):
    """More of it was used than emergency credit covers, and the policy takes back all or nothing."""

    code = "vending.take_back.used"

    def __init__(self, missing_micro: int) -> None:
        super().__init__(
            f"{missing_micro} micro-units of the credit are used beyond emergency credit"
        )
        self.missing_micro = missing_micro


@dataclass(frozen=True, slots=True)
class TakenBack:
    """A recharge that was reversed or moved, in micro-units.

    Of ``amount_micro``, ``used_micro`` was gone and more than emergency credit covers; ``debt_code``
    names the debt that it became, empty when nothing was missing or the property bears it. ``number`` is
    that of the document. The wallet stood at ``available_before_micro`` and may go
    ``emergency_micro`` below zero.
    """

    event_id: int
    account_id: int
    to_account_id: int | None
    amount_micro: int
    used_micro: int
    debt_code: str
    returned_to_debts_micro: int
    number: int
    available_after_micro: int
    repeated: bool = False
    available_before_micro: int = 0
    emergency_micro: int = 0


def reverse_recharge(
    *, actor: Actor, event_id: int, why: str, key: str, now: datetime, agreed: Agreed | None = None
) -> TakenBack:
    """Take back a recharge whose payment was reversed: a cheque bounced, a card was charged back.

    Idempotent by ``key``, and a recharge is taken back once. Charges that were collected with it
    stay, as they are owed all the same. People do it by a proposal (`by_agreement`): the database
    asks for it. Raises TakeBackRefused, PermissionRefused, PeriodClosed, KeyReused.
    """
    body = {"op": "recharge.reverse", "event": event_id, "why": why}
    return _take_back(actor, event_id, None, body, why, key, now, agreed)


def move_credit(
    *, actor: Actor, event_id: int, to_account_id: int, why: str, key: str, now: datetime,
    agreed: Agreed | None = None,
) -> TakenBack:  # fmt: skip
    """Give a recharge that was sold to the wrong account to the right one.

    The right account has its whole credit at once, whatever the wrong one has used of it. Two
    transfers through the property's clearing account. Idempotent by ``key``, and a recharge is
    taken back once. Raises as ``reverse_recharge``.
    """
    body = {"op": "recharge.move", "event": event_id, "to": to_account_id, "why": why}
    return _take_back(actor, event_id, to_account_id, body, why, key, now, agreed)


@dataclass(frozen=True, slots=True)
class StandingRecharge:
    """A recharge as it was booked; ``recovered`` are (debt's code, amount, seq) of its shares."""

    event_id: int
    account_id: int
    property_id: int
    legal_entity_id: int
    amount_micro: int
    seq: int
    counter_account: CounterAccount
    recovered: tuple[tuple[str, int, int], ...]

    @property
    def recovered_micro(self) -> int:
        return sum(amount for _, amount, _ in self.recovered)


def _take_back(
    actor: Actor,
    event_id: int,
    to_account_id: int | None,
    body: Mapping[str, object],
    why: str,
    key: str,
    now: datetime,
    agreed: Agreed | None,
) -> TakenBack:
    require(actor, "vending.take_back")
    with scope(actor):
        before = stored_answer(actor=actor, key=key, body=body)
        if before is not None:
            known: dict[str, Any] = {**before, "repeated": True}
            return TakenBack(**known)
        done = recharge_that_stands(actor, event_id, to_account_id)
        wallet = _wallet(done.account_id)
        taken = done.amount_micro - done.recovered_micro
        used = missing_micro(
            available_micro=wallet.available_micro, taken_back_micro=taken,
            emergency_micro=wallet.emergency_micro,
        )  # fmt: skip
        moved = to_account_id is not None
        policy = policy_of(done.property_id)
        missing = policy.moved_credit if moved else policy.reversed_payment
        if used and missing is DebtPolicy.Missing.REFUSE:
            raise CreditUsed(used)
        (event,) = new_event_ids(1)
        legs = [*_back_to_debts(done, now), _taking_leg(done, moved, now)]
        debt_code = ""
        if used and missing is DebtPolicy.Missing.DEBT:
            leg, debt_code = _debt(actor, done, policy, used, why, event, moved, now)
            legs.append(leg)
        elif used:
            legs.append(_loss(done, used, moved, now))
        if to_account_id is not None:
            legs.append(_giving_leg(done, to_account_id, now))
        append_events(actor_code=actor.code, events=[Event(event, tuple(legs))], now=now)
        reopen_debts(codes={done.account_id: [code for code, _, _ in done.recovered]})
        number = _document(done, event, moved, now)
        after = wallet.available_micro - taken + used
        assert after <= wallet.available_micro, "taking back lifts no wallet"
        has_less = wallet.is_open and after < wallet.available_micro
        _decide(done.account_id, has_less, to_account_id, now)
        answer = TakenBack(
            event, done.account_id, to_account_id, done.amount_micro, used, debt_code,
            done.recovered_micro, number, after, available_before_micro=wallet.available_micro,
            emergency_micro=wallet.emergency_micro,
        )  # fmt: skip
        tell_taken_back(
            property_id=done.property_id, recharge_event_id=event_id, done=answer,
            document=f"{SERIES}-{number}", policy=policy, now=now,
        )  # fmt: skip
        _conclude(actor, key, body, why, done, answer, now, agreed)
    return answer


def recharge_that_stands(
    actor: Actor, event_id: int, to_account_id: int | None
) -> StandingRecharge:
    """The recharge, once the accounts are locked and everything that can be refused has been.

    Inside the caller's scope. Raises TakeBackRefused.
    """
    found = _recharge(event_id)
    if found is None:
        raise UnknownRecharge(f"there is no recharge {event_id} at your properties")
    require(actor, "vending.take_back", property_id=found.property_id)
    wanted = {found.account_id} | ({to_account_id} if to_account_id is not None else set())
    locked = lock_accounts(sorted(wanted))
    if to_account_id is not None and not _may_receive(found, to_account_id, locked):
        raise WrongAccount(
            f"credit cannot be moved to account {to_account_id}: it must be another open account of "
            "the same property"
        )
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT event_id FROM transfer
               WHERE account_id = %s AND corrects_event_id = %s AND corrects_seq = %s""",
            [found.account_id, event_id, found.seq],
        )
        row = cursor.fetchone()
    if row is not None:
        raise AlreadyTakenBack(f"recharge {event_id} was taken back in event {row[0]}")
    return found


def _recharge(event_id: int) -> StandingRecharge | None:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT t.account_id, t.property_id, t.legal_entity_id, t.amount, t.seq,
                      t.counter_account
               FROM payment p JOIN transfer t ON t.account_id = p.account_id
                   AND t.event_id = p.event_id AND t.kind = %s
               WHERE p.event_id = %s""",
            [int(TransferKind.RECHARGE), event_id],
        )
        row = cursor.fetchone()
        if row is None:
            return None
        cursor.execute(
            """SELECT code, -amount, seq FROM transfer
               WHERE account_id = %s AND event_id = %s AND kind = %s ORDER BY seq""",
            [row[0], event_id, int(TransferKind.DEBT_RECOVERY)],
        )
        recovered = tuple((code, int(amount), int(seq)) for code, amount, seq in cursor.fetchall())
    account_id, property_id, legal_entity_id, amount, seq, counter = row
    return StandingRecharge(
        event_id, account_id, property_id, legal_entity_id, amount, seq,
        CounterAccount(counter), recovered,
    )  # fmt: skip


def _may_receive(done: StandingRecharge, to_account_id: int, locked: Sequence[int]) -> bool:
    if to_account_id == done.account_id or to_account_id not in locked:
        return False
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT s.property_id, s.legal_entity_id, a.closed_at IS NULL
               FROM account_state s JOIN account a ON a.id = s.account_id
               WHERE s.account_id = %s""",
            [to_account_id],
        )
        return bool(cursor.fetchone() == (done.property_id, done.legal_entity_id, True))


@dataclass(frozen=True, slots=True)
class _Wallet:
    """A locked account; a closed one, whose customer has left, has no emergency credit any more."""

    available_micro: int
    emergency_micro: int
    is_open: bool


def _wallet(account_id: int) -> _Wallet:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT s.available,
                      CASE WHEN a.closed_at IS NULL THEN coalesce(p.emergency_micro, 0) ELSE 0 END,
                      a.closed_at IS NULL
               FROM account_state s JOIN account a ON a.id = s.account_id
               LEFT JOIN supply_state p ON p.account_id = s.account_id
               WHERE s.account_id = %s""",
            [account_id],
        )
        return _Wallet(*cursor.fetchone())


def _back_to_debts(done: StandingRecharge, now: datetime) -> list[Leg]:
    """The shares of debts, each naming the transfer that it takes back."""
    return [
        _correcting(
            debt_leg(
                done.account_id, amount, code, now,
                kind=TransferKind.REVERSAL, reason="recharge.taken_back",
            ),
            done.event_id,
            seq,
        )
        for code, amount, seq in done.recovered
    ]  # fmt: skip


def _correcting(leg: Leg, event_id: int, seq: int) -> Leg:
    return replace(leg, corrects_event_id=event_id, corrects_seq=seq)


def _taking_leg(done: StandingRecharge, moved: bool, now: datetime) -> Leg:
    """The whole recharge off its account: to where it came from, or to clearing."""
    leg = _leg(
        done.account_id,
        -done.amount_micro,
        TransferKind.MOVE if moved else TransferKind.REVERSAL,
        CounterAccount.MOVE_CLEARING if moved else done.counter_account,
        _reason(moved),
        now,
    )
    return _correcting(leg, done.event_id, done.seq)


def _giving_leg(done: StandingRecharge, to_account_id: int, now: datetime) -> Leg:
    return _leg(
        to_account_id,
        done.amount_micro,
        TransferKind.MOVE,
        CounterAccount.MOVE_CLEARING,
        _reason(True),
        now,
    )


def _loss(done: StandingRecharge, used: int, moved: bool, now: datetime) -> Leg:
    return _leg(
        done.account_id,
        used,
        TransferKind.ADJUSTMENT,
        CounterAccount.ADJUSTMENTS,
        f"{_reason(moved)}.loss",
        now,
    )


def _leg(
    account_id: int,
    amount: int,
    kind: TransferKind,
    counter_account: CounterAccount,
    reason: str,
    now: datetime,
) -> Leg:
    return Leg(
        account_id=account_id,
        kind=kind,
        component=int(Component.ENERGY),
        counter_account=counter_account,
        amount=amount,
        service_from=now,
        service_to=now,
        reason=reason,
    )


def _reason(moved: bool) -> str:
    return "recharge.moved" if moved else "recharge.reversed"


def _debt(
    actor: Actor,
    done: StandingRecharge,
    policy: Policy,
    used: int,
    why: str,
    event: int,
    moved: bool,
    now: datetime,
) -> tuple[Leg, str]:
    """The used part as a debt under the property's usual agreement."""
    reason = Debt.Reason.MOVED_CREDIT if moved else Debt.Reason.REVERSED_PAYMENT
    (debt,) = name_debts(
        actor_code=actor.code,
        debts=[
            NewDebt(
                done.account_id, done.property_id, done.legal_entity_id, used, reason,
                policy.share_ppm, policy.weekly_cap_micro, why,
            )
        ],
        event_ids=[event],
        now=now,
    )  # fmt: skip
    return opening_leg(debt, used, reason, now), debt.code


def _document(done: StandingRecharge, event: int, moved: bool, now: datetime) -> int:
    number = next_document_number(legal_entity_id=done.legal_entity_id, series=SERIES)
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO document (property_id, legal_entity_id, series, number, kind, account_id,
                   event_id, issued_at, amount_micro) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            [
                done.property_id,
                done.legal_entity_id,
                SERIES,
                number,
                "moved_credit" if moved else "reversal",
                done.account_id,
                event,
                now,
                done.amount_micro,
            ],
        )
    return number


def _decide(account_id: int, has_less: bool, to_account_id: int | None, now: datetime) -> None:
    """Supply looks at both: one has less, the other has money."""
    if has_less:
        decide_after_taking_back(account_ids=[account_id], now=now)
    if to_account_id is not None:
        decide_after_credit(account_ids=[to_account_id], now=now)


def _conclude(
    actor: Actor,
    key: str,
    body: Mapping[str, object],
    why: str,
    done: StandingRecharge,
    answer: TakenBack,
    now: datetime,
    agreed: Agreed | None,
) -> None:
    stored = asdict(answer)
    record(
        actor=actor.code,
        code="vending.recharge.taken_back",
        property_id=done.property_id,
        subject=f"account:{done.account_id}",
        now=now,
        recharge=done.event_id,
        why=why,
        taken=stored,
        **(agreed.audited if agreed else {}),
    )
    store_answer(
        actor=actor,
        key=key,
        body=body,
        account_id=done.account_id,
        property_id=done.property_id,
        answer=stored,
        now=now,
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('changed', %s)", [str(done.property_id)])
