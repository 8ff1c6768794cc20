"""Where the keys of authorities lie: one file for each, its certificate readable, its key sealed.

A property's first issuer has the property's code for its name, and those that follow it `CODE@2`, `CODE@3`. The newest that
has its certificate signs; a former one stays for what it signed, until that has ended.

A safe is a folder. The root's is carried to a machine without a network; the issuers' is the platform's. A key is sealed
under a phrase of its own (PKCS #8, PBES2), together with which it is worth something and without which nothing.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from prewatt.devices.authority import Authority, Key, as_pem

SAFE_VARIABLE: Final = "PREWATT_DEVICE_SAFE"
PHRASE_VARIABLE: Final = "PREWATT_DEVICE_PHRASE"
ROOT_PHRASE_VARIABLE: Final = "PREWATT_DEVICE_ROOT_PHRASE"
_PHRASE_CHARS_MIN: Final = 16
_NAME: Final = re.compile(r"[A-Za-z0-9@][A-Za-z0-9@._-]{0,60}")


class SafeRefused(RuntimeError):
    """The safe cannot be opened, or does not have what was asked; the message names no secret."""


def issuer_name(code: str, number: int) -> str:
    """The name of a property's so-manyeth issuer, in the safe and in its certificate."""
    return code if number == 1 else f"{code}@{number}"


def code_of(name: str) -> str:
    """Whose issuer has this name."""
    code, at, number = name.rpartition("@")
    return code if at and code and number.isdecimal() else name


def safe_of(environ: Mapping[str, str]) -> Safe:
    """The safe that the environment names. Raises SafeRefused where it names none."""
    path = environ.get(SAFE_VARIABLE)
    if not path:
        raise SafeRefused(f"{SAFE_VARIABLE} is not set: it names the folder with the issuers' keys")
    return Safe(Path(path), environ.get(PHRASE_VARIABLE, ""))


class Safe:
    """The folder at ``path``, its keys sealed under ``phrase``. Raises SafeRefused."""

    def __init__(self, path: Path, phrase: str) -> None:
        if len(phrase) < _PHRASE_CHARS_MIN:
            raise SafeRefused(f"the phrase of a safe has at least {_PHRASE_CHARS_MIN} characters")
        self.path = path
        self._phrase = phrase.encode()

    def keep_key(self, name: str, key: Key) -> None:
        """Seal a key under a name that has none yet."""
        sealed = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(self._phrase),
        )
        self._write(self._file(name, "key"), sealed)

    def keep_certificate(self, name: str, certificate: x509.Certificate) -> None:
        """Keep the certificate of a key that is here already."""
        if self.key(name).public_key() != certificate.public_key():
            raise SafeRefused(f"the certificate is not of the key of {name}")
        self._write(self._file(name, "pem"), as_pem(certificate))

    def key(self, name: str) -> Key:
        """The key of that name."""
        try:
            key = serialization.load_pem_private_key(self._read(name, "key"), self._phrase)
        except ValueError:
            raise SafeRefused(f"the key of {name} is sealed under another phrase") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SafeRefused(f"the key of {name} is of another kind")
        return key

    def authority(self, name: str) -> Authority:
        """The key of that name with its certificate, of which it is made sure that they fit."""
        certificate = x509.load_pem_x509_certificate(self._read(name, "pem"))
        key = self.key(name)
        if key.public_key() != certificate.public_key():
            raise SafeRefused(f"the certificate of {name} is of another key")
        return Authority(certificate, key)

    def has(self, name: str) -> bool:
        """Whether there is a key of that name, with its certificate or waiting for it."""
        return self._file(name, "key").exists()

    def names(self, code: str) -> list[str]:
        """The issuers of a property, or of the platform, the first one first, with a certificate or waiting for it."""
        return list(takewhile(self.has, (issuer_name(code, number) for number in count(1))))

    def is_signed(self, name: str) -> bool:
        """Whether there is a certificate of that name."""
        return self._file(name, "pem").exists()

    def issuing(self, code: str) -> Authority:
        """Whoever signs for a property now: its newest issuer that is signed itself."""
        signed = [each for each in self.names(code) if self.is_signed(each)]
        return self.authority(signed[-1] if signed else code)

    def signed(self, code: str) -> list[Authority]:
        """All issuers of a property that are signed themselves, the first one first."""
        return [self.authority(each) for each in self.names(code) if self.is_signed(each)]

    def _file(self, name: str, end: str) -> Path:
        if _NAME.fullmatch(name) is None:
            raise SafeRefused(f"{name!r} cannot be a name in a safe")
        return self.path / f"{name}.{end}"

    def _read(self, name: str, end: str) -> bytes:
        path = self._file(name, end)
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    raise SafeRefused(f"others may write {path}")
                return file.read()
        except OSError as error:
            raise SafeRefused(f"cannot read {path}: {error.strerror}") from None

    def _write(self, path: Path, content: bytes) -> None:
        """A file that is here is never written over: what it signed has to be verified for as long as it says."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise SafeRefused(f"cannot write {path}: {error.strerror}") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
