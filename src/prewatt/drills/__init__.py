"""Drills: break a running Prewatt on purpose and compare what was acknowledged with what survived.

Each drill makes a world of its own in a temporary folder: the durable embedded PostgreSQL, a broker, the real
head-end and worker as processes, meters that are never killed, and tellers that write down what they were
answered. What must come out is computed apart, by a model that shares nothing with the program but the plan.
"""
