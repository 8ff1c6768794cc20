"""One target under libFuzzer (atheris), in a process of its own: `python -m prewatt.fuzz.child TARGET OPTIONS…`.

What it may take is held by libFuzzer: a time and a size for each input, memory for all. The bytes of a finding are in a
file then.
"""

from __future__ import annotations

import sys

import atheris

from prewatt.fuzz import start_django

#: Coverage is counted in what is ours and in what reads for us.
_INSTRUMENTED = [
    "prewatt.hes",
    "prewatt.core",
    "prewatt.estate",
    "prewatt.web",
    "prewatt.vending.words",
    "django.http.multipartparser",
    "prewatt.adapters",
    "cbor2",
    "aiocoap",
]


def main() -> None:
    """Fuzz until the time is over or something is found."""
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=_INSTRUMENTED, enable_loader_override=False):
        start_django()
        from prewatt.fuzz.targets import attempt

        # Whatever is loaded only as it is needed is loaded here, where it is counted.
        attempt(name, b"0")

    def try_on(data: bytes) -> None:
        attempt(name, data)

    atheris.Setup([sys.argv[0], *options], try_on)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
