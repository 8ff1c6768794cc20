"""Keys of meters, how each meter stands by its own signature, and every instruction with its bytes."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q


class MeterKey(models.Model):
    """A public key by which a meter's answers are verified. A meter with a valid one is instructed by signature."""

    property_id = models.BigIntegerField()
    meter_id = models.BigIntegerField()
    #: SubjectPublicKeyInfo in DER, P-256; and the 16 bytes that name it in what it signs.
    public_key = models.BinaryField(max_length=120)
    key_id = models.BinaryField(max_length=16)
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    made_by = models.CharField(max_length=80)

    class Meta:
        db_table = "meter_key"
        indexes: ClassVar = [models.Index(fields=["meter_id"], name="meter_key_by_meter")]
        constraints: ClassVar = [
            # A key that two meters had would let one of them answer for the other.
            models.UniqueConstraint(fields=["key_id"], name="meter_key_of_one_meter"),
            models.CheckConstraint(
                condition=Q(valid_until__isnull=True) | Q(valid_until__gt=F("valid_from")),
                name="meter_key_has_a_time",
            ),
        ]


class InstructionSession(models.Model):
    """The keys of the short form that a meter and the platform agreed on. A meter that ever had any is told nothing else."""

    property_id = models.BigIntegerField()
    meter_id = models.BigIntegerField()
    #: Of this meter, from 1: a meter takes none whose number is not above its last one's.
    number = models.BigIntegerField()
    #: Uncompressed points of P-256; the meter's is of the key that it agrees with, which signs nothing.
    meter_point = models.BinaryField(max_length=65)
    platform_point = models.BinaryField(max_length=65, unique=True)
    #: Both directions' keys under the seals of the key store; nobody but the head-end reads them.
    sealed_keys = models.BinaryField(max_length=512)
    #: What is carried to the meter, signed by the instruction key.
    offer = models.BinaryField(max_length=512)
    #: The last number that the meter was given before: commands of this session have higher ones.
    after_sequence = models.BigIntegerField()
    #: Messages in the meter's name that were not believed.
    forged = models.BigIntegerField(db_default=0)
    begun_at = models.DateTimeField()
    begun_by = models.CharField(max_length=80)
    ended_at = models.DateTimeField(null=True)
    #: `replaced`, `forged` (too many were refused) or `ended` (by a person).
    ended_why = models.CharField(max_length=8, db_default="")

    class Meta:
        db_table = "instruction_session"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["meter_id", "number"], name="session_has_its_number"),
            models.UniqueConstraint(
                fields=["meter_id"],
                condition=Q(ended_at__isnull=True),
                name="session_is_one_of_its_meter",
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True, ended_why="")
                | Q(ended_at__isnull=False, ended_why__in=["replaced", "forged", "ended"]),
                name="session_ends_for_a_reason",
            ),
        ]


class InstructionState(models.Model):
    """How far a meter's sequence has come, and how the meter stands by the last answer that was verified."""

    meter_id = models.BigIntegerField(primary_key=True)
    property_id = models.BigIntegerField()
    #: The last number that was given to a command.
    last_sequence = models.BigIntegerField(db_default=0)
    #: Of the last command that the meter says to have carried out: its number and its name.
    known_sequence = models.BigIntegerField(db_default=0)
    known_hash = models.BinaryField(max_length=32)
    credit_micro = models.BigIntegerField(db_default=0)
    balance_micro = models.BigIntegerField(null=True)
    #: Messages, ever, that the meter was sent by nobody it trusts.
    refused = models.BigIntegerField(db_default=0)
    #: When it last answered, by its clock and by its receipt.
    said_at = models.DateTimeField(null=True)
    verified_at = models.DateTimeField(null=True)
    #: A command expired without an answer: the meter is to be read before it is told anything.
    must_read = models.BooleanField(db_default=False)
    #: What it said in full, by its last answer of the second form: a bit for each operation that it understands (0: it
    #: was not asked), the ids of the keys that it trusts (the newest last, null: not known), its limit.
    understands = models.BigIntegerField(db_default=0)
    trusts = models.BinaryField(max_length=48, null=True)
    limit_w = models.BigIntegerField(null=True)
    limit_s = models.BigIntegerField(null=True)
    #: What it is to become: to trust this key alone, to have this limit. Null as soon as it says that it is so.
    next_key = models.BinaryField(max_length=16, null=True)
    next_limit_w = models.BigIntegerField(null=True)
    next_limit_s = models.BigIntegerField(null=True)

    class Meta:
        db_table = "instruction_state"
        indexes: ClassVar = [
            models.Index(
                fields=["meter_id"],
                condition=Q(next_key__isnull=False) | Q(next_limit_w__isnull=False),
                name="instruction_state_wished",
            ),
            models.Index(
                fields=["meter_id"], condition=Q(limit_w__gt=0), name="instruction_state_limited"
            ),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(next_limit_w__isnull=True)
                | Q(next_limit_w=0, next_limit_s=0)
                | Q(next_limit_w__gt=0, next_limit_s__gt=0),
                name="instruction_state_limit_has_a_time",
            )
        ]


