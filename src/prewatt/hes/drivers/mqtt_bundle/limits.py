"""What a concentrator's message may hold, whichever form it has. A reading means the same whoever brings it."""

from typing import Final

MAX_METERS: Final = 1_000
MAX_READINGS: Final = 4_000
#: JSON's readers agree on whole numbers up to here, and the acknowledgement is JSON.
MAX_SEQUENCE: Final = 2**53 - 1

#: The bounds of `mqtt_senml`: the first absolute time of RFC 8428 (4.5.3), the year 10000.
FIRST_US: Final = 2**28 * 1_000_000
LAST_US: Final = 253_402_300_800_000_000
MAX_REGISTER: Final = 10**15
