"""What others ask of bulks, inside the caller's scope."""

from __future__ import annotations

from prewatt.core.vocabulary import BulkState
from prewatt.fleet.models import FleetBulk


def has_stopped_itself(bulk_id: int) -> bool:
    """Whether a bulk stands still by its own brake, and nobody has said what becomes of it."""
    return FleetBulk.objects.filter(pk=bulk_id, state=int(BulkState.BRAKED)).exists()
