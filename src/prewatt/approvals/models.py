"""Proposals: a change that one person wants and others have to agree to; and how many, by amount."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from prewatt.access.models import ClockTimestamp


class Proposal(models.Model):
    """One change of one kind, word for word what will be done; written by functions of the database.

    ``effect`` is that change, ``digest`` what everybody's second factor was proved for. ``needed`` says how
    many others had to agree when it was made.
    """

    class State(models.TextChoices):
        """Open, and its ends; ``void`` where the world has changed since. ``alone`` was done by its maker,
        under the ladder; ``emergency`` too, and is looked at by somebody else afterwards.
        """

        OPEN = "open"
        APPROVED = "approved"
        REFUSED = "refused"
        WITHDRAWN = "withdrawn"
        EXPIRED = "expired"
        VOID = "void"
        ALONE = "alone"
        EMERGENCY = "emergency"

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
    #: Money in micro-units, or a number of accounts, by which the ladder asks for people; 0 for neither.
    amount = models.BigIntegerField(default=0)
    needed = models.SmallIntegerField(default=1)
    #: By the database's own clock: what the sums of a day are made of, whatever clock a caller has.
    recorded_at = models.DateTimeField(db_default=ClockTimestamp())
    #: Who ended it when, and with which words; for a void one the code of what has changed.
    ended_by = models.CharField(max_length=80, blank=True)
    ended_at = models.DateTimeField(null=True)
    answer = models.CharField(max_length=400, blank=True)
    #: The transaction in which it was agreed to, and when its effect was made in that very transaction.
    agreed_in = models.BigIntegerField(null=True)
    done_at = models.DateTimeField(null=True)
    #: Of an emergency: until when somebody else looks at it, who did, and what they said of it.
    review_due_at = models.DateTimeField(null=True)
    reviewed_by = models.CharField(max_length=80, blank=True, db_default="")
    reviewed_at = models.DateTimeField(null=True)
    review = models.CharField(max_length=10, blank=True, db_default="")
    review_note = models.CharField(max_length=400, blank=True, db_default="")

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
            models.CheckConstraint(
                condition=models.Q(amount__gte=0, needed__gte=0, needed__lte=5),
                name="amount_and_people",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="alone") | models.Q(needed=0),
                name="alone_where_nobody_is_needed",
            ),
            models.CheckConstraint(
                condition=models.Q(reviewed_by="") | ~models.Q(reviewed_by=models.F("made_by")),
                name="nobody_reviews_their_own",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["property_id", "-made_at"], name="proposals_of_property")
        ]


class ProposalApproval(models.Model):
    """One person's yes to one proposal, with the second factor that was proved for it; append-only."""

    property_id = models.BigIntegerField()
    proposal = models.ForeignKey(Proposal, on_delete=models.PROTECT, related_name="approvals")
    person = models.BigIntegerField()
    step_up_id = models.BigIntegerField()
    approved_at = models.DateTimeField()

    class Meta:
        db_table = "proposal_approval"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["proposal", "person"], name="each_approves_once"),
            models.UniqueConstraint(fields=["step_up_id"], name="a_step_up_approves_once"),
        ]


class AmountLimit(models.Model):
    """A rung of a property's ladder: above so much of a kind, so many others have to agree.

    A property without rungs of a kind follows the usual ones (``sql/0002_ladders.sql: usual_limits``).
    """

    property_id = models.BigIntegerField()
    kind = models.CharField(max_length=40)
    above = models.BigIntegerField()
    approvers = models.SmallIntegerField()

    class Meta:
        db_table = "amount_limit"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["property_id", "kind", "above"], name="one_rung_each"),
            models.CheckConstraint(
                condition=models.Q(above__gte=0, approvers__gte=0, approvers__lte=5),
                name="rungs_go_up_from_nothing",
            ),
        ]
