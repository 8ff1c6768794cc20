"""Writes of supply: accounts are decided, orders move, holds and the brake come and go.

Deciding is set-based and happens in the transaction that changed the balance, which already holds
the ``account_state`` locks; ``supply_state`` is locked after, in account order, then the property's
policy row if something may be cut, then orders. What is decided is decided in ``core``; this module
only loads, writes and rings.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import OPERATOR, Actor, acting_role, require, scope
from prewatt.approvals.kinds import saying_what_changed
from prewatt.audit.operations import AuditRow, record, record_many
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.credit import (
    Brake,
    Decision,
    SupplyState,
    Warnings,
    decide_brake,
    decide_by_hand,
    decide_departed,
    decide_supply,
)
from prewatt.core.cut_window import closes_at_us
from prewatt.core.levels import (
    NEVER,
    Level,
    evaluate_levels,
    next_watch_below_micro,
    rearm_after_credit,
)
from prewatt.core.orders import Order, departure_wait_s, new_order
from prewatt.core.vocabulary import (
    Gate,
    LevelKind,
    OrderKind,
    OrderState,
    Outcome,
    Protection,
    Reason,
    RelayState,
)
from prewatt.ledger.operations import lock_accounts
from prewatt.notify.alerts import BRAKE, DEPARTED, USED_WHILE_OPEN
from prewatt.notify.operations import close_alert, raise_alert
from prewatt.notify.queries import WarningDelivery, warning_delivery
from prewatt.notify.sentences import TAMPER_NOTICE, WARNINGS
from prewatt.runtime.bells import ring
from prewatt.runtime.prepared import execute, integers, moments, pipelined
from prewatt.supply import queries
from prewatt.supply.cases import TAKEN_BACK, Case
from prewatt.supply.policy import Rules, compile_rules, refuse_out_of_bounds
from prewatt.supply.queries import Standing, Wiring
from prewatt.supply.still import EVERYTHING, find_still
from prewatt.supply.warnings import settle_warnings

ACTOR: Final = "system:supply"
#: Accounts in one transaction of the worker.
CHUNK: Final = 2_000
#: A payment that is on its way for longer is looked at by somebody, and held again.
HOLD_MAX: Final = timedelta(days=7)


class SupplyRefused(Exception):
    """Supply refuses the request; nothing was changed. ``reason`` is a stable word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class OpenSupply:
    """A new account's supply. ``protection`` other than NONE is never cut for money."""

    account_id: int
    property_id: int
    emergency_micro: int = 0
    protection: Protection = Protection.NONE


# --- policy and accounts ---


def set_policy(*, actor: Actor, property_id: int, body: Mapping[str, Any], now: datetime) -> None:
    """Store a property's supply rules; raises `PolicyRefused` for rules that cannot be used.

    For a process of ours, such as an import; people change them with `rules.change_rules`.
    """
    require(actor, "supply.policy", property_id=property_id)
    compile_rules(body, time_zone="UTC", holiday_calendar="", currency="", year=now.year)
    refuse_out_of_bounds(body)
    with scope(actor), connection.cursor() as cursor:
        # The accounts first, as everybody who decides: the rules' row is locked after them.
        watch_everybody(property_id)
        former = queries.stored_rules(property_id)
        cursor.execute(
            """INSERT INTO supply_policy AS p
                      (property_id, version, body, changed_at, brake_release_asked_by)
               VALUES (%s, 1, %s, %s, '')
               ON CONFLICT (property_id) DO UPDATE
               SET version = p.version + 1, body = excluded.body, changed_at = excluded.changed_at""",
            [property_id, json.dumps(dict(body)), now],
        )
        record(
            actor=actor.code,
            code="supply.policy.set",
            property_id=property_id,
            subject=f"property:{property_id}",
            now=now,
            before=former.body,
            after=dict(body),
        )


def watch_everybody(property_id: int) -> None:
    """Let the next reading or recharge of each account look at it by the rules of now.

    Holds every account of the property until the caller's transaction ends: whoever is deciding one
    has ended before, by the rules it read, and whoever comes later reads those of then.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT account_id FROM account_state WHERE property_id = %s
               ORDER BY account_id FOR NO KEY UPDATE""",
            [property_id],
        )
        cursor.execute(
            """UPDATE account_state a SET watch_below = %s FROM supply_state s
               WHERE a.property_id = %s AND s.account_id = a.account_id""",
            [EVERYTHING, property_id],
        )


