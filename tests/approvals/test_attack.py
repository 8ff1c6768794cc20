"""Any order of anybody's deeds: no change takes effect without who has to agree, and each agreement once.

Every kind that the program has is tried (`samples.py`), by the web's own login under the duties' roles. What
is right is said by a model of a page, `Model`, which knows nothing of the functions of the database: after
each deed the proposals and all that they could change are read by the owner of the tables and held against it.
All examples share one database. Effects have to be committed, for agreements are taken by their transaction;
so an example begins with everything taken back by the owner (`Sample.reset`), not with a savepoint.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connections
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from tests.approvals.samples import MAKER, SAMPLES, UNTRIED, Crowd
from tests.conftest import role_dsn
from tests.invariants.places import signed_in

from cases import cases
from prewatt.access.models import Duty
from prewatt.access.scope import PermissionRefused
from prewatt.approvals import kinds
from prewatt.approvals.operations import (
    APPROVE,
    EMERGENCY,
    PROPOSE,
    ProposalRefused,
    Wanted,
    approve,
    break_glass,
    digest_of,
    propose,
    refuse,
    withdraw,
)

NAMES = ("ines", "jonas", "kara", "liv", "tomas")
#: Above so much so many others (decision 22), where a property has no limits of its own.
_MONEY_BACK = [(0, 0), (200_000_000, 1), (10_000_000_000, 2)]
USUAL = {
    "vending.refund": _MONEY_BACK,
    "vending.reversal": _MONEY_BACK,
    "vending.move": _MONEY_BACK,
    "debts.write_off": [(0, 0), (50_000_000, 1), (5_000_000_000, 2)],
    "billing.plans": [(0, 0), (5, 1), (500, 2)],
    "billing.correction": [(0, 1), (1_000_000_000, 2)],
    "fleet.bulk": [(0, 0), (100, 1), (5_000, 2)],
    "ledger.credit": [(0, 1), (1_000_000_000, 2)],
}
#: What one administrator may do at once, alone (decision 20); said here once more, for the model's own use.
RESCUES: dict[str, Callable[[Any], bool]] = {
    "supply.brake": lambda _effect: True,
    "supply.protection": lambda effect: effect["protection"] != "",
    "supply.by_hand": lambda effect: effect["relay"] == "closed",
}
DAY = timedelta(days=1)


# --- what is right ---


@dataclass
class Step:
    """A second factor that was proved, and what for."""

    who: str
    deed: str
    wanted: Wanted
    is_fresh: bool = True


@dataclass
class Waiting:
    """A proposal as it should stand."""

    wanted: Wanted
    maker: str
    made_at: datetime
    needed: int
    state: str = "open"
    agreed: set[str] = field(default_factory=set)


@dataclass
class Model:
    """Who may do what now, what waits, which proofs are good, and what holds, by kind and thing."""

    now: datetime
    holds: dict[tuple[str, str], Any]
    duties: dict[str, Duty] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    limits: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: dict(USUAL))
    steps: dict[int, Step] = field(default_factory=dict)
    proposals: dict[int, Waiting] = field(default_factory=dict)
    #: What held when a change was thought of, and when that was: as long as it holds, none is void.
    thought_of: dict[int, tuple[Any, datetime]] = field(default_factory=dict)

    def copied(self) -> Model:
        """Another one to try on; what is wanted stays the same thing, by which it is known when it was thought of."""
        same = [each.wanted for each in (*self.proposals.values(), *self.steps.values())]
        return copy.deepcopy(self, {id(each): each for each in same})

    def thinks_of(self, wanted: Wanted) -> None:
        self.thought_of[id(wanted)] = (self.holds.get(_thing(wanted)), self.now)

    def _has_changed(self, wanted: Wanted) -> bool:
        before, at = self.thought_of[id(wanted)]
        return self.now > at + DAY or before != self.holds.get(_thing(wanted))

    def is_administrator(self, who: str) -> bool:
        return self.duties[who] is Duty.ADMINISTRATOR and who not in self.away

    def may_ask(self, who: str, kind: str) -> bool:
        """Paying refunds out is an operator's as well."""
        sells = self.duties[who] is Duty.OPERATOR and who not in self.away
        return self.is_administrator(who) or (sells and kind == "vending.refund")

    def _use(self, step: int, who: str, deed: str, wanted: Wanted) -> bool:
        """A proof of this very person, deed and change is good once, while it is fresh."""
        found = self.steps.get(step)
        same = found is not None and (found.who, found.deed, _change(found.wanted)) == (
            who, deed, _change(wanted),
        )  # fmt: skip
        if found is None or not same or not found.is_fresh:
            return False
        del self.steps[step]
        return True

    def needs(self, wanted: Wanted, maker: str, leaving_out: int | None = None) -> int:
        """How many others; what one person did or asked for within the day counts together."""
        total = wanted.amount + sum(
            each.wanted.amount
            for key, each in self.proposals.items()
            if (each.wanted.kind, each.maker) == (wanted.kind, maker) and key != leaving_out
            and each.state in {"open", "approved", "alone"}
        )  # fmt: skip
        rungs = self.limits.get(wanted.kind, [(0, 1)])
        return [others for above, others in rungs if above < total or above == 0][-1]

    def _take_effect(self, wanted: Wanted, maker: str) -> None:
        made = SAMPLES[wanted.kind].made(wanted, self.holds.get(_thing(wanted)))
        self.holds[_thing(wanted)] = _said_of(maker, made)
        if wanted.kind == "approvals.ladder":
            self.limits[wanted.effect["of"]] = [tuple(each) for each in wanted.effect["rungs"]]

    def propose(self, who: str, wanted: Wanted, step: int, said: Said) -> bool:
        waiting = [
            each
            for each in self.proposals.values()
            if each.state == "open" and _about(each.wanted) == _about(wanted)
        ]
        if any(self.now < each.made_at + 14 * DAY for each in waiting):
            return said.word == "refused"
        before = dict(self.steps)
        if not self.may_ask(who, wanted.kind) or not self._use(step, who, PROPOSE, wanted):
            return said.word == "refused"
        needed = self.needs(wanted, who)
        if said.word == "void":
            self.steps = before
            return needed == 0 and self._has_changed(wanted)
        if said.proposal is None:
            return False
        for each in waiting:
            # Noted by the next who asks for the same.
            each.state = "expired"
        self.proposals[said.proposal] = Waiting(
            wanted, who, self.now, needed, "open" if needed else "alone"
        )
        if not needed:
            self._take_effect(wanted, who)
        return said.word == ("waits" if needed else "done")

    def agree(self, who: str, proposal: int, step: int, said: Said) -> bool:
        found = self.proposals[proposal]
        is_open = found.state == "open" and self.now < found.made_at + 14 * DAY
        if not is_open or who in found.agreed | {found.maker} or not self.is_administrator(who):
            return said.word == "refused"
        if not self.may_ask(found.maker, found.wanted.kind):
            found.state = "void"
            return said.word == "void"
        before = dict(self.steps)
        if not self._use(step, who, APPROVE, found.wanted):
            return said.word == "refused"
        agreed = {each for each in found.agreed | {who} if self.is_administrator(each)}
        found.needed = max(1, found.needed, self.needs(found.wanted, found.maker, proposal))
        if len(agreed) < found.needed:
            found.agreed.add(who)
            return said.word == "waits"
        if said.word == "void":
            # Nothing of it was done, the proof is as good as before; and what it was proposed on has changed.
            self.steps, found.state = before, "void"
            is_short = SAMPLES[found.wanted.kind].all_stay and len(agreed) <= len(found.agreed)
            return is_short or self._has_changed(found.wanted)
        found.agreed.add(who)
        found.state = "approved"
        self._take_effect(found.wanted, found.maker)
        return said.word == "done"

    def rescue(self, who: str, wanted: Wanted, step: int, said: Said) -> bool:
        may = RESCUES.get(wanted.kind, lambda _effect: False)(wanted.effect)
        if not may or not self.is_administrator(who) or not self._use(step, who, EMERGENCY, wanted):
            return said.word == "refused"
        if said.proposal is None:
            return False
        self.proposals[said.proposal] = Waiting(wanted, who, self.now, 0, "emergency")
        self._take_effect(wanted, who)
        return said.word == "done"

    def end(self, who: str, proposal: int, verdict: str, said: Said) -> bool:
        found = self.proposals[proposal]
        is_theirs = (found.maker == who) is (verdict == "withdrawn")
        may = verdict == "withdrawn" and self.may_ask(who, found.wanted.kind)
        if found.state != "open" or not is_theirs or not (may or self.is_administrator(who)):
            return said.word == "refused"
        found.state = verdict
        return said.word == "done"


