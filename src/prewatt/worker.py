"""`prewatt worker`: what is due by the clock or by a bell: decisions, messages, postings, partitions.

Three loops, a thread each. One looks after supply and nothing else; one delivers messages, so that
a mail server that is slow or hangs holds up no cut and no order; one does the chores that take
their time: postings, partitions, lets that end, drafts to try. NOTIFY is the bell that shortens the
wait; the tables say what is due, so a missed bell costs a moment and no more. Each task has its own
transaction, and one that fails is logged and tried again while the others go on.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from prewatt import wiring
from prewatt.runtime.bells import place_rung
from prewatt.telemetry.metrics import timed_task
from prewatt.telemetry.pulse import PULSE
from prewatt.vital_signs import start_probes, watch_vitals

log = logging.getLogger(__name__)

_TICK_S: Final = 0.5
#: How long one turn may take before the process counts as stuck: a day of a million accounts is
#: posted in one turn of the chores, and a mail server may take its time for each message.
_LONGEST_TURN_S: Final = {"supply": 120.0, "deliveries": 600.0, "chores": 3600.0}
_CHORES_EVERY: Final = timedelta(minutes=1)
#: Days of feeders and of export registers are looked at so often.
_DAYS_EVERY: Final = timedelta(hours=1)
#: How long the end waits for a message that is being sent, well below the supervisor's patience.
_LAST_SEND_S: Final = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The worker has no options: its environment says it all."""
    parser.set_defaults()


