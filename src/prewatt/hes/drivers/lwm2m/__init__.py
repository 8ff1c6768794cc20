"""CoAP and LwM2M 1.0/1.1 for meters on NB-IoT: codecs without sockets, registrations, and the session over aiocoap."""