def open_accounts(*, rows: Sequence[OpenSupply], now: datetime) -> None:
    """Give new accounts a supply standing and their first watched level.

    Runs inside the caller's transaction, after ``ledger.operations.open_accounts``. An account that
    already stands keeps its row.
    """
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO supply_policy (property_id, version, body, changed_at,
                                          brake_release_asked_by)
               SELECT p, 1, '{}', %s, '' FROM unnest(%s::bigint[]) AS p
               ON CONFLICT DO NOTHING""",
            [now, sorted({row.property_id for row in rows})],
        )
        cursor.execute(
            """INSERT INTO supply_state (account_id, property_id, desired, protection,
                   emergency_micro, fired_mask, would_mask, level, outcome, reason, closed_gates,
                   held)
               SELECT a, p, 1, t, e, 0, 0, 0, 0, 0, 0, false
               FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[]) AS n(a, p, t, e)
               ON CONFLICT DO NOTHING""",
            [
                [row.account_id for row in rows],
                [row.property_id for row in rows],
                [row.protection.word if row.protection else "" for row in rows],
                [row.emergency_micro for row in rows],
            ],
        )
    # A watch above any balance: the first reading looks at the account, whatever it opens with.
    _set_watch({row.account_id: EVERYTHING for row in rows})


# --- deciding ---


def decide_for_crossings(*, account_ids: Sequence[int], now: datetime, fresh: bool) -> None:
    """Look at accounts whose balance fell below their watched level, in the caller's transaction.

    The caller holds their ``account_state`` locks. ``fresh=False`` says that the readings are old:
    levels, decisions and orders are stored as would-have, at the instant of the reading, and
    nothing is sent; the account stays watched, so that its next live reading is looked at.
    """
    _decide(account_ids, now, trigger="reading", is_live=fresh)


def decide_after_credit(
    *,
    account_ids: Sequence[int] = (),
    available_micro: Mapping[int, int] | None = None,
    now: datetime,
) -> dict[int, int | None]:
    """Connect, re-arm levels and lift held cuts after money came in, in the caller's transaction.

    The caller holds the ``account_state`` locks. Who books the money in the same transaction only
    after this says in ``available_micro`` what each account will have then, instead of naming the
    accounts. Returns how many hours each account's money lasts now at its usual use
    (`Standing.left_h`); an account without supply is left out.
    """
    ids = list(available_micro) if available_micro is not None else account_ids
    cases = _decide(ids, now, trigger="credit", is_live=True, available_micro=available_micro or {})
    return {case.account_id: case.standing.left_h for case in cases}


def reconsider_due(
    *, actor: Actor, now: datetime, woken: Sequence[int] = (), everything: bool = False
) -> int:
    """Decide again every account whose instant has come, or whose property rang; returns how many.

    ``woken`` are properties with an event (a warning delivered, a hold ended, the brake released);
    ``everything`` looks at all held accounts, which the worker does now and then lest a bell be
    missed.
    """
    require(actor, "supply.decide")
    with scope(actor):
        due = queries.to_reconsider(now=now, woken=woken, everything=everything)
    for start in range(0, len(due), CHUNK):
        chunk = due[start : start + CHUNK]
        with scope(actor):
            lock_accounts(chunk)
            _decide(chunk, now, trigger="reconsider", is_live=True)
    return len(due)


def decide_after_taking_back(*, account_ids: Sequence[int], now: datetime) -> None:
    """Look at accounts that credit was taken back from, in the caller's transaction with their locks.

    No warning from before knew of it: every level at or above the balance fires anew, and only a
    warning from now on counts for a cut, however many were delivered before.
    """
    _decide(account_ids, now, trigger=TAKEN_BACK, is_live=True)


def decide_after_expiry(*, account_ids: Sequence[int], now: datetime) -> None:
    """Decide accounts whose disconnect grew old, in the caller's transaction with their locks."""
    _decide(account_ids, now, trigger="expiry", is_live=True)


def put_right_departed(
    *, actor: Actor, now: datetime, woken: Sequence[int] = (), everything: bool = False
) -> dict[int, datetime]:
    """Decide again about relays that read otherwise than is wanted, and call a person to each.

    ``woken`` are properties where a relay turned; ``everything`` looks at all, lest a bell be missed.
    A relay is left alone while an order of its meter is under way, for a moment after one has ended,
    and the longer the more often it was put right within a day. Returns, by property, when a relay
    that was left alone is to be looked at.
    """
    require(actor, "supply.decide")
    places = None if everything else woken
    with scope(actor):
        found = queries.departed(now=now, property_ids=places, limit=CHUNK)
    if not found:
        return {}
    accounts = sorted({each.account_id for each in found})
    later: dict[int, datetime] = {}
    with scope(actor):
        lock_accounts(accounts)
        # Once more under the locks: a recharge may have changed what is wanted.
        found = queries.departed(now=now, account_ids=accounts, limit=CHUNK)
        rules = queries.rules(sorted({each.property_id for each in found}), now)
        ready = []
        for each in found:
            at = _to_put_right_at(each, rules[each.property_id], now)
            if at <= now:
                ready.append(each)
            elif not each.is_held:
                later[each.property_id] = min(at, later.get(each.property_id, at))
        _tell_departed(ready, now)
        open_case = [each for each in ready if not each.is_held]
        _decide(
            sorted({each.account_id for each in open_case}),
            now,
            trigger="relay",
            is_live=True,
            meter_ids=[each.meter_id for each in open_case],
        )
    return later


