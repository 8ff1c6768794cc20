"""Alerts of tampering are found by their meter, closed ones too."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('notify', '0003_closed_by_hand'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='alert',
            index=models.Index(
                condition=models.Q(('code', 'meter.tamper')),
                fields=['property_id', 'subject'],
                name='alert_of_tampering',
            ),
        ),
    ]
