"""What was used, read back: whole intervals, superseded ones left out."""

from __future__ import annotations

import pytest
from tests.invariants.places import at, one, place, send

from prewatt.billing.usage import read_usage
from prewatt.core.civil_time import instant_us

pytestmark = pytest.mark.usefixtures("database")


def test_segments_are_joined_and_superseded_ones_left_out() -> None:
    here = place()
    accounts = sorted(here.accounts.values())
    row = accounts.index(here.accounts["1001"])
    # Over a change of band and a midnight, then cut in two by a reading that comes late.
    send(here, [("M-101", at(1), 1_100), ("M-101", at(30), 30_100)])
    assert one("SELECT count(*) FROM interval WHERE account_id = %s", accounts[row]) > 3
    usage = read_usage(account_ids=accounts, from_at=at(0), until_at=at(48))
    assert usage.account_index.tolist() == [row, row]
    assert usage.start_at_us.tolist() == [instant_us(at(0)), instant_us(at(1))]
    assert usage.end_at_us.tolist() == [instant_us(at(1)), instant_us(at(30))]
    assert usage.energy_wh.tolist()[1] == 29_000

    send(here, [("M-101", at(10), 20_100)])
    again = read_usage(account_ids=accounts, from_at=at(0), until_at=at(48))
    assert again.end_at_us.tolist() == [instant_us(at(each)) for each in (1, 10, 30)]
    assert again.energy_wh.tolist()[1:] == [19_000, 10_000]
    charged = one("SELECT sum(charge_energy) FROM interval WHERE account_id = %s", accounts[row])
    # What was reversed and charged anew differ in money; the carry moves a micro-unit at most.
    assert abs(int(again.charged_micro.sum()) - charged) <= 2


def test_a_range_takes_the_intervals_that_begin_in_it() -> None:
    here = place()
    account = here.accounts["1001"]
    send(here, [("M-101", at(hour), 1_000 + hour * 100) for hour in range(1, 10)])
    usage = read_usage(account_ids=[account], from_at=at(3), until_at=at(6))
    assert usage.start_at_us.tolist() == [instant_us(at(each)) for each in (3, 4, 5)]
    assert len(read_usage(account_ids=[account], from_at=at(50), until_at=at(60))) == 0
    assert len(read_usage(account_ids=[], from_at=at(0), until_at=at(60))) == 0
    with pytest.raises(ValueError, match="sorted"):
        read_usage(account_ids=[account, account], from_at=at(0), until_at=at(60))
