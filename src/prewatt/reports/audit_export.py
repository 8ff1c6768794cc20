"""Takes a signed copy of what a search of the audit finds."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from datetime import datetime

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.copies import EVENTS, FORMAT, Sign, document_of, packed
from prewatt.audit.operations import record
from prewatt.reports.audit_trail import FILE_MAX, EventRow, Wanted, every_event, line_of
from prewatt.reports.place import place_of


def signed_export(*, actor: Actor, wanted: Wanted, sign: Sign, now: datetime) -> bytes:
    """The ZIP of a search; an event says that it was taken. Raises PermissionRefused.

    Signed before anything is given away: without a key there is no file.
    """
    require(actor, "audit.read")
    with scope(actor):
        place = place_of(actor)
    body, count, ends = _lines(every_event(actor=actor, wanted=wanted))
    manifest = {
        "format": FORMAT, "property": {"id": place.property_id, "name": place.name},
        "query": wanted.as_query(), "count": count, "first_id": ends[0], "last_id": ends[1],
        "is_whole": count < FILE_MAX, "file": EVENTS, "sha256": hashlib.sha256(body).hexdigest(),
        "made_at": now.isoformat(), "made_by": actor.code, "made_by_name": actor.name,
    }  # fmt: skip
    document = document_of(manifest)
    signature = sign(document)
    with scope(actor):
        record(
            actor=actor.code, code="oversight.exported", property_id=place.property_id,
            subject=f"property:{place.property_id}", now=now, count=count,
            sha256=manifest["sha256"], query=manifest["query"], key=signature.key_id,
        )  # fmt: skip
    return packed(body, document, signature)


def _lines(found: Iterable[EventRow]) -> tuple[bytes, int, tuple[int | None, int | None]]:
    """The lines, their number, and the lowest and the highest number of an event among them."""
    body = io.BytesIO()
    ids: list[int] = []
    for row in found:
        body.write(line_of(row).encode())
        body.write(b"\n")
        ids.append(row.event_id)
    return body.getvalue(), len(ids), (min(ids, default=None), max(ids, default=None))
