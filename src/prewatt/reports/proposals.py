"""Reads proposals: what waits for others, what came of it, and what it would change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from prewatt.access.scope import Actor, scope
from prewatt.approvals.operations import Wanted
from prewatt.core.tariff import Tariff, parse_tariff
from prewatt.reports.holders import HOLDER_COLUMNS, HOLDER_JOINS, HOLDER_WIDTH, Who, who
from prewatt.reports.lists import Listing
from prewatt.reports.lists_query import PAGE, actor_names
from prewatt.reports.place import NoSuchThing, json_of, place_of, rows
from prewatt.reports.tariff_changes import Change, changes_between
from prewatt.reports.tariff_trial import Tried
from prewatt.reports.tariff_trial_query import tried_on
from prewatt.reports.today import Place
from prewatt.supply import queries as supply_queries
from prewatt.supply.policy import PolicyRefused, Rules

SHOWS: Final = ("open", "ended", "emergency", "all")
SORTS: Final = ("made", "ends")
TARIFF: Final = "billing.tariff"
RULES: Final = "supply.rules"
MOVE: Final = "vending.move"


@dataclass(frozen=True, slots=True)
class ProposalRow:
    """A proposal of any kind. ``state`` says `expired` as soon as its time is over.

    ``needed`` others have to agree, ``agreed_by`` are those who have. ``who`` is whose account it is about,
    None for what is of no account. ``review`` is what somebody else said of an emergency.
    """

    proposal_id: int
    kind: str
    subject: str
    effect: Mapping[str, Any]
    amount: int
    needed: int
    agreed_by: tuple[str, ...]
    reason: str
    made_by: str
    made_by_code: str
    made_at: datetime
    expires_at: datetime
    state: str
    ended_by: str
    ended_at: datetime | None
    answer: str
    review_due_at: datetime | None
    reviewed_by: str
    reviewed_at: datetime | None
    review: str
    review_note: str
    who: Who | None

    @property
    def is_open(self) -> bool:
        """Whether somebody can still approve it."""
        return self.state == "open"

    @property
    def is_emergency(self) -> bool:
        """Whether it was done at once, by one."""
        return self.state == "emergency"

    @property
    def missing(self) -> int:
        """How many others have still to agree."""
        return max(0, self.needed - len(self.agreed_by))

    @property
    def path(self) -> str:
        """Where it is looked at."""
        return f"/approvals/{self.proposal_id}"

    @property
    def code(self) -> str:
        """The plan of a tariff version."""
        return str(self.effect.get("code", ""))

    @property
    def number(self) -> int:
        """The number of a tariff version."""
        return int(self.effect.get("number", 0))

    @property
    def begins_at(self) -> datetime:
        """The first instant of a tariff version."""
        return datetime.fromisoformat(self.effect["valid_from"])

    def matches(self, query: str, named: str) -> bool:
        """Whether every word of the query is in what it is called, whose it is, or why."""
        holder = f"{self.who.unit} {self.who.customer} {self.who.number}" if self.who else ""
        name = self.effect.get("name", "")
        text = f"{named} {self.code} {name} {self.made_by} {self.reason} {holder}".casefold()
        return all(word in text for word in query.casefold().split())


ProposalList = Listing[ProposalRow]


@dataclass(frozen=True, slots=True)
class ProposalPage:
    """One proposal with its effect as its kind shows it.

    Of a tariff version: the plan, ``before`` the number of the version that was the latest when it was
    proposed (None for a new plan), what changes, and how its trial ended. Of supply rules: both. Of money:
    what the account has now, as long as it waits, and who is to have what moves.
    """

    place: Place
    now: datetime
    proposal: ProposalRow
    digest: str
    tariff: Tariff | None = None
    before: int | None = None
    changes: tuple[Change, ...] = ()
    tried: Tried | None = None
    rules: tuple[Rules, Rules] | None = None
    #: Whose accounts it is about where they are more than one.
    accounts: tuple[Who, ...] = ()
    available_micro: int | None = None
    receiver: Who | None = None


_ROWS: Final = f"""
SELECT p.id, p.kind, p.subject, p.effect, p.amount, p.needed,
       ARRAY(SELECT 'user:' || y.person FROM proposal_approval y
             WHERE y.proposal_id = p.id ORDER BY y.id),
       p.reason, p.made_by, p.made_at, p.expires_at,
       CASE WHEN p.state = 'open' AND p.expires_at <= %(now)s THEN 'expired' ELSE p.state END,
       p.ended_by, p.ended_at, p.answer, p.review_due_at, p.reviewed_by, p.reviewed_at, p.review,
       p.review_note, {HOLDER_COLUMNS}
