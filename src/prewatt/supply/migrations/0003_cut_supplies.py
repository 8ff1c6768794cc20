"""Finds the accounts whose supply is to be cut, which are few."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('supply', '0002_orders_with_read_back'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='supplystate',
            index=models.Index(condition=models.Q(('desired', 2)), fields=['property_id', 'account_id'], name='supply_cut'),
        ),
    ]
