"""The head-end system: talks to meters, one driver per protocol, and commits what they say."""
