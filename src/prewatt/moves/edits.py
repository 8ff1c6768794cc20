"""A charged reading is put right by a person, or withdrawn, with a reason and a proof.

What the meter said stays for ever; the edit is a further revision beside it. The two intervals that
touch the reading are taken back and charged anew as of their own time, so between the reading before
and the reading after no watt-hour is lost or charged twice: only the split between them moves. The last
reading has none after it; there the watermark moves along, and the difference is charged or given
back. What is in the ledger already is corrected by the next posting, under its own service date, and
the customer is told the difference at once.

What an edit moves may take others (`agreed_edits`): the database writes the revision only as it was agreed to
in the same transaction.

An edit is refused where validation would hold the reading, or the one after it. A reading at which one
payer or device ends and the next begins is two accounts' and no edit's.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from django.db import connection

from prewatt.access.scope import Actor, rehearsal, require, scope, system_actor
from prewatt.approvals.kinds import Agreed, saying_what_changed
from prewatt.approvals.operations import Wanted, rehearse
from prewatt.audit.operations import record
from prewatt.billing.recutting import (
    Piece,
    Stretch,
    move_watermark,
    replace_stretches,
    stretches_at,
)
from prewatt.billing.rerate_requests import EDITED_READING, request_rerating
from prewatt.billing.rerating import Corrected, tell_customers
from prewatt.billing.states import States, lock_states
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.edits import Point, Register, judge_points
from prewatt.core.readings import ACTIVE_IMPORT, Quality
from prewatt.core.vee import VERDICT_NAMES, Verdict
from prewatt.ledger.idempotency import store_answer, stored_answer
from prewatt.mdm.archived import correctable_from_us
from prewatt.supply.operations import look_again

EDIT_KIND: Final = "mdm.edit"
REASON_MAX: Final = 200
PROOF_MAX: Final = 80


class EditRefused(Exception):
    """Nothing was changed. ``reason`` is a stable word, or a verdict's name; the text says what to do.

    `unknown`, `register`, `no_reading`, `boundary`, `withdrawn`, `same`, `modulus`, `last`,
    `no_reason`, `no_proof`, `mdm.vee.backwards`, `mdm.vee.implausible`, `mdm.vee.future`,
    `mdm.vee.archived`.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ReadingCorrected:
    """What an edit came to, in micro-units and Wh; ``value_wh`` is None for a withdrawn reading.

    ``before_*`` is the energy from the reading before, ``after_*`` that up to the reading after.
    """

    meter_id: int
    account_id: int
    read_at: str
    revision: int
    was_wh: int
    value_wh: int | None
    before_was_wh: int
    before_wh: int
    after_was_wh: int
    after_wh: int
    charged_before_micro: int
    charged_after_micro: int
    available_micro: int
    repeated: bool = False

    @property
    def difference_micro(self) -> int:
        """What the account is charged more; negative: what it gets back."""
        return self.charged_after_micro - self.charged_before_micro


@dataclass(frozen=True, slots=True)
class _Ask:
    """What a person asks for, as it is said in the audit trail."""

    meter_id: int
    register_code: int
    read_at: datetime
    value_wh: int | None
    reason: str
    proof: str


@dataclass(frozen=True, slots=True, eq=False)
class _Reading:
    """A charged reading and what touches it, under the locks of all who ever paid by the meter."""

    revision: int
    value_wh: int
    is_withdrawn: bool
    account_id: int
    property_id: int
    states: States
    row: int
    before: Stretch
    after: Stretch | None

    @property
    def old(self) -> list[Stretch]:
        """The intervals that an edit supersedes."""
        return [self.before, *([self.after] if self.after else [])]

    @property
    def register(self) -> Register:
        """What the register can count."""
        marks = self.states.watermarks
        return Register(
            modulus=int(marks.register_modulus[self.row]),
            wh_per_count=self.before.multiplier,
            max_power_w=int(marks.max_power_w[self.row]),
            period_us=int(marks.period_us[self.row]),
        )


