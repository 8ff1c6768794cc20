"""A passkey device in software: makes key pairs and signs as a browser and its device would."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import (
    Aaguid,
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
    CollectedClientData,
)

_FLAG = AuthenticatorData.FLAG


@dataclass
class SoftAuthenticator:
    """One device with one passkey; what is wrong with it can be set from outside."""

    site: str = "localhost"
    origin: str = "http://localhost:8000"
    verifies: bool = True
    count: int = 0
    cross_origin: bool = False
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def make(self, options: dict[str, Any]) -> str:
        """What ``navigator.credentials.create`` would answer, as the page sends it."""
        kept = AttestedCredentialData.create(
            bytes(Aaguid.NONE),
            self.credential_id,
            ES256.from_cryptography_key(self.key.public_key()),
        )
        data = self._data(_FLAG.AT, kept)
        return self._answer(
            attestationObject=websafe_encode(AttestationObject.create("none", data, {})),
            clientDataJSON=websafe_encode(self._client("webauthn.create", options)),
            transports=["internal", "nonsense"],
        )

    def sign(self, options: dict[str, Any]) -> str:
        """What ``navigator.credentials.get`` would answer, as the page sends it."""
        self.count += 1
        data, client = self._data(), self._client("webauthn.get", options)
        signed = self.key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        return self._answer(
            authenticatorData=websafe_encode(data), clientDataJSON=websafe_encode(client),
            signature=websafe_encode(signed),
        )  # fmt: skip

    def _data(self, more: Any = 0, kept: bytes = b"") -> AuthenticatorData:
        flags = _FLAG.UP | more | (_FLAG.UV if self.verifies else _FLAG(0))
        site = hashlib.sha256(self.site.encode()).digest()
        return AuthenticatorData.create(site, flags, self.count, kept)

    def _client(self, kind: str, options: dict[str, Any]) -> CollectedClientData:
        return CollectedClientData.create(
            kind, websafe_decode(options["challenge"]), self.origin, self.cross_origin
        )

    def _answer(self, **response: Any) -> str:
        name = websafe_encode(self.credential_id)
        return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": response})
