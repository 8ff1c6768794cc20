"""Pictures of every page of a running demonstration, as each person sees it: not a test, but for eyes.

    ./run demo --port 8600 --state-dir DIR
    .venv/bin/python tests/contact_sheets.py --state-dir DIR --out SHEETS

Signs in as everybody the demonstration has, follows every link, keeps one page of each address (`web/rules.py`
names them) and one more with a query, and writes a sheet of each: wide and narrow, light and dark, English and
Chinese. What a machine sees at once is printed beside: what a phone cuts off, a status, an error of the
browser, Latin words on a Chinese page, and which addresses nobody reached by a link.
"""

from __future__ import annotations

import argparse
import html
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import django
from playwright.sync_api import sync_playwright

from prewatt.demo import SIGN_INS

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "prewatt.settings")
django.setup()

from prewatt.web.rules import RULES  # noqa: E402 - Django's settings come first
from web.test_browser import CHROMIUM, CUT_OFF, FLAGS  # noqa: E402

WIDTHS = {1280: 0.62, 390: 0.9}
THEMES = ("light", "dark")
LANGUAGES = ("en", "zh-hans")
#: Three pictures that differ from one another in as much as three can.
FEW = ((1280, "light", "en"), (390, "light", "en"), (390, "dark", "zh-hans"))
#: A sheet shows no more of a page than this: what is longer is mostly rows of the same list.
HEIGHT_MAX = 1_700
#: Addresses that are no page, or whose press changes something.
NO_PAGES = ("/live", "/static/", "/api/", "/sign-out", "/preferences", "/healthz", ".csv", ".zip")
#: Where a walk begins: some pages are offered only to whoever stands at a certain thing.
DOORS = (
    "/",
    "/me",
    "/me/lost",
    "/second-factor",
    "/approvals?show=all",
    "/alerts?show=closed",
    "/nowhere",
)
#: English that nobody wrote in Chinese: names of people and places have no small second word.
LATIN = re.compile(r"[A-Za-z]{3,} [a-z]{2,}")
TEXTS = """() => [...document.querySelectorAll('body *')]
  .filter(each => each.checkVisibility() && !each.closest('.sr'))
  .flatMap(each => [...each.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent.trim()))
  .filter(text => text)"""


@dataclass(slots=True)
class Walk:
    """What one person can reach: for each address, and whether it has a query, the page to look at."""

    found: dict[tuple[str, bool], str] = field(default_factory=dict)

    def takes(self, address: str) -> bool:
        """Whether this page is one to look at; it is then kept."""
        key = (route_of(urlsplit(address).path), "?" in address)
        return key not in self.found and self.found.setdefault(key, address) == address

    def pages(self) -> list[str]:
        """Their addresses, in order."""
        return [self.found[key] for key in sorted(self.found)]


def main() -> int:
    """Walk, take pictures, and say what a machine saw."""
    asked = _arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    asked.base = base = f"http://127.0.0.1:{asked.port}"
    reached: set[str] = set()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for email, _name, _duty in SIGN_INS:
            who = email.partition("@")[0]
            if asked.who and who not in asked.who:
                continue
            context = browser.new_context(base_url=base, locale="en-GB")
            page = context.new_page()
            sign_in(page, email, (asked.state_dir / "secrets" / "demo" / who).read_text().strip())
            walk = Walk() if asked.page else walked(page, base)
            reached |= {route for route, _ in walk.found}
            for address in asked.page or walk.pages():
                if not asked.only or re.search(asked.only, address):
                    for fault in look(page, address, asked.out, who, asked):
                        print(f"{who} {address}: {fault}", flush=True)
            context.close()
        browser.close()
    if not asked.only and not asked.who:
        print("reached by no link:", *sorted(set(RULES) - reached), sep="\n  ")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8600)
    parser.add_argument("--state-dir", type=Path, required=True, help="that of the demonstration")
    parser.add_argument("--out", type=Path, required=True, help="where the sheets go")
    parser.add_argument(
        "--who", nargs="*", help="only these: admin desk auditor fitter owner tenant"
    )
    parser.add_argument("--only", help="only addresses that this regular expression finds")
    parser.add_argument("--page", nargs="*", help="look at these alone, without a walk")
    parser.add_argument("--few", action="store_true", help="three pictures of each page, not eight")
    return parser.parse_args()


