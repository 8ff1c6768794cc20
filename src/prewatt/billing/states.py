"""Whose meters a batch is about: watermarks under their accounts' locks, and which one takes a reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connection

from prewatt.core.bounds import Int64
from prewatt.core.readings import ReadingBatch
from prewatt.core.vee import MeterWatermarks


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """``meter_state`` rows of the batch's meters in (account, meter, register) order, as columns."""

    account_id: Int64
    meter_id: Int64
    register_code: Int64
    property_id: Int64
    watermarks: MeterWatermarks


class NoWatermark(ValueError):
    """A reading of a meter or register that nobody is assigned to."""


def lock_states(meter_ids: list[int]) -> States:
    """Lock the accounts of the meters, then read their watermarks under that lock.

    A move may hand a meter to another account while we wait for the lock; then we lock once more.
    """
    locked: set[int] = set()
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT account_id FROM account_state WHERE account_id IN
                       (SELECT account_id FROM meter_state WHERE meter_id = ANY(%s))
                   ORDER BY account_id FOR NO KEY UPDATE""",
                [meter_ids],
            )
            locked.update(int(each[0]) for each in cursor.fetchall())
            cursor.execute(_WATERMARKS, [meter_ids])
            rows = cursor.fetchall()
        if {each[0] for each in rows} <= locked:
            return _states(rows)


_WATERMARKS = """
SELECT account_id, meter_id, register_code, property_id, multiplier, modulus_wh, max_power_w,
       expected_period_s, (date_part('epoch', opened_at) * 1000000)::bigint, opened_value_wh,
       CASE WHEN closed_at = 'infinity' THEN 253402300799000000
            ELSE (date_part('epoch', closed_at) * 1000000)::bigint END,
       (date_part('epoch', last_at) * 1000000)::bigint, last_value_wh
FROM meter_state WHERE meter_id = ANY(%s)
ORDER BY account_id, meter_id, register_code
"""


def _states(rows: Sequence[tuple[Any, ...]]) -> States:
    columns = np.array(rows, dtype=np.int64).reshape(len(rows), 13).T
    return States(
        account_id=columns[0],
        meter_id=columns[1],
        register_code=columns[2],
        property_id=columns[3],
        watermarks=MeterWatermarks(
            last_at_us=columns[11],
            last_value=columns[12],
            opened_at_us=columns[8],
            opened_value=columns[9],
            closed_at_us=columns[10],
            register_modulus=columns[5],
            wh_per_count=columns[4],
            max_power_w=columns[6],
            period_us=columns[7] * 1_000_000,
        ),
    )


def state_of_each(batch: ReadingBatch, states: States) -> Int64:
    """The ``states`` row each reading belongs to by its own instant.

    Usually a register has one row. After a change of tenant it has several, each for the half-open
    period (opened, closed]: the closing reading belongs to the one who used the energy before it.
    A reading before the first opening goes to the first row, where VEE holds it. Raises NoWatermark.
    """
    by_register = np.lexsort(
        (states.watermarks.opened_at_us, states.register_code, states.meter_id)
    )
    meter = states.meter_id[by_register]
    register = states.register_code[by_register]
    opened = states.watermarks.opened_at_us[by_register]
    # One sort of both kinds of rows finds, for each reading, the last opening before its instant.
    meters = np.concatenate([meter, batch.meter_id])
    registers = np.concatenate([register, batch.register_code])
    instants = np.concatenate([opened, batch.read_at_us])
    is_reading = np.concatenate([np.ones(meter.size), np.zeros(len(batch))])
    merged = np.lexsort((is_reading, instants, registers, meters))
    position = np.maximum.accumulate(np.where(merged < meter.size, merged, -1))
    found = np.empty(meters.size, dtype=np.int64)
    found[merged] = position
    at = found[meter.size :]
    # Readings before the first opening of their register were given the register before: move on.
    wrong = (at < 0) | (meter[at] != batch.meter_id) | (register[at] != batch.register_code)
    at = np.where(wrong, at + 1, at)
    at = np.minimum(at, meter.size - 1)
    if ((meter[at] != batch.meter_id) | (register[at] != batch.register_code)).any():
        raise NoWatermark("a reading's meter and register have no account")
    return by_register[at]
