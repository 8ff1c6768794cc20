"""A key is made of what was agreed to: ``sql/0002_agreed_keys.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0002_agreed_keys.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [("api_keys", "0001_initial"), ("approvals", "0002_ladders")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
