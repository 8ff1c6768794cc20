"""Passkeys, recovery codes, sessions and letters; factors are written by the functions in ``sql``.

Times that decide something are the database's own clock, so that no process can date one back.
"""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from prewatt.access.models import ClockTimestamp

_Now = ClockTimestamp


class Passkey(models.Model):
    """A key pair that a person's device keeps (WebAuthn); we have its public half.

    ``site`` is the host it was made at, ``public_key`` a COSE key, ``sign_count`` the last count it gave:
    one that does not grow says that somebody has a copy. A removed one stays as history.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="passkeys"
    )
    name = models.CharField(max_length=60)
    site = models.CharField(max_length=253)
    credential_id = models.BinaryField(max_length=1023, unique=True)
    public_key = models.BinaryField()
    sign_count = models.BigIntegerField()
    #: Whether its maker keeps it in a cloud, from where it comes to other devices.
    is_synced = models.BooleanField()
    #: How it is reached (``usb``, ``internal``, …), with commas; a hint for the browser.
    ways = models.CharField(max_length=80, blank=True)
    added_at = models.DateTimeField(db_default=_Now())
    used_at = models.DateTimeField(null=True)
    removed_at = models.DateTimeField(null=True)
    #: `owner`, `copied`, `anew` (after a recovery) or `keeper`.
    removed_why = models.CharField(max_length=8, blank=True)

    class Meta:
        db_table = "passkey"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(removed_at__isnull=True, removed_why="")
                | Q(
                    removed_at__isnull=False, removed_why__in=["owner", "copied", "anew", "keeper"]
                ),
                name="passkey_removed_says_why",
            ),
        ]


class PasskeyChallenge(models.Model):
    """What a passkey is asked to sign: good once, some minutes, for one person and one purpose.

    ``challenge`` is SHA-256 of purpose, person, ``digest`` and a nonce, so it commits to the deed.
    """

    challenge = models.BinaryField(primary_key=True, max_length=32)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    #: `add`, `sign_in` or `deed`.
    purpose = models.CharField(max_length=8)
    #: Of a deed, its digest; else empty.
    digest = models.BinaryField(max_length=32)
    issued_at = models.DateTimeField(db_default=_Now())
    used_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "passkey_challenge"
        indexes: ClassVar = [models.Index(fields=["user", "issued_at"], name="challenge_of_user")]


class RecoveryCode(models.Model):
    """One of ten codes on paper, as its digest; good once."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    digest = models.BinaryField(max_length=32, unique=True)
    made_at = models.DateTimeField(db_default=_Now())
    used_at = models.DateTimeField(null=True)
    #: When newer codes took this one's place, or the factor it belonged to went.
    replaced_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "recovery_code"


class NewFactor(models.Model):
    """Somebody who lost their second factor asked for another one: not before ``good_from``."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField(db_default=_Now())
    good_from = models.DateTimeField()
    #: Taken back, or used.
    ended_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "new_factor"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user"], condition=Q(ended_at__isnull=True), name="one_open_new_factor"
            ),
        ]


class SignIn(models.Model):
    """One session of one browser, from the sign-in to its end.

    ``browser`` is the digest of a name that the browser carries in a cookie; ``by`` is `password`,
    `company` (its directory), `code`, `passkey` or `recovery`: what stood beside the password.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="sign_ins"
    )
    by = models.CharField(max_length=8)
    began_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    address = models.CharField(max_length=45, blank=True)
    agent = models.CharField(max_length=200, blank=True)
    browser = models.CharField(max_length=64, blank=True)
    ended_at = models.DateTimeField(null=True)
    #: `out`, `idle`, `old`, `ended` (by its person, elsewhere), `password` or `suspended`.
    ended_why = models.CharField(max_length=10, blank=True)

    class Meta:
        db_table = "sign_in"
        indexes: ClassVar = [
            models.Index(fields=["user", "-began_at"], name="sign_ins_of_user"),
            models.Index(fields=["user", "browser"], name="sign_ins_by_browser"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True, ended_why="")
                | ~Q(ended_at=None) & ~Q(ended_why=""),
                name="sign_in_ended_says_why",
            ),
        ]


class Invitation(models.Model):
    """A person is asked to come; the link is made where the letter is written, and only its digest stays.

    An invitation gives no duty: the duty that is wanted is proposed and approved like any other.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    property_id = models.BigIntegerField()
    invited_by = models.CharField(max_length=80)
    made_at = models.DateTimeField(db_default=_Now())
    expires_at = models.DateTimeField()
    token_digest = models.BinaryField(max_length=32, null=True)
    accepted_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "invitation"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("made_at")), name="invitation_lasts"
            ),
        ]


class Suspension(models.Model):
    """Somebody who may not come in, from when, why, and by whom; ended by another person."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    property_id = models.BigIntegerField()
    made_by = models.CharField(max_length=80)
    made_at = models.DateTimeField(db_default=_Now())
    reason = models.CharField(max_length=400)
    ended_by = models.CharField(max_length=80, blank=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "suspension"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user"], condition=Q(ended_at__isnull=True), name="one_open_suspension"
            ),
            models.CheckConstraint(
                condition=Q(ended_by="") | ~Q(ended_by=F("made_by")),
                name="nobody_ends_their_own_suspension",
            ),
        ]


class Notice(models.Model):
    """A letter to somebody who signs in: about their own sign-in, never about a customer."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    #: One of ``notices.TEXTS``; ``detail`` fills its sentences.
    code = models.CharField(max_length=40)
    detail = models.JSONField(default=dict)
    made_at = models.DateTimeField()
    due_at = models.DateTimeField()
    tries = models.PositiveSmallIntegerField(default=0, db_default=0)
    sent_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=300, blank=True, db_default="")

    class Meta:
        db_table = "notice"
        indexes: ClassVar = [
            models.Index(
                fields=["due_at"], condition=Q(sent_at=None, given_up_at=None), name="notice_due"
            )
        ]


class DirectoryPerson(models.Model):
    """Who a person is at a company's directory: its ``issuer`` and its own name for them, for ever."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    issuer = models.CharField(max_length=200)
    subject = models.CharField(max_length=255)
    since = models.DateTimeField(db_default=_Now())

    class Meta:
        db_table = "directory_person"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["issuer", "subject"], name="one_person_of_a_subject"),
            models.UniqueConstraint(fields=["issuer", "user"], name="one_subject_of_a_person"),
        ]
