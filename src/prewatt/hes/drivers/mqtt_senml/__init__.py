"""MQTT driver: SenML readings, commands with stored answers, watermarks. See README.md."""
