"""Rating anew: what late readings, changed terms or prices, or a wrong tariff make of past charges.

From the beginning of the step and allowance window that holds an instant, the intervals that stand
are rated once more in the order of time, under the present tariff chain and terms. Where that comes
to something else, the interval is superseded as a late reading supersedes one: its segments are taken
back at the charges they had, the new ones follow with the next revision. The difference is posted at
once, as an event of its own whose transfers name what they correct. Nothing is ever changed, and a
run that finds nothing to correct writes nothing.

A charge is cut off to whole micro-units with a remainder that goes through all rows of an account, so
the same interval may cost a micro-unit more or less next to other rows: that alone is no difference.
Every row keeps what it left of its exact amount. Intervals are compared by exact amounts, and the new
rows are cut off where the remainder stands when it has gone through the rows that stay. So the sum of
each component over the rows that stand, with what is taken back, is their exact sum cut off once,
whatever the number of corrections (``docs/decisions/0011-remainders-stay-with-rows.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
from django.db import connection

from prewatt.access.scope import Actor, require, scope, system_actor
from prewatt.audit.operations import record
from prewatt.billing.day_corrections import correct_days
from prewatt.billing.models import Tariff
from prewatt.billing.operations import SelfApproval, advance_epoch, put_on_plan
from prewatt.billing.posting import post_chunk
from prewatt.billing.queries import PLAIN, Terms, tariff_code_at
from prewatt.billing.rerate_requests import LATE_MOVE, request_rerating
from prewatt.billing.reversals import CHARGES, RESTS, UNITS
from prewatt.billing.tariffs import Prices, TariffBook
from prewatt.billing.unpriced import leave_out
from prewatt.billing.usage import STANDS, standing
from prewatt.core.accounts import TransferKind
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.rating import (
    AccountTerms,
    DatedTerms,
    RatedUsage,
    Segments,
    UsageState,
    rate_usage,
    split_intervals,
)
from prewatt.core.readings import ACTIVE_IMPORT, REVERSED_SEGMENT, Quality
from prewatt.core.steps import PURCHASE_KEY
from prewatt.ledger.operations import lock_accounts
from prewatt.mdm.archived import archived_purchasers, correctable_from_us
from prewatt.notify.alerts import CORRECTION_TOO_OLD, RERATING_FAILED
from prewatt.notify.operations import NewMessage, enqueue, raise_alert
from prewatt.notify.tries import Tries
from prewatt.runtime.copying import copy_rows, read_columns
from prewatt.supply.operations import look_again

#: Accounts in one transaction: bounds memory and how long their locks are held.
CHUNK: Final = 250
#: Why a wrong tariff is rated anew; stored, never renamed.
WRONG_TARIFF: Final = "wrong_tariff"
#: The kind of proposal by which a wrong tariff is put right (``plans``).
CORRECTION: Final = "billing.correction"
#: The cause of the posting that goes before, so that a correction has an event of its own.
BEFORE: Final = "posting.correction"

Bool = npt.NDArray[np.bool_]

_FACTS: Final = ("from_at", "to_at", "energy_wh", "tariff_version_id", "band", "step", "price_nano")
_COMPONENTS: Final = ("energy", "fee", "tax", "subsidy")
#: What a row's rest has room for where it is stored.
_REST_MAX: Final = 2**31 - 1
#: The last revision that an interval can have: late readings leave room before it (`backfill`).
_REVISION_LAST: Final = 2**15 - 1
#: Purchases and carried counts begin rounds; a number of both keeps them in order.
_CARRIED: Final = 2**32


class CorrectionRefused(ValueError):
    """A tariff cannot be corrected so; ``reason`` is ``future``, ``none``, ``same`` or ``archived``."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class CorrectionTooOld(CorrectionRefused):
    """The readings of that time, or some that it is counted with, have left the database."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """What a correction came to for one account, in micro-units over the intervals it replaced."""

    account_id: int
    property_id: int
    since: datetime
    charged_before: int
    charged_after: int

    @property
    def difference(self) -> int:
        """What the account is charged more; negative: what it gets back."""
        return self.charged_after - self.charged_before


def rerate(
    *, actor: Actor, account_ids: Sequence[int], from_at: datetime, reason: str, now: datetime
) -> list[Corrected]:
    """Rate accounts anew from an instant on and post the differences; returns those that had one.

    ``reason`` is a stable word, stored with the transfers. One transaction for each chunk of
    accounts, under their locks; what was done stays done if a later chunk fails, and a second run
    changes nothing. An account without a tariff is left out, with an alert; so is one whose intervals
    of that time are archived. Raises PermissionRefused.
    """
    require(actor, "billing.correct")
    return _rerate(actor, dict.fromkeys(account_ids, from_at), reason, now)


def correct_tariff(
    *,
    actor: Actor,
    property_id: int,
    account_ids: Sequence[int],
    tariff_code: str,
    from_at: datetime,
    reason: str,
    made_by: str,
    now: datetime,
    about: str = "",
) -> list[Corrected]:
    """Put accounts of a property on the tariff that was right from a past instant on; rates anew.

    In the transaction in which ``actor`` agreed to what ``made_by`` proposed about the subject ``about``, for
    the database asks for that. A later assignment of an account keeps holding from its own instant; one at
    the same instant is corrected by this one. ``reason`` is said in the audit trail. Raises SelfApproval,
    CorrectionRefused, Changed, Tariff.DoesNotExist, UnknownAccount, PermissionRefused.
    """
    require(actor, "billing.correct", property_id=property_id)
    accounts = sorted(set(account_ids))
    if made_by == actor.code:
        raise SelfApproval(f"{actor.code} cannot approve the correction they asked for")
    if not accounts:
        raise CorrectionRefused("none", "no account was named")
    if from_at >= now:
        raise CorrectionRefused("future", "a tariff is corrected from a past instant on")
    with scope(actor):
        if instant_us(from_at) < correctable_from_us():
            raise CorrectionTooOld(
                "archived", f"usage of {from_at:%Y-%m-%d} can no longer be rated"
            )
        tariff = Tariff.objects.get(property_id=property_id, code=tariff_code)
        former = {each: tariff_code_at(each, from_at) for each in accounts}
        if all(each == tariff_code for each in former.values()):
            raise CorrectionRefused("same", f"they are on {tariff_code!r} at that instant already")
        put_on_plan(property_id, accounts, tariff.pk, from_at, kind=CORRECTION, about=about or None)
        advance_epoch(property_id)
        # Should this process end before all are rated anew, the worker finishes.
        request_rerating(from_at=dict.fromkeys(accounts, from_at), reason=WRONG_TARIFF, now=now)
        record(
            actor=made_by,
            code="billing.tariff.corrected",
            property_id=property_id,
            subject=f"tariff:{tariff.pk}",
            now=now,
            accounts=accounts,
            from_at=from_at,
            before=former,
            after=tariff_code,
            reason=reason,
            approved_by=actor.code,
        )
    return _rerate(actor, dict.fromkeys(accounts, from_at), WRONG_TARIFF, now)


def rerate_moved(
    *, actor: Actor, account_ids: Sequence[int], from_at: datetime, now: datetime
) -> None:
    """Rate accounts anew after usage changed its payer, in the caller's transaction.

    Demand, bounds and charges by the day follow, and so does usage that is counted with what moved.
    Whoever moved it tells the customers. Raises PermissionRefused.
    """
    require(actor, "billing.correct")
    with scope(actor):
        _rerate_chunk(actor, dict.fromkeys(account_ids, from_at), LATE_MOVE, now, tells=False)


def rerate_requested(*, actor: Actor, now: datetime) -> list[Corrected]:
    """Work off the accounts that wait to be rated anew, the longest waiting first.

    Each chunk is one property's and a try of its own: one that fails is told there, by an alert.
    """
    require(actor, "billing.correct")
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """SELECT property_id, account_id, from_at, reason FROM rerate_request
               WHERE done_at IS NULL ORDER BY requested_at, id"""
        )
        waiting = cursor.fetchall()
    together: dict[tuple[int, str], dict[int, datetime]] = {}
    for property_id, account_id, from_at, reason in waiting:
        together.setdefault((property_id, reason), {})[account_id] = from_at
    corrected: list[Corrected] = []
    tries = Tries(actor, RERATING_FAILED, now)
    for (property_id, reason), wanted in together.items():
        for chunk in _chunks(wanted):
            with tries.at(property_id):
                corrected += _rerate(actor, chunk, reason, now)
    tries.end()
    return corrected


def _rerate(
    actor: Actor, wanted: Mapping[int, datetime], reason: str, now: datetime
) -> list[Corrected]:
    corrected: list[Corrected] = []
    for chunk in _chunks(wanted):
        with scope(actor):
            corrected += _rerate_chunk(actor, chunk, reason, now)
    return corrected


def _chunks(wanted: Mapping[int, datetime]) -> list[dict[int, datetime]]:
    """What one transaction rates anew, in account order."""
    accounts = sorted(wanted)
    return [
        {each: wanted[each] for each in accounts[at : at + CHUNK]}
        for at in range(0, len(accounts), CHUNK)
    ]


def _rerate_chunk(
    actor: Actor,
    wanted: Mapping[int, datetime],
    reason: str,
    now: datetime,
    *,
    tells: bool = True,
) -> list[Corrected]:
    """Rate a chunk anew in the caller's transaction; the locks are taken here."""
    locked = lock_accounts(list(wanted))
    # One without a tariff is left out with an alert; its request stays open until it has one.
    unpriced = leave_out(locked, now=now)
    asked = _with_requests({each: wanted[each] for each in locked if each not in unpriced})
    asked = _without_archived(asked, now)
    if not asked:
        return []
    ground = _ground(asked)
    history = _read_history(ground)
    corrected: list[Corrected] = []
    if history.size:
        rated = _rate(ground, history)
        correction = _compare(ground, history, rated)
        worn = np.unique(history.account[correction.back[_is_worn(history, correction)]])
        if worn.size:
            lost = {int(each): asked[int(each)] for each in ground.accounts[worn]}
            _leave_to_people(lost, now, worn=True)
            rest = {each: at for each, at in wanted.items() if each not in lost}
            return _rerate_chunk(actor, rest, reason, now, tells=tells)
        corrected = _summed(ground, history, correction)
        if corrected:
            _post_and_write(actor, ground, history, correction, corrected, reason, now)
        _store_counts(ground, history, rated.state)
    # Days that a wrong tariff, an exemption or a bound made cost something else.
    by_days = correct_days(actor_code=actor.code, from_at=asked, now=now)
    _close_requests(asked, now)
    changed = sorted({*by_days, *(each.account_id for each in corrected)})
    if changed:
        # Supply decides as the system does, whoever asked: all its gates hold for a correction too.
        look_again(actor=system_actor("rerating", actor.property_ids), account_ids=changed, now=now)
    if corrected and tells:
        tell_customers(corrected, now=now)
    return corrected


