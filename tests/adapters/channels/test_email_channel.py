"""E-mail against a real SMTP server: what arrives, what each refusal means, what is never sent."""

from __future__ import annotations

import email
import socket
import ssl
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from adapters.channels.mail_servers import Answers, only_ada, serving
from prewatt.adapters.channels import channels_from
from prewatt.adapters.channels.email import (
    EmailChannel,
    EmailSettings,
    EmailSettingsInvalid,
    settings_from,
)
from prewatt.notify.ports import Contact, Permanent, Rendered, Sent, Temporary

# aiosmtpd names parts of its own that it will drop one day.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:aiosmtpd")

LETTER = Rendered(
    reference="message-7",
    address="ada@example.org",
    contact_name="陈静",
    language="zh-hans",
    subject="电费余额预计周四 17:30 左右用完",
    body="陈静，您好：\n\n您的电费余额为 €4.20。\n.\n一行以点开头\n",
    at=datetime(2026, 11, 17, 13, 30, tzinfo=UTC),
)


def channel(port: int, *, context: ssl.SSLContext | None = None, **more: str) -> EmailChannel:
    settings = settings_from(
        {"PREWATT_SMTP": f"127.0.0.1:{port}", "PREWATT_MAIL_FROM": "Prewatt <p@example.com>"} | more
    )
    assert settings is not None
    return EmailChannel(replace(settings, timeout_s=1.0), context=context)


def received(answers: Answers) -> Any:
    (envelope,) = answers.accepted
    assert isinstance(envelope.content, bytes)
    return email.message_from_bytes(envelope.content, policy=default)


def test_a_letter_arrives_as_it_was_written() -> None:
    answers = Answers()
    with serving(answers) as port:
        assert channel(port).send(LETTER) == Sent()
    message = received(answers)
    assert message["Subject"] == LETTER.subject
    assert message["To"].addresses[0].display_name == "陈静"
    assert message["From"] == "Prewatt <p@example.com>"
    assert message["Message-ID"] == "<message-7@example.com>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime == LETTER.at
    assert message.get_content().replace("\r\n", "\n") == LETTER.body
    assert answers.accepted[0].rcpt_tos == ["ada@example.org"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"rcpt": "450 4.2.1 mailbox busy"}, Temporary("450 4.2.1 mailbox busy")),
        ({"rcpt": "550 5.1.1 no such mailbox"}, Permanent("550 5.1.1 no such mailbox")),
        ({"data": "451 4.3.0 try later"}, Temporary("451 4.3.0 try later")),
        ({"data": "554 5.7.1 not wanted"}, Permanent("554 5.7.1 not wanted")),
        ({"rcpt": "421 closing"}, Temporary("421 closing", channel_down=True)),
        ({"mail": "550 5.7.1 sender refused"}, Temporary("550 5.7.1 sender refused", True)),
    ],
)
def test_each_refusal_says_whether_it_is_worth_another_try(
    said: dict[str, str], expected: Temporary | Permanent
) -> None:
    answers = Answers(**said)  # type: ignore[arg-type]  # only texts are given
    with serving(answers) as port:
        assert channel(port).send(LETTER) == expected
    assert answers.accepted == []


def test_a_server_that_is_not_there_or_does_not_answer_is_our_trouble_not_the_customers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outcome = channel(silent.getsockname()[1]).send(LETTER)
        assert isinstance(outcome, Temporary) and outcome.channel_down
        closed = silent.getsockname()[1]
    outcome = channel(closed).send(LETTER)
    assert isinstance(outcome, Temporary) and outcome.channel_down
    with serving(Answers(hangs=True)) as port:
        outcome = channel(port).send(LETTER)
    assert isinstance(outcome, Temporary) and outcome.channel_down


def test_a_goodbye_that_fails_does_not_undo_a_letter_that_was_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def rude() -> None:
            client, _ = listener.accept()
            with client, client.makefile("rb") as lines:
                client.sendall(b"220 hello\r\n")
                for line in lines:
                    if line.upper().startswith(b"DATA"):
                        client.sendall(b"354 go\r\n")
                        while lines.readline() != b".\r\n":
                            pass
                        client.sendall(b"250 taken\r\n")
                        return
                    client.sendall(b"250 OK\r\n")

        server = threading.Thread(target=rude)
        server.start()
        assert channel(listener.getsockname()[1]).send(LETTER) == Sent()
        server.join(5)


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.org\r\nBcc: all@example.org",
        "ada@example.org\nRCPT TO:<eve@example.org>",
        "ada@example.org, eve@example.org",
        "<ada@example.org>",
        "ada@example.org eve@example.org",
        "ada",
        "@example.org",
        "ada@",
        "",
        "a" * 250 + "@example.org",
    ],
)
def test_an_address_that_is_none_is_given_up_and_nothing_is_sent(address: str) -> None:
    answers = Answers()
    with serving(answers) as port:
        outcome = channel(port).send(replace(LETTER, address=address))
    assert isinstance(outcome, Permanent)
    assert answers.accepted == []


