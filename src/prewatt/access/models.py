"""Who may do what, where: users and their duties, granted by property, group or organisation.

The database role that a request runs under follows from the duty. Incompatible duties on one person
are refused by the database, whoever writes the grant.
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
    TENANT = "tenant"
    INSTALLER = "installer"
    OWNER = "owner"
    SYSTEM = "system"


class DutyGrant(models.Model):
    """One user's duty at a property, at a group of properties or, with neither, in an organisation.

    It ends and is never deleted. The organisation is filled in where it is not said. That no person
    holds duties of two lines (staff, audit, tenant, owner) or in two organisations is a foreign key
    of the table: ``sql/0004_duties.sql``, where the keys of these columns are written too.
    """

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="grants")
    #: Never null in the table, where a trigger fills it in.
    organisation_id = models.BigIntegerField(null=True)
    property_id = models.BigIntegerField(null=True)
    property_group_id = models.BigIntegerField(null=True)
    #: Which customer a tenant is.
    customer_id = models.BigIntegerField(null=True)
    duty = models.CharField(max_length=16, choices=Duty.choices)
    granted_at = models.DateTimeField()
    granted_by = models.CharField(max_length=64, default="", db_default="")
    ended_at = models.DateTimeField(null=True)
    ended_by = models.CharField(max_length=64, default="", db_default="")

    class Meta:
        db_table = "duty_grant"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(
                    duty__in=[
                        "operator", "administrator", "auditor", "tenant", "installer", "owner"
                    ]
                ),
                name="duty_is_human",
            ),
            models.CheckConstraint(
                condition=models.Q(property_id__isnull=True)
                | models.Q(property_group_id__isnull=True),
                name="grant_reaches_one_thing",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    duty="tenant", customer_id__isnull=False, property_id__isnull=False
                )
                | (~models.Q(duty="tenant") & models.Q(customer_id__isnull=True)),
                name="a_tenant_is_a_customer",
            ),
            models.CheckConstraint(
                condition=models.Q(ended_at__isnull=True)
                | models.Q(ended_at__gte=models.F("granted_at")),
                name="grant_ends_after_it_began",
            ),
        ]  # fmt: skip


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