def _to_put_right_at(each: queries.Departed, rules: Rules, now: datetime) -> datetime:
    kind = OrderKind.CONNECT if each.wanted is RelayState.CLOSED else OrderKind.DISCONNECT
    at = now
    if each.finished_at is not None:
        at = max(at, each.finished_at + timedelta(seconds=rules.order.settle_s))
    if each.tried_at is not None:
        wait_s = departure_wait_s(kind, each.times, rules.order)
        at = max(at, each.tried_at + timedelta(seconds=wait_s))
    return at


def _tell_departed(found: Sequence[queries.Departed], now: datetime) -> None:
    for each in found:
        raise_alert(
            property_id=each.property_id,
            code=DEPARTED,
            subject=f"meter:{each.meter_id}",
            detail={"wanted": each.wanted.word, "read_at_us": instant_us(each.read_at)},
            now=now,
            refresh=False,
        )


def watch_open_relays(
    *, actor: Actor, now: datetime, woken: Sequence[int] = (), everything: bool = False
) -> int:
    """Call a person to each meter that counts usage though its relay was read back open; how many.

    The usage is charged like any other: it was used. A rise within the property's tolerance
    (`Rules.usage_while_open_wh`) calls nobody. Alerts about relays that are again as they should be end
    here, this one with the relay read closed. ``woken`` are properties where a relay turned, which ends
    alerts; a rise has no bell, so that it costs ingest nothing, and is looked for with ``everything``.
    """
    require(actor, "supply.decide")
    places = None if everything else woken
    with scope(actor):
        for property_id, code, subject in queries.alerts_outlived(property_ids=places):
            close_alert(property_id=property_id, code=code, subject=subject, now=now)
        found = queries.used_while_open(limit=CHUNK) if everything else []
        rules = queries.rules(sorted({each.property_id for each in found}), now)
        told = 0
        for each in found:
            tolerance_wh = rules[each.property_id].usage_while_open_wh
            if each.used_wh > tolerance_wh:
                _tell_used(each, tolerance_wh, now)
                told += 1
    return told


def _tell_used(each: queries.UsedWhileOpen, tolerance_wh: int, now: datetime) -> None:
    raise_alert(
        property_id=each.property_id,
        code=USED_WHILE_OPEN,
        subject=f"meter:{each.meter_id}",
        detail={
            "account": each.account_id,
            "since_us": instant_us(each.since),
            "from_us": instant_us(each.from_at),
            "from_wh": each.from_wh,
            "read_us": instant_us(each.read_at),
            "register_wh": each.register_wh,
            "used_wh": each.used_wh,
            "tolerance_wh": tolerance_wh,
        },
        now=now,
    )


def look_again(*, actor: Actor, account_ids: Sequence[int], now: datetime) -> None:
    """Look at accounts whose levels in days may have moved, for instance after posting.

    Of those that stand still (`still`) only the watched amount is written.
    """
    require(actor, "supply.decide")
    with scope(actor):
        lock_accounts(account_ids)
        still = {each.account_id: each for each in find_still(account_ids, now)}
        _set_watch(
            {each: found.watch_micro for each, found in still.items()},
            {each: found.watched_micro for each, found in still.items()},
        )
        moved = [each for each in account_ids if each not in still]
        cases = _decide(moved, now, trigger="review", is_live=True) if moved else []
        told = {case.standing.property_id for case in cases}
        ring("changed", {each.property_id for each in still.values()} - told)


def _decide(
    account_ids: Sequence[int],
    now: datetime,
    *,
    trigger: str,
    is_live: bool,
    meter_ids: Sequence[int] | None = None,
    available_micro: Mapping[int, int] = MappingProxyType({}),
) -> list[Case]:
    """Decide accounts; with ``meter_ids`` about these of their relays only."""
    assert connection.in_atomic_block, "a decision belongs to the transaction that caused it"
    cases = _cases(
        account_ids, now, trigger=trigger, is_live=is_live, available_micro=available_micro
    )
    decided = _decisions(cases, now, trigger, meter_ids)
    stored = {
        case.standing.account_id: (case, decided[case.standing.account_id])
        for case in cases
        if case.standing.account_id in decided
        and _is_news(case, decided[case.standing.account_id][0], trigger)
    }
    # Where only levels move, as with most recharges, nothing that is written is waited for.
    with nullcontext() if decided else pipelined():
        _write_standings(cases, {key: decision for key, (decision, _) in decided.items()})
        _write_orders(stored, _write_decisions(stored, trigger), now)
        settle_warnings(cases, trigger=trigger, now=now)
        ring("changed", {case.standing.property_id for case in cases})
    return cases


def _cases(
    account_ids: Sequence[int],
    now: datetime,
    *,
    trigger: str,
    is_live: bool,
    available_micro: Mapping[int, int],
) -> list[Case]:
    """Load, lock and look at the levels. Accounts without supply are watched no more.

    Where ``available_micro`` names an account, that is what it has, whatever its row says yet.
    """
    standings, rules = queries.lock_standings(account_ids, now)
    found = [
        replace(each, available_micro=available_micro.get(each.account_id, each.available_micro))
        for each in standings
    ]
    unmanaged = set(account_ids) - {each.account_id for each in found}
    _set_watch(dict.fromkeys(unmanaged, NEVER))
    return [
        _by_hand(_case(each, rules[each.property_id], now, trigger=trigger, is_live=is_live), now)
        for each in found
    ]


