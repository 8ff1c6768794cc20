"""Says since when a relay reads as it does, and finds the open ones, from ``sql/0006_open_relays.sql``."""

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0006_open_relays.sql"


class Migration(migrations.Migration):
    """Plain SQL: these tables have no models."""

    dependencies: ClassVar = [("mdm", "0005_archive")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False)]