def test_names_and_subjects_cannot_become_headers_or_commands() -> None:
    answers = Answers()
    nasty = replace(
        LETTER,
        contact_name='Eve"\r\nBcc: all@example.org\r\n\r\nbody',
        subject="Hello\r\nBcc: all@example.org\nX-Evil: 1",
        body="first\r\n.\r\nMAIL FROM:<eve@example.org>\r\nlast\n",
    )
    with serving(answers) as port:
        assert channel(port).send(nasty) == Sent()
    message = received(answers)
    assert message["Bcc"] is None and message["X-Evil"] is None
    assert message["Subject"] == "Hello Bcc: all@example.org X-Evil: 1"
    assert len(message["To"].addresses) == 1
    assert "MAIL FROM:<eve@example.org>" in message.get_content()
    assert answers.accepted[0].rcpt_tos == ["ada@example.org"]


def test_a_wrong_password_is_our_trouble_and_a_right_one_sends() -> None:
    answers = Answers()
    with serving(answers, authenticator=only_ada, auth_require_tls=False) as port:
        wrong = channel(port, PREWATT_SMTP_USER="ada", PREWATT_SMTP_PASSWORD="wrong").send(LETTER)
        assert isinstance(wrong, Temporary) and wrong.channel_down and "wrong" not in wrong.reason
        right = channel(port, PREWATT_SMTP_USER="ada", PREWATT_SMTP_PASSWORD="right").send(LETTER)
    assert right == Sent()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=test",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, cert


@pytest.mark.parametrize("mode", ["starttls", "tls"])
def test_tls_is_used_and_an_unknown_certificate_is_refused(
    mode: str, certificate: tuple[Path, Path]
) -> None:
    key, cert = certificate
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    options: dict[str, Any] = (
        {"tls_context": server} if mode == "starttls" else {"implicit_tls": server}
    )
    answers = Answers()
    with serving(answers, **options) as port:
        trusting = ssl.create_default_context(cafile=str(cert))
        assert channel(port, context=trusting, PREWATT_SMTP_TLS=mode).send(LETTER) == Sent()
        outcome = channel(port, PREWATT_SMTP_TLS=mode).send(LETTER)
        assert isinstance(outcome, Temporary) and "CERTIFICATE_VERIFY_FAILED" in outcome.reason
    assert len(answers.accepted) == 1
    assert mode == "tls" or answers.tls == [True]


def test_a_server_without_starttls_gets_nothing_in_clear() -> None:
    answers = Answers()
    with serving(answers) as port:
        outcome = channel(port, PREWATT_SMTP_TLS="starttls").send(LETTER)
    assert isinstance(outcome, Temporary) and outcome.channel_down
    assert answers.accepted == []


def test_encryption_is_the_default_away_from_loopback() -> None:
    base = {"PREWATT_MAIL_FROM": "p@example.com"}

    def made(server: str, **more: str) -> EmailSettings:
        settings = settings_from(base | {"PREWATT_SMTP": server} | more)
        assert settings is not None
        return settings

    assert made("mail.example.org:587").tls == "starttls"
    assert made("mail.example.org:465").tls == "tls"
    assert made("127.0.0.1:2525").tls == made("[::1]:25").tls == "none"
    with pytest.raises(EmailSettingsInvalid, match="never sent without TLS"):
        made("mail.example.org:25", PREWATT_SMTP_TLS="none", PREWATT_SMTP_USER="u")
    assert "geheim" not in repr(made("mail.example.org:25", PREWATT_SMTP_PASSWORD="geheim"))


@pytest.mark.parametrize(
    "environ",
    [
        {"PREWATT_SMTP": "mail.example.org"},
        {"PREWATT_SMTP": "mail.example.org:smtp"},
        {"PREWATT_SMTP": "mail.example.org:70000"},
        {"PREWATT_SMTP": "mail.example.org:25", "PREWATT_SMTP_TLS": "maybe"},
        {"PREWATT_SMTP": "mail.example.org:25", "PREWATT_MAIL_FROM": ""},
        {"PREWATT_SMTP": "mail.example.org:25", "PREWATT_MAIL_FROM": "nobody"},
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(environ: dict[str, str]) -> None:
    with pytest.raises(EmailSettingsInvalid):
        settings_from({"PREWATT_MAIL_FROM": "p@example.com"} | environ)


def test_the_environment_says_which_channels_are_wired() -> None:
    assert channels_from({}) == []
    both = channels_from(
        {
            "PREWATT_OUTBOX": "1",
            "PREWATT_SMTP": "127.0.0.1:25",
            "PREWATT_MAIL_FROM": "p@example.com",
        }
    )
    assert [each.name for each in both] == ["outbox", "email"]


def test_an_address_is_the_customers_email() -> None:
    assert channel(1).address_of(Contact("Ada", " ada@example.org ", "+49 1")) == "ada@example.org"
    assert channel(1).address_of(Contact("Ada", "", "+49 1")) == ""
