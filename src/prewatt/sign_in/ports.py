"""What is asked of a company's own directory (``adapters/identity``), and what it answers."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, cast

from django.conf import settings


class DirectoryRefused(Exception):
    """Nobody is signed in. ``reason`` is `silent` (the directory does not answer), `malformed` (it answers what is no
    OpenID Connect), `insecure` (an address without TLS), `refused` (it said no, or somebody else's answer came back),
    `unproved` (its token does not hold), `unverified` (no e-mail address that the directory has proved).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Directory:
    """A company's directory and what it knows us by. ``back_to`` is the address of ours that answers come to."""

    issuer: str
    client_id: str
    client_secret: str
    back_to: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One question on its way, kept in the session of the browser that asks: its answer is good there alone."""

    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class Known:
    """Whom the directory knows: ``subject`` for ever at this issuer, ``email`` as it is written there now."""

    issuer: str
    subject: str
    email: str


class Directories(Protocol):
    """How a directory is asked: by a module that ``PREWATT_COMPANY_DIRECTORY`` names."""

    def ask(self, directory: Directory) -> tuple[str, Asked]:
        """Where to send the browser, and what to keep until it comes back. Raises DirectoryRefused."""

    def answer(
        self, directory: Directory, asked: Asked, given: Mapping[str, str], *, now: datetime
    ) -> Known:
        """Who came back, by what the directory's answer proves. Raises DirectoryRefused."""


def directories() -> Directories:
    """The way that this installation asks."""
    return cast("Directories", importlib.import_module(settings.PREWATT_COMPANY_DIRECTORY))