def counts_at(*, account_id: int, at: datetime) -> tuple[int, list[int]]:
    """(window, counts) of an account's steps when all that it used up to an instant was counted.

    Worked out from the intervals that end by then; (0, []) where none of its window does. The caller
    holds the account's lock.
    """
    ground = _ground({account_id: at})
    history = _read_history(ground)
    if not history.size:
        return 0, []
    last = np.append(history.first[1:], history.interval.size) - 1
    counted = history.columns["to_at"][last] <= instant_us(at)
    chosen = counted[history.interval]
    history = _joined(ground, {name: values[chosen] for name, values in history.columns.items()})
    if not history.size:
        return 0, []
    state = _rate(ground, history).state
    return int(state.step_window[0]), state.step_wh[0].tolist()


# --- what is asked for ---


def _with_requests(wanted: Mapping[int, datetime]) -> dict[int, datetime]:
    """The instants asked for, moved back to those of open requests of the same accounts."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT account_id, from_at FROM rerate_request
               WHERE account_id = ANY(%s) AND done_at IS NULL""",
            [list(wanted)],
        )
        waiting = dict(cursor.fetchall())
    return {each: min(at, waiting.get(each, at)) for each, at in wanted.items()}


def _close_requests(asked: Mapping[int, datetime], now: datetime) -> None:
    """Requests that this run has answered. One that has moved further back meanwhile stays open."""
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE rerate_request r SET done_at = %s
               FROM unnest(%s::bigint[], %s::timestamptz[]) AS v(account_id, from_at)
               WHERE r.account_id = v.account_id AND r.done_at IS NULL AND r.from_at >= v.from_at""",
            [now, list(asked), list(asked.values())],
        )


def _without_archived(asked: Mapping[int, datetime], now: datetime) -> dict[int, datetime]:
    """Those that can still be rated anew; the others are left to people."""
    since_us = correctable_from_us()
    purchasers = archived_purchasers(list(asked))
    late = {
        each: at for each, at in asked.items() if instant_us(at) < since_us or each in purchasers
    }
    if late:
        _leave_to_people(late, now)
    return {each: at for each, at in asked.items() if each not in late}


def _is_worn(history: _History, correction: _Correction) -> Bool:
    """Which of the rows to take back have no revision left that could follow."""
    return np.asarray(history.columns["revision"][correction.back] >= _REVISION_LAST)


def _leave_to_people(lost: Mapping[int, datetime], now: datetime, **detail: bool) -> None:
    """Tell somebody of accounts that cannot be rated anew, and end their requests: what they came
    to is a matter of paper now.
    """
    _close_requests(lost, now)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT account_id, property_id FROM account_state WHERE account_id = ANY(%s)",
            [list(lost)],
        )
        places = cursor.fetchall()
    for account_id, property_id in places:
        raise_alert(
            property_id=property_id, code=CORRECTION_TOO_OLD, subject=f"account:{account_id}",
            detail=detail | {"from_at": lost[account_id].isoformat()}, now=now,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Ground:
    """What a chunk is rated on; columns of one entry per account, in order of their ids.

    ``begin_us`` is the local midnight from which the account is rated anew, with nothing counted
    yet; ``carry`` the remainders of ``CHARGES``.
    """

    accounts: Int64
    property_id: Int64
    begin_us: Int64
    carry: Int64
    prices: Prices


def _ground(asked: Mapping[int, datetime]) -> _Ground:
    accounts = np.array(sorted(asked), dtype=np.int64)
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT s.property_id, s.carry_energy, s.carry_fee, s.carry_tax, s.carry_subsidy,
                      (extract(epoch FROM greatest(s.last_interval_at, 'epoch')) * 1000000)::bigint,
                      -- A vacancy account that got its meter back has a watermark that began anew.
                      (SELECT (extract(epoch FROM min(lower(m.period))) * 1000000)::bigint
                       FROM meter_assignment m WHERE m.account_id = s.account_id)
               FROM account_state s WHERE s.account_id = ANY(%s) ORDER BY s.account_id""",
            [accounts.tolist()],
        )
        found = [[0 if value is None else value for value in row] for row in cursor.fetchall()]
    state = np.array(found, dtype=np.int64).reshape(accounts.size, 7)
    from_us = np.array([instant_us(asked[each]) for each in accounts.tolist()], dtype=np.int64)
    prices, begin_us = _begins(accounts, from_us, int(state[:, 5].max()), state[:, 6])
    return _Ground(accounts, state[:, 0], begin_us, state[:, 1:5], prices)


