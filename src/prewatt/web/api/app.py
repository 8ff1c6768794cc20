"""The API as one document: its routes, who may ask, and what is said when nothing was done."""

from __future__ import annotations

from typing import Final

from ninja import NinjaAPI

from prewatt.web.api import problems, reading, selling
from prewatt.web.api.bearer import Key

#: A field is added within a version; one is taken away or changes its meaning only with the next.
VERSION: Final = "1"

api = NinjaAPI(
    title="Prewatt",
    version=VERSION,
    description="Prepaid electricity of one property. Money is in micro-units of its currency, energy in "
    "watt-hours, time in UTC.",
    auth=Key(),
    # A page that shows the document would bring scripts of others; what reads OpenAPI reads the file.
    docs_url=None,
    openapi_url="/openapi.json",
)
problems.teach(api)
api.add_router("", reading.router)
api.add_router("", selling.router)