def _by_hand(case: Case, now: datetime) -> Case:
    """What people agreed to about a relay, and its end, is of now, however old the readings are."""
    if case.standing.by_hand is None:
        return case
    return replace(case, by_hand=case.standing.by_hand_at(now), as_of=now)


def _case(standing: Standing, rules: Rules, now: datetime, *, trigger: str, is_live: bool) -> Case:
    case = Case(standing, rules, 0, 0, None, True, now, standing.level_fired_at)
    if trigger == "credit":
        return _case_after_credit(case, now)
    if trigger == TAKEN_BACK:
        return _case_after_taking_back(case, now)
    read_us = standing.reading_at_us
    if read_us is not None:
        age_us = instant_us(now) - read_us
        is_live = is_live and age_us <= rules.supply.freshness_s * 1_000_000
    # Of a relay that departed it is asked now, however old the readings are.
    is_now = is_live or read_us is None or trigger == "relay"
    as_of = now if is_now or read_us is None else utc_datetime(read_us)
    real, would = standing.fired_mask, standing.would_mask
    result = evaluate_levels(*case.amounts, rules.levels, real if is_live else real | would)
    mask = result.fired_mask
    # A level that only would have fired fires for real with the first live reading.
    real, would = (mask, 0) if is_live else (mask & real, mask & ~real)
    since = case.low_since
    if not mask:
        since = None
    elif since is None or (is_live and not standing.fired_mask):
        since = as_of
    return replace(
        case,
        fired_mask=real,
        would_mask=would,
        due=result.due,
        is_live=is_live,
        as_of=as_of,
        low_since=since,
    )


def _case_after_credit(case: Case, now: datetime) -> Case:
    """Money came in: no level fires, levels below the balance may fire again.

    A warning from before this payment does not count for a cut after it, unless it was too little
    to end the exhaustion that the warning was about.
    """
    standing, levels = case.standing, case.rules.levels
    real = rearm_after_credit(*case.amounts, levels, standing.fired_mask)
    would = rearm_after_credit(*case.amounts, levels, standing.would_mask)
    since = standing.level_fired_at if case.is_exhausted else now
    return replace(
        case, fired_mask=real, would_mask=would, low_since=since if real | would else None
    )


def _case_after_taking_back(case: Case, now: datetime) -> Case:
    """Credit went: it counts as of now, however old the readings are.

    Whoever is cut already is warned of nothing, and told by who took the credit back.
    """
    standing, levels = case.standing, case.rules.levels
    fired = evaluate_levels(*case.amounts, levels, standing.fired_mask).fired_mask
    due = evaluate_levels(*case.amounts, levels, 0).due
    return replace(
        case,
        fired_mask=fired,
        due=due if standing.desired is RelayState.CLOSED else None,
        low_since=now if fired else None,
    )


def _decisions(
    cases: Sequence[Case], now: datetime, trigger: str, meter_ids: Sequence[int] | None
) -> dict[int, tuple[Decision, Wiring]]:
    """Decide every account whose supply is in question; the rest only had a level to look at."""
    asked = [case for case in cases if _is_in_question(case, trigger)]
    if not asked:
        return {}
    ids = [case.standing.account_id for case in asked]
    wirings = queries.wirings(ids, now, meter_ids)
    warned = _warned(asked)
    brakes = queries.brake_since(sorted({case.standing.property_id for case in asked}))
    states: dict[int, SupplyState] = {}
    decided: dict[int, tuple[Decision, Wiring]] = {}
    by_id = {
        case.standing.account_id: case for case in asked if case.standing.account_id in wirings
    }
    for key, case in by_id.items():
        delivery = warned.get(key)
        states[key] = _state_of(
            case,
            wirings[key],
            _warnings_of(case, delivery),
            Brake(on=brakes.get(case.standing.property_id) is not None),
        )
        decided[key] = (_judged(case, states[key], now, trigger), wirings[key])
    for key in _beyond_brake(by_id, decided, now):
        braked = replace(states[key], brake=Brake(on=True, room=0))
        decided[key] = (_judged(by_id[key], braked, now, trigger), wirings[key])
    return decided


def _warned(cases: Sequence[Case]) -> dict[int, WarningDelivery]:
    """How far the warnings came that count: of what is owed, or of a meter that was tampered with."""
    found: dict[int, WarningDelivery] = {}
    for is_withheld, codes in ((False, WARNINGS), (True, (TAMPER_NOTICE,))):
        since = {
            case.account_id: case.warned_since
            for case in cases
            if case.warned_since is not None
            and (case.standing.withheld_since is not None) is is_withheld
        }
        if since:
            found |= warning_delivery(list(since), since, codes)
    return found


