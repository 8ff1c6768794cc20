"""Certificates of devices: an offline root, an issuer for each property, one certificate for each meter."""