def _begins(
    accounts: Int64, from_us: Int64, last_us: int, opened_us: Int64
) -> tuple[Prices, Int64]:
    """(prices, local midnight before which no count of an account matters from its instant on).

    That is the beginning of the windows that hold the instant. Counts that begin with purchases
    have no such instant: their accounts are rated from their opening.
    """
    book = TariffBook()
    begin = from_us
    while True:
        earliest = int(begin.min())
        prices = book.prices_for(
            accounts, from_us=earliest, until_us=max(last_us, int(from_us.max())) + 1
        )
        moved = _window_begins(prices, begin, opened_us)
        if (moved == begin).all():
            return prices, begin
        begin = moved


def _window_begins(prices: Prices, at_us: Int64, opened_us: Int64) -> Int64:
    """The beginning of the local day and of the windows that hold at instants, one per account."""
    timelines, of_account = prices.timelines, prices.timeline_of_account
    segment = timelines.segment_at(at_us, of_account)
    counting = timelines.counting[segment]
    begin = at_us
    for window in (timelines.countings.step_window, timelines.countings.allowance_window):
        key = window[counting]
        begin = np.minimum(begin, np.where(key > 0, key, begin))
        begin = np.minimum(begin, np.where(key == PURCHASE_KEY, opened_us, begin))
    begin = np.maximum(begin, timelines.from_us[of_account])
    segment = timelines.segment_at(begin, of_account)
    # Back to the first segment of the local day: no segment there is of the day before.
    while True:
        before = np.maximum(segment - 1, 0)
        goes_back = (timelines.segment_end_us[before] == timelines.segment_start_us[segment]) & (
            timelines.local_day[before] == timelines.local_day[segment]
        )
        goes_back &= timelines.segment_start_us[segment] > timelines.from_us[of_account]
        if not goes_back.any():
            return np.minimum(begin, timelines.segment_start_us[segment])
        segment = np.where(goes_back, before, segment)


