"""What Mosquitto needs to let meters in by their certificates and by nothing else: configuration, rights, lists.

Everything is in one folder, written anew as a whole; a broker takes changed lists and rights as it starts.
`docs/operations.md` says how to run it.

Whoever shows a certificate *is* its common name, and the session at the broker has that name too: nobody takes over the
session of another, or leaves one behind under a name of their choice. A device that is isolated is on its issuer's list
and loses its rights besides.

The broker is started anew for that, in order: it keeps what is queued, and no connection outlives the certificate that
opened it. SIGHUP would do neither: Mosquitto 2.0.11 lets connections stand that were opened by what has been revoked, and
was seen to crash at it (rights by user, sessions kept, certificates as names), which loses what was queued since it saved.

There is one listener, and rights are not `per_listener_settings`: with those Mosquitto keeps nothing for a client that is
away (its issues 2526 and 2618), which is what a persistent session is for.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from prewatt.devices.authority import HEAD_END, Key, as_pem, key_as_pem

CONFIGURATION: Final = "mosquitto.conf"
ROOT: Final = "ca.pem"
LISTS: Final = "revoked.pem"
RIGHTS: Final = "rights"

_MOSQUITTO: Final = """\
# Written by `prewatt devices broker`; the next time it is written over.
listener {port}{address}
set_tcp_nodelay true
allow_anonymous false

# TLS 1.3 alone, and nobody without a certificate below our root.
cafile {folder}/ca.pem
certfile {folder}/broker.pem
keyfile {folder}/broker.key
crlfile {folder}/revoked.pem
tls_version tlsv1.3
require_certificate true

# The certificate says who somebody is, and whose session it is.
use_identity_as_username true
use_username_as_clientid true
acl_file {folder}/rights

# What is in flight the head-end bounds by its own receive-maximum; what waits for somebody, this.
max_inflight_messages 0
max_queued_messages 100000
max_queued_bytes 536870912
max_packet_size 262144

# Commands wait for a meter, and readings for the head-end, over a restart of the broker.
persistence true
persistence_location {folder}/data/
# A crash of the broker loses at most this many seconds of queued messages; meters send them again.
autosave_interval 30
persistent_client_expiration 14d

sys_interval 0
connection_messages false
log_dest stderr
log_type error
log_type warning
{user}"""


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate with its issuer's, and its key: what one side of a connection shows."""

    certificate: x509.Certificate
    issuer: x509.Certificate
    key: Key


def rights(concentrators: Mapping[str, Sequence[str]], isolated: Iterable[str]) -> str:
    """Who may say and hear what. Each device its own topics; a concentrator those of its meters, too."""
    lines = [
        "# A device speaks and listens on its own topics; %u is the name in its certificate.",
        "pattern write pw/%u/up/+",
        "pattern read pw/%u/down/+",
        "",
        f"user {HEAD_END}",
        "topic read pw/+/up/+",
        "topic write pw/+/down/+",
    ]
    shut = set(isolated)
    for concentrator, meters in concentrators.items():
        if concentrator not in shut:
            lines += ["", f"user {concentrator}"]
            for meter in meters:
                lines += [f"topic write pw/{meter}/up/+", f"topic read pw/{meter}/down/+"]
    for serial in sorted(shut):
        lines += ["", f"user {serial}", "topic deny #"]
    return "\n".join([*lines, ""])


def write_lists(
    folder: Path,
    *,
    lists: Iterable[x509.CertificateRevocationList],
    concentrators: Mapping[str, Sequence[str]],
    isolated: Iterable[str],
) -> None:
    """The files that change from day to day; the broker takes them at its next start."""
    revoked = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in lists)
    _write(folder / LISTS, revoked)
    _write(folder / RIGHTS, rights(concentrators, isolated).encode())


def write_broker(
    folder: Path,
    *,
    root: x509.Certificate,
    broker: Shown,
    port: int,
    address: str = "",
    user: str = "",
) -> Path:
    """Configuration, root and the broker's own certificate; returns the configuration.

    ``user`` is who Mosquitto becomes where it is started as root: key and data are then theirs.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    _write(folder / ROOT, as_pem(root))
    _write_shown(folder, "broker", broker)
    if user:
        owner = pwd.getpwnam(user)
        for each in (data, folder / "broker.key"):
            os.chown(each, owner.pw_uid, owner.pw_gid)
    text = _MOSQUITTO.format(
        port=port,
        address=f" {address}" if address else "",
        folder=folder.resolve(),
        user=f"user {user}\n" if user else "",
    )
    configuration = folder / CONFIGURATION
    _write(configuration, text.encode())
    return configuration


def write_client(folder: Path, *, root: x509.Certificate, name: str, client: Shown) -> None:
    """What a client of the broker needs: the root, and its own certificate and key as ``name``."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(folder / ROOT, as_pem(root))
    _write_shown(folder, name, client)


def _write_shown(folder: Path, name: str, shown: Shown) -> None:
    _write(folder / f"{name}.pem", as_pem(shown.certificate, shown.issuer))
    _write(folder / f"{name}.key", key_as_pem(shown.key), mode=0o600)


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put a whole new file in the place of the old one: nobody reads half of it."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        shutil.chown(draft, path.stat().st_uid, path.stat().st_gid)
    draft.replace(path)
