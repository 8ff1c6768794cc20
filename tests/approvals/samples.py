"""One sample of each kind that takes agreement: how somebody comes to want it, and how its effect is seen.

A kind without a sample fails `test_attack.py`. A new one is one `Sample` in `SAMPLES`: what to ask for, the
rows by which the owner of the tables sees what holds, and what must hold once it was agreed to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from tests.approvals.test_two_people import NOW, Office
from tests.invariants.places import rows

from prewatt.access.models import Duty, User
from prewatt.access.scope import Actor
from prewatt.api_keys.operations import wanted_key
from prewatt.approvals.ladders import Rung, ladders, wanted_ladder
from prewatt.approvals.operations import Wanted
from prewatt.billing.agreed_terms import wanted_terms
from prewatt.billing.plans import wanted_correction, wanted_plans
from prewatt.billing.proposals import wanted_version
from prewatt.core.vocabulary import (
    Protection,
    RelayState,
    RequestKind,
    TamperKind,
    TamperResponse,
)
from prewatt.debts.by_agreement import wanted_policy as wanted_debt_policy
from prewatt.debts.by_agreement import wanted_write_off
from prewatt.debts.models import Debt
from prewatt.debts.operations import open_debt
from prewatt.debts.words import Policy
from prewatt.fleet.bulks import BulkOrder, wanted_bulk
from prewatt.mandates.operations import KeyDeed, wanted_file, wanted_key_deed
from prewatt.reports.personal_file import file_of_account
from prewatt.sign_in.duties import wanted_duty, wanted_end
from prewatt.sign_in.groups import wanted_group
from prewatt.sign_in.people import Person
from prewatt.supply.by_agreement import (
    brake_is_on,
    wanted_brake,
    wanted_by_hand,
    wanted_protection,
)
from prewatt.supply.rules import wanted_rules
from prewatt.tamper.by_agreement import policy_of, wanted_policy
from prewatt.vending.by_agreement import wanted_credit, wanted_refund, wanted_taking_back
from prewatt.vending.operations import Recharge, recharge

MONEY = "ledger.credit"
EURO = 1_000_000
#: Stands in what holds for who asked for it.
MAKER = "whoever asked"


class Crowd(Office):
    """Four administrators and an operator, two who have no duty yet, and two accounts to act upon."""

    def __init__(self, owner: psycopg.Connection[Any]) -> None:
        super().__init__()
        self.owner = owner
        for name in ("kara", "liv"):
            self.users[name] = self._hire(name, Duty.ADMINISTRATOR)
        self.users["paul"] = self._hire("paul", Duty.OPERATOR)
        self.comers = [self._comer(name) for name in ("nils", "olga")]
        self.accounts = [
            int(key)
            for (key,) in rows(
                """SELECT c.id FROM account c JOIN supply_state s ON s.account_id = c.id
                   WHERE c.property_id = %s ORDER BY c.customer_id, c.number LIMIT 2""",
                self.property_id,
            )
        ]

        #: What accounts go to and come from.
        self.plans = [self._plan(name) for name in ("plan-a", "plan-b")]
        #: Two of each kind of money that is given back, moved or given up: one small, one that takes others.
        euros = (20, 250)
        self.recharges = [self._sell(euro) for euro in euros]
        self.debts = [self._owe(euro) for euro in euros]
        self.refunds = [self._refund(number, euro) for number, euro in enumerate(euros, start=1)]
        self.group = self._group("Homes")
        # What every example begins with again.
        owner.execute("CREATE TEMP TABLE wallet AS SELECT account_id, posted FROM account_state")

    def midnight(self, days: int) -> datetime:
        """The property's so many days from now."""
        here = self.now.astimezone(ZoneInfo("Europe/Berlin")) + timedelta(days=days)
        return here.replace(hour=0, minute=0, second=0, microsecond=0)

    def look(self, query: str, *values: object) -> Any:
        """The first row, by the owner of the tables: the web's login sees nothing outside a scope."""
        return self.owner.execute(query, values).fetchone()

    @property
    def places(self) -> dict[str, object]:
        """What the queries of samples name."""
        return {
            "place": self.property_id, "planned": self.accounts[:1], "wrong": self.accounts[1],
            "paul": self.users["paul"].pk, "group": self.group, "sold": self.recharges,
        }  # fmt: skip

    def _plan(self, code: str) -> str:
        """A plan that holds already, by the owner of the tables."""
        self.owner.execute(
            """WITH plan AS (INSERT INTO tariff (property_id, code, name) VALUES (%(place)s, %(code)s, %(code)s)
                             RETURNING id)
               INSERT INTO tariff_version (property_id, tariff_id, number, valid_from, content, digest, made_by,
                                           approved_by, approved_at)
               SELECT v.property_id, plan.id, 1, v.valid_from, v.content, v.digest, 'a', 'b', v.approved_at
               FROM plan, tariff_version v WHERE v.property_id = %(place)s ORDER BY v.id LIMIT 1""",
            {"place": self.property_id, "code": code},
        )
        return code

    def _sell(self, euro: int) -> int:
        """A recharge of the first account; its event."""
        wish = Recharge(
            f"{self.property_id}:{euro}", self.accounts[0], euro * EURO, "cash", "", NOW
        )
        recharge(actor=self.actor("tomas", Duty.OPERATOR), recharges=[wish], now=NOW)
        (event,) = self.look("SELECT max(event_id) FROM payment")
        return int(event)

    def _owe(self, euro: int) -> int:
        """A debt of the second account, beside its wallet."""
        return open_debt(
            actor=self.actor("ines"), account_id=self.accounts[1], amount_micro=euro * EURO,
            reason=Debt.Reason.AGREED, note="", share_ppm=0, weekly_cap_micro=0, key=f"debt {euro}", now=NOW,
        ).debt_id  # fmt: skip

    def _refund(self, number: int, euro: int) -> int:
        """What is due to somebody, past the end of their account, by the owner of the tables."""
        (made,) = self.look(
            """INSERT INTO refund (property_id, account_id, event_id, number, amount_micro, reason, state, made_by,
                                   made_at, paid_way, paid_reference, paid_by)
               VALUES (%s, %s, %s, %s, %s, 'moved_out', 'due', 'user:1', %s, '', '', '') RETURNING id""",
            self.property_id, self.accounts[1], 10**9 + number, number, euro * EURO, NOW,
        )  # fmt: skip
        self.owner.execute(
            """INSERT INTO transfer (account_id, seq, property_id, legal_entity_id, event_id, kind, component,
                   counter_account, amount, posted_after, currency, service_from, service_to, booked_at, actor, reason)
               SELECT account_id, %s, property_id, legal_entity_id, %s, 4, 1, 14, %s, 0, 'EUR', %s, %s, %s, 'user:1',
                   'moved_out' FROM account_state WHERE account_id = %s""",
            [10**9 + number, 10**9 + number, -euro * EURO, NOW, NOW, NOW, self.accounts[1]],
        )
        return int(made)

    def _group(self, name: str) -> int:
        """A group of this property alone, by the owner of the tables."""
        (made,) = self.look(
            """WITH made AS (INSERT INTO property_group (organisation_id, name)
                             SELECT organisation_id, %s FROM property WHERE id = %s RETURNING id, organisation_id),
               member AS (INSERT INTO property_group_member SELECT made.id, %s, made.organisation_id FROM made)
               SELECT id FROM made""",
            name, self.property_id, self.property_id,
        )  # fmt: skip
        return int(made)

    def _comer(self, name: str) -> User:
        user = User(email=f"{name}{self.property_id}@example.org", name=name, password="!")
        user.save()
        return user


