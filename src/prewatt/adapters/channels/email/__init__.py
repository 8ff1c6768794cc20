"""E-mail over SMTP: one plain-text message to one address, with every failure told apart."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime, parseaddr
from typing import Final, Literal, cast

from prewatt.notify.ports import Contact, Permanent, Rendered, SendOutcome, Sent, Temporary

NAME: Final = "email"
TIMEOUT_S: Final = 10.0
ADDRESS_MAX: Final = 254
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_TLS_PORT: Final = 465
_CLOSING: Final = 421
_PERMANENT_FROM: Final = 500

TlsMode = Literal["tls", "starttls", "none"]


class EmailSettingsInvalid(ValueError):
    """The SMTP settings cannot be used; the message says which one and why."""


@dataclass(frozen=True, slots=True)
class EmailSettings:
    """Where and as whom to send. Raises `EmailSettingsInvalid`."""

    host: str
    port: int
    sender: Address
    tls: TlsMode = "starttls"
    user: str = ""
    password: str = ""
    timeout_s: float = TIMEOUT_S

    def __post_init__(self) -> None:
        if self.user and self.tls == "none" and self.host not in _LOOPBACK:
            raise EmailSettingsInvalid("PREWATT_SMTP_TLS: a password is never sent without TLS")

    def __repr__(self) -> str:
        """Never shows the password: settings end up in logs and tracebacks."""
        return f"EmailSettings({self.host}:{self.port}, {self.tls})"


def settings_from(environ: Mapping[str, str]) -> EmailSettings | None:
    """Settings from ``PREWATT_SMTP…`` and ``PREWATT_MAIL_FROM``; None when no server is named."""
    server = environ.get("PREWATT_SMTP", "").strip()
    if not server:
        return None
    host, separator, port = server.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (separator and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise EmailSettingsInvalid(f"PREWATT_SMTP: {server!r} is not host:port")
    usual = "tls" if int(port) == _TLS_PORT else "none" if host in _LOOPBACK else "starttls"
    tls = environ.get("PREWATT_SMTP_TLS", "") or usual
    if tls not in ("tls", "starttls", "none"):
        raise EmailSettingsInvalid(f"PREWATT_SMTP_TLS: {tls!r} is not tls, starttls or none")
    name, written = parseaddr(environ.get("PREWATT_MAIL_FROM", ""))
    sender = _address(name, written)
    if sender is None:
        raise EmailSettingsInvalid("PREWATT_MAIL_FROM: an address is needed")
    return EmailSettings(
        host=host,
        port=int(port),
        sender=sender,
        tls=cast(TlsMode, tls),
        user=environ.get("PREWATT_SMTP_USER", ""),
        password=environ.get("PREWATT_SMTP_PASSWORD", ""),
    )


class EmailChannel:
    """One SMTP connection per message; ``context`` replaces the system's certificate authorities."""

    name: Final = NAME
    wakes: Final = False

    def __init__(self, settings: EmailSettings, *, context: ssl.SSLContext | None = None) -> None:
        """Keep the settings; nothing is connected before the first message."""
        self._settings = settings
        self._context = context

    def address_of(self, contact: Contact) -> str:
        """The customer's e-mail address, as it was entered."""
        return contact.email.strip()

    def send(self, rendered: Rendered) -> SendOutcome:
        """Hand the message to the server; only a 250 after DATA counts as sent."""
        recipient = _address(rendered.contact_name, rendered.address)
        if recipient is None:
            return Permanent("the address cannot be written in a message")
        message = compose(rendered, recipient, self._settings.sender)
        try:
            smtp = self._connect()
        except (smtplib.SMTPException, OSError) as error:
            return Temporary(_said(error), channel_down=True)
        try:
            smtp.send_message(message)
        except (smtplib.SMTPException, OSError) as error:
            return _refusal(error)
        finally:
            # What happens while saying goodbye changes nothing: the message was taken, or was not.
            with contextlib.suppress(smtplib.SMTPException, OSError):
                smtp.quit()
            smtp.close()
        return Sent()

    def _connect(self) -> smtplib.SMTP:
        """A connection that is encrypted and signed in as the settings ask."""
        known = self._settings
        context = self._context or ssl.create_default_context()
        smtp: smtplib.SMTP
        if known.tls == "tls":
            smtp = smtplib.SMTP_SSL(
                known.host, known.port, timeout=known.timeout_s, context=context
            )
        else:
            smtp = smtplib.SMTP(known.host, known.port, timeout=known.timeout_s)
        try:
            if known.tls == "starttls":
                smtp.starttls(context=context)
            if known.user:
                smtp.login(known.user, known.password)
        except BaseException:
            smtp.close()
            raise
        return smtp


def compose(rendered: Rendered, recipient: Address, sender: Address) -> EmailMessage:
    """The message itself: UTF-8 plain text, marked as automatic so that nobody's robot answers."""
    message = EmailMessage(policy=SMTP_POLICY)
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = _one_line(rendered.subject)
    message["Date"] = format_datetime(rendered.at)
    message["Message-ID"] = f"<{rendered.reference}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message["Content-Language"] = "zh-Hans" if rendered.language.startswith("zh") else "en"
    message.set_content(rendered.body)
    return message


def _address(name: str, written: str) -> Address | None:
    """A header-safe address, or None: no spaces, no control characters, one @, a sane length."""
    if len(written) > ADDRESS_MAX or not written.isprintable() or " " in written:
        return None
    try:
        address = Address(display_name=_one_line(name), addr_spec=written)
    except (ValueError, IndexError, MessageError):
        # The header parser of the standard library answers malformed input with any of the three.
        return None
    return address if address.username and address.domain else None


def _refusal(error: smtplib.SMTPException | OSError) -> SendOutcome:
    """What the server's answer means for this address."""
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=recipients):
            code, said = next(iter(recipients.values()))
            return _by_code(code, _text(said))
        case smtplib.SMTPSenderRefused():
            return Temporary(_said(error), channel_down=True)
        case smtplib.SMTPDataError(smtp_code=code, smtp_error=said):
            return _by_code(code, _text(said))
        case smtplib.SMTPNotSupportedError():
            return Permanent("the server cannot send to an address with these characters")
        case _:
            return Temporary(_said(error), channel_down=True)


def _by_code(code: int, said: str) -> SendOutcome:
    if code == _CLOSING:
        return Temporary(f"{code} {said}", channel_down=True)
    return Permanent(f"{code} {said}") if code >= _PERMANENT_FROM else Temporary(f"{code} {said}")


def _said(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_text(error.smtp_error)}"
    return _one_line(f"{type(error).__name__}: {error}")


def _text(said: bytes | str) -> str:
    return _one_line(said.decode("utf-8", "replace") if isinstance(said, bytes) else said)


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
