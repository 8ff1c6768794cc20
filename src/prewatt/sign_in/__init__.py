"""How people come in and stay in: what proves them, their sessions, their coming and going."""
