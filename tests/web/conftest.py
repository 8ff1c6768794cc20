"""Signed-in browsers without a browser: the test client, as the web's own login."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fernmoor import Fernmoor, as_owner, fernmoor, laid_out

__all__ = ["as_owner", "fernmoor", "laid_out", "sign_in"]


@pytest.fixture(autouse=True)
def _in_english() -> Iterator[None]:
    """Let no test speak the language of the one before: a request leaves its own behind."""
    from django.utils import translation

    with translation.override("en"):
        yield


@pytest.fixture
def sign_in() -> Callable[..., object]:
    """Return a client that is signed in with a duty, in a language."""
    from django.test import Client

    from prewatt.access.models import User

    def signed_in(place: Fernmoor, duty: str = "administrator", language: str = "en") -> Client:
        client = Client(headers={"host": "localhost"})
        client.force_login(User.objects.get(pk=place.users[duty]))
        # As if a second factor had been shown, which these duties sign in with.
        session = client.session
        session["proved"] = "code"
        session.save()
        client.cookies["prewatt_language"] = language
        return client

    return signed_in