def edit_reading(
    *,
    actor: Actor,
    meter_id: int,
    register_code: int,
    read_at: datetime,
    value_wh: int,
    reason: str,
    proof: str,
    key: str,
    now: datetime,
    agreed: Agreed | None = None,
) -> ReadingCorrected:
    """Give a charged reading the value that the register had; a withdrawn one comes back with it.

    ``proof`` names what shows it (the number of a photo, say). Idempotent by ``key``. Raises
    EditRefused, PermissionRefused, KeyReused; `approvals.kinds.Changed` where another reading was agreed to.
    """
    ask = _Ask(meter_id, register_code, read_at, value_wh, reason, proof)
    return _correct(actor, ask, key, now, agreed=agreed)


def withdraw_reading(
    *,
    actor: Actor,
    meter_id: int,
    register_code: int,
    read_at: datetime,
    reason: str,
    proof: str,
    key: str,
    now: datetime,
    agreed: Agreed | None = None,
) -> ReadingCorrected:
    """Let a charged reading count no longer: the two intervals around it become one, an estimate.

    Their energy stays. The last reading has only one and is edited instead. As ``edit_reading``.
    """
    ask = _Ask(meter_id, register_code, read_at, None, reason, proof)
    return _correct(actor, ask, key, now, agreed=agreed)


def rehearse_edit(
    *,
    actor: Actor,
    meter_id: int,
    register_code: int,
    read_at: datetime,
    value_wh: int | None,
    now: datetime,
) -> ReadingCorrected:
    """What an edit, or a withdrawal with None, would do: found by doing it and taking it back.

    Raises as they do.
    """
    ask = _Ask(meter_id, register_code, read_at, value_wh, "rehearsal", "rehearsal")
    with rehearsal():
        return _correct(actor, ask, f"rehearse:{secrets.token_hex(16)}", now, rehearsed=True)


def _correct(
    actor: Actor,
    ask: _Ask,
    key: str,
    now: datetime,
    *,
    agreed: Agreed | None = None,
    rehearsed: bool = False,
) -> ReadingCorrected:
    require(actor, "mdm.edit")
    body = {"op": "mdm.edit", **asdict(ask)}
    with scope(actor):
        before = stored_answer(actor=actor, key=key, body=body)
        if before is not None:
            return ReadingCorrected(**{**before, "repeated": True})  # type: ignore[arg-type]
        _refuse_words(ask)
        reading = _locked(ask)
        require(actor, "mdm.edit", property_id=reading.property_id)
        pieces = _pieces(ask, reading, now)
        if rehearsed:
            # The database asks for what was agreed to, also where the deed is taken back.
            rehearse(_wanted_now(ask, reading))
        answer = _put_right(actor, ask, reading, pieces, now)
        _conclude(actor, ask, key, body, reading.property_id, answer, now, agreed)
    return answer


def _wanted_now(ask: _Ask, reading: _Reading) -> Wanted:
    """What the database compares an edit with, of the reading as it stands."""
    effect = {
        "register": ask.register_code, "read_at": ask.read_at.isoformat(), "was": reading.value_wh,
        "account": reading.account_id, "revision": reading.revision + 1, "value": ask.value_wh,
    }  # fmt: skip
    return Wanted(EDIT_KIND, reading.property_id, f"meter:{ask.meter_id}", effect, b"")


def _refuse_words(ask: _Ask) -> None:
    for name, text, most in (("reason", ask.reason, REASON_MAX), ("proof", ask.proof, PROOF_MAX)):
        if not text.strip() or len(text) > most or not text.isprintable():
            raise EditRefused(f"no_{name}", f"give a {name} of at most {most} printable characters")
    if ask.register_code != ACTIVE_IMPORT:
        raise EditRefused("register", "only the register that is charged is corrected")


