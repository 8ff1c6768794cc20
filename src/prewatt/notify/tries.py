"""A chore's tries, each for itself: what fails at one place is told there, and the others go on.

A chore works for every property, and what stops it at one of them is that property's own: closed books,
a refused refund, a sum that does not fit. The failure is logged with its context and raised as an alert
at the place, and the chore goes on; the alert ends when the same chore gets through. Where the database
itself is away, the alert cannot be raised either, and the chore fails as a whole.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from prewatt.access.scope import Actor, require, scope
from prewatt.notify.alerts import AlertCode
from prewatt.notify.operations import close_alerts, raise_alert

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Tries:
    """The tries of one pass of a chore; ``code`` is the alert of one that failed.

    Everything in a try is in transactions of its own: what was committed before it failed stays.
    Chores are a process's alone. Raises PermissionRefused.
    """

    actor: Actor
    code: AlertCode
    now: datetime
    failed: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        require(self.actor, "notify.send")

    @contextmanager
    def at(
        self, property_id: int, *, subject: str = "", detail: dict[str, object] | None = None
    ) -> Iterator[None]:
        """One try; an error ends here. ``subject`` is the alert's, the property where none is given."""
        subject = subject or f"property:{property_id}"
        try:
            yield
        except Exception as error:
            self.failed.add(property_id)
            log.exception(
                "%s: %s of property %s failed; it is tried again", self.code, subject, property_id
            )
            # Only the kind of error: its text may name what not everybody may read.
            why = {"why": type(error).__name__, **(detail or {})}
            with scope(self.actor):
                raise_alert(
                    property_id=property_id, code=self.code, subject=subject, detail=why,
                    now=self.now,
                )  # fmt: skip
        else:
            self.done.add(property_id)

    def end(self, *, idle_too: bool = True) -> None:
        """End the alerts of properties at which no try of this pass failed.

        Without ``idle_too`` only where one succeeded: that nothing is asked for any more does not say
        that it was done.
        """
        with scope(self.actor):
            close_alerts(
                code=self.code, now=self.now, but_at=self.failed,
                at=None if idle_too else self.done,
            )  # fmt: skip