# --- what stands ---

_KINDS: Final = {
    "account_id": "int8",
    "meter_id": "int8",
    "start_at": "timestamptz",
    "revision": "int2",
    "segment": "int2",
    "property_id": "int8",
    "from_at": "timestamptz",
    "to_at": "timestamptz",
    "start_value_wh": "int8",
    "end_value_wh": "int8",
    "multiplier": "int4",
    "energy_wh": "int8",
    "quality": "int2",
    "source": "int2",
    "received_at": "timestamptz",
    "tariff_version_id": "int8",
    "band": "int2",
    "step": "int2",
    "price_nano": "int8",
    "charge_energy": "int8",
    "charge_fee": "int8",
    "charge_tax": "int8",
    "charge_subsidy": "int8",
    **dict.fromkeys(RESTS, "int4"),
}
#: From the interval on that holds the beginning, for each meter of an account.
_SINCE = f"""
SELECT {", ".join(f"i.{name}" for name in _KINDS)}
FROM unnest(%s::bigint[], %s::timestamptz[]) AS a(account_id, from_at)
JOIN meter_state m ON m.account_id = a.account_id AND m.register_code = {ACTIVE_IMPORT}
CROSS JOIN LATERAL (
    SELECT coalesce((
        SELECT c.start_at FROM interval c
        WHERE c.account_id = m.account_id AND c.meter_id = m.meter_id
          AND c.register_code = m.register_code AND c.start_at <= a.from_at
          AND {STANDS}
        ORDER BY c.start_at DESC LIMIT 1), a.from_at) AS at
) begin
JOIN interval i ON i.account_id = m.account_id AND i.meter_id = m.meter_id
    AND i.register_code = m.register_code AND i.start_at >= begin.at
"""  # noqa: S608 - our own column names


@dataclass(frozen=True, slots=True, eq=False)
class _History:
    """The segments that stand, by (account, interval's start, meter, time), as columns.

    ``interval`` numbers the interval of each segment, ``first`` is the first segment of each
    interval. ``account`` is a position in the chunk, ``kept`` says which segments lie before the
    beginning: they are never rated, but follow their interval into its next revision.
    """

    columns: dict[str, Int64]
    interval: Int64
    first: Int64
    account: Int64
    kept: Bool

    @property
    def size(self) -> int:
        """How many intervals stand."""
        return int(self.first.size)


def _read_history(ground: _Ground) -> _History:
    columns = read_columns(
        connection.connection,
        _SINCE,
        [ground.accounts.tolist(), [utc_datetime(each) for each in ground.begin_us.tolist()]],
        _KINDS,
    )
    columns = standing(columns)
    order = np.lexsort(
        tuple(
            columns[each] for each in ("segment", "from_at", "meter_id", "start_at", "account_id")
        )
    )
    columns = {name: values[order] for name, values in columns.items()}
    history = _joined(ground, columns)
    # Intervals that end before the beginning came along; they are nobody's concern.
    concerned = np.zeros(history.size, dtype=np.bool_)
    concerned[history.interval[~history.kept]] = True
    chosen = concerned[history.interval]
    return _joined(ground, {name: values[chosen] for name, values in columns.items()})


def _joined(ground: _Ground, columns: dict[str, Int64]) -> _History:
    new = np.ones(columns["account_id"].size, dtype=np.bool_)
    new[1:] = np.logical_or.reduce(
        [columns[name][1:] != columns[name][:-1] for name in ("account_id", "start_at", "meter_id")]
    )
    account = np.searchsorted(ground.accounts, columns["account_id"])
    return _History(
        columns=columns,
        interval=np.cumsum(new) - 1,
        first=np.flatnonzero(new),
        account=account,
        kept=columns["to_at"] <= ground.begin_us[account],
    )


