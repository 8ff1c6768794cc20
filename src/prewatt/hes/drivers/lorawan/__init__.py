"""LoRaWAN meters behind a network server: its events in, downlinks out. README.md has the object map."""
