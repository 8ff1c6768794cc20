"""Groups of properties, duties by group, and tenants' sign-ins: ``sql/0006_groups_and_tenants.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0006_groups_and_tenants.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [("sign_in", "0005_agreed_ends"), ("estate", "0004_taken_serials")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