@dataclass(frozen=True)
class Sample:
    """``want`` says what a person could ask for, one of two (``turn`` is 0 or 1). ``seen`` is a query of the
    owner's for what holds at ``%(place)s``: a row of a name and a value for each thing; ``of`` names the thing
    of a subject, and ``made`` its value once the effect was made, of what it was before. ``reset`` takes every effect back.
    ``held_as`` is another kind that is done to the same thing. ``all_stay``: it is void where anybody of those who
    agreed or asked may not any more, even if others are enough.
    """

    want: Callable[[Crowd, Actor, int], Wanted]
    seen: str
    made: Callable[[Wanted, Any], Any]
    reset: str
    of: Callable[[str], str] = lambda subject: subject
    held_as: str = ""
    all_stay: bool = False


def _ladder(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    """One other, or two: it swings between them."""
    known = ladders(actor=actor, property_id=crowd.property_id)[MONEY]
    return wanted_ladder(
        actor=actor, property_id=crowd.property_id, kind=MONEY,
        rungs=[Rung(0, 3 - known[0].approvers + turn)],
    )  # fmt: skip


def _version(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    return wanted_version(
        actor=actor, draft_id=crowd.draft_id, valid_from=crowd.now + timedelta(days=2 + turn),
        now=crowd.now,
    )  # fmt: skip


def _rules(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    version, body = crowd.look(
        "SELECT version, body FROM supply_policy WHERE property_id = %s", crowd.property_id
    )
    notice = (body.get("notice_s") or 0) + 60 * (turn + 1)
    return wanted_rules(
        actor=actor, property_id=crowd.property_id, version=version,
        body={**body, "notice_s": notice}, now=crowd.now,
    )  # fmt: skip


def _brake(crowd: Crowd, actor: Actor, _turn: int) -> Wanted:
    is_on = brake_is_on(actor=actor, property_id=crowd.property_id)
    return wanted_brake(actor=actor, property_id=crowd.property_id, release=is_on)


def _protection(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    """Protected where it was not, and the other way round."""
    account = crowd.accounts[turn]
    (before,) = crowd.look("SELECT protection FROM supply_state WHERE account_id = %s", account)
    return wanted_protection(
        actor=actor, property_id=crowd.property_id, account_id=account,
        protection=Protection.NONE if before else Protection.FIRE,
    )  # fmt: skip


def _by_hand(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    account = crowd.accounts[0]
    (before,) = crowd.look("SELECT by_hand FROM supply_state WHERE account_id = %s", account)
    relay = (RelayState.CLOSED, RelayState.OPEN)[turn] if before is None else None
    return wanted_by_hand(
        actor=actor, property_id=crowd.property_id, account_id=account, relay=relay,
        until=crowd.now + timedelta(days=3), now=crowd.now,
    )  # fmt: skip


def _tamper_policy(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    version = policy_of(actor=actor, property_id=crowd.property_id).version
    response = (TamperResponse.CUT, TamperResponse.WARN)[(version + turn) % 2]
    return wanted_policy(
        actor=actor, property_id=crowd.property_id, version=version,
        responses={TamperKind.COVER: response}, letters=["installer", *("operator",) * turn],
    )  # fmt: skip


def _key(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    return wanted_key(
        actor=actor, property_id=crowd.property_id, key=f"pwk_{'abcdefghijk'}{'xy'[turn]}_{'S' * 43}",
        name="Heating", duty="operator", permissions=["vending.recharge"],
        expires_at=crowd.now + timedelta(days=5), now=crowd.now,
    )  # fmt: skip


def _duty(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    user = crowd.comers[turn]
    (found,) = crowd.look(
        "SELECT coalesce(max(duty), '') FROM duty_grant WHERE user_id = %s", user.pk
    )
    return wanted_duty(
        actor=actor, property_id=crowd.property_id, duty=Duty.OPERATOR,
        person=Person(user.pk, user.name, user.email, found, False, NOW, "waiting", "", ""),
    )  # fmt: skip


def _duty_end(crowd: Crowd, actor: Actor, _turn: int) -> Wanted:
    user = crowd.users["paul"]
    person = Person(user.pk, user.name, user.email, "operator", False, NOW, "here", "", "")
    return wanted_end(actor=actor, property_id=crowd.property_id, person=person)


def _plans(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    """From one of two plans to the other, at one midnight or the next."""
    account = crowd.accounts[0]
    return wanted_plans(
        actor=actor, property_id=crowd.property_id, account_ids=[account],
        tariff_code=_other_plan(crowd, account), valid_from=crowd.midnight(3 + turn), now=crowd.now,
    )  # fmt: skip


def _correction(crowd: Crowd, actor: Actor, _turn: int) -> Wanted:
    account = crowd.accounts[1]
    return wanted_correction(
        actor=actor, property_id=crowd.property_id, account_id=account,
        tariff_code=_other_plan(crowd, account), from_at=crowd.midnight(-1), now=crowd.now,
    )[0]  # fmt: skip


def _terms(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    """Another number of persons each time, from one midnight or the next."""
    account = crowd.accounts[0]
    (last,) = crowd.look(
        "SELECT coalesce(max(members), 1) FROM account_terms WHERE account_id = %s", account
    )
    return wanted_terms(
        actor=actor, property_id=crowd.property_id, account_id=account, members=last + 1,
        valid_from=crowd.midnight(3 + turn), contracted_w=0, exempt=[], overlay_groups=[],
        now=crowd.now,
    )[0]  # fmt: skip


def _policy(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    (share,) = crowd.look(
        "SELECT coalesce(max(share_ppm), 250000) FROM debt_policy WHERE property_id = %s",
        crowd.property_id,
    )
    return wanted_debt_policy(
        actor=actor, property_id=crowd.property_id, policy=Policy(share_ppm=share + 1 + turn)
    )


def _other_plan(crowd: Crowd, account: int) -> str:
    (now,) = crowd.look(
        """SELECT t.code FROM tariff_assignment a JOIN tariff t ON t.id = a.tariff_id
           WHERE a.account_id = %s ORDER BY a.id DESC LIMIT 1""",
        account,
    )
    return crowd.plans[now == crowd.plans[0]]


def _as_shown(instant: str) -> str:
    """An instant as jsonb writes it."""
    return datetime.fromisoformat(instant).astimezone(UTC).isoformat()


#: The last plan of an account, and from when on.
_PLAN = """SELECT DISTINCT ON (a.account_id) 'account:' || a.account_id,
               jsonb_build_array(a.tariff_id, a.valid_from) FROM tariff_assignment a
           WHERE {} ORDER BY a.account_id, a.id DESC"""


def _on_plan(wanted: Wanted, _before: Any) -> Any:
    return [wanted.effect["plan"], _as_shown(wanted.effect["valid_from"])]


def _credit(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    return wanted_credit(
        actor=actor, account_id=crowd.accounts[0], credit_micro=(700, 400)[turn] * 1_000_000
    )


def _bulk(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    return wanted_bulk(
        actor=actor, property_id=crowd.property_id, now=crowd.now,
        order=BulkOrder((RequestKind.READ, RequestKind.VERSION)[turn]),
    )  # fmt: skip


def _refund_paid(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    return wanted_refund(
        actor=actor, refund_id=crowd.refunds[turn], way=("cash", "transfer")[turn], reference="ID"
    )


def _reversal(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    return wanted_taking_back(actor=actor, event_id=crowd.recharges[turn], to_account_id=None)


def _move(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    return wanted_taking_back(
        actor=actor, event_id=crowd.recharges[turn], to_account_id=crowd.accounts[1]
    )


def _write_off(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    return wanted_write_off(actor=actor, debt_id=crowd.debts[turn])


def _group(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    """Another name for the group that there is, or one more."""
    (name,) = crowd.look("SELECT name FROM property_group WHERE id = %s", crowd.group)
    return wanted_group(
        actor=actor, property_id=crowd.property_id, group_id=None if turn else crowd.group,
        name="More" if turn else {"Homes": "Houses"}.get(name, "Homes"), places=[crowd.property_id],
    )  # fmt: skip


def _signing_key(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    deed = KeyDeed("revoke", "receipt", "k1") if turn else KeyDeed("rotate", "receipt")
    return wanted_key_deed(actor=actor, property_id=crowd.property_id, wanted=deed)


def _file(crowd: Crowd, actor: Actor, turn: int) -> Wanted:
    customer, name, accounts = file_of_account(actor=actor, account_id=crowd.accounts[0])
    return wanted_file(
        actor=actor, property_id=crowd.property_id, customer_id=customer, name=name,
        accounts=accounts, asked_by=("The customer", "Their lawyer")[turn],
    )  # fmt: skip


#: What was given by a mandate: each agreement gives another one, good so often.
_MANDATES = """SELECT subject, jsonb_agg(jsonb_build_array(effect, made_by, uses_left) ORDER BY id) FROM mandate
               WHERE property_id = %(place)s AND kind = '{}' GROUP BY subject"""


def _given(uses: int) -> Callable[[Wanted, Any], Any]:
    return lambda wanted, before: [*(before or []), [dict(wanted.effect), MAKER, uses]]


#: How a recharge was taken back: what of it went, and where to.
_TAKEN_BACK = """SELECT 'recharge:' || x.corrects_event_id, jsonb_agg(
                     jsonb_build_array(t.kind, t.account_id, t.amount) ORDER BY t.account_id, t.seq)
                 FROM transfer x JOIN transfer t ON t.event_id = x.event_id
                 WHERE x.corrects_event_id = ANY (%(sold)s) AND x.property_id = %(place)s
                 GROUP BY x.corrects_event_id"""


def _taken_back(wanted: Wanted, _before: Any) -> Any:
    effect = wanted.effect
    if effect["to"] is None:
        return [[7, effect["account"], -effect["amount"]]]
    return sorted(
        [[8, effect["account"], -effect["amount"]], [8, effect["to"], effect["amount"]]],
        key=lambda leg: leg[1],
    )


#: Kinds that need more than this world has; none may come to it by itself.
#: An edit needs charged readings; two people, splitting and void are tried by its page (`test_readings.py`).
UNTRIED: frozenset[str] = frozenset({"mdm.edit"})

SAMPLES: dict[str, Sample] = {
    "approvals.ladder": Sample(
        _ladder,
        """SELECT 'ladder:' || kind, jsonb_agg(jsonb_build_array(above, approvers) ORDER BY above)
           FROM amount_limit WHERE property_id = %(place)s AND kind = 'ledger.credit' GROUP BY kind""",
        lambda wanted, _before: wanted.effect["rungs"],
        "DELETE FROM amount_limit",
    ),
    "billing.tariff": Sample(
        _version,
        """SELECT 'tariff:' || t.code, jsonb_agg(jsonb_build_array(v.number, encode(v.digest, 'hex'), v.valid_from)
                                                 ORDER BY v.number)
           FROM tariff t JOIN tariff_version v ON v.tariff_id = t.id
           WHERE t.property_id = %(place)s AND t.code = 'new' GROUP BY t.code""",
        lambda wanted, _before: [
            [1, wanted.effect["digest"], _as_shown(wanted.effect["valid_from"])]
        ],
        """DELETE FROM tariff_version v USING tariff t WHERE t.id = v.tariff_id AND t.code = 'new';
           DELETE FROM tariff WHERE code = 'new'; UPDATE tariff_draft SET became = NULL""",
    ),
    "supply.rules": Sample(
        _rules,
        "SELECT 'rules', jsonb_build_array(version, body) FROM supply_policy WHERE property_id = %(place)s",
        lambda wanted, _before: [wanted.effect["version"] + 1, wanted.effect["rules"]],
        "",
    ),
    "supply.brake": Sample(
        _brake,
        "SELECT 'brake', to_jsonb(brake_since IS NOT NULL) FROM supply_policy WHERE property_id = %(place)s",
        lambda wanted, _before: wanted.subject == "brake:on",
        "UPDATE supply_policy SET brake_since = NULL, brake_release_asked_by = ''",
        of=lambda _subject: "brake",
    ),
    "supply.protection": Sample(
        _protection,
        "SELECT 'account:' || account_id, to_jsonb(protection) FROM supply_state WHERE property_id = %(place)s",
        lambda wanted, _before: wanted.effect["protection"],
        "UPDATE supply_state SET protection = ''",
    ),
    "tamper.policy": Sample(
        _tamper_policy,
        "SELECT 'policy', body FROM tamper_policy WHERE property_id = %(place)s",
        lambda wanted, _before: wanted.effect["policy"],
        "DELETE FROM tamper_policy",
    ),
    "supply.by_hand": Sample(
        _by_hand,
        "SELECT 'account:' || account_id, to_jsonb(by_hand) FROM supply_state WHERE property_id = %(place)s",
        lambda wanted, _before: {"none": None, "closed": 1, "open": 2}[wanted.effect["relay"]],
        "UPDATE supply_state SET by_hand = NULL, by_hand_until = NULL",
    ),
    "api_keys.key": Sample(
        _key,
        """SELECT 'api_key:' || public_id, jsonb_build_array(encode(secret_sha256, 'hex'), permissions)
           FROM api_key WHERE property_id = %(place)s""",
        lambda wanted, _before: [wanted.effect["secret_sha256"], wanted.effect["permissions"]],
        "DELETE FROM api_key",
    ),
    "fleet.bulk": Sample(
        _bulk,
        """SELECT CASE kind WHEN 1 THEN 'fleet:read' ELSE 'fleet:version' END, jsonb_agg(meters ORDER BY id)
           FROM fleet_bulk WHERE property_id = %(place)s GROUP BY 1""",
        lambda wanted, before: [*(before or []), wanted.amount],
        "DELETE FROM meter_request; DELETE FROM fleet_bulk",
    ),
    "access.duty": Sample(
        _duty,
        """SELECT 'user:' || u.id, jsonb_agg(g.duty) FROM duty_grant g JOIN app_user u ON u.id = g.user_id
           WHERE g.property_id = %(place)s AND u.name IN ('nils', 'olga') GROUP BY u.id""",
        lambda wanted, _before: [wanted.effect["duty"]],
        """DELETE FROM duty_grant USING app_user u WHERE u.id = user_id AND u.name IN ('nils', 'olga');
           DELETE FROM person_line USING app_user u WHERE u.id = user_id AND u.name IN ('nils', 'olga')""",
    ),
    "access.duty_end": Sample(
        _duty_end,
        """SELECT 'user:' || user_id, to_jsonb(ended_at IS NOT NULL) FROM duty_grant
           WHERE user_id = %(paul)s""",
        lambda _wanted, _before: True,
        """UPDATE duty_grant SET ended_at = NULL, ended_by = '' FROM app_user u
           WHERE u.id = user_id AND u.name = 'paul'""",
    ),
    "billing.plans": Sample(
        _plans,
        _PLAN.format("a.account_id = ANY (%(planned)s)"),
        _on_plan,
        """DELETE FROM tariff_assignment a WHERE a.id > (
               SELECT min(b.id) FROM tariff_assignment b WHERE b.account_id = a.account_id)""",
    ),
    "billing.correction": Sample(
        _correction,
        _PLAN.format("a.account_id = %(wrong)s"),
        _on_plan,
        "",
    ),
    "billing.terms": Sample(
        _terms,
        """SELECT DISTINCT ON (account_id) 'account:' || account_id, jsonb_build_array(members, valid_from)
           FROM account_terms WHERE account_id = ANY (%(planned)s) ORDER BY account_id, id DESC""",
        lambda wanted, _before: [
            wanted.effect["terms"]["members"],
            _as_shown(wanted.effect["valid_from"]),
        ],
        "DELETE FROM account_terms",
    ),
    "debts.policy": Sample(
        _policy,
        "SELECT 'debts', to_jsonb(share_ppm) FROM debt_policy WHERE property_id = %(place)s",
        lambda wanted, _before: wanted.effect["policy"]["share_ppm"],
        "DELETE FROM debt_policy",
    ),
    MONEY: Sample(
        _credit,
        """SELECT 'account:' || account_id, jsonb_agg(amount ORDER BY seq) FROM transfer
           WHERE property_id = %(place)s AND reason = 'credit.by_hand' GROUP BY account_id""",
        lambda wanted, before: [*(before or []), wanted.effect["credit"]],
        "DELETE FROM transfer WHERE reason = 'credit.by_hand'",
    ),
    "vending.refund": Sample(
        _refund_paid,
        """SELECT 'refund:' || id, jsonb_build_array(paid_way, paid_by) FROM refund
           WHERE property_id = %(place)s AND state = 'paid'""",
        lambda wanted, _before: [wanted.effect["way"], MAKER],
        """UPDATE refund SET state = 'due', paid_at = NULL, paid_by = '', paid_way = '', paid_reference = ''""",
    ),
    "vending.reversal": Sample(
        _reversal,
        _TAKEN_BACK,
        _taken_back,
        # By their wallets, which all money comes back to here.
        """DELETE FROM transfer t USING transfer x WHERE x.event_id = t.event_id AND x.corrects_event_id IS NOT NULL
               AND x.kind IN (7, 8);
           UPDATE account_state s SET posted = w.posted FROM wallet w WHERE w.account_id = s.account_id""",
    ),
    "vending.move": Sample(
        _move, "SELECT '', NULL::jsonb WHERE false", _taken_back, "", held_as="vending.reversal"
    ),
    "debts.write_off": Sample(
        _write_off,
        """SELECT 'debt:' || d.id, jsonb_build_array(d.ending, (
               SELECT max(t.amount) FROM transfer t WHERE t.account_id = d.account_id AND t.code = d.code AND t.kind = 6))
           FROM debt d WHERE d.property_id = %(place)s AND d.closed_at IS NOT NULL""",
        lambda wanted, _before: ["written_off", wanted.effect["amount"]],
        "DELETE FROM transfer WHERE kind = 6; UPDATE debt SET closed_at = NULL, ending = ''",
    ),
    "access.group": Sample(
        _group,
        """SELECT CASE g.id WHEN %(group)s THEN 'group:' || g.id ELSE 'group:new' END,
               jsonb_build_array(g.name, array_agg(m.property_id ORDER BY m.property_id))
           FROM property_group g JOIN property_group_member m ON m.property_group_id = g.id GROUP BY g.id""",
        lambda wanted, _before: [wanted.effect["name"], wanted.effect["places"]],
        """DELETE FROM property_group_member m USING property_group g WHERE g.id = m.property_group_id AND g.name = 'More';
           DELETE FROM property_group WHERE name = 'More'; UPDATE property_group SET name = 'Homes'""",
        all_stay=True,
    ),
    "signing.key": Sample(
        _signing_key, _MANDATES.format("signing.key"), _given(1), "DELETE FROM mandate"
    ),
    "privacy.file": Sample(_file, _MANDATES.format("privacy.file"), _given(3), ""),
}
