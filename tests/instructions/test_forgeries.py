"""A share of the hostile sweep that `prewatt drill instructions` makes ten thousand of."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from random import Random

import pytest

from cases import cases
from prewatt.drills.forgeries import Field


@pytest.mark.usefixtures("database")
def test_of_hostile_messages_none_is_accepted_and_each_is_seen() -> None:
    seed = secrets.token_hex(4)
    print(f"seed {seed}")
    field = Field(datetime(2026, 11, 28, 5, 0, tzinfo=UTC))
    field.exchange()
    swept = field.sweep(field.attempts(Random(seed), cases(600)))
    assert swept.accepted == []
    assert swept.unseen == []
    assert len(swept.tried) >= 10, "most kinds were tried"
