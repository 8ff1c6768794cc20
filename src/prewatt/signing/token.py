"""Keys in a token behind PKCS#11: made there, never outside, and asked to sign.

``PREWATT_PKCS11_MODULE`` names the library of the token's maker, ``PREWATT_PKCS11_TOKEN`` its label,
``PREWATT_PKCS11_PIN`` its PIN, or ``PREWATT_PKCS11_PIN_FILE`` a file with it. Needs `python-pkcs11` (the extra
``pkcs11``). The store of keys keeps the public half and the key's label; a process that never signs with
such a key needs no token. Mechanisms are those of every token: CKM_ECDSA over a SHA-256 that is made here, and
CKM_EDDSA (PKCS#11 3.0) for roles of Ed25519.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from prewatt.signing.keys import ES256, KeyRole, PublicKey

MODULE_VARIABLE: Final = "PREWATT_PKCS11_MODULE"
TOKEN_VARIABLE: Final = "PREWATT_PKCS11_TOKEN"  # noqa: S105 - a name, not a secret
PIN_VARIABLE: Final = "PREWATT_PKCS11_PIN"
PIN_FILE_VARIABLE: Final = "PREWATT_PKCS11_PIN_FILE"
# PrintableString "edwards25519", as PKCS#11 3.0 names the curve.
_EDWARDS: Final = b"\x13\x0cedwards25519"


class TokenRefused(RuntimeError):
    """The token cannot be used, or has not the key; the message names no secret."""


@dataclass(frozen=True, slots=True)
class Token:
    """Where a token is and how it is opened."""

    module: str
    label: str
    pin: str = field(repr=False)


def token_of(environ: Mapping[str, str] = os.environ) -> Token:
    """The token that the environment names. Raises TokenRefused for none."""
    module, label = environ.get(MODULE_VARIABLE, ""), environ.get(TOKEN_VARIABLE, "")
    pin = environ.get(PIN_VARIABLE, "")
    if path := environ.get(PIN_FILE_VARIABLE):
        try:
            pin = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise TokenRefused(f"cannot read {path}: {error.strerror}") from None
    if not (module and label and pin):
        raise TokenRefused(
            f"{MODULE_VARIABLE}, {TOKEN_VARIABLE} and a PIN name the token with the keys"
        )
    return Token(module, label, pin)


class _Session:
    """One session of a process with a token. PKCS#11 sessions do one thing at a time, hence the lock."""

    def __init__(self, token: Token) -> None:
        try:
            import pkcs11
        except ImportError:
            raise TokenRefused("python-pkcs11 is not installed (the extra pkcs11)") from None
        self._pkcs11: Any = pkcs11
        self.lock = threading.Lock()
        try:
            slot = pkcs11.lib(token.module).get_token(token_label=token.label)
            self.session = slot.open(rw=True, user_pin=token.pin)
        except (pkcs11.PKCS11Error, RuntimeError, OSError) as error:
            raise TokenRefused(f"token {token.label!r}: {type(error).__name__}") from None

    def private_key(self, label: str) -> Any:
        try:
            found = self.session.get_key(
                object_class=self._pkcs11.ObjectClass.PRIVATE_KEY, label=label
            )
        except self._pkcs11.PKCS11Error as error:
            raise TokenRefused(
                f"no one key {label!r} in the token: {type(error).__name__}"
            ) from None
        return found

    def sign(self, label: str, role: KeyRole, message: bytes) -> bytes:
        mechanisms = self._pkcs11.Mechanism
        is_es256 = role.algorithm == ES256
        content = hashlib.sha256(message).digest() if is_es256 else message
        mechanism = mechanisms.ECDSA if is_es256 else mechanisms.EDDSA
        with self.lock:
            key = self.private_key(label)
            try:
                return bytes(key.sign(content, mechanism=mechanism))
            except self._pkcs11.PKCS11Error as error:
                raise TokenRefused(f"the token does not sign: {type(error).__name__}") from None

    def make(self, label: str, role: KeyRole) -> bytes:
        """A key pair in the token, whose private half never leaves it; returns the public half."""
        from pkcs11.util.ec import encode_named_curve_parameters

        kinds, attributes = self._pkcs11.KeyType, self._pkcs11.Attribute
        is_es256 = role.algorithm == ES256
        curve = encode_named_curve_parameters("secp256r1") if is_es256 else _EDWARDS
        kind = kinds.EC if is_es256 else kinds.EC_EDWARDS
        mechanism = (
            {} if is_es256 else {"mechanism": self._pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN}
        )
        with self.lock:
            try:
                parameters = self.session.create_domain_parameters(
                    kind, {attributes.EC_PARAMS: curve}, local=True
                )
                public, _ = parameters.generate_keypair(
                    **mechanism,
                    store=True,
                    label=label,
                    private_template={attributes.SENSITIVE: True, attributes.EXTRACTABLE: False},
                )
                point = bytes(public[attributes.EC_POINT])
            except self._pkcs11.PKCS11Error as error:
                raise TokenRefused(f"the token makes no key: {type(error).__name__}") from None
        # An OCTET STRING around it, of less than 128 bytes.
        return point[2:]


@lru_cache(maxsize=4)
def _session(token: Token) -> _Session:
    return _Session(token)


@dataclass(frozen=True, slots=True)
class TokenSigner:
    """A key in the token that the environment names when it is first asked to sign. Raises TokenRefused then."""

    public: PublicKey
    label: str

    def sign(self, message: bytes) -> bytes:
        """See `keys.Signer`."""
        return _session(token_of()).sign(self.label, self.public.role, message)


def make_in_token(label: str, role: KeyRole) -> bytes:
    """Make a key in the token that the environment names; returns its public half. Raises TokenRefused."""
    return _session(token_of()).make(label, role)
