"""Proposals: a change that one administrator wants and another has to approve."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Proposal(models.Model):
    """One change of one kind, word for word what will be done; written by functions of the database.

    ``effect`` is that change, ``digest`` what both people's second factors were proved for.
    """

    class State(models.TextChoices):
        """Open, and the five ends; ``void`` where the world has changed since."""

        OPEN = "open"
        APPROVED = "approved"
        REFUSED = "refused"
        WITHDRAWN = "withdrawn"
        EXPIRED = "expired"
        VOID = "void"

    property_id = models.BigIntegerField()
    kind = models.CharField(max_length=40)
    subject = models.CharField(max_length=80)
    effect = models.JSONField()
    digest = models.BinaryField(max_length=32)
    reason = models.CharField(max_length=400)
    made_by = models.CharField(max_length=80)
    made_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    #: Who ended it when, and with which words; for a void one the code of what has changed.
    ended_by = models.CharField(max_length=80, blank=True)
    ended_at = models.DateTimeField(null=True)
    answer = models.CharField(max_length=400, blank=True)

    class Meta:
        db_table = "proposal"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["property_id", "kind", "subject"],
                condition=models.Q(state="open"),
                name="one_open_proposal",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="approved") | ~models.Q(made_by=models.F("ended_by")),
                name="nobody_approves_their_own",
            ),
            models.CheckConstraint(
                condition=models.Q(state="open", ended_at__isnull=True)
                | (~models.Q(state="open") & models.Q(ended_at__isnull=False)),
                name="ended_when_not_open",
            ),
            models.CheckConstraint(
                condition=models.Q(expires_at__gt=models.F("made_at")), name="proposal_lasts"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["property_id", "-made_at"], name="proposals_of_property")
        ]
