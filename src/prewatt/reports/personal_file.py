"""All that is known of a customer, as one signed file: for them, or for whoever may ask for it.

A ZIP with a file of JSON lines for each table, ``manifest.json`` (whose, for whom, by which proposal, and the rows
and the SHA-256 of each file) and ``manifest.sig.json``, a signature of the manifest's bytes by a key whose role is
personal files. Instants are ISO 8601, money micro-units, energy Wh, as they are stored.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.audit.operations import record
from prewatt.mandates.operations import use_file
from prewatt.reports.place import NoSuchThing, place_of, rows
from prewatt.signing.keys import Signature

FORMAT: Final = "prewatt-personal-file/1"
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig.json"
#: Rows of one table at most; the manifest says where there were more.
ROWS_MAX: Final = 500_000
#: What is kept by the account, in the order of its first column that tells a time.
OF_ACCOUNT: Final[Mapping[str, str]] = {
    "account_state": "account_id", "account_terms": "id", "tariff_assignment": "id",
    "meter_assignment": "id", "meter_state": "meter_id", "meter_wallet": "id",
    "meter_balance_check": "id", "register_reading": "read_at", "interval": "interval_no",
    "vee_case": "read_at", "archived_account": "month", "demand_day": "local_day",
    "bound_period": "first_day", "carried_steps": "id", "event_rebate": "id", "transfer": "seq",
    "posting": "posting_no", "payment": "id", "document": "id", "debt": "id", "refund": "id",
    "temporary_let": "id", "message": "id", "supply_state": "account_id", "supply_decision": "id",
    "supply_order": "id", "tamper_case": "id",
}  # fmt: skip
#: What has an account's number and tells nothing more of a person: answers kept for keys of forms, chores.
LEFT_OUT: Final = frozenset({"idempotency", "rerate_request"})
_ELSE: Final[Mapping[str, str]] = {
    "customer": "SELECT * FROM customer WHERE id = %(customer)s",
    "account": "SELECT * FROM account WHERE customer_id = %(customer)s ORDER BY id",
    "tenancy": "SELECT * FROM tenancy WHERE customer_id = %(customer)s ORDER BY id",
    "message_attempt": """SELECT t.* FROM message_attempt t JOIN message m ON m.id = t.message_id
        WHERE m.account_id = ANY(%(accounts)s) ORDER BY t.id""",
    # What was done about them and when; who did it is the staff's own.
    "audit_event": """SELECT happened_at, code, subject FROM audit_event
        WHERE subject = ANY(%(subjects)s) ORDER BY id""",
}

Sign = Callable[[bytes], Signature]


def file_of_account(*, actor: Actor, account_id: int) -> tuple[int, str, Sequence[int]]:
    """(customer, name, all accounts of theirs here) behind an account. Raises NoSuchThing."""
    require(actor, "approvals.propose")
    with scope(actor):
        place = place_of(actor)
        found = rows(
            """SELECT c.id, c.name, ARRAY(SELECT o.id FROM account o WHERE o.customer_id = c.id ORDER BY o.id)
               FROM account a JOIN customer c ON c.id = a.customer_id
               WHERE a.id = %s AND a.property_id = %s""",
            [account_id, place.property_id],
        )
    if not found:
        raise NoSuchThing(f"nobody has account {account_id}")
    return int(found[0][0]), str(found[0][1]), list(found[0][2])


def personal_file(
    *, actor: Actor, mandate_id: int, proposal_id: int, sign: Sign, now: datetime
) -> bytes:
    """The ZIP that a mandate is for, which uses it once; an event says that it was taken.

    All of it is one transaction: what cannot be signed was not taken. Raises MandateRefused.
    """
    require(actor, "approvals.propose")
    with scope(actor):
        effect = use_file(actor=actor, mandate_id=mandate_id, now=now)
        place = place_of(actor)
        file, parts = io.BytesIO(), {}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, statement in _statements().items():
                parts[name] = _write(archive, f"{name}.jsonl", statement, effect)
            document = _document(
                {
                    "format": FORMAT, "property": {"id": place.property_id, "name": place.name},
                    "customer": effect["customer"], "name": effect["name"], "for": effect["for"],
                    "proposal": proposal_id, "made_at": now.isoformat(), "made_by": actor.code,
                    "files": parts,
                }
            )  # fmt: skip
            signature = sign(document)
            archive.writestr(MANIFEST, document)
            archive.writestr(SIGNATURE, json.dumps(signature.as_json(), indent=1))
        record(
            actor=actor.code, code="mandates.file_taken", property_id=place.property_id,
            subject=f"customer:{effect['customer']}", now=now, proposal=proposal_id,
            mandate=mandate_id, sha256=hashlib.sha256(document).hexdigest(), key=signature.key_id,
            asked_by=effect["for"],
        )  # fmt: skip
    return file.getvalue()


def _statements() -> dict[str, str]:
    found = dict(_ELSE)
    for table, order in OF_ACCOUNT.items():
        found[table] = (
            f"SELECT * FROM {table} WHERE account_id = ANY(%(accounts)s) ORDER BY account_id, {order}"  # noqa: S608 - our own constants
        )
    return found


def _write(
    archive: zipfile.ZipFile, name: str, statement: str, effect: Mapping[str, Any]
) -> dict[str, Any]:
    """Add a table's rows as JSON lines, as they come; what the manifest says of them."""
    accounts = list(effect["accounts"])
    named = {
        "customer": effect["customer"], "accounts": accounts, "most": ROWS_MAX + 1,
        "subjects": [f"customer:{effect['customer']}", *(f"account:{each}" for each in accounts)],
    }  # fmt: skip
    count, digest = 0, hashlib.sha256()
    with archive.open(name, "w") as file, connection.chunked_cursor() as cursor:
        cursor.execute(f"SELECT row_to_json(t)::text FROM ({statement} LIMIT %(most)s) t", named)  # noqa: S608 - our own constants
        for (row,) in cursor:
            count += 1
            if count <= ROWS_MAX:
                line = f"{row}\n".encode()
                digest.update(line)
                file.write(line)
    return {
        "rows": min(count, ROWS_MAX), "is_whole": count <= ROWS_MAX, "sha256": digest.hexdigest(),
    }  # fmt: skip


def _document(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True, ensure_ascii=False, indent=1).encode()