@dataclass(frozen=True)
class Said:
    """What a deed came to: `done`, `waits`, `refused` or `void`; and the proposal that it made."""

    word: str
    proposal: int | None = None


def _about(wanted: Wanted) -> tuple[str, str]:
    return wanted.kind, wanted.subject


def _thing(wanted: Wanted) -> tuple[str, str]:
    sample = SAMPLES[wanted.kind]
    return sample.held_as or wanted.kind, sample.of(wanted.subject)


def _said_of(maker: str, value: Any) -> Any:
    """A value with the name of who asked for it where a sample has none."""
    if isinstance(value, list):
        return [_said_of(maker, each) for each in value]
    return maker if value == MAKER else value


def _change(wanted: Wanted) -> tuple[Any, ...]:
    return wanted.kind, wanted.subject, dict(wanted.effect)


# --- the database, by its owner's eyes ---


class World:
    """One property for all examples; Django works by the web's login, and ``owner`` looks on."""

    def __init__(self, owner: psycopg.Connection[Any], web_dsn: str) -> None:
        self.owner = owner
        self.crowd = Crowd(owner)
        self.web = psycopg.connect(web_dsn, autocommit=True)
        #: The second session: a thread has a connection of its own.
        self.second = ThreadPoolExecutor(max_workers=1)
        self._seen = " UNION ALL ".join(
            f"SELECT '{kind}', * FROM ({each.seen}) AS seen (thing, value)"
            for kind, each in SAMPLES.items()
        )
        resets = ";".join(each.reset for each in SAMPLES.values() if each.reset)
        self._reset = f"""BEGIN; SET LOCAL session_replication_role = replica; {resets};
            DELETE FROM proposal_approval; DELETE FROM proposal; DELETE FROM step_up;
            UPDATE second_factor SET last_step = 0; UPDATE app_user SET is_active = true;
            DELETE FROM sign_in_throttle; DELETE FROM alert;
            UPDATE duty_grant g SET duty = 'administrator' FROM app_user u
            WHERE u.id = g.user_id AND u.name IN ('ines', 'jonas', 'kara', 'liv'); COMMIT"""
        self._began = self.crowd.now
        self._people = {f"user:{user.pk}": name for name, user in self.crowd.users.items()}

    def begin(self) -> Model:
        self.owner.execute(self._reset)
        self.crowd.now = self._began
        duties = dict.fromkeys(NAMES, Duty.ADMINISTRATOR) | {"tomas": Duty.OPERATOR}
        return Model(self.crowd.now, self.seen(), duties)

    def seen(self) -> dict[tuple[str, str], Any]:
        found = self.owner.execute(self._seen, self.crowd.places)
        return {
            (kind, thing): self._by_name(value) for kind, thing, value in found if value is not None
        }

    def _by_name(self, value: Any) -> Any:
        """People of the crowd by their names, wherever they stand in what holds."""
        if isinstance(value, list):
            return [self._by_name(each) for each in value]
        return self._people.get(value, value) if isinstance(value, str) else value

    def stands(self) -> dict[int, tuple[str, str, bool, set[str]]]:
        """Every proposal: its maker, its state, whether its effect was made, and who said yes to it."""
        return {
            key: (
                self._people[maker],
                state,
                is_done,
                {self._people[f"user:{each}"] for each in agreed},
            )
            for key, maker, state, is_done, agreed in self.owner.execute(
                """SELECT p.id, p.made_by, p.state, p.done_at IS NOT NULL,
                       ARRAY(SELECT person FROM proposal_approval a WHERE a.proposal_id = p.id)
                   FROM proposal p"""
            )
        }

    def close(self) -> None:
        self.second.submit(connections.close_all).result()
        self.second.shutdown()
        self.web.close()