def _judged(case: Case, state: SupplyState, now: datetime, trigger: str) -> Decision:
    until = case.standing.by_hand_until
    if case.by_hand is not None and until is not None:
        return decide_by_hand(state, case.by_hand, instant_us(until))
    if trigger == "relay":
        wanted = case.standing.desired
        return decide_departed(state, wanted, case.rules.supply, instant_us(now))
    return decide_supply(state, case.rules.supply, instant_us(now))


def _is_in_question(case: Case, trigger: str) -> bool:
    standing = case.standing
    if trigger == "relay" or standing.by_hand is not None:
        return True
    if not case.is_live and standing.held and standing.closed_gates == 1 << Gate.READING_FRESH:
        # Only the age of its readings stands between it and a cut: the would-have order has been
        # stored, and more old readings can say nothing new.
        return not case.is_cut_due
    return (
        case.is_cut_due
        or standing.held
        or standing.desired is RelayState.OPEN
        or trigger in ("reconsider", "review")
    )


def _warnings_of(case: Case, delivery: Any) -> Warnings:
    if not case.is_live:
        # What would have been sent at the time counts as delivered at the time.
        return Warnings(
            delivered_at_us=None if case.low_since is None else instant_us(case.low_since)
        )
    if delivery is None:
        return Warnings()
    delivered, tried = delivery.delivered_at, delivery.all_channels_tried_since
    return Warnings(
        delivered_at_us=None if delivered is None else instant_us(delivered),
        tried_since_us=None if tried is None else instant_us(tried),
        channels=0 if tried is None else 1,
        channels_tried=0 if tried is None else 1,
    )


def _state_of(case: Case, wiring: Wiring, warnings: Warnings, brake: Brake) -> SupplyState:
    standing = case.standing
    return SupplyState(
        available_micro=standing.available_micro,
        emergency_credit_micro=standing.emergency_micro,
        reading_at_us=standing.reading_at_us,
        relay=wiring.relay,
        standing_order=wiring.standing_order,
        protection=standing.protection,
        warnings=warnings,
        payment_hold_until_us=standing.payment_hold_until_us,
        brake=brake,
        reading_is_live=case.is_live,
        is_withheld=standing.withheld_since is not None,
    )


def _beyond_brake(
    cases: Mapping[int, Case], decided: Mapping[int, tuple[Decision, Wiring]], now: datetime
) -> list[int]:
    """Return the accounts that the mass-cut brake stops, and put the brake on for them.

    The property's policy row is locked while cuts are counted, so that two transactions cannot
    each find the same room.
    """
    cuts: dict[int, list[int]] = defaultdict(list)
    for key, (decision, _) in decided.items():
        # The brake is against a mistake of the rules; a cut by hand is a person's.
        if decision.outcome is Outcome.CUT and decision.reason is not Reason.MANUAL:
            cuts[cases[key].standing.property_id].append(key)
    stopped: list[int] = []
    for property_id in sorted(cuts):
        # The longest exhausted is cut first; the account number settles the rest.
        wanted = sorted(
            cuts[property_id], key=lambda key: (cases[key].standing.available_micro, key)
        )
        room = _room_for_cuts(property_id, wanted, cases[wanted[0]].rules, now)
        if len(wanted) <= room:
            continue
        stopped += wanted[room:]
        _put_brake_on(property_id, len(wanted), room, now)
    return stopped


