"""Whose meters a batch is about: watermarks under their accounts' locks, and which one takes a reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from django.db import connection

from prewatt.core.bounds import Int64
from prewatt.core.readings import ReadingBatch
from prewatt.core.vee import MeterWatermarks
from prewatt.runtime.copying import ArrayOf, read_columns


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


def lock_states(meter_ids: Int64) -> States:
    """Lock the accounts of the meters, then read their watermarks under that lock.

    A move may hand a meter to another account while we wait for the lock; then we lock once more.
    """
    meters = ArrayOf("int8", meter_ids)
    locked = np.zeros(0, dtype=np.int64)
    while True:
        found = read_columns(connection.connection, _LOCKED, [meters], {"account_id": "int8"})
        locked = np.union1d(locked, found["account_id"])
        states = _states(read_columns(connection.connection, _WATERMARKS, [meters], _KINDS))
        if np.isin(states.account_id, locked).all():
            return states


def read_states(meter_ids: Int64) -> States:
    """The watermarks of meters as they are now, for a look: nobody is kept from moving them."""
    meters = ArrayOf("int8", meter_ids)
    return _states(read_columns(connection.connection, _WATERMARKS, [meters], _KINDS))


_LOCKED: Final = """
SELECT account_id FROM account_state
WHERE account_id IN (SELECT account_id FROM meter_state WHERE meter_id = ANY(%s::bigint[]))
ORDER BY account_id FOR NO KEY UPDATE
"""
_KINDS: Final = {
    "account_id": "int8",
    "meter_id": "int8",
    "register_code": "int2",
    "property_id": "int8",
    "multiplier": "int4",
    "modulus_wh": "int8",
    "max_power_w": "int8",
    "expected_period_s": "int4",
    "opened_at": "timestamptz",
    "opened_value_wh": "int8",
    "closed_at": "timestamptz",
    "last_at": "timestamptz",
    "last_value_wh": "int8",
    "ahead_uj": "int8",
}
_WATERMARKS: Final = f"""
SELECT {", ".join(_KINDS)} FROM meter_state WHERE meter_id = ANY(%s::bigint[])
ORDER BY account_id, meter_id, register_code
"""  # noqa: S608 - our own column names


def _states(columns: dict[str, Int64]) -> States:
    closed_at_us = columns["closed_at"]
    return States(
        account_id=columns["account_id"],
        meter_id=columns["meter_id"],
        register_code=columns["register_code"],
        property_id=columns["property_id"],
        watermarks=MeterWatermarks(
            last_at_us=columns["last_at"],
            last_value=columns["last_value_wh"],
            opened_at_us=columns["opened_at"],
            opened_value=columns["opened_value_wh"],
            closed_at_us=closed_at_us,
            register_modulus=columns["modulus_wh"],
            wh_per_count=columns["multiplier"],
            max_power_w=columns["max_power_w"],
            period_us=columns["expected_period_s"] * 1_000_000,
            ahead_uj=columns["ahead_uj"],
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
