"""Ways in which the code could break an invariant, each a small change that somebody might make.

A mutation is a function that patches the running code; the invariant's own check must then fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import count
from typing import Any, Final

import numpy as np
import pytest
from django.db import connection
from tests.invariants import checks, full_checks

import prewatt.billing.accounts as accounts
import prewatt.billing.charging as charging
import prewatt.billing.ingestion as ingestion
import prewatt.billing.late as late
import prewatt.billing.legs as legs
import prewatt.billing.posting as posting
import prewatt.core.credit as credit
import prewatt.core.steps as steps
import prewatt.hes.ingest as ingest
import prewatt.ledger.operations as ledger
import prewatt.moves.operations as moves
import prewatt.supply.operations as supply
import prewatt.vending.operations as vending
from prewatt import walls
from prewatt.core.credit import GateReading
from prewatt.core.tariff.model import Window
from prewatt.core.vocabulary import Gate, GateResult
from prewatt.vending import sets
from prewatt.vending.words import Ask
from prewatt.walls import rights

Patch = pytest.MonkeyPatch


@dataclass(frozen=True, slots=True)
class Mutation:
    """``break_it`` patches the code; ``check`` is the invariant's check, which must notice."""

    invariant: int
    name: str
    break_it: Callable[[Patch], None]
    check: Callable[[str], None]


def _transfers_may_change(patch: Patch) -> None:
    """Somebody lists transfers among the tables that change, and migrates."""
    kept = tuple(table for table in walls.APPEND_ONLY if table != "transfer")
    patch.setattr(rights, "APPEND_ONLY", kept)
    patch.setattr(rights, "CHANGES", {**walls.CHANGES, "transfer": ("account_id", "amount")})
    patch.setattr(rights, "WRITES", {**walls.WRITES, "clerk": (*walls.WRITES["clerk"], "transfer")})
    raise_walls()
    patch.undo()


def raise_walls() -> None:
    """Apply the walls as they are written now; the test servers' passwords stay.

    Roles with the same rights on a table get them together: one by one it is thousands of statements.
    """
    tables, roles = (*walls.APPEND_ONLY, *walls.MUTABLE), tuple(walls.WRITES)
    statements = [f"REVOKE ALL ON {', '.join(tables)} FROM {', '.join(roles)}"]
    for table in tables:
        sharing: dict[str, list[str]] = {}
        for role in roles:
            sharing.setdefault(rights.rights_of(role, table), []).append(role)
        statements += [
            f"GRANT {rights} ON {table} TO {', '.join(sharers)}"
            for rights, sharers in sharing.items()
        ]
    with connection.cursor() as cursor:
        cursor.execute("; ".join(statements))
        while _PENS:
            cursor.execute(_PENS.pop())


#: The ledger's pen, and other functions, as they were before; :func:`raise_walls` puts them back.
_PENS: list[str] = []


def _another_pen(old: str, new: str, function: str = "append_transfers") -> None:
    """Break the function that writes transfers, or another one, where it is: in the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef(%s::regproc)", [function])
        ((pen,),) = cursor.fetchall()
        assert old in pen
        _PENS.append(pen)
        cursor.execute(pen.replace(old, new))


def _corrections_may_name_nothing(patch: Patch) -> None:
    """A reversal is appended as an adjustment, which names nothing."""
    columns = ledger._columns

    def anonymous(legs: Sequence[tuple[int, ledger.Leg]]) -> Any:
        return columns(
            [
                (
                    event,
                    replace(
                        leg,
                        kind=ledger.TransferKind.ADJUSTMENT,
                        corrects_event_id=None,
                        corrects_seq=None,
                    ),
                )
                for event, leg in legs
            ]
        )

    patch.setattr(ledger, "_columns", anonymous)


def _a_leg_is_dropped(patch: Patch) -> None:
    """Posting loses the last leg of each event."""

    def short(*, events: Sequence[ledger.Event], **rest: Any) -> None:
        cut = [replace(event, legs=event.legs[: max(1, len(event.legs) - 1)]) for event in events]
        ledger.append_events(events=cut, **rest)

    patch.setattr(posting, "append_events", short)


def the_carry_is_forgotten(patch: Patch) -> None:
    """Each batch starts with no remainder, so fractions of a micro-unit vanish at its borders."""
    _loaded_otherwise(patch, "carry_energy")


def _the_tax_carry_is_lost(patch: Patch) -> None:
    """The same for the fractions of taxes alone."""
    _loaded_otherwise(patch, "carry_tax")


def _loaded_otherwise(patch: Patch, *names: str) -> None:
    """A batch does not see some columns of what the one before has left."""
    load = charging.load_accounts

    def forgetful(account_id: Any, counts: int) -> Any:
        found = load(account_id, counts)
        nothing = {name: getattr(found.usage, name) * 0 for name in names}
        return replace(found, usage=replace(found.usage, **nothing))

    patch.setattr(charging, "load_accounts", forgetful)


def _seq_from_a_sequence(patch: Patch) -> None:
    """``transfer.seq`` comes from a database sequence instead of the account's own counter."""
    _another_pen("s.seq_before + row_number() OVER w", "nextval('public.event_id_seq')")


