"""What is stored of readings, as drills and scenarios compare it with what their meters counted."""

from __future__ import annotations

from typing import Final

#: Serial number, instant in µs, register, revision.
READINGS: Final = """
SELECT m.serial, (extract(epoch FROM r.read_at) * 1000000)::bigint, r.value_wh, r.revision
FROM register_reading r JOIN meter m ON m.id = r.meter_id WHERE r.register_code = 1
"""
#: Serial number, instant in µs, register, why it is held.
HELD: Final = """
SELECT m.serial, (extract(epoch FROM v.read_at) * 1000000)::bigint, v.value_wh, v.reason
FROM vee_case v JOIN meter m ON m.id = v.meter_id
"""
