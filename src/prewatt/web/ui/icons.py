"""The icons: one sprite of 16 px symbols, of which a page inlines only those it uses.

The silhouettes alone tell the states apart, so they work in print and in forced colours.
"""

from __future__ import annotations

from typing import Final

from prewatt.core.vocabulary import BoardState

SYMBOLS: Final[dict[str, str]] = {
    "on": '<circle cx="8" cy="8" r="7"/>',
    "low": '<path d="M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm0 1.8A5.2 5.2 0 0 1 13.2 8H2.8A5.2 5.2 0 0 1 8 2.8Z" fill-rule="evenodd"/>',
    "emergency": '<path d="M8 .4 15.6 8 8 15.6.4 8Zm.9 3.3L4.9 8.7h2.7L7 12.3l4.1-5.1H8.3Z" fill-rule="evenodd"/>',
    "cut": '<path d="M0 11.5h4.5L12 3M11.5 11.5H16" fill="none" stroke="currentColor" stroke-width="2.2"/><circle cx="4.3" cy="11.5" r="2.2"/><circle cx="11.7" cy="11.5" r="2.2"/>',
    "offline": '<path d="M8 1a7 7 0 0 1 4.7 1.8l-1.3 1.5A5 5 0 0 0 8 3Zm5.9 3.3A7 7 0 0 1 15 8h-2a5 5 0 0 0-.8-2.7ZM14.8 9.7A7 7 0 0 1 11.8 13.9l-1.1-1.7a5 5 0 0 0 2.1-3ZM9.7 14.8a7 7 0 0 1-5-.6l1-1.8a5 5 0 0 0 3.6.4ZM3 12.9A7 7 0 0 1 1 8.4l2-.1a5 5 0 0 0 1.4 3.2ZM1.3 6.4A7 7 0 0 1 6 1.3l.6 1.9a5 5 0 0 0-3.3 3.6Z"/>',
    "vacant": '<path d="M1.5 1.5h13v13h-13Zm1.8 1.8v9.4h9.4V3.3Z" fill-rule="evenodd"/>',
    "tamper": '<path d="M8 .8 15.8 14.8H.2ZM7 5.6l.3 4.5h1.4L9 5.6Zm.1 5.8v1.7h1.8v-1.7Z" fill-rule="evenodd"/>',
    "protected": '<path d="M8 .5 14.5 2.8v5C14.5 11.4 11.9 14.3 8 15.6 4.1 14.3 1.5 11.4 1.5 7.8v-5ZM7.2 5v2.2H5v1.6h2.2V11h1.6V8.8H11V7.2H8.8V5Z" fill-rule="evenodd"/>',
    "proof": '<path d="M8 .5 14.5 2.8v5C14.5 11.4 11.9 14.3 8 15.6 4.1 14.3 1.5 11.4 1.5 7.8v-5ZM7.1 11.3l5-5L10.9 5 7.1 8.8 5.3 7 4 8.2Z" fill-rule="evenodd"/>',
    "wait": '<path d="M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Zm0 1.8a5.2 5.2 0 1 0 0 10.4A5.2 5.2 0 0 0 8 2.8ZM7.1 4.3h1.8v3.3l2.3 1.4-.9 1.5L7.1 8.6Z" fill-rule="evenodd"/>',
    "check": '<path d="m6.3 13.2-5-5 1.5-1.5 3.5 3.5 7-7 1.5 1.5Z"/>',
    "coin": '<path d="M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Zm.9 3.2H7.1v3H4.2V9h2.9v2.9h1.8V9h2.9V7.2H8.9Z" fill-rule="evenodd"/>',
    "bill": '<path d="M2.5.8h11v14.4l-2.2-1.6-2.2 1.6-2.2-1.6-2.2 1.6-2.2-1.6ZM5 4v1.5h6V4Zm0 3.2v1.5h6V7.2Z" fill-rule="evenodd"/>',
    "send": '<path d="M1 14.5 15.5 8 1 1.5l1.5 5L9 8l-6.5 1.5Z"/>',
    "stop": '<path d="M5 .8h6L15.2 5v6L11 15.2H5L.8 11V5ZM4.2 7.1v1.8h7.6V7.1Z" fill-rule="evenodd"/>',
    "sun": '<circle cx="8" cy="8" r="3.4"/><path d="M7.2 0h1.6v2.6H7.2Zm0 13.400h1.6V16H7.200ZM0 7.200h2.600v1.600H0Zm13.400 0H16v1.600h-2.600ZM1.800 2.900l1.100-1.100 1.900 1.900-1.100 1.100Zm9.400 9.400 1.100-1.100 1.900 1.900-1.100 1.100ZM1.800 13.100l1.900-1.900 1.100 1.100-1.900 1.900Zm9.400-9.400 1.900-1.900 1.100 1.100-1.900 1.900Z"/>',
}

#: The states can change on a page that is already open, so live pages carry all eight.
STATE_SYMBOLS: Final = tuple(state.word for state in BoardState)


def sprite(names: set[str]) -> str:
    """The inline sprite with the named symbols; an unknown name is a programming error."""
    symbols = "".join(
        f'<symbol id="g-{name}" viewBox="0 0 16 16">{SYMBOLS[name]}</symbol>'
        for name in sorted(names)
    )
    return f'<svg class="sprite" aria-hidden="true">{symbols}</svg>'


def icon(name: str) -> str:
    """A use of one symbol, hidden from assistive technology: a word always stands beside it."""
    if name not in SYMBOLS:
        raise KeyError(f"no icon is called {name!r}")
    return f'<svg class="g" aria-hidden="true"><use href="#g-{name}"/></svg>'
