"""Several sessions behind one transport: tokens, watermarks and commands find the one that they are of."""

from collections.abc import Iterable, Sequence

import pytest

from prewatt.core.drivers import Driver
from prewatt.hes.frames import (
    ACTIVE_IMPORT,
    AckToken,
    BundleMark,
    Command,
    Token,
    Watermark,
)
from prewatt.hes.sessions import OnBlock, OnFrame, Sessions

READ = Command("1.1.read", "read", None, 1, 2)


class Line:
    """A session that writes down what it is asked to do, in a list that all of a test share."""

    def __init__(self, driver: Driver, happened: list[object], *serials: str) -> None:
        self.driver = driver
        self.failure: Exception | None = None
        self.is_connected = True
        self._happened = happened
        self._serials = serials

    def start(self, on_frame: OnFrame, on_block: OnBlock | None = None) -> None:
        self._happened.append((self.driver, "start"))

    def wait_connected(self, timeout_s: float) -> bool:
        return self.is_connected

    def reaches(self, serial: str) -> bool:
        return serial in self._serials

    def ack(self, tokens: Iterable[Token]) -> None:
        self._happened.append((self.driver, list(tokens)))

    def publish_watermarks(self, marks: Sequence[Watermark]) -> None:
        self._happened.append((self.driver, list(marks)))

    def publish_bundle_marks(self, marks: Sequence[BundleMark]) -> None:
        self._happened.append((self.driver, list(marks)))

    def send_command(self, serial: str, command: Command) -> bool:
        self._happened.append((self.driver, serial))
        return self.is_connected

    def stop_delivery(self) -> None:
        self._happened.append((self.driver, "stop delivery"))

    def stop(self) -> None:
        self._happened.append((self.driver, "stop"))


def test_each_session_gets_its_own_and_the_first_gets_what_nobody_knows() -> None:
    happened: list[object] = []
    mqtt = Line(Driver.MQTT_SENML, happened)
    lwm2m = Line(Driver.LWM2M, happened, "NB-1")
    lora = Line(Driver.LORAWAN, happened, "LO-1")
    sessions = Sessions([mqtt, lwm2m, lora])

    of_mqtt, of_lwm2m = AckToken(1, 7), AckToken(1, 7, Driver.LWM2M)
    assert of_mqtt != of_lwm2m, "numbers of two sessions may be the same"
    sessions.ack(iter([of_mqtt, of_lwm2m]))
    marks = [Watermark(each, ACTIVE_IMPORT, 2, 1, 3) for each in ("PW-1", "NB-1", "PW-2", "LO-1")]
    sessions.publish_watermarks(marks)
    assert sessions.send_command("NB-1", READ) and sessions.send_command("PW-1", READ)
    assert happened == [
        (Driver.MQTT_SENML, [of_mqtt]),
        (Driver.LWM2M, [of_lwm2m]),
        (Driver.LWM2M, [marks[1]]),
        (Driver.LORAWAN, [marks[3]]),
        (Driver.MQTT_SENML, [marks[0], marks[2]]),
        (Driver.LWM2M, "NB-1"),
        (Driver.MQTT_SENML, "PW-1"),
    ]
    assert sessions.connected == set(Driver) and sessions.wait_connected(0)
    lora.is_connected = False
    assert sessions.connected == {Driver.MQTT_SENML, Driver.LWM2M}
    assert not sessions.is_connected and not sessions.wait_connected(0)
    lwm2m.failure = OSError("gone")
    assert sessions.failure is lwm2m.failure


def test_delivery_ends_everywhere_before_anything_is_closed() -> None:
    happened: list[object] = []
    sessions = Sessions([Line(each, happened) for each in (Driver.MQTT_SENML, Driver.LWM2M)])
    sessions.start(lambda frame: None)
    sessions.stop_delivery()
    sessions.stop()
    assert [what for _, what in happened] == [
        "start", "start", "stop delivery", "stop delivery", "stop", "stop",
    ]  # fmt: skip


def test_a_driver_has_one_session() -> None:
    with pytest.raises(ValueError, match="one session for each driver"):
        Sessions([Line(Driver.LWM2M, []), Line(Driver.LWM2M, [])])
    with pytest.raises(ValueError, match="one at least"):
        Sessions([])
