"""Supply: policy per property, standing per account, decisions with reasons, orders to relays."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q


class SupplyPolicy(models.Model):
    """A property's rules for warning, cutting and reconnecting; ``body`` is core's policy as JSON."""

    property_id = models.BigIntegerField(primary_key=True)
    version = models.PositiveIntegerField(default=1)
    body = models.JSONField()
    #: Set when the mass-cut brake goes on; cleared by two people, one after the other.
    brake_since = models.DateTimeField(null=True)
    brake_release_asked_by = models.CharField(max_length=80, blank=True)
    brake_release_asked_at = models.DateTimeField(null=True)
    #: Cuts before this instant no longer count towards the brake.
    brake_released_at = models.DateTimeField(null=True)
    changed_at = models.DateTimeField()

    class Meta:
        db_table = "supply_policy"


class SupplyState(models.Model):
    """How an account stands with its supply: one row per account, locked after account_state."""

    account_id = models.BigIntegerField(primary_key=True)
    property_id = models.BigIntegerField()
    #: What Prewatt wants: core.vocabulary.RelayState CLOSED or OPEN.
    desired = models.SmallIntegerField(default=1)
    #: Empty, or why supply is never cut: medical, fire, lift, cold_store.
    protection = models.CharField(max_length=16, blank=True)
    emergency_micro = models.BigIntegerField(default=0)
    #: Bit per low-balance level that fired and has not been cleared (core.levels); 0 for none.
    fired_mask = models.SmallIntegerField(default=0)
    #: The same for levels that old readings would have fired; no message of theirs was sent.
    would_mask = models.SmallIntegerField(default=0)
    #: 1 + the number of the most serious level that fired, real or not; 0 for none.
    level = models.SmallIntegerField(default=0)
    #: Since when the present low balance lasts; a warning counts for a cut from here on.
    level_fired_at = models.DateTimeField(null=True)
    #: The last decision: core.vocabulary Outcome and Reason, and a bit (1 << gate) per closed gate.
    outcome = models.SmallIntegerField(default=0)
    reason = models.SmallIntegerField(default=0)
    closed_gates = models.SmallIntegerField(default=0)
    #: A cut is wanted but held by a gate.
    held = models.BooleanField(default=False)
    #: The account is decided again at this instant; null waits for an event.
    reconsider_at = models.DateTimeField(null=True)
    payment_hold_until = models.DateTimeField(null=True)
    #: What people agreed to keep the relay at, whatever the balance, until an instant; null by the rules.
    by_hand = models.SmallIntegerField(null=True)
    by_hand_until = models.DateTimeField(null=True)
    #: Since when a case of tampering withholds supply; null by the balance alone. Cut through every gate.
    withheld_since = models.DateTimeField(null=True)
    #: Emergency credit that a case of tampering holds back; it comes back when the case is closed.
    emergency_held_micro = models.BigIntegerField(db_default=0)

    class Meta:
        db_table = "supply_state"
        indexes: ClassVar = [
            models.Index(
                fields=["reconsider_at"],
                condition=Q(reconsider_at__isnull=False),
                name="supply_reconsider",
            ),
            models.Index(fields=["property_id"], condition=Q(held=True), name="supply_held"),
            # Wanted open: with relays that read open, all that can have departed.
            models.Index(
                fields=["property_id", "account_id"], condition=Q(desired=2), name="supply_cut"
            ),
        ]


class SupplyDecision(models.Model):
    """One decision, cut or not, with every gate's result and figures; append-only."""

    property_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    decided_at = models.DateTimeField()
    #: core.vocabulary.Outcome.
    outcome = models.SmallIntegerField()
    reason = models.CharField(max_length=80)
    gates = models.JSONField(default=list)
    available_micro = models.BigIntegerField()
    reconsider_at = models.DateTimeField(null=True)
    would_have = models.BooleanField(default=False)
    trigger = models.CharField(max_length=40)

    class Meta:
        db_table = "supply_decision"
        indexes: ClassVar = [
            models.Index(fields=["account_id", "decided_at"], name="decision_by_account"),
            models.Index(fields=["property_id", "decided_at"], name="decision_by_time"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(reason=""), name="decision_has_reason")
        ]


class SupplyOrder(models.Model):
    """From decision to verified relay state; kept for meters that are offline."""

    property_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    meter_id = models.BigIntegerField()
    #: core.vocabulary.OrderKind and OrderState.
    kind = models.SmallIntegerField()
    state = models.SmallIntegerField()
    decision = models.ForeignKey(SupplyDecision, on_delete=models.PROTECT)
    reason = models.CharField(max_length=80)
    decided_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    acknowledged_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0)
    #: How many of them the meter was there for, and which was the last of these.
    heard = models.PositiveIntegerField(db_default=0)
    heard_attempt = models.PositiveIntegerField(db_default=0)
    next_try_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    #: Why it has not done what it should: core.orders.Refusal, or a word of supply.orders.
    failure = models.CharField(max_length=80, blank=True)

    class Meta:
        db_table = "supply_order"
        indexes: ClassVar = [
            models.Index(
                fields=["next_try_at"], condition=Q(state__in=[1, 2, 3]), name="order_due"
            ),
            models.Index(fields=["account_id", "decided_at"], name="order_by_account"),
            models.Index(fields=["property_id", "decided_at"], name="order_by_time"),
        ]
        constraints: ClassVar = [
            # Connect and disconnect. A limit has no read-back yet: it could never be done.
            models.CheckConstraint(condition=Q(kind__in=[1, 2]), name="order_can_be_read_back"),
            # One live order per meter: a later one supersedes the former in the same transaction.
            models.UniqueConstraint(
                fields=["meter_id"], condition=Q(state__in=[1, 2, 3]), name="one_live_order"
            ),
        ]
