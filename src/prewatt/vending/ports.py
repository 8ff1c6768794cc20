"""What selling needs of those it may not import: what a tariff has to say about a recharge.

Tariffs are known to ``billing``, which stands beside this package. The settings name the function
that answers for them, so every process and every test has it and none can forget to connect it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol, cast

from django.conf import settings
from django.utils.module_loading import import_string

from prewatt.ledger.operations import Leg


class TariffDue(Protocol):
    """What the tariff takes of one recharge, and what debts may take of it at most."""

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The transfers of what is collected, taxes included."""

    @property
    def collected_micro(self) -> int:
        """The sum of ``legs``, as what the customer pays: never more than the recharge."""

    @property
    def debt_share_ppm(self) -> int:
        """The most that all debts together may have of the recharge."""

    @property
    def weekly_cap_micro(self) -> int:
        """The most that all debts together may have in seven days; 0: no cap."""


class Dues(Protocol):
    """The answers for a set of recharges, in the order asked."""

    @property
    def each(self) -> Sequence[TariffDue]:
        """One for each recharge."""

    @property
    def is_silent(self) -> bool:
        """No tariff has a say in any recharge at the properties named, in the epochs named."""

    def keep(self) -> None:
        """Remember that the legs were booked, in their transaction and under the same locks."""


class DuesAtRecharge(Protocol):
    """Asks what tariffs take of recharges; a preview asks too, and never keeps."""

    def __call__(
        self,
        *,
        recharges: Sequence[tuple[int, int]],
        now: datetime,
        epochs: Mapping[int, int] | None = None,
    ) -> Dues:
        """``recharges`` are (account, amount in micro-units); read in the caller's transaction.

        ``epochs`` are the tariff epochs of their properties as read there; None: not read.
        """


def dues_at_recharge() -> DuesAtRecharge:
    """The function that ``settings.PREWATT_DUES_AT_RECHARGE`` names."""
    return cast("DuesAtRecharge", import_string(settings.PREWATT_DUES_AT_RECHARGE))
