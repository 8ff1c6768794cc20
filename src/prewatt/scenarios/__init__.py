"""Whole simulated fields by a file: thousands of meters, their radios, faults and attackers, and an account of all of it."""
