"""The OSCORE keys of devices (RFC 8613): sealed in a folder, one file each, and used without a nonce ever twice.

A context's sender numbers are written ahead, some at a time, and synced before the first of them is used: a
crash skips numbers and repeats none. Which numbers of the device were seen is not kept. After a start each device is
asked to prove by an Echo that it speaks now (RFC 8613, appendix B.1.2), once.

The folder belongs to one head-end. A copy of it that is used again would repeat nonces: after restoring one from a
backup make new keys (`prewatt meter key --again`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from aiocoap import oscore
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from prewatt.hes.drivers.mqtt_senml.topics import is_serial

FOLDER_VARIABLE: Final = "PREWATT_LWM2M_KEYS"
SEALS_VARIABLE: Final = "PREWATT_LWM2M_SEALS"

_SECRET_BYTES: Final = 16
_SALT_BYTES: Final = 8
#: As many as the nonce of AES-CCM-16-64-128 has room for.
_KID_BYTES: Final = 7
_SERVER_ID: Final = b"\x00"
_WINDOW: Final = 32
_NUMBERS_AHEAD: Final = 256


class DeviceKeysRefused(RuntimeError):
    """The folder cannot be used, or a key not be made so; the message names no secret."""


class DeviceKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device and the head-end share. The device's own id is what the other side recognises it by."""

    serial: str
    device_id: bytes
    server_id: bytes
    secret: bytes
    salt: bytes

    def __repr__(self) -> str:
        return f"<key of {self.serial}>"


class DeviceContext(
    oscore.CanProtect,  # type: ignore[misc]  # aiocoap has no types
    oscore.CanUnprotect,  # type: ignore[misc]
    oscore.SecurityContextUtils,  # type: ignore[misc]
):
    """The head-end's side of one device's context."""

    alg_aead = oscore.algorithms[oscore.DEFAULT_ALGORITHM]
    hashfun = oscore.hashfunctions[oscore.DEFAULT_HASHFUNCTION]
    id_context = None

    def __init__(self, key: DeviceKey, numbers: Path | None, *, is_device: bool = False) -> None:
        """`numbers` is where sender numbers are written ahead; None for a context that lives once.

        `is_device` makes the other side of it, for a simulated meter.
        """
        self.serial = key.serial
        self.sender_id, self.recipient_id = key.server_id, key.device_id
        if is_device:
            self.sender_id, self.recipient_id = self.recipient_id, self.sender_id
        self.derive_keys(key.salt, key.secret)
        self.echo_recovery = secrets.token_bytes(8)
        self.authenticated_claims = [key.serial]
        self.recipient_replay_window = oscore.ReplayWindow(_WINDOW, lambda: None)
        self._numbers = numbers
        self.sender_sequence_number = self._ahead = _read_number(numbers)

    def post_seqnoincrease(self) -> None:
        """The library is about to use a number: it must have been written down as used by then."""
        if self.sender_sequence_number <= self._ahead or self._numbers is None:
            return
        self._ahead = self.sender_sequence_number + _NUMBERS_AHEAD
        _write(self._numbers, str(self._ahead).encode())


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of all devices that have a key, by serial and by what a message names them by."""

    by_serial: Mapping[str, DeviceContext]
    by_kid: Mapping[bytes, DeviceContext]

    def find_oscore(self, unprotected: Mapping[int, bytes]) -> DeviceContext:
        """The library's question: whose message is this? Raises KeyError."""
        return self.by_kid[unprotected[oscore.COSE_KID]]


NO_CONTEXTS: Final = Contexts({}, {})


class DeviceKeys:
    """The folder at `path`, sealed under `seals` (Fernet keys, newest first). Raises DeviceKeysRefused."""

    def __init__(self, path: Path, seals: Sequence[str]) -> None:
        self._path = path
        try:
            self._box = MultiFernet([Fernet(each) for each in seals])
        except ValueError:
            raise DeviceKeysRefused(f"{SEALS_VARIABLE} holds no Fernet key") from None
        # Whose file was read as what, so that a context that is in use is not made a second time.
        self._open: dict[str, tuple[bytes, DeviceContext]] = {}

    def make(self, serial: str, *, again: bool = False) -> DeviceKey:
        """A key for a device; `again` in place of one that there is. Raises DeviceKeysRefused."""
        if not is_serial(serial):
            raise DeviceKeysRefused(f"{serial!r} cannot be a serial number")
        file = self._path / f"{serial}.key"
        if file.exists() and not again:
            raise DeviceKeysRefused(
                f"{serial} has a key; a new one shuts out the device that has it"
            )
        key = DeviceKey(
            serial=serial,
            device_id=secrets.token_bytes(_KID_BYTES),
            server_id=_SERVER_ID,
            secret=secrets.token_bytes(_SECRET_BYTES),
            salt=secrets.token_bytes(_SALT_BYTES),
        )
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(file, self._box.encrypt(msgspec.json.encode(key)))
        return key

    def contexts(self) -> Contexts:
        """The contexts of all devices; those that were there before are the same objects."""
        found: dict[str, tuple[bytes, DeviceContext]] = {}
        for file in sorted(self._path.glob("*.key")) if self._path.is_dir() else ():
            serial, sealed = file.name.removesuffix(".key"), file.read_bytes()
            known = self._open.get(serial)
            if known is None or known[0] != sealed:
                key = self._unsealed(serial, sealed)
                # By the device's id, which is new with each key: numbers of another key say nothing.
                numbers = self._path / f"{serial}.{key.device_id.hex()}.numbers"
                known = (sealed, DeviceContext(key, numbers))
            found[serial] = known
        self._open = found
        own = [context for _, context in found.values()]
        by_kid = {bytes(each.recipient_id): each for each in own}
        if len(by_kid) < len(own):
            raise DeviceKeysRefused("two devices have the same id")
        return Contexts({each.serial: each for each in own}, by_kid)

    def _unsealed(self, serial: str, sealed: bytes) -> DeviceKey:
        try:
            key = msgspec.json.decode(self._box.decrypt(sealed), type=DeviceKey)
        except (InvalidToken, msgspec.MsgspecError):
            raise DeviceKeysRefused(f"the key of {serial} is sealed under another seal") from None
        if key.serial != serial:
            raise DeviceKeysRefused(f"the key of {serial} is another device's")
        return key


def open_device_keys(environment: Mapping[str, str]) -> DeviceKeys | None:
    """The folder that the environment names; None where it names none. Raises DeviceKeysRefused."""
    path = environment.get(FOLDER_VARIABLE)
    if not path:
        return None
    seals = [each for each in environment.get(SEALS_VARIABLE, "").split(",") if each]
    if not seals:
        raise DeviceKeysRefused(f"{SEALS_VARIABLE} is not set: device keys are kept only sealed")
    return DeviceKeys(Path(path), seals)


def _read_number(file: Path | None) -> int:
    try:
        return 0 if file is None else int(file.read_text())
    except FileNotFoundError:
        return 0
    except ValueError:
        # Beginning again at zero would repeat nonces.
        raise DeviceKeysRefused(f"{file} holds no number; make a new key") from None


def _write(file: Path, content: bytes) -> None:
    """In place of what there was, whole or not at all, and on the disk when this returns."""
    beside = file.with_name(f"{file.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
