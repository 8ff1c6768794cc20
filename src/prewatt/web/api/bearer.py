"""Who asks: a key in the header ``Authorization: Bearer pwk_…`` and nothing else, no cookie among it."""

from __future__ import annotations

from django.http import HttpRequest
from ninja.security import HttpBearer

from prewatt.access.scope import Actor
from prewatt.api_keys.operations import actor_of_key
from prewatt.web import clock


class Key(HttpBearer):
    """A key of the property, approved by two people (`prewatt.api_keys`)."""

    openapi_description = "pwk_… as shown once when the key was proposed"

    def authenticate(self, request: HttpRequest, token: str) -> Actor | None:
        """The actor that the key is; None for no key of ours, an ended or an expired one."""
        return actor_of_key(token, now=clock.now())


def actor_of(request: HttpRequest) -> Actor:
    """The actor of a request that `Key` let in."""
    actor: Actor = request.auth  # type: ignore[attr-defined]  # set by ninja from what `Key` answered
    return actor
