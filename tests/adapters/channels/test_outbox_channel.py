"""The demo's outbox delivers at once and says whom a message would have gone to."""

from __future__ import annotations

from datetime import UTC, datetime

from prewatt.adapters.channels.outbox import OutboxChannel
from prewatt.notify.ports import Contact, Rendered, Sent


def test_everything_is_delivered_at_once() -> None:
    letter = Rendered("message-1", "x", "x", "en", "s", "b", datetime(2026, 11, 17, tzinfo=UTC))
    assert OutboxChannel().send(letter) == Sent()


def test_the_best_known_address_is_shown_and_nobody_has_none() -> None:
    outbox = OutboxChannel()
    assert outbox.address_of(Contact("Ada", "ada@example.org", "+49 1")) == "ada@example.org"
    assert outbox.address_of(Contact("Ada", "", "+49 1")) == "+49 1"
    assert outbox.address_of(Contact("Ada", "", "")) == "Ada"
    assert outbox.address_of(Contact("", "", "")) == ""