def _interval_numbers_skip(patch: Patch) -> None:
    """An account's counter is moved by one more than there are intervals."""
    move = charging.move_accounts

    def further(before: Any, moved: Any, now: Any, **named: Any) -> Any:
        return move(before, replace(moved, intervals=moved.intervals + 1), now, **named)

    patch.setattr(charging, "move_accounts", further)


def _stored_keys_are_ignored(patch: Patch) -> None:
    """Keys are not looked up, and none is kept under its own name."""
    look, book, numbers = sets.look, sets.book, count()

    def blind(asks: Sequence[Ask], **more: Any) -> list[sets.Seen]:
        return [each._replace(body_hash=None, answer=None) for each in look(asks, **more)]

    def elsewhere(rows: sets.Columns, **more: Any) -> sets.Booked:
        rows.asks = [_under(f"{next(numbers)}:{ask.wish.key}", ask) for ask in rows.asks]
        return book(rows, **more)

    patch.setattr(sets, "look", blind)
    patch.setattr(sets, "book", elsewhere)


def _under(key: str, ask: Ask) -> Ask:
    return replace(ask, wish=replace(ask.wish, key=key))


def _the_body_is_not_compared(patch: Patch) -> None:
    """Whatever comes under a known key gets its stored answer."""
    patch.setattr(vending, "body_hash", lambda wish: b"0" * 32)


def _keys_are_per_account(patch: Patch) -> None:
    """A key is kept and looked up among those of the account that the caller names."""
    look, book = sets.look, sets.book

    def own(asks: Sequence[Ask]) -> list[Ask]:
        return [_under(f"{ask.wish.account_id}:{ask.wish.key}", ask) for ask in asks]

    def kept(rows: sets.Columns, **more: Any) -> sets.Booked:
        rows.asks = own(rows.asks)
        return book(rows, **more)

    patch.setattr(sets, "look", lambda asks, **more: look(own(asks), **more))
    patch.setattr(sets, "book", kept)


def nothing_is_taken_back(patch: Patch) -> None:
    """A revision adds its parts and leaves what it supersedes standing."""
    patch.setattr(charging, "_with_reversals", lambda columns, batch, charges: columns)


def _the_watermark_stays(patch: Patch) -> None:
    """Accepted readings do not move their meter's watermark."""
    patch.setattr(ingestion._Marking, "execute", lambda self: None)


def _held_readings_are_lost(patch: Patch) -> None:
    """A held reading is not kept: nobody will ever know that it came."""
    patch.setattr(ingestion, "_hold", lambda *given: np.zeros(0, dtype=np.int64))


def _the_carry_is_inherited(patch: Patch) -> None:
    """A new account starts with what somebody else's fractions left."""
    open_accounts = ledger.open_accounts

    def seeded(*, rows: Any, now: Any) -> None:
        open_accounts(rows=rows, now=now)
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE account_state SET carry_energy = 999999 WHERE account_id = ANY(%s)",
                [[row[0] for row in rows]],
            )

    patch.setattr(moves, "open_accounts", seeded)


def _late_readings_go_to_whoever_is_there(patch: Patch) -> None:
    """A reading belongs to the last opened assignment, not to the one of its own instant."""

    def last_opened(batch: Any, states: Any) -> Any:
        import numpy as np

        opened = states.watermarks.opened_at_us
        return np.array(
            [
                max(np.flatnonzero(states.meter_id == meter), key=lambda row: opened[row])
                for meter in batch.meter_id
            ],
            dtype=np.int64,
        )

    patch.setattr(ingestion, "state_of_each", last_opened)


def _a_gate_is_always_open(gate: Gate, patch: Patch) -> None:
    """One gate of a disconnection says yes to everything."""
    if gate is Gate.READING_FRESH:
        # Its reading does not come from the table of gates, because it decides the others' time.
        fresh = credit._fresh
        patch.setattr(credit, "_is_stale", lambda state, policy, now_us: False)
        patch.setattr(credit, "_fresh", lambda *given: _opened(fresh(*given)))
        case = supply._case
        patch.setattr(
            supply, "_case", lambda *given, **more: replace(case(*given, **more), is_live=True)
        )
        return
    look = credit._GATES[gate]
    patch.setitem(credit._GATES, gate, lambda *given: _opened(look(*given)))


