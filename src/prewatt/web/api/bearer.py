"""Who asks: a key in the header ``Authorization: Bearer pwk_…`` and nothing else, no cookie among it."""

from __future__ import annotations

from django.http import HttpRequest
from ninja.security import HttpBearer

from prewatt.access.scope import Actor, PermissionRefused, require
from prewatt.api_keys.operations import actor_of_key
from prewatt.web import clock, rules


class Key(HttpBearer):
    """A key of the property, approved by two people (`prewatt.api_keys`)."""

    openapi_description = "pwk_… as shown once when the key was proposed"

    def authenticate(self, request: HttpRequest, token: str) -> Actor | None:
        """The actor that the key is; None for no key of ours, an ended or an expired one.

        Raises PermissionRefused where `rules` asks for more than the key has.
        """
        actor = actor_of_key(token, now=clock.now())
        if actor is not None:
            # Before anything is asked of it: who is refused is written down by name.
            request.auth = actor  # type: ignore[attr-defined]  # ninja's attribute
            _ask(request, actor)
        return actor


def _ask(request: HttpRequest, actor: Actor) -> None:
    match = request.resolver_match
    rule = rules.RULES.get(match.route) if match is not None else None
    wanted = rule.wanted(request.method) if rule is not None else ""
    if not wanted:
        raise PermissionRefused(f"no rule lets {actor.code} {request.method} this")
    for permission in wanted.split():
        require(actor, permission)


def actor_of(request: HttpRequest) -> Actor:
    """The actor of a request that `Key` let in."""
    actor: Actor = request.auth  # type: ignore[attr-defined]  # set by ninja from what `Key` answered
    return actor