FROM proposal p
LEFT JOIN account a ON a.id = (p.effect->>'account')::bigint AND a.property_id = p.property_id
{HOLDER_JOINS}
WHERE p.property_id = %(property)s AND (%(id)s::bigint IS NULL OR p.id = %(id)s)
  AND (%(kind)s = '' OR p.kind = %(kind)s) AND (%(subject)s = '' OR p.subject = %(subject)s)
ORDER BY p.made_at DESC, p.id DESC
"""  # noqa: S608 - constants of our own


def proposals(
    *, actor: Actor, now: datetime, show: str = "open", query: str = "", sort: str = "made",
    kind: str = "", names: Mapping[str, str] | None = None, limit: int = PAGE,
) -> ProposalList:  # fmt: skip
    """Proposals that wait, have ended, were emergencies, or all, of one kind or any.

    ``names`` are the kinds in the reader's words, in which is searched as well.
    """
    with scope(actor):
        place = place_of(actor)
        found = _found(place, now, kind=kind)
    called = names or {}
    found = [
        row
        for row in found
        if (
            show == "all"
            or (row.is_emergency if show == "emergency" else row.is_open == (show == "open"))
        )
        and row.matches(query, str(called.get(row.kind, "")))
    ]
    if sort == "ends":
        found.sort(key=lambda row: row.expires_at)
    return ProposalList(place, now, tuple(found[:limit]), len(found))


def waiting_about(*, actor: Actor, now: datetime, subject: str) -> tuple[ProposalRow, ...]:
    """What waits for somebody's yes about one thing, such as ``refund:7``."""
    with scope(actor):
        found = _found(place_of(actor), now, subject=subject)
    return tuple(row for row in found if row.is_open)


def proposal_page(*, actor: Actor, proposal_id: int, now: datetime) -> ProposalPage:
    """One proposal. Raises NoSuchThing."""
    with scope(actor):
        place = place_of(actor)
        found = _found(place, now, proposal_id)
        if not found:
            raise NoSuchThing(f"no proposal {proposal_id} in scope")
        row = found[0]
        ((digest,),) = rows(
            "SELECT encode(digest, 'hex') FROM proposal WHERE id = %s", [proposal_id]
        )
        if row.kind == RULES:
            return ProposalPage(place, now, row, digest, rules=_rules(place, row, now))
        if row.kind != TARIFF:
            return _of_an_account(ProposalPage(place, now, row, digest, accounts=_accounts(row)))
        before = _version(place, row.code, row.number - 1)
        tried = tried_on(row.effect["draft"], row.effect["edition"], row.code, now)
    tariff = parse_tariff(row.effect["document"])
    return ProposalPage(
        place, now, row, digest, tariff=tariff,
        before=None if before is None else row.number - 1,
        changes=() if before is None else changes_between(before, tariff), tried=tried,
    )  # fmt: skip


def _found(
    place: Place, now: datetime, proposal_id: int | None = None, kind: str = "", subject: str = ""
) -> list[ProposalRow]:
    given = {
        "property": place.property_id, "now": now, "id": proposal_id, "kind": kind,
        "subject": subject,
    }  # fmt: skip
    found = rows(_ROWS, given)
    names = actor_names(by for row in found for by in (row[8], row[12], row[16], *row[6]))
    return [_row(row, names) for row in found]


