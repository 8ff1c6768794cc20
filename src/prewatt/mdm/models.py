"""The tables of meter data are plain SQL (``sql/``): hot, columnar, without an ORM."""
