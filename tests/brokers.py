"""Fixtures: an MQTT broker of each kind on loopback."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from prewatt.runtime.broker import Broker, find_mosquitto


@pytest.fixture
def broker_folder() -> Iterator[Path]:
    """A folder that the broker's own user can reach; pytest's are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="prewatt-broker-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def mosquitto(broker_folder: Path) -> Iterator[Broker]:
    if find_mosquitto() is None:
        pytest.skip("NOT TESTED: Mosquitto is not installed here (apt-get install mosquitto)")
    broker = Broker(broker_folder, kind="mosquitto")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def amqtt(broker_folder: Path) -> Iterator[Broker]:
    broker = Broker(broker_folder, kind="amqtt")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest) -> Broker:
    found: Broker = request.getfixturevalue(request.param)
    return found
