"""The demo's channel: a message is delivered by standing on the outbox page of the console."""

from __future__ import annotations

from typing import Final

from prewatt.notify.ports import Contact, Rendered, SendOutcome, Sent

NAME: Final = "outbox"


class OutboxChannel:
    """Accepts everything at once: the attempt row itself is what the outbox page shows.

    It reaches nobody, so it is wired only in the demo (``PREWATT_OUTBOX=1``).
    """

    name: Final = NAME
    wakes: Final = False

    def address_of(self, contact: Contact) -> str:
        """Whatever tells the visitor whom it would have gone to; a customer always has a name."""
        return contact.email or contact.phone or contact.name

    def send(self, rendered: Rendered) -> SendOutcome:
        """Nothing leaves the machine."""
        return Sent()
