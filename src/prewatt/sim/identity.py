"""A simulated device's key and certificate: files in place of the chip that a real one keeps its key in.

In the last quarter of its certificate's life the device makes a new key, signs a request for it with the one it has, and
asks again now and then until it is answered. The new key takes the old one's place with its certificate, never before.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from prewatt.devices import authority
from prewatt.hes.drivers.mqtt_senml.renewal import encode_renewal

_ASKS_AGAIN: Final = timedelta(minutes=1)


class Identity:
    """The files `SERIAL.pem` and `SERIAL.key` of a folder, and `SERIAL.next.key` while a renewal is on its way."""

    def __init__(self, folder: Path, serial: str) -> None:
        self._folder = folder
        self._serial = serial
        self._asked_at: datetime | None = None

    def asks(self, now: datetime) -> bytes | None:
        """The payload of `up/renew` if it is time to ask; None otherwise."""
        certificate = x509.load_pem_x509_certificate(self._file("pem").read_bytes())
        if certificate.not_valid_after_utc > now + authority.RENEWS_WITHIN:
            return None
        if self._asked_at is not None and now - self._asked_at < _ASKS_AGAIN:
            return None
        self._asked_at = now
        following = self._file("next.key")
        if not following.exists():
            self._write(following, authority.key_as_pem(authority.new_key()))
        request = authority.make_request(self._serial, _key(following))
        return encode_renewal(request, authority.sign_renewal(_key(self._file("key")), request))

    def take(self, chain: bytes) -> bool:
        """Take a certificate that was sent; False for one that is not of the key that was asked for."""
        following = self._file("next.key")
        try:
            certificate = x509.load_pem_x509_certificates(chain)[0]
        except ValueError:
            return False
        if not following.exists() or certificate.public_key() != _key(following).public_key():
            return False
        # The key first: a device that stops in between has a key whose certificate it can ask for again.
        self._write(self._file("key"), following.read_bytes())
        self._write(self._file("pem"), chain)
        following.unlink()
        return True

    def _file(self, end: str) -> Path:
        return self._folder / f"{self._serial}.{end}"

    def _write(self, path: Path, content: bytes) -> None:
        draft = path.with_name(f".{path.name}.draft")
        draft.touch(mode=0o600)
        draft.write_bytes(content)
        draft.replace(path)


def _key(path: Path) -> authority.Key:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "it was made here"
    return key
