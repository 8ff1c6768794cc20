"""OMA TLV (LwM2M Core 1.1.1, section 7.4.4), `application/vnd.oma.lwm2m+tlv`, to items and back.

A tree of at most four levels in one flat run of bytes: object instances hold resources, and a multiple resource
holds instances. Nothing tells the type of a value, so that resources without a known kind are passed over.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from prewatt.hes.drivers.lwm2m.objects import Path, kind_of
from prewatt.hes.drivers.lwm2m.values import MAX_ITEMS, MAX_PAYLOAD_BYTES, Item, read_bytes
from prewatt.hes.frames import MalformedFrame

CONTENT_FORMAT: Final = 11_542

_OBJECT_INSTANCE, _RESOURCE_INSTANCE, _MULTIPLE, _RESOURCE = range(4)
#: By how long the path is where they stand, what may stand there.
_ALLOWED: Final = {
    1: (_OBJECT_INSTANCE,),
    2: (_MULTIPLE, _RESOURCE),
    3: (_RESOURCE_INSTANCE,),
}

_Part = tuple[int, int, bytes]


def decode(base: Path, payload: bytes) -> list[Item]:
    """The values below `base`, the path that was asked for. Raises MalformedFrame and nothing else."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedFrame("oversize", f"{len(payload)} bytes")
    if not base:
        raise MalformedFrame("name", "TLV is of one object")
    items: list[Item] = []
    # Whoever is asked for a resource answers with the entry itself, hence one level up.
    start = base[:2] if len(base) >= 3 else base
    for path, content in _leaves(start, payload):
        kind = kind_of(path)
        if kind is not None and path[: len(base)] == base:
            items.append(Item(path, read_bytes(kind, content)))
        if len(items) > MAX_ITEMS:
            raise MalformedFrame("too_many", f"more than {MAX_ITEMS} values")
    return items


def encode(base: Path, values: Iterable[tuple[Path, bytes]]) -> bytes:
    """The entries of resources (already as bytes) below an object or an instance of it.

    A path of four numbers is the one instance that a multiple resource has.
    """
    entries: dict[int, list[bytes]] = {}
    for path, content in values:
        if len(path) == 4:
            only = _entry(_RESOURCE_INSTANCE, path[3], content)
            entry = _entry(_MULTIPLE, path[2], only)
        else:
            entry = _entry(_RESOURCE, path[2], content)
        entries.setdefault(path[1], []).append(entry)
    if len(base) >= 2:
        return b"".join(entries.get(base[1], []))
    return b"".join(
        _entry(_OBJECT_INSTANCE, number, b"".join(each)) for number, each in entries.items()
    )


def _leaves(path: Path, payload: bytes) -> Iterator[tuple[Path, bytes]]:
    for level, number, content in _parts(payload):
        if level not in _ALLOWED[len(path)]:
            raise MalformedFrame("type", f"an entry of level {level} below {path}")
        below = (*path, number)
        if level in (_OBJECT_INSTANCE, _MULTIPLE):
            # Four levels at most, for none of those that are allowed below leads back up.
            yield from _leaves(below, content)
        else:
            yield below, content


def _parts(payload: bytes) -> Iterator[_Part]:
    at = 0
    while at < len(payload):
        head = payload[at]
        id_bytes = 2 if head & 0x20 else 1
        length_bytes = head >> 3 & 3
        begin = at + 1 + id_bytes + length_bytes
        number = int.from_bytes(payload[at + 1 : at + 1 + id_bytes], "big")
        length = (
            int.from_bytes(payload[at + 1 + id_bytes : begin], "big") if length_bytes else head & 7
        )
        if begin + length > len(payload):
            raise MalformedFrame("type", "an entry is cut off")
        yield head >> 6, number, payload[begin : begin + length]
        at = begin + length


def _entry(level: int, number: int, content: bytes) -> bytes:
    wide = number > 0xFF
    size = len(content)
    length_bytes = 0 if size < 8 else (size.bit_length() + 7) // 8
    head = level << 6 | wide << 5 | length_bytes << 3 | (0 if length_bytes else size)
    return (
        bytes([head])
        + number.to_bytes(2 if wide else 1, "big")
        + (size.to_bytes(length_bytes, "big") if length_bytes else b"")
        + content
    )
