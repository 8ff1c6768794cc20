"""Of an order's attempts, which its meter was there for: what went to one that was away says nothing of its relay."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('supply', '0008_withheld'),
    ]

    operations = [
        migrations.AddField(
            model_name='supplyorder',
            name='heard',
            field=models.PositiveIntegerField(db_default=0),
        ),
        migrations.AddField(
            model_name='supplyorder',
            name='heard_attempt',
            field=models.PositiveIntegerField(db_default=0),
        ),
    ]
