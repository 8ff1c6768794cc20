"""The desk: one process's callers share commits, and none of them ever waits for company.

Each lane is a thread with a connection of its own. It takes whatever has come while its last commit
was under way, sells it as one set (`recharge_together`) and gives each caller their own answer after
the commit. Nobody is kept waiting to make a set larger: an idle desk sells one recharge at once.

A lane never waits for an account or a key that somebody else holds, such as a batch of readings;
that wish goes to the patient lane and delays nobody but itself. A set that fails as a whole is taken
apart until the one that is to blame fails alone. Idempotency keys make every repetition safe, also
where a commit was made and its answer was lost.
"""

from __future__ import annotations

import logging
import queue
import threading
from _thread import allocate_lock
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from django.db import InterfaceError, OperationalError, connection

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, require
from prewatt.vending.operations import recharge_together
from prewatt.vending.words import Answer, Ask, Recharge, RechargeRefused

log = logging.getLogger(__name__)

#: Callers that wait for an answer, over all lanes; the next one is told that we are busy.
WAITING_MAX: Final = 1_000
#: Recharges in one commit.
SET_MAX: Final = 64
#: While one lane waits for the disk, another one works.
LANES: Final = 2
#: How long the patient lane waits for a lock before its wishes are refused.
PATIENCE_S: Final = 10


class DeskClosed(RuntimeError):
    """The desk was asked after it had been stopped; nothing was taken."""


class _Caller:
    """Somebody at the desk with a wish, until there is an answer."""

    __slots__ = ("_gate", "answer", "ask", "failure", "now")

    def __init__(self, ask: Ask, now: datetime) -> None:
        self.ask = ask
        self.now = now
        self.answer: Answer | None = None
        self.failure: BaseException | None = None
        self._gate = allocate_lock()
        self._gate.acquire()

    def wait(self) -> Answer:
        """Return once there is an answer; raises what kept it from being decided."""
        self._gate.acquire()
        if self.failure is not None:
            raise self.failure
        assert self.answer is not None
        return self.answer

    def tell(self, answer: Answer) -> None:
        """Let the caller go with an answer, after the commit."""
        self.answer = answer
        self._gate.release()

    def fail(self, failure: BaseException) -> None:
        """Let the caller go without one."""
        self.failure = failure
        self._gate.release()


_Line = queue.SimpleQueue["_Caller | None"]


