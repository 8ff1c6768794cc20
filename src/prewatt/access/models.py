"""Who may do what, where: users and their duties, granted property by property.

A duty is held per property; the database role a request runs under follows from the duty.
Incompatible duties on one person are refused by the database (one duty per user and property).
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.hashers import check_password
from django.db import models


class ClockTimestamp(models.Func):
    """The database's clock at this very statement."""

    function = "clock_timestamp"
    template = "%(function)s()"
    output_field = models.DateTimeField()


class UserManager(BaseUserManager["User"]):
    """Creates users by e-mail address; there is no superuser in Prewatt."""

    def create_user(self, *, email: str, name: str, password: str, **extra: Any) -> User:
        """Create a user with a hashed password."""
        user = self.model(email=self.normalize_email(email).lower(), name=name, **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user


class User(AbstractBaseUser):
    """A member of staff, an auditor or a tenant who can sign in."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120)
    language = models.CharField(max_length=12, default="en")
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["name"]
    objects: ClassVar[UserManager] = UserManager()

    class Meta:
        db_table = "app_user"

    def __str__(self) -> str:
        return self.name

    def check_password(self, raw_password: str | None) -> bool:
        """Whether this is the password. Never renews its digest, as Django would do here.

        The web's login may not write a digest: who takes the web over cannot take a person's sign-in
        over for good. A digest is renewed when its owner's password is set anew.
        """
        return check_password(raw_password, self.password)


class Duty(models.TextChoices):
    """The duties of the design page; a technical actor has the duty ``system``."""

    OPERATOR = "operator"
    ADMINISTRATOR = "administrator"
    AUDITOR = "auditor"
    SYSTEM = "system"


class DutyGrant(models.Model):
    """One user's duty at one property."""

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="grants")
    property_id = models.BigIntegerField()
    duty = models.CharField(max_length=16, choices=Duty.choices)
    granted_at = models.DateTimeField()

    class Meta:
        db_table = "duty_grant"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "property_id"], name="one_duty_per_property"),
            models.CheckConstraint(
                condition=models.Q(duty__in=["operator", "administrator", "auditor"]),
                name="duty_is_human",
            ),
        ]


class SignInThrottle(models.Model):
    """Failed sign-ins of one bucket, named by a digest: see ``throttle``."""

    bucket = models.CharField(max_length=80, primary_key=True)
    tries = models.PositiveIntegerField()
    last_at = models.DateTimeField(db_index=True)
    wait_until = models.DateTimeField()

    class Meta:
        db_table = "sign_in_throttle"


class SecondFactor(models.Model):
    """What a person's authenticator app and we both know, sealed under ``PREWATT_FACTOR_KEYS``.

    ``last_step`` is the time step (30 s, RFC 6238) of the last code that was taken: no code counts twice,
    whichever process it is shown to.
    """

    user = models.OneToOneField(
        User, on_delete=models.PROTECT, primary_key=True, related_name="second_factor"
    )
    sealed_secret = models.BinaryField()
    enrolled_at = models.DateTimeField()
    last_step = models.BigIntegerField()

    class Meta:
        db_table = "second_factor"


class StepUp(models.Model):
    """A second factor proved for one deed, which its digest names; good once, for some minutes.

    ``issued_at`` is the database's own clock, so that nobody can date one back.
    """

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    digest = models.BinaryField(max_length=32)
    issued_at = models.DateTimeField(db_default=ClockTimestamp())
    used_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "step_up"