def _opened(reading: GateReading) -> GateReading:
    return replace(reading, result=GateResult.OPEN, opens_at_us=None)


def _emergency_credit_is_not_counted(patch: Patch) -> None:
    """A balance is exhausted at zero, whatever emergency credit was granted."""
    lock = supply.queries.lock_standings

    def without(account_ids: Sequence[int], now: Any) -> Any:
        found, rules = lock(account_ids, now)
        return [replace(each, emergency_micro=0) for each in found], rules

    patch.setattr(supply.queries, "lock_standings", without)


def _a_held_cut_is_forgotten(patch: Patch) -> None:
    """Nothing decides a held cut again when its gate opens."""
    patch.setattr(supply.queries, "to_reconsider", lambda **given: [])


def _acknowledged_first(patch: Patch) -> None:
    """The head-end acknowledges what it is about to apply."""
    apply, apply_blocks = ingest.IngestLoop._apply, ingest.IngestLoop._apply_blocks

    def eager(self: ingest.IngestLoop, frames: Any) -> None:
        self._transport.ack([frame.token for frame in frames])
        apply(self, frames)

    def eager_with_blocks(self: ingest.IngestLoop, blocks: Any) -> None:
        self._transport.ack([block.token for block in blocks])
        apply_blocks(self, blocks)

    patch.setattr(ingest.IngestLoop, "_apply", eager)
    patch.setattr(ingest.IngestLoop, "_apply_blocks", eager_with_blocks)


def _watermarks_first(patch: Patch) -> None:
    """The meters are told before the database is."""
    apply = ingest.IngestLoop._apply

    def eager(self: ingest.IngestLoop, frames: Any) -> None:
        self._transport.publish_watermarks(ingest._watermarks(frames))
        apply(self, frames)

    patch.setattr(ingest.IngestLoop, "_apply", eager)


def _documents_from_a_sequence(patch: Patch) -> None:
    """Receipts are numbered by a database sequence, which forgets what is rolled back."""
    for function in _NUMBERING:
        _another_pen(_NUMBERED, "nextval('public.event_id_seq')", function)


def _documents_by_counting(patch: Patch) -> None:
    """The next number is one more than there are documents: two sellers count the same."""
    counted = """(SELECT count(*) + w.nth FROM public.document d, pg_sleep(0.2)
                  WHERE d.legal_entity_id = w.entity AND d.series = 'R')"""
    for function in _NUMBERING:
        _another_pen(_NUMBERED, counted, function)


_NUMBERED: Final = "t.last_number - q.needed + w.nth"
_NUMBERING: Final = ("book_recharges", "append_sales")


def _closed_periods_are_open(patch: Patch) -> None:
    """Nobody looks whether a service date is closed."""
    _another_pen("IF refused_account IS NOT NULL", "IF false")


def _steps_never_begin_anew(patch: Patch) -> None:
    """The count of a month goes on in the next one."""
    windows_of = steps.windows_of

    def yearly(window: Window, *given: Any) -> Any:
        return windows_of(Window.YEAR if window is Window.MONTH else window, *given)

    patch.setattr(steps, "windows_of", yearly)


def _counts_are_not_stored(patch: Patch) -> None:
    """A batch counts towards steps, and the next one does not know."""
    changes = accounts._changes

    def forgetful(before: Any, moved: Any, columns: Any) -> Any:
        return [each for each in changes(before, moved, columns) if "step_wh" not in each]

    patch.setattr(accounts, "_changes", forgetful)


def _subsidies_are_charged(patch: Patch) -> None:
    """What somebody else pays is taken from the wallet besides."""
    move = charging.move_accounts

    def wrongly(before: Any, moved: Any, now: Any, **named: Any) -> Any:
        return move(before, replace(moved, subsidy=-moved.subsidy), now, **named)

    patch.setattr(charging, "move_accounts", wrongly)


def _what_moves_steps_is_not_flagged(patch: Patch) -> None:
    """Nobody is told that later usage would have had other steps."""
    patch.setattr(charging, "request_rerating", lambda **given: None)


def _everything_that_is_late_is_flagged(patch: Patch) -> None:
    """Every reading that fills a gap has its account rated anew."""
    patch.setattr(late, "_lane_moves", lambda *given, **more: True)


def _late_usage_counts_as_of_now(patch: Patch) -> None:
    """What is filled in continues the present count, not that of its own instant."""
    enter = late._Book.counts

    def present(self: Any, block: Any, state: Any) -> Any:
        counts = enter(self, block, state)
        return replace(counts, steps=state.step_wh[block.account].copy())

    patch.setattr(late._Book, "counts", present)