PEOPLE = st.sampled_from(NAMES)
KINDS = st.sampled_from(sorted(SAMPLES))
#: Two times in three as it should be.
PROOFS = st.sampled_from(["good"] * 8 + ["used", "another's", "other deed's", "old"])
NUMBER = st.integers(0, 7)


class Attack(RuleBasedStateMachine):
    """Deeds of people in any order, by one session or two at once."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.model = self.world.begin()
        self.used: list[int] = []

    # --- the deeds ---

    @rule(who=PEOPLE, kind=KINDS, turn=st.integers(0, 1), proof=PROOFS)
    def propose(self, who: str, kind: str, turn: int, proof: str) -> None:
        wanted = self._wanted(who, kind, turn)
        if wanted is not None:
            step = self._step(who, PROPOSE, wanted, proof)
            self._do(self._proposing(who, wanted, step))

    @rule(who=PEOPLE, number=NUMBER, proof=PROOFS)
    def agree(self, who: str, number: int, proof: str) -> None:
        if proposal := self._proposal(number):
            step = self._step(who, APPROVE, self.model.proposals[proposal].wanted, proof)
            self._do(self._agreeing(who, proposal, step))

    @rule(number=NUMBER)
    def agree_all(self, number: int) -> None:
        """Everybody who could: without this hardly anything is ever agreed to that takes three."""
        for who in NAMES[:4]:
            self.agree(who, number, "good")

    @rule(who=PEOPLE, number=NUMBER, verdict=st.sampled_from(["withdrawn", "refused"]))
    def end(self, who: str, number: int, verdict: str) -> None:
        if proposal := self._proposal(number):
            self._do(self._ending(who, proposal, verdict))

    @rule(who=PEOPLE, kind=KINDS, turn=st.integers(0, 1), proof=PROOFS)
    def break_glass(self, who: str, kind: str, turn: int, proof: str) -> None:
        wanted = self._wanted(who, kind, turn)
        if wanted is not None:
            step = self._step(who, EMERGENCY, wanted, proof)
            self._do(self._rescuing(who, wanted, step))

    @rule(
        number=NUMBER, first=PEOPLE, second=PEOPLE, same_proof=st.booleans(),
        against=st.sampled_from(["agree", "withdrawn", "refused", "propose"]),
    )  # fmt: skip
    def at_once(self, number: int, first: str, second: str, same_proof: bool, against: str) -> None:
        """Two sessions in the same moment: both are right in one order or in the other."""
        proposal = self._proposal(number)
        if not proposal:
            return
        wanted = self.model.proposals[proposal].wanted
        step = self._step(first, APPROVE, wanted, "good")
        one = self._agreeing(first, proposal, step)
        if against == "agree":
            other_step = step if same_proof else self._step(second, APPROVE, wanted, "good")
            other = self._agreeing(first if same_proof else second, proposal, other_step)
        elif against == "propose":
            other = self._proposing(second, wanted, self._step(second, PROPOSE, wanted, "good"))
        else:
            other = self._ending(second, proposal, against)
        self._do(one, other)

    # --- the world between them ---

    @rule(who=PEOPLE, what=st.sampled_from(["leaves", "sells", "is back"]))
    def role(self, who: str, what: str) -> None:
        """Suspended, an operator instead, or an administrator again."""
        self.model.away -= {who}
        self.model.away |= {who} if what == "leaves" else set()
        if who != "tomas":
            duty = Duty.OPERATOR if what == "sells" else Duty.ADMINISTRATOR
            self.model.duties[who] = duty
        key = self.world.crowd.users[who].pk
        with self.world.owner.transaction():
            # A grant only ends and another begins; to this model both are one.
            self.world.owner.execute("SET LOCAL session_replication_role = replica")
            self.world.owner.execute(
                "UPDATE app_user SET is_active = %s WHERE id = %s", [what != "leaves", key]
            )
            self.world.owner.execute(
                "UPDATE duty_grant SET duty = %s WHERE user_id = %s",
                [self.model.duties[who].value, key],
            )

    @rule(days=st.sampled_from([2, 8, 15]))
    def wait(self, days: int) -> None:
        self.world.crowd.now += days * DAY

    @rule(kind=KINDS, needs=st.integers(1, 3))
    def other_limits(self, kind: str, needs: int) -> None:
        """A ladder that asks for so many others from nothing on; counted anew at the next yes."""
        if kind == "ledger.credit":
            # Its limits are what the sample of ladders changes.
            return
        self.model.limits[kind] = [(0, needs)]
        self.world.owner.execute(
            """INSERT INTO amount_limit (property_id, kind, above, approvers) VALUES (%s, %s, 0, %s)
               ON CONFLICT (property_id, kind, above) DO UPDATE SET approvers = excluded.approvers""",
            [self.world.crowd.property_id, kind, needs],
        )

    @rule(who=PEOPLE, number=NUMBER, role=st.sampled_from(["app_admin", "app_operator"]))
    def straight(self, who: str, number: int, role: str) -> None:
        """The web's login without the program: agreed to and not done, which nothing may come of."""
        proposal = self._proposal(number)
        if not proposal:
            return
        found = self.model.proposals[proposal]
        step = self._step(who, APPROVE, found.wanted, "good")
        self.model.now = self.world.crowd.now
        probe = self.model.copied()
        probe.agree(who, proposal, step, Said("done"))
        would_end = probe.proposals[proposal].state == "approved" and found.state == "open"
        if not would_end and role == "app_admin":
            return
        web, user = self.world.web, self.world.crowd.users[who].pk
        here = [role, f"{{{self.world.crowd.property_id}}}"]
        asked = [proposal, found.wanted.kind, user, step, self.world.crowd.now]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            # As the scope does it; what is agreed to and not done is not committed.
            _once(web, _ENTER, here, "SELECT approve_proposal(%s, %s, %s, %s, %s)", asked)
        self._hold_against(self.model)

    # --- how they are done and looked at ---

    def _wanted(self, who: str, kind: str, turn: int) -> Wanted | None:
        """What this person could ask for; None where the program's own look says that it cannot be."""
        try:
            wanted = SAMPLES[kind].want(self.world.crowd, self.world.crowd.actor(who), turn)
        except Exception as refused:
            if not (hasattr(refused, "reason") or hasattr(refused, "code")):
                raise
            return None
        self.model.now = self.world.crowd.now
        self.model.thinks_of(wanted)
        return wanted

    def _proposal(self, number: int) -> int | None:
        known = sorted(self.model.proposals)
        return known[-1 - number % len(known)] if known else None

    def _step(self, who: str, deed: str, wanted: Wanted, proof: str) -> int:
        if proof == "used" and self.used:
            return self.used[-1]
        if proof == "another's":
            who = NAMES[NAMES.index(who) - 1]
        if proof == "other deed's":
            deed = PROPOSE if deed != PROPOSE else APPROVE
        digest = digest_of(
            deed=deed, kind=wanted.kind, property_id=wanted.property_id, subject=wanted.subject,
            effect=wanted.effect,
        )  # fmt: skip
        step = self.world.crowd.prove(who, digest)
        self.model.steps[step] = Step(who, deed, wanted, is_fresh=proof != "old")
        if proof == "old":
            self.world.owner.execute(
                "UPDATE step_up SET issued_at = issued_at - interval '6 minutes' WHERE id = %s",
                [step],
            )
        self.used.append(step)
        return step

    def _proposing(self, who: str, wanted: Wanted, step: int) -> Deed:
        def do() -> Said:
            made = propose(
                actor=self.world.crowd.actor(who),
                wanted=wanted,
                reason="So",
                step_up_id=step,
                now=now,
            )
            return Said("waits" if made.needed else "done", made.proposal_id)

        now = self.world.crowd.now
        return Deed(do, lambda model, said: model.propose(who, wanted, step, said))

    def _agreeing(self, who: str, proposal: int, step: int) -> Deed:
        def do() -> Said:
            missing = approve(
                actor=self.world.crowd.actor(who), proposal_id=proposal, step_up_id=step, now=now
            )
            return Said("waits" if missing else "done")

        now = self.world.crowd.now
        return Deed(do, lambda model, said: model.agree(who, proposal, step, said))

    def _rescuing(self, who: str, wanted: Wanted, step: int) -> Deed:
        def do() -> Said:
            made = break_glass(
                actor=self.world.crowd.actor(who),
                wanted=wanted,
                reason="So",
                step_up_id=step,
                now=now,
            )
            return Said("done", made)

        now = self.world.crowd.now
        return Deed(do, lambda model, said: model.rescue(who, wanted, step, said))

    def _ending(self, who: str, proposal: int, verdict: str) -> Deed:
        def do() -> Said:
            end = withdraw if verdict == "withdrawn" else refuse
            end(actor=self.world.crowd.actor(who), proposal_id=proposal, reason="So", now=now)
            return Said("done")

        now = self.world.crowd.now
        return Deed(do, lambda model, said: model.end(who, proposal, verdict, said))

    def _do(self, *deeds: Deed) -> None:
        """Do one, or two at once; what came of it has to be right in one order at least."""
        others = [self.world.second.submit(each.said) for each in deeds[1:]]
        said = [deeds[0].said(), *(each.result() for each in others)]
        self.model.now = self.world.crowd.now
        pairs = list(zip(deeds, said, strict=True))
        for order in (pairs, pairs[::-1])[: len(pairs)]:
            model = self.model.copied()
            right = all(deed.expected(model, word) for deed, word in order)
            if right and (self._stands_as(model) or order is not pairs):
                break
        assert right, f"{[each.word for each in said]} is not what should have come of it"
        self._hold_against(model)
        self.model = model

    def _stands_as(self, model: Model) -> bool:
        return self.world.stands() == _expected(model) and self.world.seen() == _held(model)

    def _hold_against(self, model: Model) -> None:
        assert self.world.stands() == _expected(model)
        assert self.world.seen() == _held(model), "what holds is what was agreed to"


