"""Reads what a recharge needs: the account before it, what an amount will do, how far it has come."""

from __future__ import annotations

from datetime import datetime, timedelta

from prewatt.access.scope import Actor, require, scope
from prewatt.core.credit import connects_from_micro
from prewatt.core.vocabulary import OrderKind, OrderState, RelayState
from prewatt.debts.queries import debts_of
from prewatt.reports.lists_query import actor_names
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.reports.recharge import RechargeEffect, RechargeForm, RechargeResult
from prewatt.reports.rules import cut_rules
from prewatt.reports.taking_back import taken_back
from prewatt.reports.units import ends_at, units_of_account
from prewatt.vending.operations import LIMIT_MICRO
from prewatt.vending.queries import RechargePreview, deducted_of, preview_recharge


def recharge_form(*, actor: Actor, account_id: int, now: datetime) -> RechargeForm:
    """The account before the money. Raises NoSuchThing, PermissionRefused."""
    require(actor, "vending.recharge")
    with scope(actor):
        place = place_of(actor)
        units = units_of_account(property_id=place.property_id, now=now, account_id=account_id)
        if not units:
            raise NoSuchThing(f"no account {account_id} in scope")
        last = rows(
            """SELECT accepted_at, amount_micro FROM payment WHERE account_id = %s
               ORDER BY paid_at DESC LIMIT 1""",
            [account_id],
        )
        debts = debts_of(actor=actor, account_id=account_id)
        policy = cut_rules(place.property_id, now).rules.supply
        most = preview_recharge(
            actor=actor, account_id=account_id, amount_micro=LIMIT_MICRO, now=now
        )
        withheld_since, in_meter = rows(
            """SELECT (SELECT withheld_since FROM supply_state WHERE account_id = %s),
                      EXISTS (SELECT FROM meter_wallet WHERE account_id = %s AND state = 1)""",
            [account_id, account_id],
        )[0]
    unit = units[0]
    return RechargeForm(
        place=place,
        now=now,
        account_id=account_id,
        unit=unit.name,
        customer=unit.customer,
        meter=unit.serial,
        state=unit.state,
        relay=unit.relay,
        balance_micro=unit.available_micro,
        emergency_limit_micro=unit.emergency_micro,
        connects_from_micro=connects_from_micro(unit.emergency_micro, policy),
        micro_per_day=unit.spend_per_day_micro,
        limit_micro=LIMIT_MICRO,
        last_recharge_at=last[0][0] if last else None,
        last_recharge_micro=last[0][1] if last else 0,
        debts=tuple(debts),
        is_whole=not most.lines,
        withheld_since=withheld_since,
        in_meter=in_meter,
    )


def effect_of(form: RechargeForm, shown: RechargePreview) -> RechargeEffect:
    """What an amount will do: first what is taken of it, then emergency credit, the rest is balance."""
    credit = shown.credit_micro
    after = form.balance_micro + credit
    repaid = min(credit, max(0, -form.balance_micro))
    reconnects = after >= form.connects_from_micro and form.withheld_since is None
    # Behind a relay that stays open nothing is used, be there emergency credit or not.
    is_supplied = form.relay is not RelayState.OPEN or reconnects
    left = emergency_left_micro(after, form.emergency_limit_micro) if is_supplied else 0
    return RechargeEffect(
        amount_micro=shown.amount_micro,
        deducted=shown.lines,
        emergency_micro=repaid,
        credit_micro=credit - repaid,
        balance_after_micro=after,
        lasts_until=(
            ends_at(form.now, max(left, after, 0), form.micro_per_day) if is_supplied else None
        ),
        reconnects=reconnects,
        emergency_left_micro=left,
    )


def emergency_left_micro(balance_micro: int, limit_micro: int) -> int:
    """What of the emergency credit may still be used; 0 while there is a balance above zero."""
    return 0 if balance_micro > 0 else max(0, balance_micro + limit_micro)


def recharge_result(*, actor: Actor, event_id: int, now: datetime) -> RechargeResult:
    """A committed recharge and how far its supply order has come. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        found = rows(
            """SELECT p.account_id, p.amount_micro, p.way, p.accepted_at, p.taken_by, t.seq,
                      t.posted_after, coalesce(d.series || '-' || d.number, ''),
                      coalesce(m.detail->>'paid_up_micro', m.detail->>'available_micro')::bigint
               FROM payment p
               JOIN transfer t ON t.account_id = p.account_id AND t.event_id = p.event_id
               LEFT JOIN message m ON m.account_id = p.account_id
                   AND m.dedupe_key = 'recharge:' || p.event_id AND NOT m.would_have
               LEFT JOIN document d ON d.event_id = p.event_id AND d.kind = 'receipt'
               WHERE p.event_id = %s ORDER BY t.seq DESC LIMIT 1""",
            [event_id],
        )
        if not found:
            raise NoSuchThing(f"no recharge {event_id} in scope")
        (
            account,
            amount,
            way,
            accepted_at,
            taken_by,
            line,
            posted_after,
            receipt,
            told_after,
        ) = found[0]
        units = units_of_account(
            property_id=place.property_id, now=now, account_id=account, former=True
        )
        if not units:
            raise NoSuchThing(f"account {account} has no unit in scope")
        order = rows(
            """SELECT state, sent_at, finished_at FROM supply_order
               WHERE account_id = %s AND kind = %s AND decided_at >= %s AND decided_at < %s
               ORDER BY decided_at, id LIMIT 1""",
            [
                account,
                int(OrderKind.CONNECT),
                accepted_at,
                accepted_at + timedelta(minutes=10),
            ],
        )
        names = actor_names([taken_by])
        taken = taken_back(actor, account, event_id)
        deducted = deducted_of(actor=actor, account_id=account, event_id=event_id)
    unit = units[0]
    state = OrderState(order[0][0]) if order else None
    # What the customer was told in the same commit was reckoned with all that was used until then. A
    # past that was replayed told nobody, and of it only the ledger's own line is certain.
    after = posted_after if told_after is None else told_after
    credit = amount - sum(each.micro for each in deducted)
    before = after - credit
    repaid = min(credit, max(0, -before))
    effect = RechargeEffect(
        amount, deducted, repaid, credit - repaid, after, None, reconnects=bool(order)
    )
    left = emergency_left_micro(unit.available_micro, unit.emergency_micro)
    return RechargeResult(
        place=place,
        now=now,
        event_id=event_id,
        account_id=account,
        unit=unit.name,
        customer=unit.customer,
        meter=unit.serial,
        by=names.get(taken_by, ""),
        method=way,
        receipt=receipt,
        paid_at=accepted_at,
        line=line,
        effect=effect,
        is_posted=told_after is None,
        balance_before_micro=before,
        balance_micro=unit.available_micro,
        emergency_left_micro=left,
        lasts_until=ends_at(now, left or max(0, unit.available_micro), unit.spend_per_day_micro),
        relay=unit.relay,
        relay_read_at=unit.seen_at,
        needs_order=bool(order),
        order=state,
        sent_at=order[0][1] if order else None,
        verified_at=order[0][2] if order and state is OrderState.VERIFIED else None,
        meter_fresh=not unit.silent,
        taken_back_at=None if taken is None else taken.at,
    )
