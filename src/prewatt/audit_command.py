"""`prewatt audit verify FILE`: checks a signed copy of the audit, without a database."""

from __future__ import annotations

import argparse
import base64
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prewatt.runtime.state import CannotRunError

if TYPE_CHECKING:
    from prewatt.signing.keys import PublicKey

REFUSED: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which file, and by which keys."""
    commands = parser.add_subparsers(dest="deed", required=True)
    check = commands.add_parser("verify", help="check that a copy is what was signed")
    check.add_argument("file", type=Path, help="the ZIP that the auditor's page gave")
    check.add_argument(
        "--keys",
        type=Path,
        help="public keys as `prewatt keys list --format json` prints them; else the key store",
    )
    check.add_argument("--format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    """Check it; returns 2 with one line on standard error where it is not what was signed."""
    from prewatt.audit.copies import ExportRefused, check_export

    try:
        content = arguments.file.read_bytes()
    except OSError as error:
        raise CannotRunError(f"{arguments.file}: {error.strerror}") from error
    try:
        checked = check_export(content, _keys(arguments.keys))
    except ExportRefused as refused:
        print(f"prewatt: {arguments.file}: {refused}", file=sys.stderr)
        return REFUSED
    manifest = checked.manifest
    if arguments.format == "json":
        print(json.dumps({"valid": True, "key_id": checked.key_id, "manifest": manifest}))
    else:
        print(
            f"Valid: {manifest['count']} events of {manifest['property']['name']}, taken by "
            f"{manifest['made_by_name'] or manifest['made_by']} at {manifest['made_at']}, "
            f"signed by key {checked.key_id}."
        )
    return 0


def _keys(path: Path | None) -> list[PublicKey]:
    """The keys that are believed: those of a file, else of this installation's own store."""
    from prewatt.signing.keyring import NoSigningKey, open_keyring
    from prewatt.signing.keys import KeyRole, PublicKey
    from prewatt.signing.store import KeyStoreRefused

    if path is None:
        try:
            return open_keyring().public_keys()
        except (NoSigningKey, KeyStoreRefused) as missing:
            raise CannotRunError(f"{missing}; or give public keys with --keys") from missing
    try:
        return [
            PublicKey(
                KeyRole(each["role"]), base64.b64decode(each["public_key"], validate=True),
                datetime.fromisoformat(each["signs_from"]), *map(_instant, (each["signs_until"], each["revoked_at"])),
            )
            for each in json.loads(path.read_bytes())
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotRunError(f"{path} holds no public keys: {error}") from error


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
