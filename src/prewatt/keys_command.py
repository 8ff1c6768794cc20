"""`prewatt keys`: lists, makes, rotates and revokes the keys that sign what leaves Prewatt.

The store is the file that PREWATT_KEY_STORE names, sealed under PREWATT_KEY_STORE_KEYS. No command shows a private
half, or gives one away.

Whoever keeps the machine changes the file. Where PREWATT_DSN names the database, as its owner, each change stands in
the audit of every property; and where there are administrators, rotating and revoking takes what they agreed on under
Property, Signing keys (`--agreed`). Alone (`--alone`, with a reason) it is done as well, and everybody is alarmed.
Without a database it is done alone, with a reason, and says itself that it is written nowhere.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from prewatt import wiring
from prewatt.runtime.state import CannotRunError

if TYPE_CHECKING:
    from prewatt.signing.keys import PublicKey
    from prewatt.signing.store import KeyStore

REFUSED = 2
"""Exit status when nothing was done, with the reason on standard error."""

_ROLES = ("audit-export", "receipt", "checkpoint", "instruction", "personal-file")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands `list`, `make`, `rotate`, `revoke`, `reseal` and `seal`."""
    commands = parser.add_subparsers(dest="keys_command", required=True)
    listed = commands.add_parser("list", help="the public halves, for who verifies")
    listed.add_argument("--format", choices=("text", "json"), default="text")
    make = commands.add_parser("make", help="the first key of a role")
    rotate = commands.add_parser(
        "rotate", help="the next key of a role; the former one verifies on"
    )
    for each in (make, rotate):
        each.add_argument("role", choices=_ROLES)
        each.add_argument(
            "--from",
            dest="signs_from",
            type=_instant,
            help="from when on it signs, ISO 8601 with its offset from UTC (default: now)",
        )
        each.add_argument(
            "--token",
            action="store_true",
            help="make it in the token that PREWATT_PKCS11_MODULE and _TOKEN name, which it never leaves",
        )
    rotate.add_argument(
        "--overlap-hours",
        type=int,
        default=24,
        help="so long the former key still signs, for processes that have not looked again (24)",
    )
    revoke = commands.add_parser("revoke", help="believe nothing any more that a stolen key signed")
    revoke.add_argument("key_id")
    for each in (rotate, revoke):
        how = each.add_mutually_exclusive_group()
        how.add_argument(
            "--agreed", type=int, metavar="PROPOSAL", help="the proposal that was agreed to"
        )
        how.add_argument(
            "--alone", metavar="WHY", help="without anybody's agreement: alarms everybody"
        )
    commands.add_parser("reseal", help="seal every key under the newest of PREWATT_KEY_STORE_KEYS")
    commands.add_parser("seal", help="print a new key for PREWATT_KEY_STORE_KEYS")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; returns 2 where it is refused."""
    from prewatt.signing.store import KeyStoreRefused
    from prewatt.signing.token import TokenRefused

    if arguments.keys_command == "seal":
        from cryptography.fernet import Fernet

        print(Fernet.generate_key().decode("ascii"))
        return 0
    try:
        store = _store()
        if arguments.keys_command == "list":
            _list(store.public_keys(), wiring.now(), arguments.format)
            return 0
        return _change(arguments, store)
    except (KeyStoreRefused, TokenRefused) as refused:
        print(f"prewatt: {refused}", file=sys.stderr)
        return REFUSED


def _change(arguments: argparse.Namespace, store: KeyStore) -> int:
    """Change the store, and write that down where there is a database."""
    if os.environ.get("PREWATT_DSN"):
        return _change_in_the_audit(arguments, store)
    if _takes_others(arguments) and not arguments.alone:
        print(
            "prewatt: PREWATT_DSN is not set, so nobody can have agreed: say why, --alone WHY",
            file=sys.stderr,
        )
        return REFUSED
    _do(arguments, store)
    print("prewatt: written in no audit, for PREWATT_DSN is not set", file=sys.stderr)
    return 0


def _change_in_the_audit(arguments: argparse.Namespace, store: KeyStore) -> int:
    wiring.start_django("keys")
    from django.db import DatabaseError, connection, transaction

    from prewatt.mandates import at_machine
    from prewatt.mandates.operations import MandateRefused

    try:
        if not at_machine.owns_tables():
            raise CannotRunError(
                "keys are changed as the owner of PREWATT_DSN's database, like `prewatt migrate`"
            )
        alone = _takes_others(arguments) and not arguments.agreed
        if alone and not arguments.alone and at_machine.has_administrators():
            print(
                "prewatt: this takes the agreement of two administrators (Property, Signing keys): "
                "--agreed PROPOSAL. Alone, --alone WHY does it too, and alarms everybody",
                file=sys.stderr,
            )
            return REFUSED
        with transaction.atomic():
            _write_down(arguments, store, alone=bool(alone and arguments.alone))
    except MandateRefused as refused:
        print(f"prewatt: {_MANDATE[refused.reason]}; nothing was changed", file=sys.stderr)
        return REFUSED
    except DatabaseError as error:
        first = str(error).strip().partition("\n")[0]
        raise CannotRunError(f"the database refused: {first}") from error
    finally:
        connection.close()
    return 0


_MANDATE = {
    "gone": "nothing was agreed on by that number, or it was used, or its seven days are over",
    "other": "that agreement is for another deed or another key",
    "known": "there is no such key",
}
_CODES = {
    "make": "signing.key_made",
    "rotate": "signing.key_rotated",
    "revoke": "signing.key_revoked",
    "reseal": "signing.keys_resealed",
}


def _write_down(arguments: argparse.Namespace, store: KeyStore, *, alone: bool) -> None:
    """Use the mandate up, change the file, and write it down; inside one transaction."""
    from prewatt.mandates.at_machine import note_key, use_key_mandate
    from prewatt.mandates.operations import KeyDeed
    from prewatt.notify.alerts import KEY_ALONE
    from prewatt.notify.operations import raise_alert
    from prewatt.oversight.key_file import digest_of_file

    now, deed = wiring.now(), arguments.keys_command
    by, told = "system:keys", {}
    if _takes_others(arguments) and arguments.agreed:
        wanted = KeyDeed(deed, getattr(arguments, "role", ""), getattr(arguments, "key_id", ""))
        mandate = use_key_mandate(proposal_id=arguments.agreed, wanted=wanted, now=now)
        by = mandate.made_by
        told = {"proposal": arguments.agreed, "approved_by": mandate.approved_by}
    elif alone:
        told = {"alone": True, "reason": arguments.alone}
    key = _do(arguments, store)
    if deed == "reseal":
        print(f"{_seal_sessions_again()} sessions of meters are sealed under the newest seal")
    subject = "keys:all" if key is None else f"key:{key.key_id}"
    role = {} if key is None else {"role": str(key.role)}
    # By this digest the worker finds a file that was changed past this command.
    places = note_key(
        by=by, code=_CODES[deed], subject=subject, now=now, file=digest_of_file(store.path), **role,
        **told,
    )  # fmt: skip
    for place in places if alone else ():
        raise_alert(
            property_id=place, code=KEY_ALONE, subject=f"property:{place}",
            detail={"do": deed, "key": subject, "reason": arguments.alone}, now=now,
        )  # fmt: skip


def _seal_sessions_again() -> int:
    from prewatt.instructions.sessions import seal_again
    from prewatt.signing.keyring import seals_of
    from prewatt.signing.sessions import SessionSeals

    return seal_again(SessionSeals(seals_of(os.environ)))


def _takes_others(arguments: argparse.Namespace) -> bool:
    return arguments.keys_command in ("rotate", "revoke")


def _do(arguments: argparse.Namespace, store: KeyStore) -> PublicKey | None:
    """Change the file and say so; the key that was made, or ended. None: all of them."""
    from prewatt.signing.keys import KeyRole

    now = wiring.now()
    match arguments.keys_command:
        case "make":
            key = store.make(
                KeyRole(arguments.role),
                signs_from=arguments.signs_from or now,
                in_token=arguments.token,
            )
            print(f"{key.role} key {key.key_id} signs from {key.signs_from.isoformat()}")
        case "rotate":
            key = store.rotate(
                KeyRole(arguments.role),
                signs_from=arguments.signs_from or now,
                now=now,
                overlap=timedelta(hours=arguments.overlap_hours),
                in_token=arguments.token,
            )
            print(f"{key.role} key {key.key_id} signs from {key.signs_from.isoformat()}")
        case "revoke":
            key = store.revoke(arguments.key_id, now=now)
            print(f"nothing that {key.role} key {key.key_id} signed is believed any more")
            if key.role is KeyRole.INSTRUCTION:
                print(
                    "prewatt: meters that trust no other take no instruction now; prewatt instruct rotate names"
                    " them, and --begin has the others drop it",
                    file=sys.stderr,
                )
        case _:
            print(f"{store.seal_again()} keys are sealed under the newest seal")
            return None
    return key


def _list(keys: list[PublicKey], now: datetime, form: str) -> None:
    if form == "json":
        print(json.dumps([_as_json(each, now) for each in keys], indent=2))
        return
    for each in keys:
        until = f" to {each.signs_until.isoformat()}" if each.signs_until else ""
        print(
            f"{each.role}  {each.key_id}  {_state(each, now)}, {each.signs_from.isoformat()}{until}"
        )
    if not keys:
        print("no keys yet")


def _as_json(key: PublicKey, now: datetime) -> dict[str, str | None]:
    return {
        "role": str(key.role),
        "key_id": key.key_id,
        "algorithm": key.role.algorithm,
        "public_key": base64.b64encode(key.value).decode("ascii"),
        "state": _state(key, now),
        "signs_from": key.signs_from.isoformat(),
        "signs_until": key.signs_until.isoformat() if key.signs_until else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }


def _state(key: PublicKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if now < key.signs_from:
        return "waits"
    return "signs" if key.signs_at(now) else "verifies"


def _store() -> KeyStore:
    from prewatt.signing.keyring import STORE_VARIABLE, seals_of
    from prewatt.signing.store import KeyStore

    path = os.environ.get(STORE_VARIABLE)
    if not path:
        raise CannotRunError(f"{STORE_VARIABLE} is not set: it names the file with the keys")
    return KeyStore(Path(path), seals_of(os.environ))


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError("say the offset from UTC, too")
    return at
