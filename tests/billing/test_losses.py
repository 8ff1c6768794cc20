"""What flowed in by the feeders' meters, and the share of it that nobody was charged for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pytest
from tests.invariants.places import NOW, TARIFF, World, at, place, rows, send

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, system_actor
from prewatt.billing.losses import NO_METER, NOT_READ, supplied
from prewatt.billing.resale import set_resale_terms
from prewatt.billing.trials import try_tariff
from prewatt.core.civil_time import instant_us
from prewatt.core.readings import ReadingBatch
from prewatt.core.tariff import parse_tariff
from prewatt.mdm.operations import keep_readings

pytestmark = pytest.mark.usefixtures("database")


def feed(here: World, readings: Sequence[tuple[datetime, int]]) -> None:
    """Readings of the meter at the feeder, kept and charged to nobody."""
    keep_readings(
        batch=ReadingBatch.of(
            meter_id=np.full(len(readings), here.meters["M-F"], dtype=np.int64),
            read_at_us=np.array([instant_us(when) for when, _ in readings], dtype=np.int64),
            value_wh=np.array([value for _, value in readings], dtype=np.int64),
            received_at_us=instant_us(NOW),
        ),
        now=NOW,
    )


def flowed(here: World, begin: float, end: float) -> tuple[int | None, str]:
    found = supplied(property_id=here.property_id, from_at=at(begin), until_at=at(end))
    return found.energy_wh, found.why


def test_a_feeder_is_read_evenly_between_its_readings_over_a_rollover_and_an_exchange() -> None:
    here = place()
    assert flowed(here, 1, 5) == (None, NOT_READ), "only its opening is known"
    feed(here, [(at(2), 9_500), (at(4), 11_000), (at(8), 13_001)])
    assert flowed(here, 2, 4) == (1_500, "")
    # 9,000 at the opening; at 1 h floor(9,000 + 500 ÷ 2), at 5 h floor(11,000 + 2,001 ÷ 4).
    assert flowed(here, 1, 5) == (11_500 - 9_250, "")
    assert flowed(here, 5, 9) == (None, NOT_READ)
    rows("UPDATE meter SET modulus_wh = 13_002, multiplier = 10 WHERE id = %s", here.meters["M-F"])
    feed(here, [(at(9), 400)])
    assert flowed(here, 8, 9) == (401 * 10, "")
    # A later meter goes on where this one ended.
    rows(
        """UPDATE installation SET period = tstzrange(lower(period), %s), end_value_wh = 500
           WHERE meter_id = %s""",
        at(10), here.meters["M-F"],
    )  # fmt: skip
    assert flowed(here, 8, 10) == (501 * 10, "")
    assert flowed(here, 8, 11) == (None, NO_METER), "for an hour nothing was measured"
    assert rows(
        "SELECT DISTINCT account_id FROM register_reading WHERE meter_id = %s", here.meters["M-F"]
    ) == [(0,)]


def test_losses_are_held_against_the_rule_of_the_place_and_say_when_they_are_unknown() -> None:
    here = place()
    set_resale_terms(
        actor=system_actor("import"), property_id=here.property_id, rules="CN", valid_from=at(0),
        now=NOW,
    )  # fmt: skip

    def losses() -> tuple[str, int | None, str] | None:
        report = try_tariff(
            actor=Actor("user:1", Duty.ADMINISTRATOR, (here.property_id,)),
            property_id=here.property_id, draft=parse_tariff(TARIFF), days=30,
            now=at(24 * 20) + timedelta(hours=1),
        )  # fmt: skip
        found = [each for each in report.findings if each.rule.code == "loss_share"]
        return (found[0].outcome.value, found[0].measured_ppm, found[0].why) if found else None

    send(here, [("M-101", at(24), 401_000), ("M-102", at(24), 302_000)], now=at(24 * 20))
    assert losses() == ("unknown", None, NO_METER), "the meter came after the trial's first day"
    rows(
        "UPDATE installation SET period = tstzrange(%s, NULL) WHERE meter_id = %s",
        at(-24 * 60), here.meters["M-F"],
    )  # fmt: skip
    assert losses() == ("unknown", None, NOT_READ)
    # 700 kWh were charged of a megawatt-hour.
    feed(here, [(at(-24 * 50), 9_000), (at(0), 9_000), (at(24), 1_009_000)])
    rows(
        """INSERT INTO register_reading SELECT meter_id, register_code, %s, 0, property_id, account_id,
           value_wh, quality, source, received_at FROM register_reading
           WHERE meter_id = %s AND read_at = %s""",
        at(24 * 32), here.meters["M-F"], at(24),
    )  # fmt: skip
    assert losses() == ("broken", 300_000, "")
