"""Ways to reach people, one folder each; which of them are wired is said by the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prewatt.adapters.channels.email import EmailChannel, settings_from
from prewatt.adapters.channels.outbox import OutboxChannel
from prewatt.notify.ports import Channel


def channels_from(environ: Mapping[str, str]) -> list[Channel]:
    """The channels that the environment configures; raises `EmailSettingsInvalid`."""
    channels: list[Channel] = []
    if environ.get("PREWATT_OUTBOX") == "1":
        folder = environ.get("PREWATT_OUTBOX_FOLDER", "")
        channels.append(OutboxChannel(Path(folder) if folder else None))
    email = settings_from(environ)
    if email is not None:
        channels.append(EmailChannel(email))
    return channels
