"""The links of a registration (CoRE link format, RFC 6690) and its query (LwM2M Core 1.1.1, section 6.2.1)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from prewatt.hes.drivers.lwm2m.values import text_of
from prewatt.hes.drivers.mqtt_senml.topics import is_serial
from prewatt.hes.frames import MalformedFrame

CONTENT_FORMAT: Final = 40

MAX_LINKS: Final = 256
MAX_BYTES: Final = 8_192
LIFETIME_S: Final = 86_400
"""Of a registration that names none (Core 1.1.1, table 6.2.1)."""
LIFETIME_S_MAX: Final = 30 * 86_400
"""A meter that says nothing for a month has to register again, whatever it asked for."""
_LIFETIME_S_MIN: Final = 15

#: A link is short of everything that could make a pattern go back: no text in quotes holds a quote.
_LINK: Final = re.compile(r'<([^<>"]{0,128})>((?:;[^,;"]{1,64}(?:"[^"]{0,128}")?)*)(?:,|$)')
_OBJECT: Final = re.compile(r"/?(\d{1,5})(?:/(\d{1,5}))?", re.ASCII)
_VERSIONS: Final = ("1.0", "1.1", "1.2")


@dataclass(frozen=True, slots=True)
class Request:
    """What a device asks for when it registers. `lifetime_s` is within bounds; `sleeps` is queue mode."""

    endpoint: str
    lifetime_s: int
    version: str
    sleeps: bool


@dataclass(frozen=True, slots=True)
class Links:
    """The objects that a device has, as (object, instance); the root of their paths; the formats it speaks."""

    objects: frozenset[tuple[int, int]]
    root: str = ""
    formats: frozenset[int] = frozenset()

    def has(self, object_id: int, instance: int = 0) -> bool:
        """Whether the device has this object."""
        return (object_id, instance) in self.objects


def parse_query(query: Sequence[str]) -> Request:
    """Read the query of `POST /rd`. Raises MalformedFrame."""
    fields = _fields(query)
    endpoint = fields.get("ep", "")
    if not is_serial(endpoint):
        raise MalformedFrame("serial", f"not a serial number: {endpoint[:60]!r}")
    version = fields.get("lwm2m", "1.0")
    if version not in _VERSIONS:
        raise MalformedFrame("version", f"LwM2M {version[:20]!r}")
    return Request(endpoint, _lifetime(fields) or LIFETIME_S, version, _sleeps(fields, version))


def parse_update(query: Sequence[str]) -> tuple[int | None, bool | None]:
    """Read the query of an update: a new lifetime and whether the device now sleeps; None is as before."""
    fields = _fields(query)
    return _lifetime(fields), _sleeps(fields, "1.1") if {"b", "Q"} & fields.keys() else None


def parse_links(payload: bytes) -> Links:
    """Read the links of a registration. Raises MalformedFrame."""
    if len(payload) > MAX_BYTES:
        raise MalformedFrame("oversize", f"{len(payload)} bytes of links")
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        raise MalformedFrame("links", "not UTF-8") from None
    objects: set[tuple[int, int]] = set()
    root, formats = "", frozenset[int]()
    at = count = 0
    while at < len(text):
        found = _LINK.match(text, at)
        count += 1
        if found is None or count > MAX_LINKS:
            raise MalformedFrame("links", f"not links: {text[at : at + 40]!r}")
        at = found.end()
        attributes = _attributes(found[2])
        if attributes.get("rt") == "oma.lwm2m":
            root = found[1].rstrip("/")
            formats = _numbers(attributes.get("ct", ""))
            continue
        path = _OBJECT.fullmatch(found[1].removeprefix(root))
        # An object without an instance (`</5>;ver=1.1`) says a version and nothing that can be read.
        if path is not None and path[2] is not None:
            objects.add((int(path[1]), int(path[2])))
    return Links(frozenset(objects), root, formats)


def format_links(
    objects: Iterable[tuple[int, int]], formats: Sequence[int], *, root: str = "/"
) -> bytes:
    """The links of a device, as a registration carries them."""
    own = [f'<{root}>;rt="oma.lwm2m";ct="{" ".join(map(str, formats))}"']
    return ",".join([*own, *(f"</{number}/{instance}>" for number, instance in objects)]).encode()


def _fields(query: Sequence[str]) -> dict[str, str]:
    if len(query) > 16:
        raise MalformedFrame("oversize", f"{len(query)} fields")
    fields: dict[str, str] = {}
    for each in query:
        key, _, value = each.partition("=")
        if key in fields:
            raise MalformedFrame("repeated_key", f"{key[:20]!r} appears twice")
        fields[key] = text_of(value.encode())
    return fields


def _lifetime(fields: dict[str, str]) -> int | None:
    text = fields.get("lt")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 11):
        raise MalformedFrame("range", f"a lifetime of {text[:20]!r}")
    return max(_LIFETIME_S_MIN, min(LIFETIME_S_MAX, int(text)))


def _sleeps(fields: dict[str, str], version: str) -> bool:
    """Queue mode: a letter of the binding in 1.0 (`b=UQ`), a field of its own since 1.1."""
    return "Q" in fields or (version == "1.0" and "Q" in fields.get("b", ""))


def _attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in text.split(";")[1:]:
        key, _, value = each.partition("=")
        found[key] = value.strip('"')
    return found


def _numbers(text: str) -> frozenset[int]:
    return frozenset(int(each) for each in text.split()[:16] if each.isdecimal() and len(each) < 6)
