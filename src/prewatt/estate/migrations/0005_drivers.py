"""A meter is reached by a driver that there is: the word was free until now, and everybody was reached by MQTT."""

from typing import ClassVar

from django.db import migrations, models

_DRIVERS = ("mqtt_senml", "lwm2m", "lorawan")


class Migration(migrations.Migration):
    """Whatever else stood there reached nobody otherwise: such a meter was spoken to by MQTT."""

    dependencies: ClassVar = [("estate", "0004_taken_serials")]
    operations: ClassVar = [
        migrations.RunSQL(
            "UPDATE meter SET driver = 'mqtt_senml'"
            " WHERE driver NOT IN ('mqtt_senml', 'lwm2m', 'lorawan')",
            migrations.RunSQL.noop,
        ),
        migrations.AddConstraint(
            model_name="meter",
            constraint=models.CheckConstraint(
                condition=models.Q(("driver__in", _DRIVERS)), name="meter_driver"
            ),
        ),
    ]
