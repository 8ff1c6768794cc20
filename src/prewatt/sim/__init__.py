"""Simulated meters and a simulated property that speak the real protocols, with faults by switch."""
