"""What a posting commits to of an interval: the columns of its image, for those who make and who check hashes.

Apart from the code that posts, so that whoever recomputes the books needs nothing of what wrote them.
"""

from __future__ import annotations

from typing import Final

#: What ``posting.hash_version`` says of a hash that is made as here.
HASH_VERSION: Final = 3
#: What a posting commits to of each interval. ``interval_hash`` is SHA-256 over the ``record_send``
#: images of these columns of the range's intervals, one after another in order of ``interval_no``.
COMMITTED: Final = {
    "meter_id": "int8", "register_code": "int2", "start_at": "timestamptz", "revision": "int2",
    "segment": "int2", "interval_no": "int8", "from_at": "timestamptz", "to_at": "timestamptz",
    "start_value_wh": "int8", "end_value_wh": "int8", "multiplier": "int4", "energy_wh": "int8",
    "quality": "int2", "tariff_version_id": "int8", "band": "int2", "step": "int2",
    "price_nano": "int8", "charge_energy": "int8", "charge_standing": "int8", "charge_tax": "int8",
    "charge_fee": "int8", "charge_demand": "int8", "charge_subsidy": "int8",
}  # fmt: skip
#: SQL for the image of one row ``i`` of ``interval``.
INTERVAL_IMAGE: Final = f"record_send(ROW({', '.join(f'i.{name}' for name in COMMITTED)}))"
