"""How long a cut and a reconnection take, from the last gate or the recharge to the relay's read-back.

Everything goes the way it goes in life. A large load is switched on at simulated meters, their next
readings use the last cents up, warnings are delivered, gates open, the head-end sends the order and
reads the relay back; then a recharge by the operator's own operation connects again. The figures are
the instants that the database keeps, not a stopwatch beside it.

So that nobody has to wait hours for a wallet to run dry, the money of the chosen accounts but for a
few cents is first taken out by a ledger adjustment, and put back at the end. The mass-cut brake is
respected: where it leaves no room, the measurement waits for its window to pass.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic, sleep
from typing import Any, Final

import psycopg
from django.db import connection

from prewatt import wiring
from prewatt.access.models import User
from prewatt.access.scope import Actor, actor_for, scope
from prewatt.benchmarks.figures import Latencies
from prewatt.benchmarks.running_demo import RunningDemo
from prewatt.core.civil_time import instant_us, utc_datetime
from prewatt.core.credit import SECOND_US, decide_brake
from prewatt.core.cut_window import is_open
from prewatt.core.drivers import Driver
from prewatt.core.money import MICRO
from prewatt.core.vocabulary import Gate, OrderKind, OrderState, Outcome, RelayState
from prewatt.ledger.operations import lock_accounts
from prewatt.runtime.state import CannotRunError
from prewatt.supply import queries
from prewatt.supply.operations import decide_after_credit
from prewatt.vending.operations import Recharge, RechargeRefused, recharge

#: What is left above the line at which supply is cut, and the load that uses it up: a reading or two.
LEFT_MICRO: Final = 3 * MICRO // 100
LOAD_W: Final = 40_000
#: The demo's own story may cut somebody meanwhile, and must not find the brake on for it.
ROOM_FOR_OTHERS: Final = 2
_CENT: Final = MICRO // 100
_CUT_WITHIN_S: Final = 120.0
_CONNECT_WITHIN_S: Final = 60.0
#: Recharges come one by one, as from one cash desk.
_BETWEEN_RECHARGES_S: Final = 0.2
_POLL_S: Final = 0.1

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SupplyFigures:
    """What `prewatt bench supply` prints. ``last_gates`` counts cuts by the gate that opened last."""

    recharge_to_closed: Latencies
    gate_to_open: Latencies
    decided_to_open: Latencies
    last_gates: Mapping[str, int]


@dataclass(slots=True)
class _Subject:
    """An account that is cut and connected, and how much was taken out of its wallet for that."""

    account_id: int
    serial: str
    taken_micro: int = 0


def measure(demo: RunningDemo, *, cuts: int, accounts: int, tell: Tell) -> SupplyFigures:
    """Cut and recharge as often as asked, each account in turn.

    Raises CannotRunError if cuts are not permitted now, the brake is on, or an order stays open.
    """
    if cuts < 1 or accounts < 1:
        raise CannotRunError("nothing to measure: at least one cut and one account are needed")
    # Who may adjust; an operator only sells.
    user = User.objects.get(email="admin@fernmoor.example")
    bench = _Bench(demo, actor_for(user, property_id=demo.property_id), tell)
    began, done = wiring.now(), 0
    subjects = bench.choose(min(accounts, cuts))
    with ExitStack() as stack:
        stack.callback(bench.put_back, subjects)
        stack.callback(demo.switch, [each.serial for each in subjects], "heater", 0)
        while done < cuts:
            size = bench.await_room(min(cuts - done, len(subjects)))
            bench.round(subjects[:size])
            done += size
            subjects = subjects[size:] + subjects[:size]
            tell(f"{done} of {cuts} cuts and recharges")
        return bench.figures([each.account_id for each in subjects], began)


#: One leg of kind 5 against adjustments, 10 (core/accounts.py).
_ADJUST: Final = """
SELECT refusal FROM append_transfers(ARRAY[nextval('event_id_seq')], ARRAY[%(account)s::bigint], '{5}', '{1}',
    '{0}', '{10}', ARRAY[%(amount)s::bigint], '{0}', '{0}', ARRAY[%(at)s::timestamptz],
    ARRAY[%(at)s::timestamptz], '{null}', '{null}', '{bench.supply}', '{0}', '{""}', %(at)s, ARRAY[%(by)s::text])
