"""Which meters LwM2M reaches, by the database, and with which keys; and the session over them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from django.db import connection

from prewatt.core.civil_time import instant_us
from prewatt.core.drivers import Driver
from prewatt.hes.drivers.lwm2m.keys import NO_CONTEXTS, Contexts, DeviceKeys
from prewatt.hes.drivers.lwm2m.session import Lwm2mConfig, Lwm2mSession, Roster
from prewatt.hes.sessions import OnMalformed, Opener, Session


def lwm2m_opener(
    config: Lwm2mConfig, *, clock: Callable[[], datetime], keys: DeviceKeys | None
) -> Opener:
    """Opens the session of the meters that LwM2M reaches; without `keys` none of them has one."""

    def open_session(on_malformed: OnMalformed) -> Session:
        return Lwm2mSession(
            config,
            clock_us=lambda: instant_us(clock()),
            roster=roster_of(keys),
            on_malformed=on_malformed,
        )

    return open_session


def roster_of(keys: DeviceKeys | None) -> Roster:
    """Reads serials and keys anew at each call, by a connection that it gives back."""

    def read() -> tuple[Collection[str], Contexts]:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT serial FROM meter WHERE driver = %s", [str(Driver.LWM2M)])
                serials = frozenset(serial for (serial,) in cursor.fetchall())
        finally:
            connection.close()
        return serials, NO_CONTEXTS if keys is None else keys.contexts()

    return read