def _locked(ask: _Ask) -> _Reading:
    """The reading as it stands, once nobody can move what it touches. Raises EditRefused."""
    states = lock_states(np.array([ask.meter_id], dtype=np.int64))
    if states.account_id.size == 0:
        raise EditRefused("unknown", f"no account pays by a meter {ask.meter_id} in your scope")
    with connection.cursor() as cursor:
        cursor.execute(
            # Whose it is says the assignment: it may have changed its payer since it came.
            """SELECT r.revision, r.value_wh, r.quality, coalesce(a.account_id, r.account_id),
                      r.property_id
               FROM register_reading r
               LEFT JOIN meter_assignment a ON a.meter_id = r.meter_id AND a.period @> r.read_at
               WHERE r.meter_id = %s AND r.register_code = %s AND r.read_at = %s
               ORDER BY r.revision DESC LIMIT 1""",
            [ask.meter_id, ask.register_code, ask.read_at],
        )
        found = cursor.fetchone()
    _refuse_boundary(ask)
    row = np.flatnonzero(
        (states.account_id == (found[3] if found else 0)) & (states.register_code == ACTIVE_IMPORT)
    )
    if found is None or row.size == 0:
        raise EditRefused("no_reading", "there is no charged reading at that instant")
    before, after = stretches_at(account_id=int(found[3]), meter_id=ask.meter_id, at=ask.read_at)
    earliest_us = correctable_from_us(int(found[3]))
    if min(instant_us(ask.read_at), before.start_at_us if before else earliest_us) < earliest_us:
        raise EditRefused(
            VERDICT_NAMES[Verdict.ARCHIVED],
            "the usage of that time is archived, and stays as it is",
        )
    withdrawn = found[2] == Quality.WITHDRAWN
    at_us = instant_us(ask.read_at)
    if before is None or (before.end_at_us <= at_us if withdrawn else before.end_at_us != at_us):
        raise EditRefused("no_reading", "no charged interval ends at that instant")
    return _Reading(
        int(found[0]), int(found[1]), withdrawn, int(found[3]), int(found[4]), states,
        int(row[0]), before, after,
    )  # fmt: skip


