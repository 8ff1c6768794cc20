"""Some duties end by agreement: ``sql/0005_agreed_ends.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0005_agreed_ends.sql"


class Migration(migrations.Migration):
    """Plain SQL."""

    dependencies: ClassVar = [("sign_in", "0004_agreed_duties"), ("approvals", "0002_ladders")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
