"""SenML in CBOR (RFC 8428, section 6) to records with the names of SenML JSON, for whichever driver carries it."""

from typing import Final

from prewatt.hes.drivers.lwm2m import cbor
from prewatt.hes.frames import MalformedFrame

#: RFC 8428, table 6. LwM2M's object link has a text for its label in both.
LABELS: Final = {
    -1: "bver", -2: "bn", -3: "bt", -4: "bu", -5: "bv", -6: "bs",
    0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb", 5: "s", 6: "t", 7: "ut", 8: "vd",
}  # fmt: skip


def is_pack(payload: bytes) -> bool:
    """Whether this begins as an array of CBOR does, as no JSON text can."""
    return bool(payload) and payload[0] >> 5 == 4


def records_of(payload: bytes, *, records_max: int) -> list[dict[str, object]]:
    """The records of a pack; a label that is not known keeps its number as its name.

    Numbers are integers or exact decimals. Raises MalformedFrame and nothing else.
    """
    records: list[dict[str, object]] = []
    for each in cbor.decode_pack(payload, records_max=records_max):
        named: dict[str, object] = {}
        for label, value in each.items():
            name = LABELS.get(label, str(label)) if isinstance(label, int) else label
            if name in named:
                raise MalformedFrame("repeated_key", f"{name!r} appears twice")
            named[name] = value
        records.append(named)
    return records
