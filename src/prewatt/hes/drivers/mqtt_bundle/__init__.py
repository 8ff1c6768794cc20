"""MQTT driver of concentrators: many meters' readings in one message, as fixed-width rows. See README.md."""