class Desk:
    """Sells for many callers at once. ``start`` it, ask from any thread, ``stop`` it at the end."""

    def __init__(
        self,
        *,
        lanes: int = LANES,
        set_max: int = SET_MAX,
        waiting_max: int = WAITING_MAX,
        sell: Callable[..., list[Answer | None]] = recharge_together,
    ) -> None:
        self._recharge_together = sell
        self._set_max = set_max
        self._waiting_max = waiting_max
        self._waiting = 0
        self._is_open = False
        self._lock = threading.Lock()
        self._line: _Line = queue.SimpleQueue()
        self._patient_line: _Line = queue.SimpleQueue()
        self._lanes = [
            threading.Thread(target=self._serve, args=(self._line, False), name=f"desk {each}")
            for each in range(lanes)
        ]
        self._patient = threading.Thread(
            target=self._serve, args=(self._patient_line, True), name="desk of patience"
        )

    def start(self) -> None:
        """Open the desk."""
        self._is_open = True
        for lane in (*self._lanes, self._patient):
            lane.start()

    def stop(self) -> None:
        """Take nobody more, answer everybody who waits, and end."""
        with self._lock:
            self._is_open = False
            for _ in self._lanes:
                self._line.put(None)
        for lane in self._lanes:
            lane.join()
        self._patient_line.put(None)
        self._patient.join()

    def recharge(self, *, actor: Actor, wish: Recharge, now: datetime) -> Answer:
        """One recharge, as `operations.recharge` has it; returns after the commit.

        Refused as ``vending.recharge.busy`` when too many wait already, or when somebody else keeps
        the account for very long. Raises DeskClosed, PermissionRefused, and what kept this one
        recharge from being decided; with the same key it can be asked again in any case.
        """
        require(actor, "vending.recharge")
        caller = _Caller(Ask(actor, wish), now)
        with self._lock:
            if not self._is_open:
                raise DeskClosed("the desk is closed; nothing was taken")
            if self._waiting >= self._waiting_max:
                return busy(wish)
            self._waiting += 1
            self._line.put(caller)
        return caller.wait()

    def _serve(self, line: _Line, is_patient: bool) -> None:
        """One lane, until its line says that nobody follows."""
        try:
            follows = True
            while follows:
                callers, follows = self._gather(line)
                for own in _by_duty(callers):
                    self._sell(own, is_patient)
        finally:
            connection.close()

    def _gather(self, line: _Line) -> tuple[list[_Caller], bool]:
        """Whoever waits, at least one; and whether anybody can follow."""
        callers: list[_Caller] = []
        caller = line.get()
        try:
            while caller is not None:
                callers.append(caller)
                if len(callers) == self._set_max:
                    return callers, True
                caller = line.get_nowait()
        except queue.Empty:
            return callers, True
        return callers, False

    def _sell(
        self, callers: Sequence[_Caller], is_patient: bool, *, is_retry: bool = False
    ) -> None:
        """Sell one set and answer everybody in it, or pass them on to where they can wait."""
        try:
            if is_patient:
                _be_patient()
            answers = self._recharge_together(
                asks=[caller.ask for caller in callers],
                now=max(caller.now for caller in callers),
                waits=is_patient and not is_retry,
            )
        except (OperationalError, InterfaceError) as error:
            # A lost server, a deadlock, a lock that did not come: once more, on a fresh connection.
            connection.close()
            if is_retry:
                self._fail(callers, error)
            else:
                log.warning("a set of %d recharges goes to the desk again: %s", len(callers), error)
                self._sell(callers, is_patient, is_retry=True)
        except Exception as error:
            # Nor may anything of the connection outlive a failure, such as a plan that is out of date.
            connection.close()
            if len(callers) == 1:
                log.exception("a recharge of account %d fails", callers[0].ask.wish.account_id)
                self._fail(callers, error)
                return
            half = len(callers) // 2
            self._sell(callers[:half], is_patient, is_retry=is_retry)
            self._sell(callers[half:], is_patient, is_retry=is_retry)
        else:
            self._tell(callers, answers, is_patient)

    def _tell(
        self, callers: Sequence[_Caller], answers: Sequence[Answer | None], is_patient: bool
    ) -> None:
        passed_on = 0
        for caller, answer in zip(callers, answers, strict=True):
            if answer is not None:
                caller.tell(answer)
            elif is_patient:
                caller.tell(busy(caller.ask.wish))
            else:
                passed_on += 1
                self._patient_line.put(caller)
        with self._lock:
            self._waiting -= len(callers) - passed_on

    def _fail(self, callers: Sequence[_Caller], error: Exception) -> None:
        for caller in callers:
            caller.fail(error)
        with self._lock:
            self._waiting -= len(callers)


def _by_duty(callers: Sequence[_Caller]) -> list[list[_Caller]]:
    """Those who can share a transaction: it has one database role."""
    groups: dict[Duty, list[_Caller]] = {}
    for caller in callers:
        groups.setdefault(caller.ask.actor.duty, []).append(caller)
    return list(groups.values())


def busy(wish: Recharge) -> RechargeRefused:
    """What somebody is told for whom there is no room now."""
    return RechargeRefused(
        wish.key, "vending.recharge.busy", "The desk is busy. Ask again. Nothing was taken."
    )


def _be_patient() -> None:
    """Wait for locks so long and no longer, on whichever connection this lane has by now."""
    if connection.connection is None:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{PATIENCE_S}s"])
