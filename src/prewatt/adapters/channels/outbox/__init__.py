"""The demo's channel: a message is delivered by standing on the outbox page of the console."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from prewatt.notify.ports import Contact, Rendered, SendOutcome, Sent
from prewatt.runtime.letters import Letter, keep

NAME: Final = "outbox"
#: How the references of letters to people who sign in begin (`sign_in.notices`).
LETTERS: Final = "notice-"


class OutboxChannel:
    """Accepts everything at once: the attempt row itself is what the outbox page shows of a customer's message.

    Letters to people who sign in leave no such row, so it keeps them in ``folder``, if there is one.
    It reaches nobody, so it is wired only in the demo (``PREWATT_OUTBOX=1``).
    """

    name: Final = NAME
    wakes: Final = False

    def __init__(self, folder: Path | None = None) -> None:
        """Keep letters in ``folder``, which is made when the first one comes."""
        self._folder = folder

    def address_of(self, contact: Contact) -> str:
        """Whatever tells the visitor whom it would have gone to; a customer always has a name."""
        return contact.email or contact.phone or contact.name

    def send(self, rendered: Rendered) -> SendOutcome:
        """Nothing leaves the machine."""
        if self._folder is not None and rendered.reference.startswith(LETTERS):
            letter = Letter(
                name=rendered.contact_name, address=rendered.address, subject=rendered.subject,
                body=rendered.body, at=rendered.at,
            )  # fmt: skip
            keep(self._folder, rendered.reference, letter)
        return Sent()
