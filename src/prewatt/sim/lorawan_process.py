"""A simulated LoRaWAN field on a broker: what its network server would publish and take, by the clock it is given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from prewatt.sim.lorawan import LoraField

_LOOK_EVERY_S: Final = 0.02
COMMANDS: Final = "application/+/device/+/command/down"


class LoraProcess:
    """Publishes a field's events and puts downlinks into its queue, until it is stopped."""

    def __init__(
        self, field: LoraField, *, host: str, port: int, now_us: Callable[[], int]
    ) -> None:
        self._field = field
        self._now_us = now_us
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sim-lorawan", daemon=True)
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="prewatt-sim-lorawan")
        self._client.on_connect = lambda client, *_: client.subscribe(COMMANDS, qos=1)
        self._client.on_message = self._take
        self._client.connect_async(host, port)

    def start(self) -> None:
        """Connect, and let the field live."""
        self._client.loop_start()
        self._thread.start()

    def stop(self) -> None:
        """End; what is under way on the air is lost."""
        self._stopping.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish something that the field did not say, as an attacker at the broker would."""
        self._client.publish(topic, payload, qos=1)

    def _take(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        with self._lock:
            self._field.command(message.topic, bytes(message.payload), self._now_us())

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            with self._lock:
                told = self._field.advance(self._now_us())
            for each in told:
                self._client.publish(each.topic, each.payload, qos=1)
