"""Payload codecs by the model of the device, one file for each maker's format: the plug-ins of this driver.

A plug-in turns the bytes of one uplink into a `Report`, and a wanted relay state into the bytes of a downlink. It is
pure: no clock, no state. To add one, write its file and enter its models in `MODELS`; README.md has the object map, and
`tests/hes/drivers/lorawan/test_models.py` holds every model to its published vectors and to hostile bytes.
"""

from __future__ import annotations

from typing import Final

from prewatt.hes.drivers.lorawan.models import milesight, yobiiq
from prewatt.hes.drivers.lorawan.report import Model

MODELS: Final[dict[str, Model]] = {
    each.name: each for each in (yobiiq.EM2101, yobiiq.EM2101_COVER, yobiiq.EM4301, milesight.WS52X)
}
"""By the word that stands as the model of a meter, in lower case."""


def model_of(name: str) -> Model | None:
    """The plug-in for what stands as the model of a meter; None where there is none."""
    return MODELS.get(name.strip().lower())
