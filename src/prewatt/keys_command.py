"""`prewatt keys`: lists, makes, rotates and revokes the keys that sign what leaves Prewatt.

The store is the file that PREWATT_KEY_STORE names, sealed under PREWATT_KEY_STORE_KEYS. Needs no database. No
command shows a private half.
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

_ROLES = ("audit-export", "receipt", "checkpoint", "instruction")


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
        _do(arguments, _store())
    except (KeyStoreRefused, TokenRefused) as refused:
        print(f"prewatt: {refused}", file=sys.stderr)
        return REFUSED
    return 0


def _do(arguments: argparse.Namespace, store: KeyStore) -> None:
    from prewatt.signing.keys import KeyRole

    now = wiring.now()
    match arguments.keys_command:
        case "list":
            _list(store.public_keys(), now, arguments.format)
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
        case "reseal":
            print(f"{store.seal_again()} keys are sealed under the newest seal")


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
