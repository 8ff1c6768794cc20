"""Where the console leads: its sections, and the pages that each of them holds.

A view says by `tab` which page it is. The bar shows the sections; a section with several pages has
them in a row beneath. A page that needs a permission is not offered to a duty that lacks it: whether
it opens is decided below, by the operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from prewatt.access.scope import Actor, may


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a section; ``permission`` is what one needs to read it."""

    tab: str
    address: str
    name: str | Promise
    permission: str = "accounts.read"


@dataclass(frozen=True, slots=True)
class Section:
    """An entry of the bar. The first of its pages that one may read is where it leads."""

    name: str | Promise
    pages: tuple[Page, ...]


SECTIONS: Final = (
    Section(_("My electricity"), (Page("mine", "/mine", _("My electricity"), "mine.read"),)),
    Section(_("Today"), (Page("today", "/", _("Today")), Page("alerts", "/alerts", _("Alerts")))),
    Section(_("Units"), (Page("units", "/units", _("Units")),)),
    Section(_("Accounts"), (Page("accounts", "/accounts", _("Accounts")),)),
    Section(
        _("Tariffs"),
        (
            Page("tariffs", "/tariffs", _("Plans")),
            Page("approvals", "/approvals", _("Approvals")),
            Page("limits", "/approvals/limits", _("Limits")),
            Page("announced", "/tariffs/announced", _("Announced prices")),
            Page("rules", "/tariffs/rules", _("Price rules")),
        ),
    ),
    Section(
        _("Money"),
        (
            Page("money", "/money", _("Recharges")),
            Page("debts", "/debts", _("Debts")),
            Page("refunds", "/refunds", _("Refunds")),
            Page("lets", "/lets", _("Lets")),
        ),
    ),
    Section(
        _("Meters"),
        (
            Page("meters", "/meters", _("Meters")),
            Page("held", "/meters/held", _("Held readings")),
            Page("cases", "/meters/cases", _("Tamper cases")),
            Page("fleet", "/meters/fleet", _("Fleet")),
            Page("orders", "/meters/orders", _("Orders")),
            Page("bulks", "/meters/bulks", _("Bulks")),
            Page("work", "/work", _("Round of meters"), "meters.read"),
            Page("fitted", "/work/fitted", _("Fitted meters"), "meters.read"),
            Page("concentrators", "/meters/concentrators", _("Concentrators"), "meters.read"),
            Page("certificates", "/meters/certificates", _("Certificates"), "meters.read"),
            Page("credit", "/meters/credit", _("Credit in meters")),
        ),
    ),
    Section(_("Supply"), (Page("supply", "/supply", _("Supply")),)),
    Section(_("Messages"), (Page("messages", "/messages", _("Messages")),)),
    Section(
        _("Property"),
        (
            Page("property", "/property", _("Overview")),
            Page("supply-rules", "/property/rules", _("Supply rules")),
            Page("tamper-policy", "/property/tamper", _("Tamper policy")),
            Page("figures", "/figures", _("Figures"), "figures.read"),
            Page("keys", "/property/keys", _("Keys of programs")),
            Page("calendar", "/property/calendar", _("Calendar")),
            Page("people", "/people", _("People"), "people.manage"),
            Page("groups", "/people/groups", _("Groups"), "people.manage"),
            Page("import", "/property/import", _("Check an import"), "estate.check_import"),
        ),
    ),
    Section(
        _("Audit"),
        (
            Page("audit", "/audit", _("Events"), "audit.read"),
            Page("findings", "/audit/findings", _("Findings"), "audit.read"),
            Page("watches", "/audit/watches", _("Watches"), "audit.read"),
            Page("audit-people", "/audit/people", _("People"), "audit.read"),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Link:
    """A link as it is shown: ``here`` is the page itself, ``within`` a section around it."""

    address: str
    name: str
    here: bool
    within: bool = False


def bar(tab: str, actor: Actor | None) -> list[Link]:
    """The sections in which the actor may read anything, with the one that holds the page."""
    found = []
    for section in SECTIONS:
        pages = _open(section, actor)
        if pages:
            within = any(page.tab == tab for page in pages)
            here = pages[0].tab == tab
            found.append(Link(pages[0].address, str(section.name), here=here, within=within))
    return found


def beside(tab: str, actor: Actor) -> list[Link]:
    """The pages of the same section that the actor may open; none where the page stands alone."""
    for section in SECTIONS:
        if any(page.tab == tab for page in section.pages):
            pages = _open(section, actor)
            links = [Link(each.address, str(each.name), here=each.tab == tab) for each in pages]
            return links if len(links) > 1 else []
    return []


def _open(section: Section, actor: Actor | None) -> list[Page]:
    return [page for page in section.pages if may(actor, page.permission)]


def section_of(tab: str) -> str:
    """The name of the section that holds a page."""
    found = [each.name for each in SECTIONS if any(page.tab == tab for page in each.pages)]
    return str(found[0]) if found else ""