class Instruction(models.Model):
    """One command with the bytes that were sent, and the bytes that answered it."""

    property_id = models.BigIntegerField()
    meter_id = models.BigIntegerField()
    sequence = models.BigIntegerField()
    #: core.instructions.Operation, and its argument.
    operation = models.SmallIntegerField()
    argument = models.BigIntegerField()
    #: The supply order that it carries out, where there is one.
    order_id = models.BigIntegerField(null=True)
    #: core.vocabulary.InstructionState.
    state = models.SmallIntegerField(db_default=2)
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    command = models.BinaryField(max_length=512)
    command_hash = models.BinaryField(max_length=32)
    tries = models.PositiveIntegerField(db_default=1)
    next_try_at = models.DateTimeField(null=True)
    answer = models.BinaryField(max_length=512, null=True)
    #: core.instructions.Result; null while there is none.
    result = models.SmallIntegerField(null=True)
    answered_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "instruction"
        indexes: ClassVar = [
            # Of one meter hardly ever more than one is live.
            models.Index(
                fields=["meter_id"], condition=Q(state__in=[1, 2]), name="instruction_live"
            ),
            models.Index(
                fields=["expires_at"], condition=Q(state__in=[1, 2]), name="instruction_ends"
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["meter_id", "sequence"], name="instruction_has_its_number"
            ),
            models.CheckConstraint(
                condition=Q(state__in=[3, 4], answer__isnull=False, result__isnull=False)
                | Q(state__in=[1, 2, 5, 6], answer__isnull=True, result__isnull=True),
                name="instruction_ends_by_an_answer",
            ),
        ]


class MeterWallet(models.Model):
    """A meter that holds its account's credit itself, and what it should have had of it, ever, by the ledger.

    One of a meter and one of an account at a time; those that have ended stay as they were.
    """

    property_id = models.BigIntegerField()
    meter_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    since = models.DateTimeField()
    #: core.vocabulary.WalletState.
    state = models.SmallIntegerField(db_default=1)
    #: What the meter had when it began: its lifetime goes on from account to account. It may be known only by what the
    #: meter says before this wallet has told it anything.
    base_micro = models.BigIntegerField(db_default=0)
    #: The last transfer of the account that is in it, and what all of them but usage come to. It can fall, what the
    #: meter is told cannot: then less is told of what comes next.
    seen_seq = models.BigIntegerField()
    total_micro = models.BigIntegerField()
    #: What the meter is to be told, and what it has signed for.
    credit_micro = models.BigIntegerField()
    told_micro = models.BigIntegerField(db_default=0)
    #: core.vocabulary.WalletEnd, since when the meter is to be released, and on whose word.
    because = models.SmallIntegerField(null=True)
    release_at = models.DateTimeField(null=True)
    release_by = models.CharField(max_length=80, db_default="")
    #: The number of the instruction whose signed answer ended it, with what the meter ended (null where only a later
    #: answer proves it); or who ended it without an answer, and why.
    ended_at = models.DateTimeField(null=True)
    end_sequence = models.BigIntegerField(null=True)
    end_balance_micro = models.BigIntegerField(null=True)
    end_register_wh = models.BigIntegerField(null=True)
    ended_by = models.CharField(max_length=80, db_default="")
    end_note = models.CharField(max_length=200, db_default="")

    class Meta:
        db_table = "meter_wallet"
        indexes: ClassVar = [
            models.Index(
                fields=["meter_id"],
                condition=Q(credit_micro__gt=F("told_micro"), state=1),
                name="meter_wallet_due",
            ),
            models.Index(fields=["meter_id"], condition=Q(state=2), name="meter_wallet_to_release"),
            models.Index(fields=["property_id"], name="meter_wallet_by_place"),
            models.Index(fields=["account_id"], name="meter_wallet_by_account"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["meter_id"], condition=Q(state__lt=3), name="meter_wallet_one_of_a_meter"
            ),
            models.UniqueConstraint(
                fields=["account_id"], condition=Q(state=1), name="meter_wallet_one_of_an_account"
            ),
            models.CheckConstraint(
                condition=Q(credit_micro__gte=F("told_micro")) & Q(told_micro__gte=0),
                name="meter_wallet_was_told_no_more",
            ),
            models.CheckConstraint(
                condition=Q(state=1, release_at__isnull=True, because__isnull=True)
                | Q(state__in=[2, 3], release_at__isnull=False, because__isnull=False),
                name="meter_wallet_is_released_for_a_reason",
            ),
            # By an answer that the meter signed, or by a person who says why.
            models.CheckConstraint(
                condition=Q(state__in=[1, 2], ended_at__isnull=True, end_sequence__isnull=True)
                | Q(state=3, ended_at__isnull=False, end_sequence__isnull=False, ended_by="")
                | (
                    Q(state=3, ended_at__isnull=False, end_sequence__isnull=True)
                    & ~Q(ended_by="")
                    & ~Q(end_note="")
                ),
                name="meter_wallet_ends_by_an_answer",
            ),
        ]


class MeterBalanceCheck(models.Model):
    """One day's comparison of a meter's own balance with the ledger; append-only."""

    property_id = models.BigIntegerField()
    meter_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    checked_at = models.DateTimeField()
    #: What the meter signed, and when by its clock; what the ledger makes of it.
    balance_micro = models.BigIntegerField()
    said_at = models.DateTimeField()
    expected_micro = models.BigIntegerField()
    differs = models.BooleanField()

    class Meta:
        db_table = "meter_balance_check"
        indexes: ClassVar = [
            models.Index(fields=["meter_id", "checked_at"], name="balance_check_by_meter")
        ]