def run(_arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT, or until a loop fails; returns the exit status."""
    wiring.start_django("worker")
    from prewatt.access.scope import system_actor
    from prewatt.supply.rehearsal import rehearse

    start_probes()
    watch_vitals(wiring.now)

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    rehearse(actor=system_actor("supply"), now=wiring.now())
    return Worker(dsn=os.environ["PREWATT_DSN"], clock=wiring.now).run(stopping)


class Worker:
    """The loops and their tasks."""

    def __init__(self, *, dsn: str, clock: Callable[[], datetime]) -> None:
        from prewatt.access.scope import system_actor
        from prewatt.adapters.channels import channels_from
        from prewatt.supply.tasks import SupplyTask

        self._dsn = dsn
        self._clock = clock
        self._supply = SupplyTask(system_actor("supply"))
        self._channels = channels_from(os.environ)
        self._chores_at: datetime | None = None
        self._days_looked_at: datetime | None = None
        self._thread_failed = False

    def run(self, stopping: threading.Event) -> int:
        """Run the loops until `stopping`; returns the exit status, 1 when one has failed.

        Ends within a few seconds even while a mail server hangs: that one try is then taken up
        again by the next worker, as "outcome unknown".
        """
        from django.db import connection

        deliveries = self._aside("deliveries", ("message",), self._deliver_due, stopping)
        chores = self._aside("chores", ("trial",), self._do_chores, stopping)
        try:
            self._listen("supply", ("supply_due",), self._tick, stopping)
        finally:
            stopping.set()
            connection.close()
            patience_ends = time.monotonic() + _LAST_SEND_S
            for thread in (deliveries, chores):
                thread.join(max(patience_ends - time.monotonic(), 0.0))
        if deliveries.is_alive():
            log.warning("ended while a channel had not answered; its message is tried again")
        if chores.is_alive():
            log.warning("ended in the middle of a chore; its transaction is undone and done again")
        return 1 if self._thread_failed else 0

    def _aside(
        self,
        name: str,
        bells: Sequence[str],
        turn: Callable[[threading.Event], None],
        stopping: threading.Event,
    ) -> threading.Thread:
        """A loop in a thread of its own; should it fail, the process ends, to be started afresh."""

        def loop() -> None:
            from django.db import connection

            try:
                self._listen(name, bells, lambda _woken: turn(stopping), stopping)
            except Exception:
                log.exception("the %s failed", name)
                self._thread_failed = True
            finally:
                connection.close()
                stopping.set()

        thread = threading.Thread(target=loop, name=f"worker-{name}", daemon=True)
        thread.start()
        return thread

    def _listen(
        self,
        name: str,
        bells: Sequence[str],
        turn: Callable[[Sequence[int]], None],
        stopping: threading.Event,
    ) -> None:
        """Take a turn whenever a bell rings, and every half second; it is told which properties rang."""
        import psycopg

        while not stopping.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as listener:
                    for bell in bells:
                        listener.execute(f"LISTEN {bell}")
                    while not stopping.is_set():
                        PULSE.beat(name, longest_s=_LONGEST_TURN_S[name])
                        rung = listener.notifies(timeout=_TICK_S, stop_after=1)
                        places = {place_rung(each.payload) for each in rung}
                        turn(sorted(each for each in places if each is not None))
            except psycopg.OperationalError:
                log.warning("the database is away; trying again", exc_info=True)
                PULSE.beat(name, longest_s=_LONGEST_TURN_S[name])
                stopping.wait(1.0)

    def _tick(self, woken: Sequence[int]) -> None:
        now = self._clock()
        self._try("supply", lambda: self._supply.tick(now=now, woken=woken))

    def _do_chores(self, stopping: threading.Event) -> None:
        """What takes its time: each minute what the clock asks for, and trials when one waits."""
        from prewatt import walls
        from prewatt.access.scope import system_actor
        from prewatt.billing.tasks import rate_anew, rate_held_readings, settle_peaks
        from prewatt.billing.trials import run_next_trial
        from prewatt.fleet.gaps import follow_up
        from prewatt.fleet.looking import forget
        from prewatt.fleet.looking import look as look_at_fleet
        from prewatt.instructions.releases import carry_over, tell_of_unanswered
        from prewatt.instructions.wallets import compare_balances
        from prewatt.moves.clocks import correct_clocks
        from prewatt.moves.field_watch import watch_field
        from prewatt.moves.isolated import tell_of_isolated
        from prewatt.moves.lets import begin_announced_lets, close_ended_lets
        from prewatt.oversight.guards import tell_of_missing_guards
        from prewatt.oversight.key_file import tell_of_changed_keys
        from prewatt.oversight.letters import tell_auditors
        from prewatt.oversight.operations import look
        from prewatt.signing.keyring import STORE_VARIABLE
        from prewatt.tamper.responses import respond_to_cases
        from prewatt.vending.proofs import prove_due

        now = self._clock()
        chores: list[tuple[str, Callable[[], object]]] = [
            ("trials", lambda: run_next_trial(now=now))
        ]
        if self._chores_at is None or now - self._chores_at >= _CHORES_EVERY:
            self._chores_at = now
            chores += [
                ("posting", lambda: self._post(now)),
                ("held readings", lambda: rate_held_readings(now=now)),
                ("rerating", lambda: rate_anew(now=now)),
                ("rebates", lambda: settle_peaks(now=now)),
                ("lets", lambda: close_ended_lets(now=now)),
                ("announced lets", lambda: begin_announced_lets(now=now)),
                ("partitions", lambda: self._make_partitions(now)),
                ("fleet", lambda: look_at_fleet(actor=system_actor("fleet"), now=now)),
                ("gaps", lambda: follow_up(actor=system_actor("fleet"), now=now)),
                ("old days", lambda: forget(actor=system_actor("fleet"), now=now)),
                ("proof", lambda: prove_due(now=now)),
                ("isolated devices", lambda: tell_of_isolated(now=now)),
                ("silent devices", lambda: watch_field(now=now)),
                ("clocks", lambda: correct_clocks(actor=system_actor("worker"), now=now)),
                ("tampering", lambda: self._look_for_tampering(now)),
                ("tamper cases", lambda: respond_to_cases(actor=system_actor("worker"), now=now)),
                ("oversight", lambda: look(now=now)),
                (
                    "guards",
                    lambda: tell_of_missing_guards(expected=walls.noting_guards(), now=now),
                ),
                ("letters to auditors", lambda: tell_auditors(now=now)),
                ("balances", lambda: compare_balances(actor=system_actor("worker"), now=now)),
                ("carried credit", lambda: carry_over(actor=system_actor("worker"), now=now)),
                ("releases", lambda: tell_of_unanswered(actor=system_actor("worker"), now=now)),
            ]
            key_store = os.environ.get(STORE_VARIABLE, "")
            if key_store:
                chores.append(
                    ("file of keys", lambda: tell_of_changed_keys(path=Path(key_store), now=now))
                )
        for name, chore in chores:
            if not stopping.is_set():
                self._try(name, chore)

    def _look_for_tampering(self, now: datetime) -> None:
        from prewatt.access.scope import system_actor
        from prewatt.tamper.detection import look_for_tampering

        by_day = self._days_looked_at is None or now - self._days_looked_at >= _DAYS_EVERY
        if by_day:
            self._days_looked_at = now
        look_for_tampering(actor=system_actor("worker"), now=now, by_day=by_day)

    def _deliver_due(self, stopping: threading.Event) -> None:
        from prewatt.notify.tasks import deliver_pass
        from prewatt.sign_in.notices import deliver_due as deliver_notices

        self._try(
            "messages",
            lambda: deliver_pass(
                channels=self._channels, clock=self._clock, stopping=stopping.is_set
            ),
        )
        self._try(
            "notices",
            lambda: deliver_notices(
                channels=self._channels, now=self._clock(), stopping=stopping.is_set
            ),
        )

    def _try(self, name: str, task: Callable[[], object]) -> None:
        """Run a task; an unexpected error is logged with its context and raises an alarm in the log."""
        from django.db import connection

        try:
            with timed_task(name):
                task()
        except Exception:
            log.exception("task %s failed; it is tried again", name)
            connection.close()

    def _post(self, now: datetime) -> None:
        from prewatt.billing.tasks import post_finished_days

        post_finished_days(now=now)

    def _make_partitions(self, now: datetime) -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT make_month_partitions(%s, %s)",
                [now.date(), (now + timedelta(days=62)).date()],
            )
