"""What a property does by itself when a case is opened: one response for each kind, and who gets a letter.

Stored as ``{"responses": {"1": "warn"}, "letters": ["installer"]}``, kinds by their number. A property that has said
nothing raises alerts alone: nothing is ever done to anybody's supply that two people did not agree to.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import connection

from prewatt.core.tampering import POWER_QUALITY
from prewatt.core.vocabulary import TamperKind, TamperResponse

#: Who may be told of each new case by letter, besides the alert that all staff see.
LETTERS: Final = ("administrator", "operator", "installer")
#: What touches a customer's supply is not for trouble of the net.
_TOUCHES: Final = frozenset({TamperResponse.HOLD_EMERGENCY, TamperResponse.CUT})


class PolicyRefused(Exception):
    """The policy stays as it is: ``reason`` is `same`, `stale`, `unknown` or `not_theirs`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Policy:
    """A property's policy, version 0 where it has said nothing."""

    version: int = 0
    responses: Mapping[TamperKind, TamperResponse] = field(default_factory=dict)
    letters: tuple[str, ...] = ()

    def response_to(self, kind: TamperKind) -> TamperResponse:
        """What is done about a case of this kind."""
        return self.responses.get(kind, TamperResponse.NOTHING)

    def body(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "responses": {
                str(int(kind)): response.word
                for kind, response in sorted(self.responses.items())
                if response is not TamperResponse.NOTHING
            },
            "letters": sorted(self.letters),
        }


def parse(body: Mapping[str, Any], version: int = 0) -> Policy:
    """The policy that a stored body is. Raises PolicyRefused `unknown`, `not_theirs`."""
    try:
        responses = {
            TamperKind(int(kind)): TamperResponse[str(word).upper()]
            for kind, word in body.get("responses", {}).items()
        }
    except (KeyError, ValueError, AttributeError) as fault:
        raise PolicyRefused("unknown") from fault
    letters = tuple(body.get("letters", ()))
    if not set(letters) <= set(LETTERS) or set(body) - {"responses", "letters"}:
        raise PolicyRefused("unknown")
    if any(responses.get(kind) in _TOUCHES for kind in POWER_QUALITY):
        raise PolicyRefused("not_theirs")
    return Policy(version, responses, letters)


def policies_of(property_ids: Collection[int]) -> dict[int, Policy]:
    """The policy of each property; inside the caller's scope."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT property_id, body::text, version FROM tamper_policy WHERE property_id = ANY(%s)",
            [list(property_ids)],
        )
        found = {
            place: parse(json.loads(body), version) for place, body, version in cursor.fetchall()
        }
    return {place: found.get(place, Policy()) for place in property_ids}