# --- what it should be ---


@dataclass(frozen=True, slots=True, eq=False)
class _Rated:
    """The segments of the intervals as they should be, in order of (interval, time).

    ``columns`` are ``_FACTS``, and charges and rests as remainders of nothing would make them; ``state`` is what the accounts have counted by now.
    """

    columns: dict[str, Int64]
    interval: Int64
    kept: Bool
    state: UsageState


def _rate(ground: _Ground, history: _History) -> _Rated:
    old, first = history.columns, history.first
    last = np.append(first[1:], history.interval.size) - 1
    of_interval = history.account[first]
    timelines = ground.prices.timelines
    segments = split_intervals(
        start_at_us=old["start_at"][first],
        end_at_us=old["to_at"][last],
        energy_wh=np.add.reduceat(old["energy_wh"], first),
        timeline_index=ground.prices.timeline_of_account[of_interval],
        timelines=timelines,
    )
    account = of_interval[segments.source_row]
    chosen = np.flatnonzero(segments.start_at_us >= ground.begin_us[account])
    segments, account = segments.take(chosen), account[chosen]
    parts, state = _rate_in_rounds(ground, history, segments, account)
    kept = np.flatnonzero(history.kept)
    columns = {
        name: np.concatenate([old[name][kept], parts[name]]) for name in (*_FACTS, *CHARGES, *RESTS)
    }
    interval = np.concatenate([history.interval[kept], parts["interval"]])
    order = np.lexsort((columns["from_at"], interval))
    return _Rated(
        columns={name: values[order] for name, values in columns.items()},
        interval=interval[order],
        kept=np.append(np.ones(kept.size, np.bool_), np.zeros(parts["interval"].size, np.bool_))[
            order
        ],
        state=state,
    )


def _rate_in_rounds(
    ground: _Ground, history: _History, segments: Segments, account: Int64
) -> tuple[dict[str, Int64], UsageState]:
    """Rate segments in the order of time; a purchase or a carried count begins a new round."""
    timelines = ground.prices.timelines
    carried = _carried(ground)
    round_of = _rounds(ground, history, segments, account, carried)
    meter = history.columns["meter_id"][history.first][segments.source_row]
    state = UsageState.empty(
        ground.accounts.size, max([timelines.columns, *(len(each.step_wh) for each in carried)])
    )
    found: list[dict[str, Int64]] = []
    for number in np.unique(round_of).tolist():
        of_round = np.flatnonzero(round_of == number)
        rows = of_round[
            np.lexsort((meter[of_round], segments.start_at_us[of_round], account[of_round]))
        ]
        carries, purchases = divmod(number, _CARRIED)
        if carries:
            _go_on_with(state, carried, carries, np.unique(account[rows]))
        own = segments.take(rows)
        rated = rate_usage(
            segments=own,
            account_index=account[rows],
            timelines=timelines,
            terms=_terms(ground, purchases),
            state=state,
            with_rests=True,
        )
        if rated.late.any():
            raise AssertionError("usage of an earlier window came after a later one")
        state = rated.state
        found.append(_rated_columns(own, rated))
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}, state


def _rated_columns(own: Segments, rated: RatedUsage) -> dict[str, Int64]:
    """``_FACTS``, charges and rests of rated parts, and their ``interval``."""
    at, rests = rated.source_row, rated.rests or {}
    return {
        "interval": own.source_row[at],
        "from_at": rated.start_at_us,
        "to_at": rated.end_at_us,
        "energy_wh": rated.energy_wh,
        "tariff_version_id": own.version_id[at],
        "band": rated.band.astype(np.int64),
        "step": rated.step.astype(np.int64),
        "price_nano": rated.price_nano_per_kwh,
        **{name: getattr(rated, name) for name in CHARGES},
        **{f"rest_{name}": rests[name] for name in _COMPONENTS},
    }


def _exact(columns: Mapping[str, Int64], component: str) -> Int64:
    """What a component came to exactly, in its denominator; it may wrap, and is only compared."""
    unit = UNITS[CHARGES.index(f"charge_{component}")]
    return columns[f"charge_{component}"] * unit + columns[f"rest_{component}"]


@dataclass(frozen=True, slots=True)
class _CarriedCount:
    """A step count that an account (by its position) went on with; its ``number`` counts from 1."""

    account: int
    number: int
    at_us: int
    step_window: int
    step_wh: tuple[int, ...]