def _room_for_cuts(property_id: int, wanted: Sequence[int], rules: Rules, now: datetime) -> int:
    """How many accounts may be cut now. One that is cut again is still one: a relay that somebody turns
    back shall not stop the cuts of a whole property.
    """
    since = now - timedelta(seconds=rules.brake.window_s)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT is_on, greatest(%s::timestamptz, coalesce(released_at, '-infinity'))
               FROM lock_brake(%s)""",
            [since, property_id],
        )
        is_on, counted_from = cursor.fetchone()
        if is_on is None or is_on:
            # No policy row, no way to put a brake on: such a property cuts nobody.
            return 0
        cursor.execute(
            """SELECT (extract(epoch FROM max(decided_at)) * 1000000)::bigint FROM supply_decision
               WHERE property_id = %s AND decided_at > %s AND outcome = %s AND NOT would_have
                 AND account_id <> ALL(%s)
               GROUP BY account_id ORDER BY 1""",
            [property_id, counted_from, Outcome.CUT.value, list(wanted)],
        )
        recent = [each[0] for each in cursor.fetchall()]
        cursor.execute(
            "SELECT count(*) FROM supply_state WHERE property_id = %s AND desired = %s",
            [property_id, RelayState.CLOSED.value],
        )
        connected = int(cursor.fetchone()[0]) + len(recent)
    return decide_brake(recent, connected, rules.brake, instant_us(now)).room


def _put_brake_on(property_id: int, wanted: int, room: int, now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT put_brake_on(%s, %s)", [property_id, now])
        if cursor.fetchone() != (True,):
            return
    detail = {"wanted": wanted, "room": room}
    subject = f"property:{property_id}"
    raise_alert(property_id=property_id, code=BRAKE, subject=subject, detail=detail, now=now)
    record(
        actor=ACTOR,
        code="supply.brake.on",
        property_id=property_id,
        subject=subject,
        now=now,
        **detail,
    )


def _closed_mask(decision: Decision) -> int:
    return sum(1 << gate for gate in decision.closed_gates)


def _is_news(case: Case, decision: Decision, trigger: str) -> bool:
    """Say whether a decision is stored: the same hold, looked at again, is the same decision."""
    standing = case.standing
    match decision.outcome:
        case Outcome.CUT | Outcome.CONNECT:
            return True
        case Outcome.KEEP:
            return standing.held
        case Outcome.STAY_CUT:
            return trigger == "credit" or standing.outcome != decision.outcome
        case Outcome.HOLD:
            before = (standing.outcome, standing.reason, standing.closed_gates)
            return before != (decision.outcome, decision.reason, _closed_mask(decision))


def _write_decisions(
    stored: Mapping[int, tuple[Case, tuple[Decision, Wiring]]], trigger: str
) -> dict[int, int]:
    """Append the decisions; returns the id of each account's."""
    if not stored:
        return {}
    rows = [(case, decision) for case, (decision, _) in stored.values()]
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO supply_decision (property_id, account_id, decided_at, outcome, reason,
                   gates, available_micro, reconsider_at, would_have, trigger)
               SELECT p, a, d, o, r, g, m, t, w, %s
               FROM unnest(%s::bigint[], %s::bigint[], %s::timestamptz[], %s::smallint[],
                           %s::text[], ARRAY(SELECT jsonb_array_elements(%s::jsonb)),
                           %s::bigint[], %s::timestamptz[], %s::boolean[])
                    AS n(p, a, d, o, r, g, m, t, w)
               RETURNING account_id, id""",
            [
                trigger,
                [case.standing.property_id for case, _ in rows],
                [case.standing.account_id for case, _ in rows],
                [case.as_of for case, _ in rows],
                [decision.outcome.value for _, decision in rows],
                [decision.reason.word for _, decision in rows],
                json.dumps([decision.gates_as_json() for _, decision in rows]),
                [case.standing.available_micro for case, _ in rows],
                [_moment(decision.reconsider_at_us) for _, decision in rows],
                [decision.would_have for _, decision in rows],
            ],
        )
        written = dict(cursor.fetchall())
    assert len(written) == len(rows), "every decision is stored"
    return written


def _moment(at_us: int | None) -> datetime | None:
    return None if at_us is None else utc_datetime(at_us)


def _write_standings(cases: Sequence[Case], decided: Mapping[int, Decision]) -> None:
    if not cases:
        return
    rows = [_standing_row(case, decided.get(case.standing.account_id)) for case in cases]
    written = execute(_STANDINGS, _standing_columns(rows)).rowcount
    # In a pipeline it is not known yet.
    assert written in (len(rows), -1), "every standing is written once"
    _set_watch(
        {
            case.standing.account_id: _watch_of(case, decided.get(case.standing.account_id))
            for case in cases
        },
        {case.standing.account_id: case.standing.watch_below_micro for case in cases},
    )


_STANDINGS: Final = """
UPDATE supply_state AS s
SET desired = n.d, fired_mask = n.f, would_mask = n.w, level = n.l, level_fired_at = n.t,
    outcome = n.o, reason = n.r, closed_gates = n.c, held = n.h::boolean, reconsider_at = n.q
FROM unnest(%s::bigint[], %s::smallint[], %s::smallint[], %s::smallint[], %s::smallint[],
            %s::timestamptz[], %s::smallint[], %s::smallint[], %s::smallint[], %s::integer[],
            %s::timestamptz[]) AS n(a, d, f, w, l, t, o, r, c, h, q)
