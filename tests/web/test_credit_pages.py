"""The pages of meters that sign: keys and credit by administrators alone, and bytes that anybody verifies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from tests.instructions.test_wallets import METER_KEY, OURS
from tests.invariants.places import rows

from fernmoor import NOW, Fernmoor
from prewatt.access.scope import system_actor
from prewatt.core.civil_time import instant_us
from prewatt.instructions.operations import InstructionBook, Told
from prewatt.instructions.queries import ToldLine
from prewatt.instructions.wallets import REFUSED, Wallets
from prewatt.sim.loads import load_profile
from prewatt.sim.meter import MeterConfig, SimulatedMeter
from prewatt.web.ui import credit_tags, fleet_words


def _pem(number: int) -> str:
    key = ec.derive_private_key(number, ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _answered(place: Fernmoor, meter_id: int, serial: str) -> None:
    """Everything that the meter is to be told, told and answered."""
    device = SimulatedMeter(
        MeterConfig(
            serial, load_profile("H0-A", utc_offset_s=0), 1_000_000, 0, instant_us(NOW), 900_000_000,
            private_key=METER_KEY, trusts={OURS.key_id: _point()}, holds_credit=True, price_nano=300_000_000,
        )
    )  # fmt: skip
    device.connected(instant_us(NOW))
    head_end = system_actor("head_end")
    book = InstructionBook(head_end, seal=lambda _: OURS)
    for each in book.issue(Wallets(head_end).due(property_ids=None, now=NOW), now=NOW):
        ((_, said),) = device.receive_instruction(each.payload, instant_us(NOW))
        book.take([Told(meter_id, place.property_id, serial, said, NOW)], now=NOW)


def _point() -> bytes:
    from tests.instructions.test_wallets import KEY

    return KEY.point


def test_a_meter_is_given_a_key_and_credit_and_released_and_its_word_is_taken_along(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: Callable[[Fernmoor], Any]
) -> None:
    assert set(credit_tags.WALLET_REFUSED) == set(REFUSED), "each refusal has its words"
    client, meter = sign_in(fernmoor), fernmoor.meters["N-305"]
    page = f"/meters/{meter}/credit"
    assert "No meter here signs yet" in client.get("/meters/credit").content.decode()
    assert "It has no key" in client.get(page).content.decode()
    refused = client.post(page, {"do": "hold"})
    assert refused.status_code == 422 and "without a valid key" in refused.content.decode()
    for wrong in ("", "-----BEGIN PUBLIC KEY-----\nx", "hello"):
        assert client.post(page, {"do": "enrol", "public_key": wrong}).status_code == 422
    # The meter of these tests has the key of scalar 0x0202…; another meter cannot have it too.
    pem = _pem(int.from_bytes(bytes([2] * 32), "big"))
    assert client.post(page, {"do": "enrol", "public_key": pem}).status_code == 302
    other = f"/meters/{fernmoor.meters['N-306']}/credit"
    assert client.post(other, {"do": "enrol", "public_key": pem}).status_code == 422
    assert client.post(page, {"do": "hold"}).status_code == 302
    assert client.post(page, {"do": "hold"}).status_code == 422
    with as_owner(fernmoor):
        ((serial,),) = rows("SELECT serial FROM meter WHERE id = %s", meter)
        ((account,),) = rows("SELECT account_id FROM meter_wallet")
        _answered(fernmoor, meter, serial)
    held = client.get(page).content.decode()
    assert "Holds its credit" in held and "Lifetime credit" in held and "signed, key" in held
    assert "Balance in the meter" in client.get(f"/accounts/{account}").content.decode()
    orders = client.get(f"/meters/orders?meter={meter}").content.decode()
    assert "A meter that holds its credit is told of it" in orders
    kinds = {"credit", "release", "state", "set_clock", "keys", "limit"}
    assert set(fleet_words.SIGNED_WHY) == kinds, "each signed order says why it goes out"
    pay = f"/accounts/{account}/recharge?amount=20"
    assert "holds this credit itself" in client.get(pay).content.decode()
    with as_owner(fernmoor):
        rows(
            "UPDATE supply_state SET withheld_since = %s WHERE account_id = %s RETURNING account_id",
            NOW, account,
        )  # fmt: skip
    assert "Supply is withheld since" in client.get(pay).content.decode()
    # Whoever looks may not press, and what was signed is verified with the file alone, by others' software.
    auditor = sign_in(fernmoor, "auditor")
    assert auditor.post(page, {"do": "release"}).status_code == 403
    found = json.loads(auditor.get(f"{page}/1").content)
    key = load_der_public_key(
        bytes.fromhex(found["keys_of_the_meter"][0]["subject_public_key_info"])
    )
    cose = cwt.COSEKey.from_pem(
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        kid=bytes.fromhex(found["keys_of_the_meter"][0]["kid"]),
    )
    answer = found["answer"]
    said = cwt.COSE.new().decode(
        bytes.fromhex(answer["cose_sign1"]), cose, external_aad=answer["external_aad"].encode()
    )
    assert (
        isinstance(said, bytes)
        and bytes.fromhex(found["command"]["sha256_of_sig_structure"]) in said
    )
    assert client.get(f"{page}/9").status_code == 404
    # Released by hand, without an answer it is a person's to end, with a reason.
    assert client.post(page, {"do": "release"}).status_code == 302
    assert "Being released" in client.get("/meters/credit?show=releasing").content.decode()
    assert "being released" in client.get(f"/accounts/{account}").content.decode()
    assert client.post(page, {"do": "end", "note": ""}).status_code == 422
    key_id = found["keys_of_the_meter"][0]["kid"]
    assert client.post(page, {"do": "revoke", "key_id": key_id, "reason": ""}).status_code == 422
    assert (
        client.post(page, {"do": "revoke", "key_id": key_id, "reason": "Burnt"}).status_code == 302
    )
    case = client.get(page).content.decode()
    assert "has not signed it" in case and "revoked" in case
    assert "its release is not answered" in client.get(f"/accounts/{account}").content.decode()
    assert client.post(page, {"do": "end", "note": "Burnt down"}).status_code == 302
    assert "Burnt down" in client.get(page).content.decode()
    file = client.get("/meters/credit.csv?show=no_key").content.decode()
    assert serial in file and "Holds none any more" in file
    # A meter behind LoRaWAN has a session instead of a key: its page says so, and asks for no key.
    narrow = fernmoor.meters["N-306"]
    with as_owner(fernmoor):
        rows(
            """INSERT INTO instruction_session (property_id, meter_id, number, meter_point, platform_point,
                   sealed_keys, offer, after_sequence, begun_at, begun_by)
               VALUES (%s, %s, 7, '', '', '', '', 0, %s, 'system:test') RETURNING id""",
            fernmoor.property_id, narrow, NOW,
        )  # fmt: skip
    told = client.get(f"/meters/{narrow}/credit").content.decode()
    assert "Session 7" in told and "tell no balance" in told
    assert "Enrol" not in told and "It has no key" not in told
    line = ToldLine(
        1, NOW, "relay", 1, "answered", "ok", "sealed in session 7, whose keys are not here"
    )
    assert credit_tags.told_proof(line) == "verified as it came, in session 7"