_ENTER = "SELECT set_config('role', %s, true), set_config('prewatt.properties', %s, true)"


def _once(web: psycopg.Connection[Any], *statements: Any) -> None:
    """Statements and their values in turn, as one transaction."""
    with web.transaction():
        for statement, values in zip(statements[::2], statements[1::2], strict=True):
            web.execute(statement, values)


@dataclass(frozen=True)
class Deed:
    """Something to do with the program, and whether the model would have said so, doing it there."""

    do: Callable[[], Said]
    expected: Callable[[Model, Said], bool]

    def said(self) -> Said:
        try:
            return self.do()
        except ProposalRefused as refused:
            return Said("void" if refused.reason.startswith("void:") else "refused")
        except PermissionRefused:
            return Said("refused")


def _expected(model: Model) -> dict[int, tuple[str, str, bool, set[str]]]:
    return {
        key: (each.maker, each.state, each.state in {"approved", "alone", "emergency"}, each.agreed)
        for key, each in model.proposals.items()
    }


def _held(model: Model) -> dict[tuple[str, str], Any]:
    return {thing: value for thing, value in model.holds.items() if value is not None}


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with psycopg.connect(database, autocommit=True) as owner:
        world = World(owner, role_dsn(database, "web"))
        with signed_in(role_dsn(database, "web"), database):
            yield world
            world.close()


