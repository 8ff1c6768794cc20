"""A device whose certificates are revoked or have expired is told of by one alert, which ends once it is enrolled anew.

A concentrator has an alert of its own, and the meters behind it none: they are not shut out themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from prewatt.access.scope import scope, system_actor
from prewatt.core.civil_time import instant_us
from prewatt.devices.queries import Isolated, isolated
from prewatt.notify.alerts import CONCENTRATOR_ISOLATED, ISOLATED, AlertCode
from prewatt.notify.operations import close_alert, raise_alert
from prewatt.notify.queries import open_of


def tell_of_isolated(*, now: datetime) -> int:
    """Raise an alert for each device that has become isolated, and close those of devices that no longer are.

    Returns how many are isolated.
    """
    with scope(system_actor("devices")):
        found = isolated(now=now)
        meters = {f"meter:{each.meter_id}": each for each in found if each.meter_id}
        behind = {
            f"concentrator:{each.concentrator_id}": each for each in found if each.concentrator_id
        }
        _tell(ISOLATED, meters, now)
        _tell(CONCENTRATOR_ISOLATED, behind, now)
    return len(meters) + len(behind)


def _tell(code: AlertCode, found: Mapping[str, Isolated], now: datetime) -> None:
    for subject, each in found.items():
        raise_alert(
            property_id=each.property_id,
            code=code,
            subject=subject,
            detail={"why": each.why, "serial": each.serial, "since_us": instant_us(each.since)},
            now=now,
        )
    for property_id, subject in open_of(code):
        if subject not in found:
            close_alert(property_id=property_id, code=code, subject=subject, now=now)
