"""Whom a company's own directory signs in: in place of a password, and of nothing else.

The first time it is the person with the address that the directory has proved; from then on the directory's own
name for them decides alone. It gives no duty: those are granted here, by two people.
"""

from __future__ import annotations

from django.db import connection

from prewatt.access.models import User


def person_of(*, issuer: str, subject: str, email: str) -> User | None:
    """The person of ours whom the directory means; None for nobody, or somebody suspended."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT known_by_directory(%s, %s, %s)", [issuer, subject, email])
        (user_id,) = cursor.fetchone()
    return None if user_id is None else User.objects.get(pk=user_id)