WHERE s.account_id = n.a
"""


def _standing_columns(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """The rows as columns, in the order in which ``_STANDINGS`` takes them."""
    columns = list(zip(*rows, strict=True))
    return [
        moments(values) if at in (5, 10) else integers(map(int, values))
        for at, values in enumerate(columns)
    ]


def _standing_row(case: Case, decision: Decision | None) -> tuple[Any, ...]:
    before = case.standing
    desired, last = before.desired, (before.outcome, before.reason, before.closed_gates)
    held, reconsider_at = before.held and case.is_cut_due, None
    if decision is not None and case.by_hand is not None:
        desired, held = case.by_hand, False
        reconsider_at = _moment(decision.reconsider_at_us)
        last = (decision.outcome.value, decision.reason.value, 0)
    elif decision is not None:
        # Who is connected without money, because nobody decided the cut, waits for one like any other.
        is_owed = decision.outcome is Outcome.CONNECT and case.is_cut_due
        held = decision.outcome is Outcome.HOLD or is_owed
        reconsider_at = _moment(decision.reconsider_at_us) if held else None
        last = (decision.outcome.value, decision.reason.value, _closed_mask(decision))
        if decision.outcome is Outcome.CUT:
            desired = RelayState.OPEN
        elif not case.is_cut_due and decision.shortfall_micro == 0:
            desired = RelayState.CLOSED
    shown = case.fired_mask | case.would_mask
    serious = next(
        (
            level.level_no + 1
            for level in _by_seriousness(case.rules)
            if shown >> level.level_no & 1
        ),
        0,
    )
    return (
        before.account_id,
        desired.value,
        case.fired_mask,
        case.would_mask,
        serious,
        case.low_since,
        *last,
        held,
        reconsider_at,
    )


def _by_seriousness(rules: Rules) -> list[Level]:
    """The levels, most serious first: used up, in emergency credit, little money, few days."""
    rank = {LevelKind.EXHAUSTED: 0, LevelKind.EMERGENCY: 1, LevelKind.MONEY: 2, LevelKind.DAYS: 3}
    return sorted(
        rules.levels.levels,
        key=lambda level: (rank[level.kind], level.threshold_micro, level.threshold_h),
    )


def _watch_of(case: Case, decision: Decision | None) -> int:
    """The amount below which ingest reports the account again."""
    watch = next_watch_below_micro(*case.amounts, case.rules.levels, case.fired_mask)
    stale = not case.is_live
    if decision is not None:
        stale = Gate.READING_FRESH in decision.closed_gates
    if case.is_exhausted and stale:
        # Only a live reading opens this gate, so the next one must be looked at.
        return max(watch, 1 - case.standing.emergency_micro)
    return watch


def _set_watch(wanted: Mapping[int, int], now_set: Mapping[int, int] | None = None) -> None:
    """Write ``watch_below`` where it changes; the caller holds the ``account_state`` locks.

    An operator only raises it, in a function of the database (``sql/0004_guards.sql``).
    """
    before = now_set or {}
    changed = {key: value for key, value in wanted.items() if before.get(key) != value}
    if not changed:
        return
    statement = _RAISE_WATCH if acting_role() == OPERATOR else _WATCH
    execute(statement, [integers(changed), integers(changed.values())])


_RAISE_WATCH: Final = "SELECT raise_watch(%s::bigint[], %s::bigint[])"
_WATCH: Final = """
UPDATE account_state AS a SET watch_below = n.w
FROM unnest(%s::bigint[], %s::bigint[]) AS n(a, w) WHERE a.account_id = n.a
"""


def _write_orders(
    stored: Mapping[int, tuple[Case, tuple[Decision, Wiring]]],
    decision_ids: Mapping[int, int],
    now: datetime,
) -> None:
    """Turn decisions into orders, one for each relay; a later order supersedes the former."""
    rows: list[tuple[Any, ...]] = []
    audits: list[AuditRow] = []
    for key, (case, (decision, wiring)) in stored.items():
        kind = _order_kind(decision)
        if kind is None:
            continue
        order = new_order(
            kind, instant_us(case.as_of), case.rules.order, would_have=decision.would_have
        )
        rows += [
            (
                case.standing.property_id,
                key,
                meter_id,
                kind.value,
                order.state.value,
                decision_ids[key],
                decision.reason.word,
                case.as_of,
                _moment(order.next_try_at_us),
                _moment(_expires_at_us(case, order)),
                case.as_of if order.is_final else None,
            )
            for meter_id in wiring.meter_ids
        ]
        audits.append(
            (
                case.standing.property_id,
                f"account:{key}",
                {
                    "order": kind.word,
                    "reason": decision.reason.word,
                    "decision": decision_ids[key],
                    "would_have": decision.would_have,
                },
            )
        )
    if not rows:
        return
    live = [row for row in rows if row[4] == OrderState.DECIDED]
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE supply_order SET state = %s, finished_at = %s, next_try_at = NULL
               WHERE id IN (SELECT id FROM supply_order
                            WHERE meter_id = ANY(%s) AND state IN (1, 2, 3)
                            ORDER BY id FOR UPDATE)""",
            [OrderState.SUPERSEDED.value, now, sorted(row[2] for row in live)],
        )
        cursor.execute(
            """INSERT INTO supply_order (property_id, account_id, meter_id, kind, state,
                   decision_id, reason, decided_at, next_try_at, expires_at, finished_at, attempts,
                   failure)
               SELECT p, a, m, k, s, d, r, t, x, e, f, 0, ''
               FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[],
                           %s::smallint[], %s::bigint[], %s::text[], %s::timestamptz[],
                           %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
                    AS n(p, a, m, k, s, d, r, t, x, e, f)""",
            [list(column) for column in zip(*rows, strict=True)],
        )
    record_many(actor=ACTOR, code="supply.order.decided", now=now, rows=audits)
    ring("supply_order", {row[0] for row in live})


def _expires_at_us(case: Case, order: Order) -> int | None:
    """When an order grows old: a cut no later than its permitted hours end, or a meter that was away
    would be cut at night. It is decided again when they begin.
    """
    if order.expires_at_us is None:
        return None
    closes_us = closes_at_us(case.rules.supply.window, order.decided_at_us)
    return order.expires_at_us if closes_us is None else min(order.expires_at_us, closes_us)


def _order_kind(decision: Decision) -> OrderKind | None:
    if decision.outcome is Outcome.CUT or decision.would_have_cut:
        return OrderKind.DISCONNECT
    return OrderKind.CONNECT if decision.outcome is Outcome.CONNECT else None


