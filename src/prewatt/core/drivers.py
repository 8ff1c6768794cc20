"""The drivers by which a meter can be reached: the word stands beside the meter and never changes its meaning."""

from enum import StrEnum


class Driver(StrEnum):
    """One protocol's part of the head-end. A meter is reached by one of them, and heard by that one only."""

    MQTT_SENML = "mqtt_senml"
    LWM2M = "lwm2m"
    LORAWAN = "lorawan"
