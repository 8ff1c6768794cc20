"""Supply changed by what was agreed to: ``sql/0007_agreed_supply.sql``."""

from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql" / "0007_agreed_supply.sql"


class Migration(migrations.Migration):

    dependencies = [
        ('approvals', '0002_ladders'),
        ('supply', '0006_rules_by_two'),
    ]

    operations = [
        migrations.AddField(
            model_name='supplystate',
            name='by_hand',
            field=models.SmallIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='supplystate',
            name='by_hand_until',
            field=models.DateTimeField(null=True),
        ),
        migrations.RunSQL(SQL.read_text(encoding="utf-8"), elidable=False),
    ]