def test_no_order_of_deeds_brings_a_change_without_who_has_to_agree(world: World) -> None:
    assert set(SAMPLES) | UNTRIED == kinds.codes(), "a new kind needs its sample (samples.py)"
    Attack.world = world
    # Each kind once as it should be, so that none is only ever refused; then each wall once.
    for number, kind in enumerate(SAMPLES):
        story = Attack()
        story.other_limits(kind, 1)
        story.propose("ines", kind, number % 2, "good")
        story.agree("ines", 0, "good")
        story.agree("jonas", 0, "used")
        story.agree("jonas", 0, "good")
        assert [each.state for each in story.model.proposals.values()] == ["approved"], kind
        story.agree("kara", 0, "good")
    _try_each_wall(Attack())
    _try_usual_limits(Attack())
    run_state_machine_as_test(
        Attack,
        settings=settings(
            max_examples=cases(15), stateful_step_count=14, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


def _try_usual_limits(story: Attack) -> None:
    """Money by the ladders that hold where nobody said another: little alone, more by others, for whom it is due."""
    money = ("vending.reversal", "vending.move", "debts.write_off", "vending.refund")
    for kind in money:
        story.propose("ines", kind, 1, "good")
        story.end("ines", 0, "withdrawn")
        story.propose("jonas", kind, 0, "good")
    # Who sells pays refunds out, and asks for nothing else.
    for kind in ("vending.refund", "debts.write_off"):
        story.propose("tomas", kind, 1, "good")


def _try_each_wall(story: Attack) -> None:
    """What a dozen random deeds seldom come to; the model says after each what should have come of it."""
    kind = "supply.protection"
    story.other_limits(kind, 2)
    for proof in ("another's", "other deed's", "old", "good"):
        story.propose("ines", kind, 0, proof)
    story.agree("ines", 0, "good")
    story.agree("tomas", 0, "good")
    for what in ("sells", "leaves", "is back"):
        story.role("jonas", what)
        story.agree("jonas", 0, "old" if what == "is back" else "good")
    for proof in ("another's", "other deed's", "good", "used", "good"):
        story.agree("jonas", 0, proof)
    story.straight("kara", 0, "app_admin")
    story.straight("kara", 0, "app_operator")
    story.role("jonas", "leaves")
    story.agree("kara", 0, "good")
    story.agree("liv", 0, "good")
    story.role("jonas", "is back")
    story.propose("ines", kind, 0, "used")
    # The very change again, by the proof that was given for it once.
    story.propose("ines", kind, 0, "good")
    story.end("ines", 0, "withdrawn")
    story.propose("ines", kind, 0, "used")
    # Who proposed it may not ask for it any more; nobody answered for a fortnight; the limits rose.
    for spoil in (lambda: story.role("ines", "sells"), lambda: story.wait(15)):
        story.other_limits(kind, 1)
        story.role("ines", "is back")
        story.propose("ines", kind, 0, "good")
        spoil()
        story.agree("jonas", 0, "good")
    story.role("ines", "is back")
    story.propose("ines", kind, 0, "good")
    story.end("jonas", 0, "withdrawn")
    story.end("ines", 0, "refused")
    story.other_limits(kind, 2)
    story.agree("jonas", 0, "good")
    story.other_limits(kind, 1)
    story.end("tomas", 0, "refused")
    story.end("kara", 0, "refused")
    # Who was asked for at the proposal is asked for, though the limits fell since.
    story.other_limits(kind, 2)
    story.propose("ines", kind, 0, "good")
    story.other_limits(kind, 1)
    story.agree("jonas", 0, "good")
    story.end("kara", 0, "refused")
    for each in ("supply.protection", "supply.by_hand", "supply.brake", "supply.rules"):
        for turn, proof in (
            (1, "other deed's"),
            (1, "another's"),
            (1, "old"),
            (1, "good"),
            (0, "good"),
        ):
            story.break_glass("liv", each, turn, proof)
    story.break_glass("tomas", "supply.brake", 0, "good")
    # A day's deeds of one person count together, though each is small enough to be done alone.
    for _ in range(7):
        story.propose("ines", "billing.plans", 1, "good")
    for against, same_proof in (
        ("agree", False), ("agree", True), ("withdrawn", False), ("refused", False), ("propose", False),
    ):  # fmt: skip
        story.propose("ines", "supply.rules", 0, "good")
        story.at_once(0, "jonas", "kara" if against == "agree" else "ines", same_proof, against)