# --- holds, protection, the brake ---


def place_payment_hold(
    *, actor: Actor, property_id: int, account_ids: Sequence[int], until: datetime, now: datetime
) -> None:
    """Hold cuts of these accounts while a payment is on its way, at most until ``until``.

    The later of two holds stands. Raises `SupplyRefused` ``hold_in_the_past`` for an instant that has
    passed, ``hold_too_long`` for one beyond `HOLD_MAX`, which the database bounds as well.
    """
    require(actor, "supply.payment_hold", property_id=property_id)
    if until <= now:
        raise SupplyRefused("hold_in_the_past")
    if until > now + HOLD_MAX:
        raise SupplyRefused("hold_too_long")
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """UPDATE supply_state
               SET payment_hold_until = greatest(payment_hold_until, %s::timestamptz)
               WHERE account_id = ANY(%s) AND property_id = %s""",
            [until, sorted(account_ids), property_id],
        )
        _record_accounts(
            actor, "supply.payment_hold.placed", property_id, account_ids, now, until=until
        )


def release_payment_hold(
    *, actor: Actor, property_id: int, account_ids: Sequence[int], now: datetime
) -> None:
    """End payment holds: the payment arrived or failed. Held cuts are decided again at once."""
    require(actor, "supply.payment_hold", property_id=property_id)
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """UPDATE supply_state SET payment_hold_until = NULL,
                      reconsider_at = CASE WHEN held THEN %s ELSE reconsider_at END
               WHERE account_id = ANY(%s) AND property_id = %s""",
            [now, sorted(account_ids), property_id],
        )
        _record_accounts(actor, "supply.payment_hold.released", property_id, account_ids, now)
        ring("supply_due", [property_id])


def set_protection(
    *,
    actor: Actor,
    property_id: int,
    account_id: int,
    protection: Protection,
    now: datetime,
    **detail: object,
) -> None:
    """Protect a supply from ever being cut for money, or end that; decided again at once.

    People do it by a proposal (`by_agreement`): the database asks for it. ``detail`` goes into the audit.
    Raises Changed.
    """
    require(actor, "supply.protect", property_id=property_id)
    word = protection.word if protection else ""
    with scope(actor), saying_what_changed():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT protect_supply(%s, %s, %s, %s)", [property_id, account_id, word, now]
            )
            former = cursor.fetchone()
        _record_accounts(
            actor,
            "supply.protection.set",
            property_id,
            [account_id],
            now,
            before=former[0] or Protection.NONE.word,
            after=protection.word,
            **detail,
        )
        ring("supply_due", [property_id])


def release_brake(*, actor: Actor, property_id: int, now: datetime, **detail: object) -> None:
    """Release the mass-cut brake; held cuts are then decided again and count from zero.

    People do it by a proposal (`by_agreement`): the database asks for it. Raises Changed `brake` where it
    is off, or on since another instant than was agreed to.
    """
    require(actor, "supply.release_brake", property_id=property_id)
    with scope(actor), connection.cursor() as cursor:
        # A decision locks its supplies and then the brake. Whoever takes the brake first and these
        # afterwards waits for a decision that waits for the brake.
        cursor.execute(
            """SELECT FROM supply_state WHERE property_id = %s AND held
               ORDER BY account_id FOR NO KEY UPDATE""",
            [property_id],
        )
        with saying_what_changed():
            cursor.execute("SELECT release_brake(%s, %s)", [property_id, now])
        cursor.execute(
            "UPDATE supply_state SET reconsider_at = %s WHERE property_id = %s AND held",
            [now, property_id],
        )
        close_alert(property_id=property_id, code=BRAKE, subject=f"property:{property_id}", now=now)
        record(
            actor=actor.code, code="supply.brake.released", property_id=property_id,
            subject=f"property:{property_id}", now=now, **detail,
        )  # fmt: skip
        ring("supply_due", [property_id])
        ring("changed", [property_id])


def pull_brake(*, actor: Actor, property_id: int, now: datetime, **detail: object) -> None:
    """Put the mass-cut brake on by hand: nobody is cut before it is released. Raises Changed `brake`."""
    require(actor, "supply.release_brake", property_id=property_id)
    with scope(actor), connection.cursor() as cursor:
        with saying_what_changed():
            cursor.execute("SELECT pull_brake(%s, %s)", [property_id, now])
        record(
            actor=actor.code, code="supply.brake.on", property_id=property_id,
            subject=f"property:{property_id}", now=now, **detail,
        )  # fmt: skip
        raise_alert(
            property_id=property_id, code=BRAKE, subject=f"property:{property_id}",
            detail={"by_hand": True}, now=now,
        )  # fmt: skip
        ring("changed", [property_id])


def _record_accounts(
    actor: Actor,
    code: str,
    property_id: int,
    account_ids: Sequence[int],
    now: datetime,
    **detail: object,
) -> None:
    rows: list[AuditRow] = [(property_id, f"account:{each}", detail) for each in account_ids]
    record_many(actor=actor.code, code=code, now=now, rows=rows)
