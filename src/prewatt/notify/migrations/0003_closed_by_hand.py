"""Alerts that a person closed say who and why, and are found by their time."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('notify', '0002_quiet_hours'),
    ]

    operations = [
        migrations.AddField(
            model_name='alert',
            name='close_note',
            field=models.CharField(blank=True, db_default='', max_length=200),
        ),
        migrations.AddField(
            model_name='alert',
            name='closed_by',
            field=models.CharField(blank=True, db_default='', max_length=80),
        ),
        migrations.AddIndex(
            model_name='alert',
            index=models.Index(fields=['property_id', 'opened_at'], name='alert_by_time'),
        ),
        migrations.AddConstraint(
            model_name='alert',
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ('close_note', ''), ('closed_by', '')
                )
                | models.Q(
                    ('closed_at__isnull', False),
                    models.Q(('closed_by', ''), _negated=True),
                    models.Q(('close_note', ''), _negated=True),
                ),
                name='alert_closed_by_hand_says_who_and_why',
            ),
        ),
    ]