def _carried(ground: _Ground) -> list[_CarriedCount]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT account_id, row_number() OVER (PARTITION BY account_id ORDER BY at),
                      (extract(epoch FROM at) * 1000000)::bigint, step_window, step_wh
               FROM carried_steps
               JOIN unnest(%s::bigint[], %s::timestamptz[]) AS a(account_id, begin_at)
                   USING (account_id)
               WHERE at >= a.begin_at
               ORDER BY account_id, at""",
            [ground.accounts.tolist(), [utc_datetime(each) for each in ground.begin_us.tolist()]],
        )
        return [
            _CarriedCount(
                account=int(np.searchsorted(ground.accounts, account_id)),
                number=number,
                at_us=at_us,
                step_window=window,
                step_wh=tuple(step_wh),
            )
            for account_id, number, at_us, window, step_wh in cursor.fetchall()
        ]


def _go_on_with(
    state: UsageState, carried: Sequence[_CarriedCount], number: int, accounts: Int64
) -> None:
    """Set the counts of accounts to what they went on with, unless they have done so before."""
    present = set(accounts.tolist())
    for each in carried:
        if (
            each.number == number
            and each.account in present
            and state.step_window[each.account] <= each.step_window
        ):
            state.step_window[each.account] = each.step_window
            state.step_wh[each.account] = 0
            state.step_wh[each.account, : len(each.step_wh)] = each.step_wh


def _rounds(
    ground: _Ground,
    history: _History,
    segments: Segments,
    account: Int64,
    carried: Sequence[_CarriedCount],
) -> Int64:
    """The round of each segment: the counts carried before it, and its interval's purchase."""
    number = np.zeros(len(segments), dtype=np.int64)
    for each in carried:
        number += _CARRIED * ((account == each.account) & (segments.start_at_us >= each.at_us))
    countings = ground.prices.timelines.countings
    if PURCHASE_KEY not in countings.step_window and PURCHASE_KEY not in countings.allowance_window:
        return number
    start_us = history.columns["start_at"][history.first][segments.source_row]
    for position, bought_us in _purchases(ground).items():
        own = account == position
        number[own] += np.searchsorted(bought_us, start_us[own], side="right")
    return number


def _purchases(ground: _Ground) -> dict[int, Int64]:
    """When each account (by its position) was recharged, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT account_id, array_agg((extract(epoch FROM service_from) * 1000000)::bigint
                                            ORDER BY service_from)
               FROM transfer WHERE account_id = ANY(%s) AND kind = %s GROUP BY account_id""",
            [ground.accounts.tolist(), int(TransferKind.RECHARGE)],
        )
        return {
            int(np.searchsorted(ground.accounts, account_id)): np.array(instants, dtype=np.int64)
            for account_id, instants in cursor.fetchall()
        }


def _terms(ground: _Ground, purchase_no: int) -> AccountTerms:
    """The accounts' terms, with so many purchases."""
    known: list[Sequence[Terms]] = [
        ground.prices.terms.get(each, (PLAIN,)) for each in ground.accounts.tolist()
    ]
    dated = [
        (position, each.from_us, each.members, each.contracted_w)
        for position, own in enumerate(known)
        for each in own[1:]
    ]
    columns = np.array(dated, dtype=np.int64).reshape(len(dated), 4).T
    return AccountTerms(
        members=np.array([own[0].members for own in known], dtype=np.int64),
        contracted_w=np.array([own[0].contracted_w for own in known], dtype=np.int64),
        purchase_no=np.full(ground.accounts.size, purchase_no, dtype=np.int64),
        dated=DatedTerms(*columns) if dated else None,
    )


# --- what differs ---


@dataclass(frozen=True, slots=True, eq=False)
class _Correction:
    """Positions of the segments to take back and of those to put in their place, the charges and
    rests of both, and the carries of ``CHARGES`` that they leave.
    """

    back: Int64
    new: Int64
    rated: _Rated
    taken: dict[str, Int64]
    put: dict[str, Int64]
    carry: Int64


def _compare(ground: _Ground, history: _History, rated: _Rated) -> _Correction:
    """Find the intervals whose segments are not what they should be, and what they should cost."""
    differs = np.bincount(history.interval, minlength=history.size) != np.bincount(
        rated.interval, minlength=history.size
    )
    old = np.flatnonzero(~differs[history.interval])
    new = np.flatnonzero(~differs[rated.interval])
    unlike = _unlike(history, rated, old, new)
    differs[history.interval[old[unlike]]] = True
    old = np.flatnonzero(~differs[history.interval])
    stays = np.flatnonzero(~differs[rated.interval])
    # Rows that stay move the remainder as they did, whatever they would be charged among others.
    columns = {name: rated.columns[name].copy() for name in (*CHARGES, *RESTS)}
    for name in (*CHARGES, *RESTS):
        columns[name][stays] = history.columns[name][old]
    back = np.flatnonzero(differs[history.interval])
    correction = _Correction(
        back=back,
        new=np.flatnonzero(differs[rated.interval]),
        rated=rated,
        taken={name: -history.columns[name][back] for name in (*CHARGES, *RESTS)},
        put=columns,
        carry=ground.carry.copy(),
    )
    _cut_off(history, correction, differs[rated.interval] & ~rated.kept)
    for name in (*CHARGES, *RESTS):
        correction.put[name] = correction.put[name][correction.new]
    return correction


def _unlike(history: _History, rated: _Rated, old: Int64, new: Int64) -> Bool:
    """Which of the segments, paired as they stand and as they should be, came to something else."""
    was = {name: history.columns[name][old] for name in (*_FACTS, *CHARGES, *RESTS)}
    now = {name: values[new] for name, values in rated.columns.items()}
    unlike = np.zeros(old.size, dtype=np.bool_)
    for name in _FACTS:
        unlike |= was[name] != now[name]
    for name in _COMPONENTS:
        unlike |= _exact(was, name) != _exact(now, name)
    return unlike & ~rated.kept[new]


