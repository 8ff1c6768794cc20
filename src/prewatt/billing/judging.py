"""What a release of held readings would do, found without doing it: no row is locked, none is written.

A person looks at held readings for as long as they like, and readings and recharges of the account go
on meanwhile. So a look is only that: the readings are judged one after another as they were read, each
after those before it, and rated in memory from what the database says at that moment. A release judges
them by the same function once more, under the payer's lock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from prewatt.billing.backfill import Replacement, replace_intervals
from prewatt.billing.charging import charges_of
from prewatt.billing.ingestion import BELIEVED, lines_of, without_power_bound
from prewatt.billing.states import States, read_states, state_of_each
from prewatt.billing.tariffs import TariffBook
from prewatt.core.bounds import Int64
from prewatt.core.civil_time import instant_us
from prewatt.core.readings import ACTIVE_IMPORT, ReadingBatch, ReadingSource
from prewatt.core.vee import Validated, Verdict, validate_readings


@dataclass(frozen=True, slots=True, eq=False)
class Foreseen:
    """Of each reading in the order given: its verdict, the money that it charges (micro-units), and
    its ``turn``: those of one turn can be applied together, and turns one after another.
    """

    verdict: npt.NDArray[np.int8]
    charged_micro: Int64
    turn: Int64


def foresee(*, batch: ReadingBatch, now: datetime) -> Foreseen:
    """What readings of active import would do that a person vouches for, each after those before it.

    Every meter has a ``meter_state`` row. Money of several late readings that divide one interval is
    right in its sum, and each has the part between it and the one before.
    """
    assert (batch.register_code == ACTIVE_IMPORT).all(), "no other register is rated"
    states = read_states(np.unique(batch.meter_id))
    row = state_of_each(batch, states)
    order = np.lexsort((batch.read_at_us, row))
    arranged, row = batch.take(order), row[order]
    turn = _turns(arranged, row, states)
    validated = _validated(arranged, row, turn, states, instant_us(now))
    verdict = validated.verdict
    book = TariffBook()
    unpriced = book.unpriced(np.unique(states.account_id[row]))
    would_be_rated = np.isin(verdict, [Verdict.ACCEPTED, Verdict.BACKFILL])
    verdict[would_be_rated & np.isin(states.account_id[row], sorted(unpriced))] = Verdict.UNPRICED
    replacement = replace_intervals(
        batch=arranged,
        row=row,
        account_id=states.account_id,
        multiplier=states.watermarks.wh_per_count,
        verdict=verdict,
        least_gap_us=BELIEVED.least_gap_us,
    )
    charged = _charged(arranged, row, states, validated, replacement, book)
    given = np.argsort(order)
    return Foreseen(verdict[given], charged[given], turn[given])


def _turns(batch: ReadingBatch, row: Int64, states: States) -> Int64:
    """Numbers that grow where a register of a meter falls or was read by a person, and after it.

    Vouched for, a meter can have counted any amount; where its register falls, that would let it
    have rolled over. So what falls is judged alone, within the bound; and whoever applies a person's
    reading writes down that the watermark is theirs.
    """
    turn = np.zeros(row.size, dtype=np.int64)
    for each in np.unique(row).tolist():
        own = np.flatnonzero(row == each)
        number, highest, was_alone = 0, int(states.watermarks.last_value[each]), False
        for at in own.tolist():
            count = int(batch.value_wh[at])
            is_alone = count < highest or int(batch.source[at]) == ReadingSource.MANUAL
            number += is_alone or was_alone
            was_alone, highest = is_alone, max(highest, count)
            turn[at] = number
    return turn


def _validated(
    batch: ReadingBatch, row: Int64, turn: Int64, states: States, now_us: int
) -> Validated:
    """One turn after another, each from the watermarks that those before it leave."""
    size = row.size
    whole = Validated(
        verdict=np.zeros(size, dtype=np.int8),
        start_at_us=np.zeros(size, dtype=np.int64),
        start_value=np.zeros(size, dtype=np.int64),
        energy_wh=np.zeros(size, dtype=np.int64),
        rolled=np.zeros(size, dtype=np.bool_),
        jumps_gap=np.zeros(size, dtype=np.bool_),
        last_at_us=states.watermarks.last_at_us,
        last_value=states.watermarks.last_value,
        ahead_uj=states.watermarks.ahead_uj,
    )
    for each in np.unique(turn).tolist():
        chosen = np.flatnonzero(turn == each)
        bounded = without_power_bound(states, row[chosen], batch.value_wh[chosen])
        found = validate_readings(
            meter_index=row[chosen],
            read_at_us=batch.read_at_us[chosen],
            value=batch.value_wh[chosen],
            watermarks=bounded.watermarks,
            now_us=now_us,
            limits=BELIEVED,
        )
        for name in ("verdict", "start_at_us", "start_value", "energy_wh", "rolled", "jumps_gap"):
            getattr(whole, name)[chosen] = getattr(found, name)
        moved = replace(
            states.watermarks,
            last_at_us=found.last_at_us,
            last_value=found.last_value,
            ahead_uj=found.ahead_uj,
        )
        states = replace(states, watermarks=moved)
    return whole


def _charged(
    batch: ReadingBatch,
    row: Int64,
    states: States,
    validated: Validated,
    replacement: Replacement,
    book: TariffBook,
) -> Int64:
    """What each reading charges: its interval, or the part of the one that it divides."""
    lines = lines_of(batch, row, validated.verdict, validated, replacement)
    charged = np.zeros(row.size, dtype=np.int64)
    if lines.row.size == 0:
        return charged
    of_line, of_old = charges_of(lines, states, book=book)
    fresh = np.flatnonzero(validated.verdict == Verdict.ACCEPTED)
    charged[fresh] += of_line[: fresh.size]
    late = {
        (int(row[at]), int(batch.read_at_us[at])): int(at)
        for at in np.flatnonzero(validated.verdict == Verdict.BACKFILL)
    }
    new = replacement.new
    first_part: dict[tuple[int, int], int] = {}
    for part, (of_row, start_us, end_us) in enumerate(
        zip(new.row.tolist(), new.start_at_us.tolist(), new.end_at_us.tolist(), strict=True)
    ):
        # The last part ends where the interval did, and begins at the last reading that divides it.
        at = late[of_row, end_us if (of_row, end_us) in late else start_us]
        first_part.setdefault((of_row, start_us), at)
        charged[at] += of_line[fresh.size + part]
    for of_row, start_us, back in zip(
        replacement.old["row"].tolist(),
        replacement.old["start_at"].tolist(),
        of_old.tolist(),
        strict=True,
    ):
        charged[first_part[of_row, start_us]] += back
    return charged
