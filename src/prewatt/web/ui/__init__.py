"""The components of every page: formats, sentences, charts, icons, templates and static files."""