def _cut_off(history: _History, correction: _Correction, is_new: Bool) -> None:
    """Cut the new rows off where the remainders stand; the correction's columns and carries move in
    place.
    """
    put = correction.put
    account = history.account[history.first][correction.rated.interval]
    for number, unit in enumerate(UNITS):
        charge, rest = put[CHARGES[number]], put[RESTS[number]]
        carry = correction.carry[:, number]
        np.subtract.at(carry, history.account, history.columns[RESTS[number]])
        open_rows = np.flatnonzero(is_new & ((charge != 0) | (rest != 0)))
        whole = _whole_micro(account, rest, carry, open_rows, unit)
        taken = _with_room(whole, account[open_rows], rest[open_rows], unit)
        charge[open_rows] += taken
        rest[open_rows] -= taken * unit
        np.add.at(carry, account, rest)
        _settle(history, correction, number)


def _whole_micro(account: Int64, rest: Int64, carry: Int64, open_rows: Int64, unit: int) -> Int64:
    """The micro-units that each open row takes for the remainder to lie within its denominator there,
    and after the last row of the account.
    """
    upto = np.cumsum(rest)
    heads = np.searchsorted(account, np.arange(carry.size), side="left")
    ends = np.searchsorted(account, np.arange(carry.size), side="right")
    before = np.append(0, upto)[heads]
    own = account[open_rows]
    remainder = carry[own] + upto[open_rows] - before[own]
    last = np.append(own[1:] != own[:-1], True)[: own.size]
    remainder[last] = (carry + np.append(0, upto)[ends] - before)[own[last]]
    floor = remainder // unit
    first = np.append(True, own[1:] != own[:-1])[: own.size]
    return np.asarray(floor - np.where(first, 0, np.roll(floor, 1)))


def _with_room(whole: Int64, account: Int64, rest: Int64, unit: int) -> Int64:
    """The micro-units with those that a row's rest has no room for on the account's next rows."""
    most, least = (rest + _REST_MAX) // unit, -((_REST_MAX - rest) // unit)
    if ((whole <= most) & (whole >= least)).all():
        return whole
    taken, over, former = whole.copy(), 0, -1
    for at, own in enumerate(account.tolist()):
        over = over if own == former else 0
        wanted = int(whole[at]) + over
        taken[at] = min(max(wanted, int(least[at])), int(most[at]))
        over, former = wanted - int(taken[at]), own
    return taken


def _settle(history: _History, correction: _Correction, number: int) -> None:
    """Put whole micro-units that no new row took on what is taken back, one on each row."""
    unit, carry = UNITS[number], correction.carry[:, number]
    charge, rest = correction.taken[CHARGES[number]], correction.taken[RESTS[number]]
    owner = history.account[correction.back]
    for account in np.unique(owner[(carry[owner] < 0) | (carry[owner] >= unit)]).tolist():
        over = int(carry[account]) // unit
        step = 1 if over > 0 else -1
        has_room = ((charge != 0) | (rest != 0)) & (np.abs(rest - step * unit) <= _REST_MAX)
        rows = np.flatnonzero((owner == account) & has_room)[: abs(over)]
        if rows.size < abs(over):
            raise AssertionError(f"account {account} of a chunk owes {over} micro-units to no row")
        charge[rows] += step
        rest[rows] -= step * unit
        carry[account] -= over * unit


def _summed(ground: _Ground, history: _History, correction: _Correction) -> list[Corrected]:
    """What the accounts were charged for what is replaced, and what they are charged now."""
    size = ground.accounts.size
    before, after = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    since = np.full(size, np.iinfo(np.int64).max)
    back_account = history.account[correction.back]
    new_account = history.account[history.first][correction.rated.interval[correction.new]]
    for name in CHARGES:
        np.subtract.at(before, back_account, correction.taken[name])
        np.add.at(after, new_account, correction.put[name])
    np.minimum.at(since, back_account, history.columns["from_at"][correction.back])
    return [
        Corrected(
            int(ground.accounts[at]),
            int(ground.property_id[at]),
            utc_datetime(int(since[at])),
            int(before[at]),
            int(after[at]),
        )
        for at in np.unique(back_account).tolist()
    ]


# --- what is written ---


def _post_and_write(
    actor: Actor,
    ground: _Ground,
    history: _History,
    correction: _Correction,
    corrected: Sequence[Corrected],
    reason: str,
    now: datetime,
) -> None:
    """Post what is open, write the correction, and post that as an event of its own."""
    changed = [each.account_id for each in corrected]
    until = max(now, utc_datetime(int(history.columns["to_at"].max())))
    post_chunk(actor, changed, now=now, until=until, cause=BEFORE)
    _write(ground, history, correction, now)
    post_chunk(actor, changed, now=now, until=until, cause=reason)


