"""A meter whose certificates are revoked or have expired is told of by one alert, which ends once it is enrolled anew."""

from __future__ import annotations

from datetime import datetime

from prewatt.access.scope import scope, system_actor
from prewatt.core.civil_time import instant_us
from prewatt.devices.queries import isolated
from prewatt.notify.alerts import ISOLATED
from prewatt.notify.operations import close_alert, raise_alert
from prewatt.notify.queries import open_of


def tell_of_isolated(*, now: datetime) -> int:
    """Raise an alert for each meter that has become isolated, and close those of meters that no longer are.

    Returns how many are isolated. Concentrators have no alert: their meters fall silent.
    """
    with scope(system_actor("devices")):
        found = {f"meter:{each.meter_id}": each for each in isolated(now=now) if each.meter_id}
        for subject, each in found.items():
            raise_alert(
                property_id=each.property_id,
                code=ISOLATED,
                subject=subject,
                detail={"why": each.why, "serial": each.serial, "since_us": instant_us(each.since)},
                now=now,
            )
        for property_id, subject in open_of(ISOLATED):
            if subject not in found:
                close_alert(property_id=property_id, code=ISOLATED, subject=subject, now=now)
    return len(found)
