"""Debts that have a name: opened, recovered by an agreed share of recharges, settled, written off."""
