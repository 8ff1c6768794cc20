"""Authorities, devices and a Mosquitto that asks for certificates, for tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from prewatt.devices import authority
from prewatt.devices.authority import Authority, Key, Revoked
from prewatt.devices.broker_files import Shown, write_broker, write_client, write_lists
from prewatt.runtime.broker import LOOPBACK, Broker, free_port, prepared_by


def issuer_below(root: Authority, code: str, *, now: datetime) -> Authority:
    key = authority.new_key()
    request = authority.make_request(code, key)
    return Authority(authority.sign_issuer(root, request, property_code=code, now=now), key)


@dataclass
class Field:
    """A root with the issuers of the platform and of one property, with its next one, and where clients have their files."""

    folder: Path
    now: datetime
    root: Authority = field(init=False)
    platform: Authority = field(init=False)
    issuer: Authority = field(init=False)
    following: Authority = field(init=False)
    certificates: dict[str, x509.Certificate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = authority.make_root("Test", now=self.now)
        self.platform = issuer_below(self.root, authority.PLATFORM, now=self.now)
        self.issuer = issuer_below(self.root, "P", now=self.now)
        self.following = issuer_below(self.root, "P@2", now=self.now)

    def give(
        self, serial: str, *, at: datetime | None = None, issuer: Authority | None = None
    ) -> Key:
        """A certificate for a device, in its files."""
        issuer, key = issuer or self.issuer, authority.new_key()
        made = authority.issue(
            issuer, authority.make_request(serial, key), serial=serial, now=at or self.now
        )
        self.keep(serial, made, issuer, key)
        return key

    def keep(self, name: str, made: x509.Certificate, issuer: Authority, key: Key) -> None:
        self.certificates[name] = made
        shown = Shown(made, issuer.certificate, key)
        write_client(self.clients, root=self.root.certificate, name=name, client=shown)

    @property
    def clients(self) -> Path:
        return self.folder / "clients"

    def write_lists(
        self, *, revoked: Sequence[str] = (), concentrators: dict[str, list[str]] | None = None
    ) -> None:
        ended = [Revoked(self.certificates[each].serial_number, self.now) for each in revoked]
        write_lists(
            self.folder,
            lists=[
                authority.revocation_list(self.platform, [], now=self.now),
                authority.revocation_list(self.issuer, ended, now=self.now),
                authority.revocation_list(self.following, [], now=self.now),
            ],
            concentrators=concentrators or {},
            isolated=revoked,
        )

    def broker(self) -> Broker:
        """A Mosquitto of these authorities, and the head-end's certificate among the clients."""
        key = authority.new_key()
        own = authority.issue_broker(self.platform, key, hosts=[LOOPBACK], now=self.now)
        port = free_port()
        configuration = write_broker(
            self.folder, root=self.root.certificate, broker=Shown(own, self.platform.certificate, key),
            port=port, address=LOOPBACK, user="nobody" if os.geteuid() == 0 else "",
        )  # fmt: skip
        key = authority.new_key()
        made = authority.issue_head_end(self.platform, key, now=self.now)
        self.keep("head-end", made, self.platform, key)
        self.write_lists()
        return Broker(self.folder, prepared=prepared_by(configuration, port=port))

    def mosquitto(
        self, tool: str, port: int, name: str | None, topic: str, *more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run mosquitto_pub or mosquitto_sub as the client with these files; None shows no certificate."""
        shown = [] if name is None else [
            "--cert", str(self.clients / f"{name}.pem"), "--key", str(self.clients / f"{name}.key"),
        ]  # fmt: skip
        return subprocess.run(
            [tool, "-h", LOOPBACK, "-p", str(port), "--cafile", str(self.folder / "ca.pem"), *shown,
             "-V", "5", "-q", "1", "-t", topic, *more],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip


def years(number: float) -> timedelta:
    return timedelta(days=365 * number)
