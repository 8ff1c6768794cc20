"""The objects and resources of the OMA registry that are understood here: numbers, kinds, and what they are to us.

A subset of the registry's definitions; ATTRIBUTION.md says whence and under which licences. A TLV payload has
no types of its own, so that the kind of each resource decides how its bytes are read. What is not named here
is left alone.
"""

from enum import Enum
from typing import Final, NamedTuple

from prewatt.hes.frames import ACTIVE_EXPORT, ACTIVE_IMPORT, REACTIVE_IMPORT

Path = tuple[int, ...]
"""Object, instance, resource and resource instance, as many of them as are named."""


class Kind(Enum):
    """The data types of LwM2M (Core 1.1.1, appendix C); ``NONE`` is that of what can only be executed."""

    STRING = "String"
    INTEGER = "Integer"
    FLOAT = "Float"
    BOOLEAN = "Boolean"
    OPAQUE = "Opaque"
    TIME = "Time"
    NONE = "None"


class Resource(NamedTuple):
    """One resource of the registry: what may be done with it (R, W, E), its kind and unit."""

    name: str
    operations: str
    kind: Kind
    unit: str = ""


SERVER: Final = 1
DEVICE: Final = 3
CONNECTIVITY: Final = 4
FIRMWARE: Final = 5
CONTAINER: Final = 19
POWER: Final = 3305
POWER_CONTROL: Final = 3312
ENERGY: Final = 3331
SWITCH: Final = 3342
INPUT: Final = 3200

OBJECTS: Final = {
    SERVER: "LwM2M Server",
    DEVICE: "Device",
    CONNECTIVITY: "Connectivity Monitoring",
    FIRMWARE: "Firmware Update",
    CONTAINER: "BinaryAppDataContainer",
    POWER: "Power Measurement",
    POWER_CONTROL: "Power Control",
    ENERGY: "Energy",
    SWITCH: "On/Off switch",
    INPUT: "Digital Input",
}

RESOURCES: Final[dict[tuple[int, int], Resource]] = {
    (SERVER, 0): Resource("Short Server ID", "R", Kind.INTEGER),
    (SERVER, 1): Resource("Lifetime", "RW", Kind.INTEGER, "s"),
    (SERVER, 6): Resource("Notification Storing When Disabled or Offline", "RW", Kind.BOOLEAN),
    (SERVER, 7): Resource("Binding", "RW", Kind.STRING),
    (SERVER, 8): Resource("Registration Update Trigger", "E", Kind.NONE),
    (DEVICE, 0): Resource("Manufacturer", "R", Kind.STRING),
    (DEVICE, 1): Resource("Model Number", "R", Kind.STRING),
    (DEVICE, 2): Resource("Serial Number", "R", Kind.STRING),
    (DEVICE, 3): Resource("Firmware Version", "R", Kind.STRING),
    (DEVICE, 4): Resource("Reboot", "E", Kind.NONE),
    (DEVICE, 9): Resource("Battery Level", "R", Kind.INTEGER, "%"),
    (DEVICE, 11): Resource("Error Code", "R", Kind.INTEGER),
    (DEVICE, 13): Resource("Current Time", "RW", Kind.TIME),
    (DEVICE, 16): Resource("Supported Binding and Modes", "R", Kind.STRING),
    (CONNECTIVITY, 0): Resource("Network Bearer", "R", Kind.INTEGER),
    (CONNECTIVITY, 2): Resource("Radio Signal Strength", "R", Kind.INTEGER, "dBm"),
    (CONNECTIVITY, 3): Resource("Link Quality", "R", Kind.INTEGER),
    (FIRMWARE, 6): Resource("PkgName", "R", Kind.STRING),
    (FIRMWARE, 7): Resource("PkgVersion", "R", Kind.STRING),
    (CONTAINER, 0): Resource("Data", "RW", Kind.OPAQUE),
    (CONTAINER, 3): Resource("Data Description", "RW", Kind.STRING),
    (CONTAINER, 4): Resource("Data Format", "RW", Kind.STRING),
    (CONTAINER, 5): Resource("App ID", "RW", Kind.INTEGER),
    (POWER, 5800): Resource("Instantaneous active power", "R", Kind.FLOAT, "W"),
    (POWER, 5805): Resource("Cumulative active power", "R", Kind.FLOAT, "Wh"),
    (POWER, 5815): Resource("Cumulative reactive power", "R", Kind.FLOAT, "varh"),
    (POWER, 5820): Resource("Power factor", "R", Kind.FLOAT),
    (POWER_CONTROL, 5850): Resource("On/Off", "RW", Kind.BOOLEAN),
    (ENERGY, 5700): Resource("Sensor Value", "R", Kind.FLOAT, "Wh"),
    (ENERGY, 5701): Resource("Sensor Units", "R", Kind.STRING),
    (ENERGY, 5750): Resource("Application Type", "RW", Kind.STRING),
    (INPUT, 5500): Resource("Digital Input State", "R", Kind.BOOLEAN),
    (SWITCH, 5500): Resource("Digital Input State", "R", Kind.BOOLEAN),
}

