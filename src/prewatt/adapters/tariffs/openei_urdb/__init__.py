"""Items of OpenEI's U.S. Utility Rate Database (URDB) as Prewatt tariffs; see the README here."""

from prewatt.adapters.tariffs.openei_urdb.codec import UrdbTariff, is_item, load_item, read_item
from prewatt.adapters.tariffs.openei_urdb.conventions import PYSAM_CONVENTIONS, Conventions
from prewatt.adapters.tariffs.openei_urdb.reading import UrdbRefused

__all__ = [
    "PYSAM_CONVENTIONS",
    "Conventions",
    "UrdbRefused",
    "UrdbTariff",
    "is_item",
    "load_item",
    "read_item",
]