def _row(row: tuple[Any, ...], names: Mapping[str, str]) -> ProposalRow:
    own, holder = row[:-HOLDER_WIDTH], row[-HOLDER_WIDTH:]
    (
        proposal_id, kind, subject, effect, amount, needed, agreed, reason, made_by, made_at,
        expires_at, state, ended_by, ended_at, answer, due_at, reviewed_by, reviewed_at, review, note,
    ) = own  # fmt: skip
    return ProposalRow(
        proposal_id, kind, subject, json_of(effect), amount, needed,
        tuple(names.get(each, each) for each in agreed), reason, names.get(made_by, made_by),
        made_by, made_at, expires_at, state, names.get(ended_by, ended_by), ended_at, answer, due_at,
        names.get(reviewed_by, reviewed_by), reviewed_at, review, note,
        None if holder[0] is None else who(holder),
    )  # fmt: skip


def _rules(place: Place, row: ProposalRow, now: datetime) -> tuple[Rules, Rules] | None:
    """Both rules; None where one of them could not be said any more."""
    try:
        return (
            supply_queries.rules_of(place.property_id, row.effect["before"], now),
            supply_queries.rules_of(place.property_id, row.effect["rules"], now),
        )
    except PolicyRefused:
        return None


def _version(place: Place, code: str, number: int) -> Tariff | None:
    found = rows(
        """SELECT v.content FROM tariff_version v JOIN tariff t ON t.id = v.tariff_id
           WHERE t.property_id = %s AND t.code = %s AND v.number = %s""",
        [place.property_id, code, number],
    )
    return parse_tariff(json_of(found[0][0])) if found else None


def preview(*, actor: Actor, wanted: Wanted, now: datetime) -> ProposalPage:
    """A change as a proposal of it would show it, before anybody proposes it."""
    with scope(actor):
        place = place_of(actor)
        holder = _who_has(wanted.effect.get("account"))
        row = ProposalRow(
            0, wanted.kind, wanted.subject, wanted.effect, wanted.amount, 1, (), "", "", actor.code, now,
            now, "open", "", None, "", None, "", None, "", "", holder,
        )  # fmt: skip
        rules = _rules(place, row, now) if wanted.kind == RULES else None
        accounts = _accounts(row)
        return _of_an_account(
            ProposalPage(place, now, row, wanted.digest.hex(), rules=rules, accounts=accounts)
        )


def _accounts(row: ProposalRow) -> tuple[Who, ...]:
    """The holders of the accounts that an effect names, by their unit."""
    named = row.effect.get("accounts", ())
    if len(named) < 2:
        return ()
    found = rows(
        f"""SELECT {HOLDER_COLUMNS} FROM account a {HOLDER_JOINS}
            WHERE a.id = ANY(%s) ORDER BY b.position, u.position, u.code, a.number""",  # noqa: S608 - constants of our own
        [list(named)],
    )
    return tuple(who(each) for each in found)


def _of_an_account(page: ProposalPage) -> ProposalPage:
    """With what the account has at this moment, while it waits, and whose the other account is."""
    row = page.proposal
    account = row.effect.get("account")
    available = rows(
        "SELECT available FROM account_state WHERE account_id = %s", [account]
    ) if row.is_open and account is not None else []  # fmt: skip
    return replace(
        page, available_micro=available[0][0] if available else None,
        receiver=_who_has(row.effect["to"]) if row.kind == MOVE else None,
    )  # fmt: skip


def _who_has(account_id: int | None) -> Who | None:
    if account_id is None:
        return None
    found = rows(
        f"SELECT {HOLDER_COLUMNS} FROM account a {HOLDER_JOINS} WHERE a.id = %s",  # noqa: S608 - constants of our own
        [account_id],
    )
    return who(found[0]) if found else None