MANUFACTURER: Final[Path] = (DEVICE, 0, 0)
MODEL: Final[Path] = (DEVICE, 0, 1)
DEVICE_SERIAL: Final[Path] = (DEVICE, 0, 2)
FIRMWARE_VERSION: Final[Path] = (DEVICE, 0, 3)
CLOCK: Final[Path] = (DEVICE, 0, 13)
SIGNAL: Final[Path] = (CONNECTIVITY, 0, 2)
SIGNED_ANSWER: Final[Path] = (CONTAINER, 0, 0)
"""Where a meter that verifies has the last answer that it signed; which instance is which is the usage of NB-IoT platforms."""
SIGNED_INSTRUCTION: Final[Path] = (CONTAINER, 1, 0)
"""Where it is told what is signed to it."""
RELAY_ORDER: Final[Path] = (POWER_CONTROL, 0, 5850)
"""What is written to open or close the relay, and read back where there is no contact."""
RELAY_CONTACT: Final[Path] = (SWITCH, 0, 5500)
"""The state of the contacts themselves, where the meter has an input for it."""
#: What each digital input of a meter watches, by its instance: the words of the event when it comes on, and when
#: it goes off. The registry knows no cover and no magnet; the instances are a convention, in README.md.
SENSORS: Final[dict[Path, tuple[str, str]]] = {
    (INPUT, 0, 5500): ("cover_open", "cover_closed"),
    (INPUT, 1, 5500): ("terminal_cover_open", "terminal_cover_closed"),
    (INPUT, 2, 5500): ("magnetic_field", "magnetic_field_gone"),
    (INPUT, 3, 5500): ("reverse_flow", "reverse_flow_gone"),
    (INPUT, 4, 5500): ("phase_loss", "phase_restored"),
}
ENERGY_DRAWN: Final[Path] = (ENERGY, 0, 5700)
ENERGY_FED_BACK: Final[Path] = (ENERGY, 1, 5700)
UNITS_OF_ENERGY: Final[tuple[Path, ...]] = ((ENERGY, 0, 5701), (ENERGY, 1, 5701))
POWER_DRAWN_TOTAL: Final[Path] = (POWER, 0, 5805)
POWER_REACTIVE_TOTAL: Final[Path] = (POWER, 0, 5815)

#: Which register each resource is. The energy object goes before the total of the power object.
REGISTERS: Final[dict[Path, int]] = {
    ENERGY_DRAWN: ACTIVE_IMPORT,
    ENERGY_FED_BACK: ACTIVE_EXPORT,
    POWER_REACTIVE_TOTAL: REACTIVE_IMPORT,
    POWER_DRAWN_TOTAL: ACTIVE_IMPORT,
}


def kind_of(path: Path) -> Kind | None:
    """The kind of the resource at a path of three or four numbers; None for what is not understood."""
    found = RESOURCES.get((path[0], path[2])) if len(path) >= 3 else None
    return None if found is None else found.kind


def path_text(path: Path) -> str:
    """The path as LwM2M writes it, `/3331/0/5700`."""
    return "/" + "/".join(map(str, path))
