"""Where a request comes from: what the socket says, or what a proxy of ours says about it.

``X-Forwarded-For`` is written by whoever likes to. It counts only when the request itself came from an
address in ``PREWATT_TRUSTED_PROXY``, and of it only the last entry that is not such a proxy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from django.conf import settings
from django.http import HttpRequest

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def proxies(text: str) -> tuple[Network, ...]:
    """Addresses and networks of trusted proxies, separated by commas; raises ValueError for others."""
    return tuple(ipaddress.ip_network(each.strip()) for each in text.split(",") if each.strip())


def client_address(request: HttpRequest) -> str:
    """The address of who asks, or of the last hop that cannot be vouched for."""
    trusted: Sequence[Network] = settings.TRUSTED_PROXIES
    here = str(request.META.get("REMOTE_ADDR", ""))
    hops = str(request.META.get("HTTP_X_FORWARDED_FOR", "")).split(",")
    while hops and _is_trusted(here, trusted):
        said = hops.pop().strip()
        try:
            here = str(ipaddress.ip_address(said))
        except ValueError:
            break
    return here


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in trusted)
