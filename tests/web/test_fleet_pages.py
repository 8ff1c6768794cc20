"""The pages of the fleet: asking a meter, its orders, taking one back, a bulk's count and its brake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.invariants.places import rows

from fernmoor import NOW, Fernmoor


def test_a_meter_is_asked_listed_and_taken_back_and_a_bulk_is_stopped(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[[Fernmoor], Any]
) -> None:
    client, meter = sign_in(fernmoor), fernmoor.meters["N-305"]
    ask = {"kind": "read", "reason": "Tenant says it runs"}
    assert client.post(f"/meters/{meter}", {**ask, "reason": ""}).status_code == 422
    assert client.post(f"/meters/{meter}", ask).status_code == 302
    assert client.post(f"/meters/{meter}", {**ask, "kind": "disconnect"}).status_code == 422
    assert client.post(f"/meters/{meter}", {**ask, "kind": "history"}).status_code == 422
    found = client.get("/meters/orders?kind=read&q=305").content.decode()
    assert "Tenant says it runs" in found and "Read now" in found
    assert b"Tenant says it runs" in b"".join(
        client.get(f"/meters/orders.csv?meter={meter}").streaming_content
    )
    with as_owner(fernmoor):
        ((asked,),) = rows("SELECT id FROM meter_request")
        rows(
            """INSERT INTO fleet_bulk (property_id, kind, chosen, meters, proposal_id, made_by, reason, begun_at,
                                       per_s, per_gateway_min, bound_percent, state_at, used_to)
               VALUES (%s, 1, '{"building": "N"}', 1, 1, 'x', 'why', %s, 5, 60, 20, %s, %s) RETURNING id""",
            fernmoor.property_id, NOW, NOW, NOW,
        )  # fmt: skip
        rows("UPDATE meter_request SET bulk_id = (SELECT id FROM fleet_bulk) RETURNING id")
        rows(
            "UPDATE meter_link SET last_seen_at = last_seen_at - interval '90 days' RETURNING meter_id"
        )
    # Its readings are heard too, where the link has nothing new to say; a person's reading is not.
    assert "1 min ago" in _device(client, meter) and "N-305" in _device(client, meter)
    assert "heard 1 min ago" in client.get(f"/meters/{meter}").content.decode()
    with as_owner(fernmoor):
        rows("UPDATE meter_link SET read_by_hand_at = %s RETURNING meter_id", NOW)
    # What was written when it was fitted is no word of its own.
    with as_owner(fernmoor):
        rows(
            "UPDATE meter_link SET last_seen_at = lower(i.period), firmware = '2.1' FROM installation i WHERE i.meter_id = meter_link.meter_id RETURNING 1"
        )
        rows(
            "INSERT INTO meter_version (property_id, meter_id, part, version, since) VALUES (%s, %s, 'configuration', 'tou-7', %s) RETURNING 1",
            fernmoor.property_id, meter, NOW,
        )  # fmt: skip
    assert "Silent" in _device(client, meter) and "never heard" in _device(client, meter)
    assert "never heard" in client.get(f"/meters/{meter}").content.decode()
    # By several words at once: a group leads on to the next, and each word can be taken back.
    for address in (
        "by=configuration",
        "driver=mqtt_senml&firmware=2.1&configuration=tou-7&by=gateway",
    ):
        found = client.get(f"/meters/fleet?{address}").content.decode()
        assert "tou-7" in found and "N-305" in found
    assert found.count('data-row="') == 1 and "driver=mqtt_senml&amp;configuration=tou-7" in found
    assert "No meter matches." in client.get("/meters/fleet?firmware=9").content.decode()
    csv = b"".join(client.get("/meters/fleet.csv?configuration=tou-7").streaming_content)
    assert csv.count(b"tou-7") == 1
    # Whoever looks may not press.
    auditor = sign_in(fernmoor, "auditor")
    assert auditor.get("/meters/orders").status_code == 200
    assert auditor.post("/meters/orders", {"request": asked}).status_code == 403
    page = client.get("/meters/bulks").content.decode()
    path = page.split('href="/meters/bulks/')[-1].split('"')[0]
    assert "Building N" in page and path.isdigit()
    assert auditor.post(f"/meters/bulks/{path}", {"do": "stop"}).status_code == 403
    assert client.post(f"/meters/bulks/{path}", {"do": "pause"}).status_code == 302
    assert client.post(f"/meters/bulks/{path}", {"do": "pause"}).status_code == 409
    assert "Paused" in client.get(f"/meters/bulks/{path}").content.decode()
    assert client.post("/meters/orders", {"request": asked}).status_code == 302
    gone = client.post("/meters/orders", {"request": asked}, follow=True).content.decode()
    assert "Nothing was changed." in gone and "Called off" in gone
    # The dry run says how many before anything is pressed.
    form = {
        "kind": "version",
        "building": "N",
        "per_s": "5",
        "per_gateway_min": "60",
        "bound": "20",
    }
    looked = client.post("/meters/bulks/new", {**form, "reason": "Census", "do": "look"})
    assert looked.status_code == 200 and "Building N" in looked.content.decode()
    for wrong in (
        {"serial": "nobody"},
        {"per_s": "0"},
        {"kind": "disconnect"},
        {"kind": "history"},
    ):
        asked_so = {**form, "reason": "Census", "do": "look", **wrong}
        assert client.post("/meters/bulks/new", asked_so).status_code == 422


def _device(client: Any, meter: int) -> str:
    page = client.get("/meters/fleet?sort=meter").content.decode()
    return str(page.split(f'data-row="{meter}"')[1].split("</tr>")[0])
