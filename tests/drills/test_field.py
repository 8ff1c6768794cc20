"""The field of a drill: who stands behind the concentrator says nothing of readings itself, and forgets by it."""

from __future__ import annotations

from typing import Any

import pytest

from prewatt.core.civil_time import instant_us
from prewatt.drills.estate import CONCENTRATOR, places_of
from prewatt.drills.field import Field
from prewatt.drills.lines import PlainLine
from prewatt.hes.drivers.mqtt_bundle import codec
from prewatt.hes.frames import AckToken, BundleMark
from prewatt.wiring import now

DAY_US = 86_400_000_000


def test_every_other_meter_that_is_behind_speaks_through_the_concentrator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened_us = instant_us(now()) - 60 * DAY_US
    made = Field(
        places_of(behind=4, live=1), opened_us=opened_us, address=("127.0.0.1", 1), line=PlainLine()
    )
    left: list[tuple[str, bytes]] = []

    def publish(topic: str, payload: bytes, qos: int) -> Any:
        left.append((topic, payload))

    monkeypatch.setattr(made._client, "publish", publish)
    made._is_up = True
    for each in made.meters:
        each.meter.is_online = True
    made._turn(again=False)
    assert sorted(topic for topic, _ in left) == [
        "pw/DRILL-DTU/up/bundle",
        *(f"pw/DRILL000{each}/up/readings" for each in (0, 2, 4)),
    ]
    topic, payload = next(each for each in left if "bundle" in each[0])
    bundle = codec.decode(topic, payload, received_at_us=1, token=AckToken(0, 0))
    assert bundle.serials == [b"DRILL0001", b"DRILL0003"]
    gathered = [each for each in made.meters if each.place.is_gathered]
    assert all(not each.acknowledged() and each.taken for each in gathered)
    mark = BundleMark(CONCENTRATOR, bundle.sequence, bundle.checksum, (1,))
    made._let_go(codec.encode_marks([mark]))
    assert [each.acknowledged() == each.taken for each in gathered] == [True, False]
