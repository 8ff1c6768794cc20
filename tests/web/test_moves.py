"""Tenants in, out and over by the pages: seen before, done once, refused beside the field, for administrators."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.utils.html import escape

from fernmoor import NOW, Fernmoor
from prewatt.billing.ingestion import apply_readings
from prewatt.core.civil_time import instant_us
from prewatt.core.readings import ReadingBatch

NEW = {
    "who": "new", "name": "Ben Okafor", "email": "ben@tenant.example", "phone": "", "language": "en",
    "tariff": "R", "number": "", "protection": "none", "emergency": "5", "amount": "25.00",
    "way": "cash",
}  # fmt: skip


@pytest.fixture
def settled(fernmoor: Fernmoor, as_owner: Callable[..., Any]) -> Fernmoor:
    """The property with one account whose figures agree."""
    with as_owner(fernmoor):
        fernmoor.settle("N-305")
    return fernmoor


def _key(page: str) -> str:
    found = re.search(r'name="key" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def _plain(response: Any) -> str:
    """The words of a page without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def test_a_change_of_tenant_is_seen_then_done_once(
    settled: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client, unit = sign_in(settled), settled.units["N-305"]
    where = f"/units/{unit}/move/change"
    form = NEW | {"how": "meter", "refund": "1", "key": _key(client.get(where).content.decode())}
    look = client.post(where, form | {"do": "look"})
    assert look.status_code == 200
    said = _plain(look)
    for each in (
        "from Orla Fenwick to Ben Okafor?",
        "N-305-2",
        "+€25.00",
        "Booked as a refund due",
    ):
        assert each in said, each
    assert "Ben Okafor" not in client.get(f"/units/{unit}").content.decode()
    first = client.post(where, form | {"do": "confirm"})
    again = client.post(where, form | {"do": "confirm"})
    assert first.status_code == 302 and again["Location"] == first["Location"]
    done = _plain(client.get(first["Location"]))
    for each in (
        "Orla Fenwick left",
        "Ben Okafor came",
        "Refund due F-1",
        "€25.00",
        "Ines Halvard",
    ):
        assert each in done, each
    page = _plain(client.get(f"/units/{unit}"))
    assert page.index("Ben Okafor") < page.index("Orla Fenwick") and page.count("N-305-2") == 1
    closed = client.get(f"/accounts/{settled.accounts['N-305']}")
    assert closed.status_code == 200 and "Closed on" in closed.content.decode()
    assert f"{settled.accounts['N-305']}/recharge" not in closed.content.decode()
    used = client.post(where, form | {"name": "Somebody else", "do": "confirm"})
    assert used.status_code == 422 and "already used" in used.content.decode()
    # The meter has not reported since; its time is no field that shows, so the boundary says it.
    out = client.post(f"/units/{unit}/move/out", {"how": "meter", "do": "look"})
    assert out.status_code == 422 and 'id="f-how-why"' in out.content.decode()


def test_out_and_in_again_with_registers_that_a_person_read(
    settled: Fernmoor, sign_in: Callable[..., Any]
) -> None:
    client, unit, meter = sign_in(settled), settled.units["N-305"], settled.meters["N-305"]
    register = f"register_{meter}"
    out = {"how": "typed", "at": "2026-11-17T14:29:59", register: "1 000 000", "key": "o"}
    for wrong, beside in (
        ({"at": ""}, "Still to be filled in."),
        ({"at": "2026-11-18T09:00"}, "That has not come yet."),
        ({"at": "2020-01-01T09:00"}, "somebody else paid, or another meter counted"),
        ({register: "12,34,5"}, "Write the register in kWh"),
        ({register: "0"}, "lower than the last register"),
        ({register: ""}, "Still to be filled in."),
        ({"how": "guessed"}, "Choose one of these."),
    ):
        for do in ("look", "confirm"):
            refused = client.post(f"/units/{unit}/move/out", out | wrong | {"do": do})
            assert refused.status_code == 422, wrong
            assert escape(beside) in refused.content.decode(), (wrong, beside)
            assert "Nothing was moved." in refused.content.decode()
    last = 2_077_441 + meter * 1009
    out[register] = f"{last // 1000}.{last % 1000:03d}"
    done = client.post(f"/units/{unit}/move/out", out | {"do": "confirm"})
    assert done.status_code == 302, _plain(done)
    assert "The owner pays from then on" in _plain(client.get(done["Location"]))
    twice = client.post(f"/units/{unit}/move/out", out | {"do": "look", "key": "p"})
    assert "Nobody lives here" in twice.content.decode()
    assert "lives here" not in client.get(f"/units/{unit}/move/in").content.decode()
    entered = client.post(
        f"/units/{unit}/move/in",
        NEW | out | {"at": "2026-11-17T14:30:00", "do": "confirm", "key": "i"},
    )
    assert entered.status_code == 302, _plain(entered)
    assert "Ben Okafor came" in _plain(client.get(entered["Location"]))


def test_what_a_late_move_takes_and_gives_is_said_before_it_is_done(
    settled: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any]
) -> None:
    """400 Wh for each of four hours; a tenant who left in the middle of the second one."""
    client, unit, meter = sign_in(settled), settled.units["N-305"], settled.meters["N-305"]
    last = settled.register("N-305")
    with as_owner(settled), connection.cursor() as cursor:
        cursor.execute("DELETE FROM interval WHERE account_id = %s", [settled.accounts["N-305"]])
        cursor.execute(
            "UPDATE meter_state SET last_at = %s, last_value_wh = %s - 1600 WHERE meter_id = %s",
            [NOW - timedelta(hours=4), last, meter],
        )
        hours = [NOW - timedelta(hours=each) for each in (3, 2, 1, 0)]
        apply_readings(
            batch=ReadingBatch.of(
                meter_id=np.full(4, meter, dtype=np.int64),
                read_at_us=np.array([instant_us(each) for each in hours], dtype=np.int64),
                value_wh=np.array([last - 1600 + 400 * each for each in (1, 2, 3, 4)]),
                received_at_us=instant_us(NOW),
            ),
            now=NOW,
        )
    where = f"/units/{unit}/move/change"
    form = NEW | {"how": "between", "at": "2026-11-17T12:00:00", "key": "late"}
    look = client.post(where, form | {"do": "look"})
    assert look.status_code == 200, _plain(look)
    said = _plain(look)
    assert "This lies back" in said and "goes back to Orla Fenwick" in said
    assert "is charged to Ben Okafor" in said and said.count("1.000 kWh") == 3, said
    done = client.post(where, form | {"do": "confirm"})
    assert done.status_code == 302, _plain(done)
    with as_owner(settled), connection.cursor() as cursor:
        cursor.execute(
            """SELECT sum(energy_wh) FROM interval WHERE account_id IN
                   (SELECT account_id FROM tenancy WHERE unit_id = %s AND upper_inf(period))""",
            [unit],
        )
        assert cursor.fetchone() == (1_000,)


