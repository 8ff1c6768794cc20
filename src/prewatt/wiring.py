"""Puts the parts together: the clock, the database login of each process, and Django itself.

Only this layer, the settings and the commands know all packages. Everything below is given what it
needs: the clock as an argument, the outside through ports.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from prewatt.runtime.state import CannotRunError, role_password, secret_text
from prewatt.telemetry import logs

if TYPE_CHECKING:
    from prewatt.signing.store import KeyStore

OFFSET_VARIABLE = "PREWATT_CLOCK_OFFSET_US"


def clock_offset() -> timedelta:
    """How far this process's clock is from the real one; only the demo sets it."""
    return timedelta(microseconds=int(os.environ.get(OFFSET_VARIABLE, "0")))


_OFFSET = clock_offset()


def now() -> datetime:
    """The present instant: real time, or the demo's."""
    return datetime.now(UTC) + _OFFSET


def start_django(process: str = "prewatt") -> None:
    """Set Django and the log up for this process; refuses without a database and a secret key."""
    if not os.environ.get("PREWATT_DSN"):
        raise CannotRunError(
            "PREWATT_DSN is not set: say which PostgreSQL this process signs in to"
        )
    if process == "web" and not os.environ.get("PREWATT_SECRET_KEY"):
        raise CannotRunError("PREWATT_SECRET_KEY is not set: it signs the sessions of this server")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "prewatt.settings")
    try:
        logs.configure(process)
    except ValueError as error:
        raise CannotRunError(str(error)) from None
    import django

    django.setup()


def role_passwords(state_dir: Path) -> Mapping[str, str]:
    """The password of each login role, made on first use and kept in the state directory."""
    from prewatt import walls

    return {role: role_password(role, state_dir) for role in walls.LOGINS}


def secret_key(state_dir: Path) -> str:
    """The key that signs sessions, made on first use."""
    import secrets

    return secret_text(state_dir / "secrets" / "web.key", lambda: secrets.token_urlsafe(48))


def signing_keys(state_dir: Path) -> Mapping[str, str]:
    """The variables that name the store of the keys that sign, with a key of each role made on first use."""
    from prewatt.signing.keyring import SEALS_VARIABLE, STORE_VARIABLE
    from prewatt.signing.keys import KeyRole

    store = _key_store(state_dir)
    known = {each.role for each in store.public_keys()}
    for role in KeyRole:
        if role not in known:
            # From the real clock or the demo's, whichever is earlier: everything is signed after it.
            store.make(role, signs_from=min(now(), datetime.now(UTC)))
    return {STORE_VARIABLE: str(store.path), SEALS_VARIABLE: _key_seal(state_dir)}


def _key_store(state_dir: Path) -> KeyStore:
    from prewatt.signing.store import KeyStore

    return KeyStore(state_dir / "secrets" / "keys.json", [_key_seal(state_dir)])


def _key_seal(state_dir: Path) -> str:
    from cryptography.fernet import Fernet

    return secret_text(
        state_dir / "secrets" / "keys.seal", lambda: Fernet.generate_key().decode("ascii")
    )


def instruction_keys(state_dir: Path) -> dict[str, str]:
    """The keys by which meters verify what they are told: points by key ids, both in hexadecimal digits."""
    from prewatt.signing.keys import KeyRole

    return {
        each.key_id: each.value.hex()
        for each in _key_store(state_dir).public_keys()
        if each.role is KeyRole.INSTRUCTION and each.revoked_at is None
    }


def factor_key(state_dir: Path) -> str:
    """The key under which second factors are sealed, made on first use."""
    from cryptography.fernet import Fernet

    return secret_text(
        state_dir / "secrets" / "factor.key", lambda: Fernet.generate_key().decode("ascii")
    )
