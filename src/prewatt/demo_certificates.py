"""The authorities of a demo with `--tls`, by the same operations as a real property's: root, issuers, enrolment, lists.

The root lies beside the issuers here, which no real one does. Everything is signed by the earlier of the demo's clock
and the real one: Mosquitto believes nothing that begins tomorrow.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prewatt.runtime.broker import LOOPBACK, BrokerCommand, find_mosquitto, free_port, prepared_by
from prewatt.runtime.state import CannotRunError, secret_text

if TYPE_CHECKING:
    from cryptography import x509

    from prewatt.access.scope import Actor
    from prewatt.devices.authority import Authority, Key
    from prewatt.devices.safe import Safe

_ROOT: Final = "root"
_HEAD_END: Final = "head-end"


def refuse_without_mosquitto(kind: str | None) -> None:
    """Raises CannotRunError where certificates were asked for and no broker here looks at them."""
    if kind == "amqtt" or find_mosquitto() is None:
        raise CannotRunError(
            "--tls needs Mosquitto, which asks for certificates; the broker that comes along does not. "
            "Install it (apt-get install mosquitto), or leave --tls out: everything stays on loopback"
        )


class DemoCertificates:
    """Who is believed at the demo's broker. ``clients`` is the folder with what meters and the head-end show."""

    def __init__(self, state_dir: Path, *, property_code: str, now: datetime) -> None:
        self.clients = state_dir / "meters" / "tls"
        self._folder = state_dir / "broker-tls"
        self._secrets = state_dir / "secrets"
        self._code = property_code
        self._now = now
        self._opened: Authority | None = None

    def environ(self) -> dict[str, str]:
        """What the head-end is told, which renews certificates too."""
        from prewatt.devices.safe import PHRASE_VARIABLE, SAFE_VARIABLE

        return {
            "PREWATT_MQTT_TLS": str(self.clients),
            SAFE_VARIABLE: str(self._safe.path),
            PHRASE_VARIABLE: self._phrase("devices"),
        }

    def enrol(self, property_id: int, serials: Sequence[str]) -> None:
        """A key and a certificate for each of these meters that has none yet; as the owner of the database.

        All or nothing: a start that is interrupted leaves no meter that the database alone knows.
        """
        from django.db import transaction

        from prewatt.access.scope import system_actor
        from prewatt.devices import authority, queries
        from prewatt.devices.operations import keep_issuer

        actor, safe = system_actor("demo", (property_id,)), self._safe
        for code in (authority.PLATFORM, self._code):
            if not safe.is_signed(code):
                self._sign_issuer(code)
        issuer = safe.issuing(self._code)
        self.clients.mkdir(mode=0o700, parents=True, exist_ok=True)
        with transaction.atomic():
            if queries.issuer_of_key(authority.key_digest(issuer.certificate)) is None:
                keep_issuer(
                    actor=actor, property_id=property_id, certificate=issuer.certificate,
                    now=self._now,
                )  # fmt: skip
            for serial in serials:
                if not (self.clients / f"{serial}.pem").exists():
                    self._enrol_one(actor, property_id, serial, issuer)

    def _enrol_one(self, actor: Actor, property_id: int, serial: str, issuer: Authority) -> None:
        from prewatt.devices import authority
        from prewatt.devices.operations import make_code
        from prewatt.moves.enrolment import enrol_device

        key = authority.new_key()
        code = make_code(actor=actor, property_id=property_id, serial=serial, now=self._now)
        done = enrol_device(
            actor=actor, property_id=property_id, serial=serial, code=code, signs=False,
            request=authority.make_request(serial, key), issuer=issuer, now=self._now,
        )  # fmt: skip
        self._show(serial, done.certificate, issuer, key)

    def broker(self) -> BrokerCommand:
        """Write what Mosquitto needs, its lists as the database has them now, and the head-end's certificate."""
        from prewatt.devices import authority
        from prewatt.devices.broker_files import Shown, write_broker
        from prewatt.devices_command import write_lists_of

        platform, port = self._safe.issuing(authority.PLATFORM), free_port()
        # The broker, which gives root up, reads its files here.
        self._folder.mkdir(mode=0o755, exist_ok=True)
        key = authority.new_key()
        own = authority.issue_broker(platform, key, hosts=[LOOPBACK], now=self._now)
        configuration = write_broker(
            self._folder,
            root=self._root().certificate,
            broker=Shown(own, platform.certificate, key),
            port=port,
            address=LOOPBACK,
            user="nobody" if os.geteuid() == 0 else "",
        )
        key = authority.new_key()
        self._show(_HEAD_END, authority.issue_head_end(platform, key, now=self._now), platform, key)
        write_lists_of(self._safe, self._folder, self._now)
        return prepared_by(configuration, port=port)

    # --- inside ---

    @property
    def _safe(self) -> Safe:
        from prewatt.devices.safe import Safe

        return Safe(self._secrets / "devices", self._phrase("devices"))

    def _root(self) -> Authority:
        """Made on first use; opened once, since a phrase is made to cost time."""
        from prewatt.devices import authority
        from prewatt.devices.safe import Safe

        if self._opened is None:
            safe = Safe(self._secrets / "device-root", self._phrase("device-root"))
            if not safe.is_signed(_ROOT):
                made = authority.make_root("Demonstration", now=self._now)
                safe.keep_key(_ROOT, made.key)
                safe.keep_certificate(_ROOT, made.certificate)
            self._opened = safe.authority(_ROOT)
        return self._opened

    def _sign_issuer(self, code: str) -> None:
        from prewatt.devices import authority

        safe = self._safe
        if not safe.has(code):
            safe.keep_key(code, authority.new_key())
        request = authority.make_request(code, safe.key(code))
        signed = authority.sign_issuer(self._root(), request, property_code=code, now=self._now)
        safe.keep_certificate(code, signed)

    def _show(self, name: str, made: x509.Certificate, issuer: Authority, key: Key) -> None:
        from prewatt.devices.broker_files import Shown, write_client

        write_client(
            self.clients,
            root=self._root().certificate,
            name=name,
            client=Shown(made, issuer.certificate, key),
        )

    def _phrase(self, name: str) -> str:
        return secret_text(self._secrets / f"{name}.phrase", lambda: secrets.token_hex(16))