@pytest.mark.parametrize("deed", ["out", "in", "change"])
def test_only_an_administrator_moves_and_nobody_at_anothers_property(
    settled: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[..., Any], deed: str
) -> None:
    unit = settled.units["N-305"]
    for duty in ("operator", "auditor"):
        client = sign_in(settled, duty)
        assert "/move/" not in client.get(f"/units/{unit}").content.decode()
        assert client.get(f"/units/{unit}/move/{deed}").status_code == 403
        sent = NEW | {"how": "meter", "do": "confirm", "key": "k"}
        assert client.post(f"/units/{unit}/move/{deed}", sent).status_code == 403
    with as_owner(settled):
        foreign = settled.another_unit(settled.another("Elsewhere"))
    client = sign_in(settled)
    assert client.get(f"/units/{foreign}/move/{deed}").status_code == 404
    assert client.get(f"/units/{foreign}").status_code == 404
    assert client.get(f"/units/{foreign}/hand-over?at=1").status_code == 404
    assert client.get(f"/units/{unit}/move/eviction").status_code == 404


def test_the_pages_of_a_move_are_chinese(settled: Fernmoor, sign_in: Callable[..., Any]) -> None:
    client, unit = sign_in(settled, language="zh-hans"), settled.units["N-305"]
    where = f"/units/{unit}/move/change"
    page = client.post(where, NEW | {"how": "meter", "do": "look", "key": "k"})
    assert "交接给 Ben Okafor" in _plain(page) and "Balance" not in _plain(page)
