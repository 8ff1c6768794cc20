"""What others agreed that somebody may do later: a key that signs changed at the machine, a person's file taken."""
