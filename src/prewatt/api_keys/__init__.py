"""Keys with which programs of others ask Prewatt."""
