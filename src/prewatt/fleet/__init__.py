"""The fleet: how completely devices report, what is missing, and what they are asked. See the README."""
