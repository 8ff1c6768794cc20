"""Letters that a demonstration keeps in a folder, where a mail server would have sent them.

Each is a file as a mail program opens it (RFC 5322). Only the latest are kept: a demonstration runs for days.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as mail_policy
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Final

#: How many letters a folder holds.
KEPT_MAX: Final = 200
_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Letter:
    """What somebody would have got; ``at`` is when it would have been sent."""

    name: str
    address: str
    subject: str
    body: str
    at: datetime


def keep(folder: Path, reference: str, letter: Letter) -> None:
    """Write a letter down under its reference, which is the same for every try, and forget the oldest."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    message = EmailMessage(policy=mail_policy)
    message["To"] = letter.address
    message["Subject"] = " ".join(letter.subject.split())
    message["Date"] = format_datetime(letter.at)
    message["X-Name"] = " ".join(letter.name.split())
    message.set_content(letter.body)
    draft = folder / f"{reference}.new"
    draft.touch(mode=0o600)
    draft.write_bytes(message.as_bytes())
    draft.replace(folder / f"{reference}.eml")
    for old in _newest_first(folder)[KEPT_MAX:]:
        old.unlink(missing_ok=True)


def kept(folder: Path, most: int) -> Sequence[Letter]:
    """The latest letters of a folder, newest first; none where there is no folder."""
    return [_read(path) for path in _newest_first(folder)[:most]]


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.eml"), key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _read(path: Path) -> Letter:
    with path.open("rb") as file:
        message = message_from_bytes(file.read(_BYTES_MAX), policy=mail_policy)
    assert isinstance(message, EmailMessage)
    return Letter(
        name=str(message["X-Name"]), address=str(message["To"]), subject=str(message["Subject"]),
        body=message.get_content(), at=parsedate_to_datetime(str(message["Date"])),
    )  # fmt: skip
