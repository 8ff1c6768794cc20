"""Keys in a token: SoftHSM makes them, keeps them and signs, for roles of either algorithm."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from prewatt.core.instructions import (
    NOTHING,
    Command,
    MeterState,
    Operation,
    judged,
    sealed_command,
)
from prewatt.instructions.operations import SignerSeal
from prewatt.signing.keyring import Keyring
from prewatt.signing.keys import KeyRole, verify
from prewatt.signing.store import KeyStore
from prewatt.signing.token import TokenRefused, TokenSigner, token_of
from prewatt.sim.meter import trusting

NOW = datetime(2026, 11, 28, 5, 0, tzinfo=UTC)
MODULES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"),
)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = next((each for each in MODULES if each.exists()), None)
    tool = shutil.which("softhsm2-util")
    if module is None or tool is None:
        pytest.skip("NOT TESTED: SoftHSM is not installed here (apt-get install softhsm2)")
    (tmp_path / "tokens").mkdir()
    configuration = tmp_path / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tmp_path}/tokens\nlog.level = ERROR\n")
    for name, value in {
        "SOFTHSM2_CONF": str(configuration),
        "PREWATT_PKCS11_MODULE": str(module),
        "PREWATT_PKCS11_TOKEN": "prewatt",
        "PREWATT_PKCS11_PIN": "123456",
    }.items():
        monkeypatch.setenv(name, value)
    subprocess.run(
        [tool, "--init-token", "--free", "--label", "prewatt", "--pin", "123456", "--so-pin", "654321"],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.mark.usefixtures("token")
def test_a_key_of_the_token_signs_what_a_meter_believes_and_what_anybody_verifies(
    tmp_path: Path,
) -> None:
    seals = [Fernet.generate_key().decode()]
    store = KeyStore(tmp_path / "keys.json", seals)
    made = store.make(KeyRole.INSTRUCTION, signs_from=NOW, in_token=True)
    store.make(KeyRole.RECEIPT, signs_from=NOW, in_token=True)
    store.make(KeyRole.CHECKPOINT, signs_from=NOW)
    assert store.seal_again() == 3
    # As a process does that begins anew: the store is all that it has.
    keyring = Keyring(KeyStore(store.path, seals).signers())
    signer = keyring.signer(KeyRole.INSTRUCTION, now=NOW)
    assert isinstance(signer, TokenSigner) and signer.public == made
    assert "123456" not in repr(token_of()) and b"123456" not in store.path.read_bytes()
    at_us = 1_795_827_723_456_789
    command = Command("PW-1", Operation.CREDIT, 5, 1, at_us, at_us + 60_000_000, bytes(8), NOTHING)
    message, _ = sealed_command(command, by=SignerSeal(signer))
    believes = trusting({bytes.fromhex(made.key_id): made.value})
    verdict = judged(MeterState(), message, meter="PW-1", verify=believes, now_us=at_us)
    assert verdict.added_micro == 5
    signature = keyring.sign(KeyRole.RECEIPT, b"paid", now=NOW + timedelta(seconds=1))
    assert verify(b"paid", signature, keyring.public_keys()).role is KeyRole.RECEIPT
    with pytest.raises(TokenRefused, match="no one key"):
        TokenSigner(made, "another").sign(b"x")


def test_without_a_token_nothing_is_signed_and_the_reason_names_no_secret() -> None:
    with pytest.raises(TokenRefused, match="PREWATT_PKCS11_MODULE"):
        token_of({"PREWATT_PKCS11_PIN": "123456"})
