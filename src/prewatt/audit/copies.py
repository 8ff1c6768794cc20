"""A signed copy of a part of the audit: how it is packed, and how it is checked without Prewatt's database.

A ZIP of three files: ``events.jsonl`` (an event to a line, the latest first), ``manifest.json`` (what was
asked for, by whom and when, how many events, the SHA-256 of the lines) and ``manifest.sig.json``, an
Ed25519 signature of the manifest's bytes by a key whose role is audit exports (``prewatt.signing``).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prewatt.signing.keys import BadSignature, KeyRole, PublicKey, Signature, verify

FORMAT: Final = "prewatt-audit-export/1"
EVENTS: Final = "events.jsonl"
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig.json"
#: What is read of one member when a copy is checked.
_READ_MAX: Final = 1 << 30

Sign = Callable[[bytes], Signature]


class ExportRefused(ValueError):
    """A file is no signed copy, or not the one that was signed; ``reason`` says what is wrong."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Checked:
    """A copy that is what was signed: its manifest, and the key."""

    manifest: dict[str, Any]
    key_id: str


def document_of(manifest: Mapping[str, Any]) -> bytes:
    """The bytes of a manifest, which are what is signed."""
    return json.dumps(manifest, sort_keys=True, ensure_ascii=False, indent=1).encode()


def packed(body: bytes, document: bytes, signature: Signature) -> bytes:
    """The ZIP."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (
            (EVENTS, body),
            (MANIFEST, document),
            (SIGNATURE, json.dumps(signature.as_json(), indent=1).encode()),
        ):
            archive.writestr(name, content)
    return file.getvalue()


def check_export(content: bytes, keys: Iterable[PublicKey]) -> Checked:
    """What a file says, if every byte of it is what one of these keys signed. Raises ExportRefused."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sorted(archive.namelist()) != sorted((EVENTS, MANIFEST, SIGNATURE)):
                raise ExportRefused("it does not hold exactly the three files of a copy")
            if any(each.file_size > _READ_MAX for each in archive.infolist()):
                raise ExportRefused("a file in it is larger than any copy")
            body, document, signed = (archive.read(each) for each in (EVENTS, MANIFEST, SIGNATURE))
        signature = Signature.from_json(json.loads(signed))
        key = verify(document, signature, keys)
        manifest = json.loads(document)
    except (zipfile.BadZipFile, ValueError) as error:
        # BadSignature among them.
        raise ExportRefused(
            str(error)
            if isinstance(error, (BadSignature, ExportRefused))
            else "it is no signed copy"
        ) from error
    if key.role is not KeyRole.AUDIT_EXPORT or manifest.get("format") != FORMAT:
        raise ExportRefused("what was signed is no copy of the audit")
    if hashlib.sha256(body).hexdigest() != manifest["sha256"]:
        raise ExportRefused("the events are not those that were signed")
    if body.count(b"\n") != manifest["count"]:
        raise ExportRefused("the events are not as many as were signed")
    return Checked(manifest, key.key_id)
