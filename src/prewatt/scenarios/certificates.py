"""Certificates of a field that is thrown away: a root, an issuer, and one for everybody who has a connection.

They are of Prewatt's own authority (`devices.authority`), as every meter's are; the codes of an enrolment are left out, for
whoever makes the field is at both ends of it. The keys lie in the open in the run's folder and end with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from prewatt.devices import authority
from prewatt.devices.authority import Authority
from prewatt.devices.broker_files import Shown, write_broker, write_client, write_lists
from prewatt.runtime.broker import LOOPBACK, BrokerCommand, free_port, prepared_by

_HEAD_END: Final = "head-end"


class Certificates:
    """The authorities of one field; clients' files lie in ``clients``, those of the broker in ``folder``."""

    def __init__(self, folder: Path, now: datetime) -> None:
        self.folder = folder
        self.clients = folder / "clients"
        self._now = now
        self._root = authority.make_root("Scenario", now=now)
        self._platform = _issuer(self._root, authority.PLATFORM, now)
        self._issuer = _issuer(self._root, "scenario", now)
        self._elsewhere = _issuer(self._root, "elsewhere", now)
        folder.mkdir(parents=True)
        # The broker, which gives root up, reads its files here.
        folder.chmod(0o755)

    def give(self, names: Iterable[str], *, elsewhere: bool = False) -> None:
        """A key and a certificate for each of these, in their files; ``elsewhere``: of another property."""
        issuer = self._elsewhere if elsewhere else self._issuer
        chain = authority.as_pem(issuer.certificate)
        self.clients.mkdir(mode=0o700, exist_ok=True)
        for name in names:
            key = authority.new_key()
            made = authority.issue(
                issuer, authority.make_request(name, key), serial=name, now=self._now
            )
            # Without waiting for the disk: all of it is thrown away.
            (self.clients / f"{name}.pem").write_bytes(authority.as_pem(made) + chain)
            file = self.clients / f"{name}.key"
            file.touch(mode=0o600)
            file.write_bytes(authority.key_as_pem(key))

    def foreign(self, name: str) -> Path:
        """A folder with a certificate of that name by an authority that nobody here believes."""
        root = authority.make_root("Nobody", now=self._now)
        issuer, key = _issuer(root, "scenario", self._now), authority.new_key()
        made = authority.issue(
            issuer, authority.make_request(name, key), serial=name, now=self._now
        )
        folder = self.folder / "foreign"
        write_client(
            folder,
            root=self._root.certificate,
            name=name,
            client=Shown(made, issuer.certificate, key),
        )
        return folder

    def broker(self, concentrators: Mapping[str, Sequence[str]]) -> BrokerCommand:
        """Mosquitto's files, and the head-end's certificate. Raises BrokerError where there is no Mosquitto."""
        key, port = authority.new_key(), free_port()
        own = authority.issue_broker(self._platform, key, hosts=[LOOPBACK], now=self._now)
        configuration = write_broker(
            self.folder,
            root=self._root.certificate,
            broker=Shown(own, self._platform.certificate, key),
            port=port,
            address=LOOPBACK,
            user="nobody" if os.geteuid() == 0 else "",
        )
        key = authority.new_key()
        made = authority.issue_head_end(self._platform, key, now=self._now)
        write_client(
            self.clients,
            root=self._root.certificate,
            name=_HEAD_END,
            client=Shown(made, self._platform.certificate, key),
        )
        write_lists(
            self.folder,
            lists=[
                authority.revocation_list(each, [], now=self._now)
                for each in (self._platform, self._issuer, self._elsewhere)
            ],
            concentrators=concentrators,
            isolated=(),
        )
        return prepared_by(configuration, port=port)


def _issuer(root: Authority, code: str, now: datetime) -> Authority:
    key = authority.new_key()
    request = authority.make_request(code, key)
    return Authority(authority.sign_issuer(root, request, property_code=code, now=now), key)
