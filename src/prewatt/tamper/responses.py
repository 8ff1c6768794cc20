"""What is done by itself about a new case, by its property's policy: a letter, a word to the customer, their supply.

The worker does it, a case at a time and in a transaction each: whatever stands in the way of one stops no other. No
supply is touched but by a function of the database that looks the policy up, and never that of a protected account.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.core.civil_time import instant_us
from prewatt.core.credit import SECOND_US
from prewatt.core.cut_window import next_open_at_us
from prewatt.core.vocabulary import TamperKind, TamperResponse
from prewatt.ledger.operations import lock_accounts
from prewatt.notify.operations import NewMessage, enqueue
from prewatt.notify.sentences import TAMPER_NOTICE
from prewatt.runtime.bells import ring
from prewatt.supply import queries as supply
from prewatt.tamper.policy import Policy, policies_of

_CASES_AT_ONCE: Final = 200
#: What the customer is told, by what was done.
_MESSAGE: Final = {
    TamperResponse.WARN: "tamper.noticed",
    TamperResponse.TECHNICIAN: "tamper.noticed",
    TamperResponse.HOLD_EMERGENCY: "tamper.emergency_held",
    TamperResponse.CUT: TAMPER_NOTICE,
}
_DONE: Final = {"cut": TamperResponse.CUT, "hold_emergency": TamperResponse.HOLD_EMERGENCY}
LETTER: Final = "tamper.case"


@dataclass(frozen=True, slots=True)
class _Case:
    case_id: int
    property_id: int
    meter_id: int
    account_id: int | None
    kind: TamperKind
    first_at: datetime


def respond_to_cases(*, actor: Actor, now: datetime) -> int:
    """Do what the policies say about each case that nothing was done about yet; how many."""
    require(actor, "tamper.respond")
    with scope(actor):
        found = _waiting()
        policies = policies_of({each.property_id for each in found})
    for case in found:
        with scope(actor):
            _respond(actor, case, policies[case.property_id], now)
    return len(found)


def _waiting() -> list[_Case]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT id, property_id, meter_id, account_id, kind, first_at FROM tamper_case
               WHERE responded_at IS NULL AND state <> 3 ORDER BY opened_at, id LIMIT %s""",
            [_CASES_AT_ONCE],
        )
        return [
            _Case(case, place, meter, account, TamperKind(kind), first_at)
            for case, place, meter, account, kind, first_at in cursor.fetchall()
        ]


def _respond(actor: Actor, case: _Case, policy: Policy, now: datetime) -> None:
    wanted = policy.response_to(case.kind)
    if case.account_id is not None:
        # As everybody who decides: the account first, then its standing, then the case.
        lock_accounts([case.account_id])
    done, kept = wanted, ""
    if wanted in (TamperResponse.HOLD_EMERGENCY, TamperResponse.CUT):
        done, kept = _withhold(case, now)
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE tamper_case SET response = %s, responded_at = %s, response_kept = %s
               WHERE id = %s AND responded_at IS NULL""",
            [int(done), now, kept, case.case_id],
        )
        if cursor.rowcount == 0:
            return
    if done in _MESSAGE and case.account_id is not None:
        _tell_customer(case, done, now)
    duties = {*policy.letters, *(("installer",) if done is TamperResponse.TECHNICIAN else ())}
    if duties:
        _write_letters(case, duties, now)
    if done is not TamperResponse.NOTHING or kept:
        record(
            actor=actor.code, code="tamper.case.responded", property_id=case.property_id,
            subject=f"meter:{case.meter_id}", now=now, case=case.case_id, kind=case.kind.word,
            response=done.word, kept=kept, policy=policy.version,
        )  # fmt: skip
    ring("changed", [case.property_id])


def _withhold(case: _Case, now: datetime) -> tuple[TamperResponse, str]:
    """What was done to the account's supply; and why nothing was, where its customer is only told."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT withhold_supply(%s, %s)", [case.case_id, now])
        word = str(cursor.fetchone()[0])
    ring("supply_due", [case.property_id])
    if word in _DONE:
        return _DONE[word], ""
    return TamperResponse.WARN if word == "protected" else TamperResponse.NOTHING, word


def _tell_customer(case: _Case, done: TamperResponse, now: datetime) -> None:
    assert case.account_id is not None, "somebody is told"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT available FROM account_state WHERE account_id = %s", [case.account_id]
        )
        row = cursor.fetchone()
    detail: dict[str, object] = {
        "at_us": instant_us(case.first_at), "case": case.case_id,
        "available_micro": None if row is None else int(row[0]),
    }  # fmt: skip
    if done is TamperResponse.CUT:
        rules = supply.rules([case.property_id], now)[case.property_id]
        noticed_us = instant_us(now) + rules.supply.notice_s * SECOND_US
        detail["earliest_cut_us"] = next_open_at_us(rules.supply.window, noticed_us)
    enqueue(
        messages=[
            NewMessage(
                property_id=case.property_id, account_id=case.account_id, code=_MESSAGE[done],
                detail=detail, dedupe_key=f"tamper:{case.case_id}",
                urgent=done is TamperResponse.CUT, would_have=False,
            )
        ],
        now=now,
    )  # fmt: skip


def _write_letters(case: _Case, duties: set[str], now: datetime) -> None:
    """A letter to everybody who holds one of the duties at the property; the worker sends it."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO notice (user_id, code, detail, made_at, due_at)
               SELECT DISTINCT g.user_id, %s, jsonb_build_object(
                          'unit', coalesce((SELECT u.code FROM installation i
                              JOIN metering_point e ON e.id = i.metering_point_id
                              JOIN unit u ON u.id = e.unit_id
                              WHERE i.meter_id = m.id ORDER BY lower(i.period) DESC LIMIT 1), ''),
                          'meter', m.serial, 'place', p.name, 'kind', %s::text, 'case', %s::bigint),
                      %s::timestamptz, %s::timestamptz
               FROM duty_grant g JOIN app_user a ON a.id = g.user_id AND a.is_active
               JOIN property p ON p.id = g.property_id OR p.organisation_id = g.organisation_id
                   AND g.property_id IS NULL AND (g.property_group_id IS NULL OR EXISTS (
                       SELECT FROM property_group_member r
                       WHERE r.property_group_id = g.property_group_id AND r.property_id = p.id))
               JOIN meter m ON m.id = %s
               WHERE p.id = %s AND g.ended_at IS NULL AND g.duty = ANY(%s)""",
            [
                LETTER, case.kind.word, case.case_id, now, now, case.meter_id, case.property_id,
                sorted(duties),
            ],
        )  # fmt: skip


def release_of(account_id: int, now: datetime) -> bool:
    """Give an account back what its closed cases withheld; in the caller's transaction, with the account's lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT release_supply(%s, %s)", [account_id, now])
        return bool(cursor.fetchone()[0])