def _refuse_boundary(ask: _Ask) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT EXISTS (SELECT FROM meter_assignment WHERE meter_id = %s
                   AND %s IN (lower(period), upper(period)))""",
            [ask.meter_id, ask.read_at],
        )
        if cursor.fetchone()[0]:
            raise EditRefused(
                "boundary",
                "one payer or device ends at this reading and the next begins: correct the readings "
                "beside it, and settle what is between the two accounts by a credit and a charge",
            )


def _pieces(ask: _Ask, reading: _Reading, now: datetime) -> list[Piece]:
    """The intervals as they should be. Raises EditRefused where that cannot be."""
    if ask.value_wh is None:
        return [_joined(reading)]
    if not reading.is_withdrawn and ask.value_wh == reading.value_wh:
        raise EditRefused("same", "the reading has this value already")
    register = reading.register
    if not 0 <= ask.value_wh < register.modulus:
        raise EditRefused("modulus", f"the register counts from 0 to {register.modulus - 1}")
    first, last = reading.before, reading.old[-1]
    points = [
        Point(first.start_at_us, first.start_value),
        Point(instant_us(ask.read_at), ask.value_wh),
    ]
    if last.end_at_us > points[-1].at_us:
        points.append(Point(last.end_at_us, last.end_value))
    ways = judge_points(points, register, now_us=instant_us(now))
    for which, way in zip(("before", "after"), ways, strict=False):
        if way.verdict is not Verdict.ACCEPTED:
            raise EditRefused(
                VERDICT_NAMES[way.verdict], f"the reading {which} it contradicts this value"
            )
    energy = sum(each.energy_wh for each in ways)
    if len(points) == 3 and energy != sum(each.energy_wh for each in reading.old):
        raise EditRefused(
            VERDICT_NAMES[Verdict.IMPLAUSIBLE], "the register would go round once more"
        )
    return [
        Piece(start.at_us, end.at_us, start.value, end.value, way.energy_wh, way.quality)
        for start, end, way in zip(points, points[1:], ways, strict=False)
    ]


def _joined(reading: _Reading) -> Piece:
    if reading.is_withdrawn:
        raise EditRefused("withdrawn", "the reading was withdrawn already")
    if reading.after is None:
        raise EditRefused(
            "last",
            "the last reading is the register's present state: correct it to the reading before it, "
            "and the next one counts from there",
        )
    first, last = reading.before, reading.after
    return Piece(
        first.start_at_us,
        last.end_at_us,
        first.start_value,
        last.end_value,
        first.energy_wh + last.energy_wh,
        Quality.ESTIMATED,
    )


def _put_right(
    actor: Actor, ask: _Ask, reading: _Reading, pieces: Sequence[Piece], now: datetime
) -> ReadingCorrected:
    """Write the revision, charge the intervals anew, and let everybody concerned know."""
    account_id, at_us = reading.account_id, instant_us(ask.read_at)
    available = _available(account_id)
    replace_stretches(states=reading.states, row=reading.row, old=reading.old, new=pieces, now=now)
    if reading.after is None and not reading.is_withdrawn and ask.value_wh is not None:
        move_watermark(
            states=reading.states, row=reading.row, at=ask.read_at, value_wh=ask.value_wh
        )
    _revise(ask, reading, now)
    since = utc_datetime(reading.before.start_at_us)
    # Demand and bounds of days that are charged already look at the energy of those days.
    request_rerating(from_at={account_id: since}, reason=EDITED_READING, now=now)
    charged = sum(each.charged_micro for each in reading.old)
    left = _available(account_id)
    answer = ReadingCorrected(
        meter_id=ask.meter_id,
        account_id=account_id,
        read_at=ask.read_at.isoformat(),
        revision=reading.revision + 1,
        was_wh=reading.value_wh,
        value_wh=ask.value_wh,
        before_was_wh=reading.before.energy_wh,
        before_wh=sum(each.energy_wh for each in pieces if each.start_at_us < at_us),
        after_was_wh=reading.after.energy_wh if reading.after else 0,
        after_wh=sum(each.energy_wh for each in pieces if each.start_at_us >= at_us),
        charged_before_micro=charged,
        charged_after_micro=charged + available - left,
        available_micro=left,
    )
    look_again(actor=system_actor("edits", actor.property_ids), account_ids=[account_id], now=now)
    corrected = Corrected(
        account_id, reading.property_id, since, charged, answer.charged_after_micro
    )
    about = f"reading:{ask.meter_id}:{at_us}:{answer.revision}"
    tell_customers([corrected], now=now, about=about)
    return answer


def _revise(ask: _Ask, reading: _Reading, now: datetime) -> None:
    """The next revision of the reading; a withdrawn one keeps the value that it had."""
    with saying_what_changed(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT revise_reading(%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                reading.property_id, ask.meter_id, ask.register_code, ask.read_at,
                reading.revision + 1, reading.account_id, ask.value_wh, now,
            ],
        )  # fmt: skip


def _available(account_id: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT available FROM account_state WHERE account_id = %s", [account_id])
        return int(cursor.fetchone()[0])


def _conclude(
    actor: Actor,
    ask: _Ask,
    key: str,
    body: dict[str, Any],
    property_id: int,
    answer: ReadingCorrected,
    now: datetime,
    agreed: Agreed | None,
) -> None:
    """Audit who and why, keep the answer under its key, and ring the bell of live pages."""
    record(
        actor=actor.code,
        code="mdm.reading.edited" if ask.value_wh is not None else "mdm.reading.withdrawn",
        property_id=property_id,
        subject=f"meter:{ask.meter_id}",
        now=now,
        reason=ask.reason,
        proof=ask.proof,
        **asdict(answer),
        **(agreed.audited if agreed else {}),
    )
    store_answer(
        actor=actor,
        key=key,
        body=body,
        account_id=answer.account_id,
        property_id=property_id,
        answer=asdict(answer),
        now=now,
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('changed', %s)", [str(property_id)])
