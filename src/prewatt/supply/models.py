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
    #: Set when the mass-cut brake engages; cleared by two people.
    brake_since = models.DateTimeField(null=True)
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
    #: Index of the lowest low-balance level that fired and has not been cleared; 0 for none.
    level = models.SmallIntegerField(default=0)
    level_fired_at = models.DateTimeField(null=True)
    #: A cut is wanted but held; decided again at ``reconsider_at`` or when a gate's event arrives.
    held = models.BooleanField(default=False)
    reconsider_at = models.DateTimeField(null=True)
    payment_hold_until = models.DateTimeField(null=True)

    class Meta:
        db_table = "supply_state"
        indexes: ClassVar = [
            models.Index(fields=["reconsider_at"], condition=Q(held=True), name="supply_held")
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
    next_try_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    failure = models.CharField(max_length=80, blank=True)

    class Meta:
        db_table = "supply_order"
        indexes: ClassVar = [
            models.Index(fields=["next_try_at"], condition=Q(state__in=[1, 2, 3]), name="order_due"),
            models.Index(fields=["account_id", "decided_at"], name="order_by_account"),
            models.Index(fields=["property_id", "decided_at"], name="order_by_time"),
        ]
        constraints: ClassVar = [
            # One live order per meter: a later one supersedes the former in the same transaction.
            models.UniqueConstraint(
                fields=["meter_id"], condition=Q(state__in=[1, 2, 3]), name="one_live_order"
            )
        ]