def _superseded_usage_stays_counted(patch: Patch) -> None:
    """Charges are taken back, and the count that they were made by is not."""
    patch.setattr(late, "_enter_reversals", lambda *given: None)


def _every_interval_is_of_the_last_purchase(patch: Patch) -> None:
    """A recharge begins a new count at once, also for what was used before it."""
    patch.setattr(
        charging,
        "number_purchases",
        lambda found, account, start_at_us, *, asked: found.purchase_no[account],
    )


def _what_is_cut_off_goes_to_nobody(patch: Patch) -> None:
    """Each code of a fee or tax is posted what it comes to, and the rest is dropped."""
    patch.setattr(
        legs,
        "divide",
        lambda total, numerators, of: [round(Fraction(each, of)) for each in numerators],
    )


def _of_gate(gate: Gate) -> Mutation:
    if gate is Gate.BALANCE_EXHAUSTED:
        change: Callable[[Patch], None] = _emergency_credit_is_not_counted
    else:
        change = partial(_a_gate_is_always_open, gate)
    return Mutation(
        7, f"{gate.word}_always_open", change, lambda dsn: checks.invariant_7(dsn, gate)
    )


def _held(dsn: str) -> None:
    checks.invariant_7(dsn, Gate.NOT_PROTECTED)


MUTATIONS: Final = (
    Mutation(1, "transfers_may_change", _transfers_may_change, checks.invariant_1),
    Mutation(1, "corrections_name_nothing", _corrections_may_name_nothing, checks.invariant_1),
    Mutation(2, "a_leg_is_dropped", _a_leg_is_dropped, checks.invariant_2),
    Mutation(2, "the_carry_is_forgotten", the_carry_is_forgotten, checks.invariant_2),
    Mutation(3, "seq_from_a_sequence", _seq_from_a_sequence, checks.invariant_3),
    Mutation(3, "interval_numbers_skip", _interval_numbers_skip, checks.invariant_3),
    Mutation(4, "stored_keys_are_ignored", _stored_keys_are_ignored, checks.invariant_4),
    Mutation(4, "the_body_is_not_compared", _the_body_is_not_compared, checks.invariant_4),
    Mutation(4, "keys_are_per_account", _keys_are_per_account, checks.invariant_4),
    Mutation(5, "nothing_is_taken_back", nothing_is_taken_back, checks.invariant_5),
    Mutation(5, "the_watermark_stays", _the_watermark_stays, checks.invariant_5),
    Mutation(5, "held_readings_are_lost", _held_readings_are_lost, checks.invariant_5),
    Mutation(6, "the_carry_is_inherited", _the_carry_is_inherited, checks.invariant_6),
    Mutation(
        6, "late_readings_go_to_the_present_tenant", _late_readings_go_to_whoever_is_there,
        checks.invariant_6,
    ),
    *(_of_gate(gate) for gate in Gate),
    Mutation(7, "a_held_cut_is_forgotten", _a_held_cut_is_forgotten, _held),
    Mutation(9, "acknowledged_first", _acknowledged_first, checks.invariant_9),
    Mutation(9, "watermarks_first", _watermarks_first, checks.invariant_9),
    Mutation(2, "steps_never_begin_anew", _steps_never_begin_anew, full_checks.full_usage),
    Mutation(2, "counts_are_not_stored", _counts_are_not_stored, full_checks.full_usage),
    Mutation(2, "the_tax_carry_is_lost", _the_tax_carry_is_lost, full_checks.full_usage),
    Mutation(2, "subsidies_are_charged", _subsidies_are_charged, full_checks.full_usage),
    Mutation(
        2, "what_is_cut_off_goes_to_nobody", _what_is_cut_off_goes_to_nobody,
        full_checks.full_usage,
    ),
    Mutation(
        5, "what_moves_steps_is_not_flagged", _what_moves_steps_is_not_flagged,
        full_checks.full_late,
    ),
    Mutation(
        5, "everything_late_is_flagged", _everything_that_is_late_is_flagged,
        full_checks.full_late,
    ),
    Mutation(
        5, "late_usage_counts_as_of_now", _late_usage_counts_as_of_now, full_checks.full_late
    ),
    Mutation(
        5, "superseded_usage_stays_counted", _superseded_usage_stays_counted,
        full_checks.full_late,
    ),
    Mutation(
        5, "every_interval_is_of_the_last_purchase", _every_interval_is_of_the_last_purchase,
        full_checks.full_purchases,
    ),
    Mutation(10, "documents_from_a_sequence", _documents_from_a_sequence, checks.invariant_10),
    Mutation(10, "documents_by_counting", _documents_by_counting, checks.invariant_10),
    Mutation(10, "closed_periods_are_open", _closed_periods_are_open, checks.invariant_10),
)  # fmt: skip