"""


@dataclass(frozen=True, slots=True)
class _Bench:
    demo: RunningDemo
    actor: Actor
    tell: Tell

    def choose(self, count: int) -> list[_Subject]:
        """Customers whose supply nothing is unusual about, with one meter that answers, on a line of its own: a
        load is switched on over the broker, and a radio is as quick as it is. Whoever's meter holds its credit cuts itself.
        """
        found = self._rows(
            """SELECT a.id, min(m.serial) FROM account a
               JOIN supply_state s ON s.account_id = a.id
               JOIN account_state w ON w.account_id = a.id
               JOIN meter_assignment ma ON ma.account_id = a.id AND ma.period @> %(now)s
               JOIN meter m ON m.id = ma.meter_id AND m.has_relay
               JOIN meter_link l ON l.meter_id = m.id
               WHERE a.kind = 'customer' AND a.closed_at IS NULL AND s.protection = ''
                 AND s.desired = %(closed)s AND NOT s.held AND l.relay = %(closed)s
                 AND l.last_seen_at > %(recent)s AND w.available > 0
                 AND m.serial <> ALL (%(story)s) AND m.driver = %(driver)s
                 AND NOT EXISTS (SELECT FROM meter_wallet h WHERE h.meter_id = m.id)
               GROUP BY a.id HAVING count(*) = 1 ORDER BY a.id DESC LIMIT %(count)s""",
            {
                "now": wiring.now(),
                "closed": RelayState.CLOSED.value,
                "recent": wiring.now() - timedelta(minutes=1),
                "story": sorted(self.demo.story),
                "driver": str(Driver.MQTT_SENML),
                "count": count,
            },
        )
        if len(found) < count:
            raise CannotRunError(f"only {len(found)} accounts of the demo can be cut, not {count}")
        return [_Subject(*row) for row in found]

    def await_room(self, wanted: int) -> int:
        """How many may be cut now, at most as many as wanted; waits while the brake leaves no room."""
        while True:
            room, free_at = self._room(wiring.now())
            if room > 0:
                return min(wanted, room)
            wait = max((free_at - wiring.now()).total_seconds(), 1.0)
            self.tell(f"the mass-cut brake leaves no room; waiting {wait:.0f} s")
            sleep(wait)

    def round(self, subjects: Sequence[_Subject]) -> None:
        """Cut these and connect them again."""
        ids, began = [each.account_id for each in subjects], wiring.now()
        self.demo.switch([each.serial for each in subjects], "heater", LOAD_W)
        for each in subjects:
            each.taken_micro += self._take(each.account_id)
        self._await_orders(ids, OrderKind.DISCONNECT, began, _CUT_WITHIN_S)
        # Off before the recharge, or it would soon be used up and cause a cut that nobody counted.
        self.demo.switch([each.serial for each in subjects], "heater", 0)
        began = wiring.now()
        for each in subjects:
            self._recharge(each.account_id)
            sleep(_BETWEEN_RECHARGES_S)
        self._await_orders(ids, OrderKind.CONNECT, began, _CONNECT_WITHIN_S)

    def put_back(self, subjects: Sequence[_Subject]) -> None:
        """Give back what was taken out of the wallets."""
        taken = [each for each in subjects if each.taken_micro]
        for each in taken:
            self._adjust(each.account_id, each.taken_micro)
            with scope(self.actor):
                lock_accounts([each.account_id])
                decide_after_credit(account_ids=[each.account_id], now=wiring.now())

    def figures(self, account_ids: Sequence[int], since: datetime) -> SupplyFigures:
        """The figures of the verified orders of these accounts since an instant."""
        recharges = self._rows(
            """SELECT o.finished_at - p.accepted_at FROM payment p
               JOIN supply_order o ON o.account_id = p.account_id AND o.decided_at = p.accepted_at
                AND o.kind = %s AND o.state = %s
               WHERE p.account_id = ANY(%s) AND p.accepted_at >= %s ORDER BY p.accepted_at""",
            [OrderKind.CONNECT.value, OrderState.VERIFIED.value, list(account_ids), since],
        )
        cuts = self._rows(
            """SELECT o.decided_at, o.finished_at, d.gates::text FROM supply_order o
               JOIN supply_decision d ON d.id = o.decision_id
               WHERE o.account_id = ANY(%s) AND o.decided_at >= %s AND o.kind = %s AND o.state = %s
               ORDER BY o.decided_at""",
            [list(account_ids), since, OrderKind.DISCONNECT.value, OrderState.VERIFIED.value],
        )
        opened = [last_gate(json.loads(gates)) for _, _, gates in cuts]
        return SupplyFigures(
            Latencies.of([row[0] for row in recharges]),
            Latencies.of([cut[1] - at for cut, (_, at) in zip(cuts, opened, strict=True)]),
            Latencies.of([finished - decided for decided, finished, _ in cuts]),
            dict(Counter(gate for gate, _ in opened)),
        )

    def _rows(self, statement: str, params: Any) -> list[tuple[Any, ...]]:
        with scope(self.actor), connection.cursor() as cursor:
            cursor.execute(statement, params)
            return list(cursor.fetchall())

    def _room(self, now: datetime) -> tuple[int, datetime]:
        """How many cuts the brake leaves to us, and from when on it leaves one."""
        place = self.demo.property_id
        with scope(self.actor):
            rules = queries.rules([place], now)[place]
            brake_on = queries.brake_since([place])[place]
        if brake_on is not None:
            raise CannotRunError("the mass-cut brake is on; two people have to release it first")
        if not is_open(rules.supply.window, instant_us(now)):
            raise CannotRunError(
                f"nobody may be cut at the demo's time, {now:%H:%M} UTC; "
                "stop the demo and start it again, and its next working day begins"
            )
        window = timedelta(seconds=rules.brake.window_s)
        recent = self._rows(
            """SELECT d.decided_at FROM supply_decision d JOIN supply_policy p USING (property_id)
               WHERE d.property_id = %s AND d.decided_at > %s AND d.outcome = %s AND NOT d.would_have
                 AND d.decided_at > coalesce(p.brake_released_at, '-infinity')
               ORDER BY d.decided_at""",
            [place, now - window, Outcome.CUT.value],
        )
        ((connected,),) = self._rows(
            "SELECT count(*) FROM supply_state WHERE property_id = %s AND desired = %s",
            [place, RelayState.CLOSED.value],
        )
        cuts_us = [instant_us(row[0]) for row in recent]
        reading = decide_brake(cuts_us, connected + len(cuts_us), rules.brake, instant_us(now))
        ours = reading.limit - ROOM_FOR_OTHERS
        if ours < 1:
            raise CannotRunError(
                f"the mass-cut brake lets {reading.limit} cuts pass, too few to measure beside the "
                "demo's own; start the demo with --brake-cuts"
            )
        free_at = recent[-ours][0] + window if len(recent) >= ours else now
        return ours - len(recent), free_at

    def _take(self, account_id: int) -> int:
        """Take all but a few cents out of a wallet; returns how much."""
        with scope(self.actor):
            amount = self._above_line(account_id) - LEFT_MICRO
        if amount <= _CENT:
            return 0
        self._adjust(account_id, -amount)
        return amount

    def _above_line(self, account_id: int) -> int:
        """How much is left until supply is cut; negative after that. Inside the caller's scope."""
        with connection.cursor() as cursor:
            cursor.execute(
                """SELECT w.available + s.emergency_micro FROM account_state w
                   JOIN supply_state s USING (account_id) WHERE account_id = %s""",
                [account_id],
            )
            return int(cursor.fetchone()[0])

    def _adjust(self, account_id: int, amount: int) -> None:
        """Book an adjustment, as the owner of the demo's tables: of anybody else it takes others."""
        given = {"account": account_id, "amount": amount, "at": wiring.now(), "by": self.actor.code}
        with psycopg.connect(self.demo.owner_dsn) as owner:
            refused = owner.execute(_ADJUST, given).fetchone()
        if refused != (None,):
            raise CannotRunError(f"the ledger does not take the adjustment: {refused}")

    def _recharge(self, account_id: int) -> None:
        """Sell what lifts the account a few cents above the line, as the cash desk would."""
        with scope(self.actor):
            short = LEFT_MICRO - self._above_line(account_id)
        now = wiring.now()
        (answer,) = recharge(
            actor=self.actor,
            recharges=[
                Recharge(
                    key=f"bench-{uuid.uuid4()}",
                    account_id=account_id,
                    amount=max(-(-short // _CENT), 1) * _CENT,
                    way="cash",
                    reference="bench",
                    paid_at=now,
                )
            ],
            now=now,
        )
        if isinstance(answer, RechargeRefused):
            raise CannotRunError(f"a recharge was refused: {answer.message}")

    def _await_orders(
        self, account_ids: Sequence[int], kind: OrderKind, since: datetime, within_s: float
    ) -> None:
        """Wait until each account has a verified order of this kind decided since an instant."""
        deadline = monotonic() + within_s
        while True:
            ((done,),) = self._rows(
                """SELECT count(DISTINCT account_id) FROM supply_order
                   WHERE account_id = ANY(%s) AND kind = %s AND state = %s AND decided_at >= %s""",
                [list(account_ids), kind.value, OrderState.VERIFIED.value, since],
            )
            if done == len(account_ids):
                return
            if monotonic() > deadline:
                raise CannotRunError(
                    f"only {done} of {len(account_ids)} {kind.word} orders were verified "
                    f"within {within_s:.0f} s; see Supply and Messages"
                )
            sleep(_POLL_S)


def last_gate(gates: Sequence[Mapping[str, Any]]) -> tuple[str, datetime]:
    """Which gate of a stored cut opened last, and when: the reading's, the warning's or the payment's.

    The reading that exhausted the balance counts from the meter's own clock, so transport and
    rating are part of the wait; a warning opens its gate when its notice is over. The other gates of a
    benchmark's cut had been open for long.
    """
    figures = {str(each["gate"]): each["figures"] for each in gates}
    warned = figures[Gate.WARNING_DELIVERED.word]
    delivered_us = warned["delivered_at_us"]
    opened = {
        Gate.BALANCE_EXHAUSTED: figures[Gate.READING_FRESH.word]["reading_at_us"],
        Gate.WARNING_DELIVERED: delivered_us and delivered_us + warned["notice_s"] * SECOND_US,
        Gate.NO_PAYMENT_IN_FLIGHT: figures[Gate.NO_PAYMENT_IN_FLIGHT.word]["payment_hold_until_us"],
    }
    gate, at_us = max(
        ((gate, at_us) for gate, at_us in opened.items() if at_us is not None),
        key=lambda pair: pair[1],
    )
    return gate.word, utc_datetime(at_us)