def _write(ground: _Ground, history: _History, correction: _Correction, now: datetime) -> None:
    """Append reversals and new segments, and move the accounts by one row each."""
    old, rated = history.columns, correction.rated
    back, new = correction.back, correction.new
    taken_back = {name: old[name][back] for name in _KINDS}
    taken_back |= correction.taken | {"energy_wh": -taken_back["energy_wh"]}
    taken_back["segment"] = taken_back["segment"] + REVERSED_SEGMENT
    taken_back["quality"] = np.full(back.size, int(Quality.REVERSED), dtype=np.int64)
    source = history.first[rated.interval[new]]
    put = {name: old[name][source] for name in _KINDS}
    put |= {name: rated.columns[name][new] for name in _FACTS} | correction.put
    put["segment"] = np.arange(new.size) - np.searchsorted(
        rated.interval[new], rated.interval[new], side="left"
    )
    columns = {name: np.concatenate([taken_back[name], put[name]]) for name in _KINDS}
    columns["revision"] = columns["revision"] + 1
    order = np.lexsort(
        tuple(columns[each] for each in ("segment", "from_at", "meter_id", "account_id"))
    )
    columns = {name: values[order] for name, values in columns.items()}
    _store(ground, columns, correction.carry, now)


def _store(ground: _Ground, columns: dict[str, Int64], carry: Int64, now: datetime) -> None:
    accounts, first, count = np.unique(columns["account_id"], return_index=True, return_counts=True)
    position = np.searchsorted(ground.accounts, accounts)
    with connection.cursor() as cursor:
        cursor.execute(
            _MOVE,
            [
                now,
                accounts.tolist(),
                count.tolist(),
                *(np.add.reduceat(columns[name], first).tolist() for name in CHARGES),
                *carry[position].T.tolist(),
            ],
        )
        before = dict(cursor.fetchall())
    if len(before) != accounts.size:
        raise AssertionError(f"{accounts.size} accounts meant, {len(before)} moved")
    last_no = np.array([before[each] for each in accounts.tolist()], dtype=np.int64)
    numbers = np.arange(columns["account_id"].size) + np.repeat(last_no + 1 - first, count)
    zero = np.zeros(columns["account_id"].size, dtype=np.int64)
    copy_rows(
        connection.connection,
        "interval",
        {
            **{name: (kind, columns[name]) for name, kind in _KINDS.items()},
            "register_code": ("int2", zero + ACTIVE_IMPORT),
            "interval_no": ("int8", numbers),
            "charge_standing": ("int8", zero),
            "charge_demand": ("int8", zero),
        },
    )


_MOVE = """
UPDATE account_state s
SET interval_no = s.interval_no + v.intervals, accrued_energy = s.accrued_energy + v.energy,
    accrued_fee = s.accrued_fee + v.fee, accrued_tax = s.accrued_tax + v.tax,
    accrued_subsidy = s.accrued_subsidy + v.subsidy, carry_energy = v.carry_energy,
    carry_fee = v.carry_fee, carry_tax = v.carry_tax, carry_subsidy = v.carry_subsidy,
    updated_at = greatest(s.updated_at, %s)
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
            %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
    AS v(account_id, intervals, energy, fee, tax, subsidy, carry_energy, carry_fee, carry_tax,
         carry_subsidy)
WHERE s.account_id = v.account_id
RETURNING s.account_id, s.interval_no - v.intervals
"""


def _store_counts(ground: _Ground, history: _History, state: UsageState) -> None:
    """How far up the steps and into the allowance the accounts are, where that was not so before."""
    position = np.unique(history.account).tolist()
    with connection.cursor() as cursor:
        cursor.execute(
            """UPDATE account_state s
               SET step_window = v.step_window, step_wh = v.step_wh::bigint[],
                   allowance_window = v.allowance_window, allowance_wh = v.allowance_wh
               FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[])
                   AS v(account_id, step_window, step_wh, allowance_window, allowance_wh)
               WHERE s.account_id = v.account_id
                 AND (s.step_window, array_remove(s.step_wh, 0), s.allowance_window, s.allowance_wh)
                     IS DISTINCT FROM (v.step_window, array_remove(v.step_wh::bigint[], 0),
                                       v.allowance_window, v.allowance_wh)""",
            [
                ground.accounts[position].tolist(),
                state.step_window[position].tolist(),
                [_array(each) for each in state.step_wh[position].tolist()],
                state.allowance_window[position].tolist(),
                state.allowance_wh[position].tolist(),
            ],
        )


def _array(values: Sequence[int]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


# --- who is told ---


def tell_customers(corrected: Sequence[Corrected], *, now: datetime, about: str = "") -> None:
    """One message for each customer whose charges came to something else.

    ``about`` tells it from others; without it there is one for each posting of the account.
    """
    moved = {each.account_id: each for each in corrected if each.difference}
    if not moved:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT s.account_id, s.available, s.posting_no FROM account_state s
               JOIN account a ON a.id = s.account_id
               WHERE s.account_id = ANY(%s) AND a.customer_id IS NOT NULL
               ORDER BY s.account_id""",
            [list(moved)],
        )
        found = cursor.fetchall()
    enqueue(
        messages=[
            NewMessage(
                property_id=moved[account_id].property_id,
                account_id=account_id,
                code="billing.corrected",
                detail=_detail(moved[account_id], available),
                dedupe_key=f"billing.corrected:{about or posting_no}",
            )
            for account_id, available, posting_no in found
        ],
        now=now,
    )


def _detail(each: Corrected, available: int) -> dict[str, int | None]:
    return {
        "at_us": instant_us(each.since),
        "charged_before_micro": each.charged_before,
        "charged_after_micro": each.charged_after,
        "returned_micro": -each.difference if each.difference < 0 else None,
        "added_micro": each.difference if each.difference > 0 else None,
        "available_micro": available,
    }