def route_of(path: str) -> str:
    """The address of `RULES` that this path is one of, the one with the most words of its own; else itself."""
    fitting = [each for each in RULES if _pattern(each).fullmatch(path.lstrip("/"))]
    return max(fitting, key=lambda each: len(re.sub(r"<[^>]*>", "", each)), default=path)


def _pattern(route: str) -> re.Pattern[str]:
    parts = re.split(r"(<[^>]*>)", route)
    kinds = {"<id:": "[0-9]+", "<pat": ".+"}
    return re.compile(
        "".join(
            kinds.get(each[:4], "[^/]+") if each[:1] == "<" else re.escape(each) for each in parts
        )
    )


def sign_in(page: Any, email: str, password: str) -> None:
    """As a person does; the demonstration shows the code of an app that was taken up."""
    page.goto("/sign-in")
    page.fill("#email", email)
    page.fill("#password", password)
    page.click("button.main")
    page.wait_for_load_state()
    if "/sign-in/factor" in page.url:
        code = re.search(r"\b[0-9]{6}\b", page.inner_text("main"))
        page.fill("#f-code", code[0] if code else "")
        page.click("button.main")
        page.wait_for_load_state()


def walked(page: Any, base: str) -> Walk:
    """Every page that links lead to, read without being drawn."""
    walk = Walk()
    waiting = [each for each in DOORS if walk.takes(each)]
    while waiting:
        answer = page.request.get(waiting.pop(0))
        if "text/html" in answer.headers.get("content-type", ""):
            waiting += [each for each in links(answer.text(), answer.url, base) if walk.takes(each)]
    return walk


def links(text: str, at: str, base: str) -> Iterator[str]:
    """Addresses of pages of ours that a page leads to."""
    for found in re.findall(r'<a\b[^>]*?\bhref="([^"]*)"', text):
        whole = urldefrag(urljoin(at, html.unescape(found))).url
        address = whole.removeprefix(base)
        if whole.startswith(base) and not any(
            each in address.partition("?")[0] for each in NO_PAGES
        ):
            yield address or "/"


def look(page: Any, address: str, out: Path, who: str, asked: argparse.Namespace) -> list[str]:
    """Take the pictures of one page; returns what a machine sees in it."""
    faults: list[str] = []
    shots: dict[str, bytes] = {}
    for language in LANGUAGES:
        page.context.add_cookies(
            [{"name": "prewatt_language", "value": language, "url": asked.base}]
        )
        answer = page.goto(address)
        if answer is not None and answer.status != 200 and "nowhere" not in address:
            faults.append(f"status {answer.status}")
        for theme, width in product(THEMES, WIDTHS):
            if asked.few and (width, theme, language) not in FEW:
                continue
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            page.set_viewport_size({"width": width, "height": 900})
            shots[f"{width} {theme} {language}"] = page.screenshot(
                full_page=True,
                clip={"x": 0, "y": 0, "width": width, "height": min(HEIGHT_MAX, _height(page))},
            )
        page.set_viewport_size({"width": min(WIDTHS), "height": 900})
        if language != "en":
            faults += [
                f"not Chinese: {each[:90]}" for each in page.evaluate(TEXTS) if LATIN.search(each)
            ]
        faults += [f"390: {each}" for each in page.evaluate(CUT_OFF)]
    sheet(page.context, out / f"{who}{re.sub('[^A-Za-z0-9]+', '-', address)}.png", address, shots)
    return list(dict.fromkeys(faults))


def _height(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollHeight"))


def sheet(context: Any, path: Path, title: str, shots: Mapping[str, bytes]) -> None:
    """Put the pictures of a page beside each other, each under what it is."""
    import base64

    figures = "".join(
        f'<figure><figcaption>{html.escape(title)} · {name}</figcaption><img width="{width}" '
        f'src="data:image/png;base64,{base64.b64encode(shot).decode()}"></figure>'
        for name, shot in shots.items()
        for width in [int(int(name.split()[0]) * WIDTHS[int(name.split()[0])])]
    )
    wide = sum(int(int(name.split()[0]) * WIDTHS[int(name.split()[0])]) + 8 for name in shots)
    page = context.new_page()
    page.set_viewport_size({"width": min(wide, 1568), "height": 400})
    page.set_content(
        "<style>body{margin:0;background:#888;font:11px sans-serif;display:flex;flex-wrap:wrap;gap:8px}"
        f"figure{{margin:0}}img{{display:block}}</style>{figures}"
    )
    page.screenshot(path=path, full_page=True)
    page.close()


if __name__ == "__main__":
    sys.exit(main())
