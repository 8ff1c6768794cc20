"""The desk: one process's callers share commits, and none of them ever waits for company.

Each lane is a thread with a connection of its own. It takes whatever has come while its last commit
was under way, sells in one statement what needs no deciding (`recharge_at_once`) and gives each of
these callers their own answer after the commit. Nobody is kept waiting to make a set larger: an idle
desk sells one recharge at once.

What does need deciding goes on to the lane of thought, which sells the same way in several steps
(`recharge_together`) and holds up nobody else. Neither waits for an account or a key that somebody
else holds, such as a batch of readings; that wish goes on to the patient lane, which does. A set that
fails as a whole at once goes on to the lane of thought, and there is taken apart until the one that
is to blame fails alone. Idempotency keys make every repetition safe, also where a commit was made and
its answer was lost.
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
from prewatt.vending.operations import Known, recharge_at_once, recharge_together
from prewatt.vending.words import Answer, Ask, Recharge, RechargeRefused

log = logging.getLogger(__name__)

#: Callers that wait for an answer, over all lanes; the next one is told that we are busy.
WAITING_MAX: Final = 1_000
#: Recharges in one commit.
SET_MAX: Final = 64
#: Two share the callers, and half a set costs far more than half of one: what a statement costs before its
#: first row is paid twice. Nor do they work side by side from the receipts' numbers to the commit.
LANES: Final = 1
#: The longest that a lane lets those go whom it has just answered before it takes the next set. They
#: share its interpreter: who comes back at once is in that set, and not alone in one of their own.
LEAVING_S: Final = 0.001
#: How long the patient lane waits for a lock before its wishes are refused.
PATIENCE_S: Final = 10


class DeskClosed(RuntimeError):
    """The desk was asked after it had been stopped; nothing was taken."""


class _Caller:
    """Somebody at the desk with a wish, until there is an answer."""

    __slots__ = ("_gate", "answer", "ask", "failure", "leaves", "now")

    def __init__(self, ask: Ask, now: datetime) -> None:
        self.ask = ask
        self.now = now
        self.answer: Answer | None = None
        self.failure: BaseException | None = None
        self.leaves: _Leaving | None = None
        self._gate = allocate_lock()
        self._gate.acquire()

    def wait(self) -> Answer:
        """Return once there is an answer; raises what kept it from being decided."""
        self._gate.acquire()
        if self.leaves is not None:
            self.leaves.one_more()
        if self.failure is not None:
            raise self.failure
        assert self.answer is not None
        return self.answer

    def tell(self, answer: Answer, leaves: _Leaving | None = None) -> None:
        """Let the caller go with an answer, after the commit."""
        self.answer = answer
        self.leaves = leaves
        self._gate.release()

    def fail(self, failure: BaseException) -> None:
        """Let the caller go without one."""
        self.failure = failure
        self._gate.release()


class _Leaving:
    """Those who were answered together, until the last of them has taken the answer."""

    __slots__ = ("_gate", "_there")

    def __init__(self, size: int) -> None:
        self._there = [True] + [False] * (size - 1)
        self._gate = allocate_lock()
        self._gate.acquire()

    def one_more(self) -> None:
        """One of them has gone."""
        if self._there.pop():
            self._gate.release()

    def wait(self) -> None:
        """Return when all have gone, or it takes too long."""
        self._gate.acquire(timeout=LEAVING_S)


_Line = queue.SimpleQueue["_Caller | None"]


class Desk:
    """Sells for many callers at once. ``start`` it, ask from any thread, ``stop`` it at the end."""

    def __init__(
        self,
        *,
        lanes: int = LANES,
        set_max: int = SET_MAX,
        waiting_max: int = WAITING_MAX,
        at_once: Callable[..., list[Answer | None]] = recharge_at_once,
        together: Callable[..., list[Answer | None]] = recharge_together,
    ) -> None:
        self._recharge_at_once = at_once
        self._recharge_together = together
        self._known: Known = {}
        self._set_max = set_max
        self._waiting_max = waiting_max
        self._waiting = 0
        self._is_open = False
        self._lock = threading.Lock()
        self._line: _Line = queue.SimpleQueue()
        self._line_of_thought: _Line = queue.SimpleQueue()
        self._patient_line: _Line = queue.SimpleQueue()
        self._lanes = [
            threading.Thread(target=self._serve_at_once, name=f"desk {each}")
            for each in range(lanes)
        ]
        self._thought = threading.Thread(
            target=self._serve, args=(self._line_of_thought, False), name="desk of thought"
        )
        self._patient = threading.Thread(
            target=self._serve, args=(self._patient_line, True), name="desk of patience"
        )

    def start(self) -> None:
        """Open the desk."""
        self._is_open = True
        for lane in (*self._lanes, self._thought, self._patient):
            lane.start()

    def stop(self) -> None:
        """Take nobody more, answer everybody who waits, and end."""
        with self._lock:
            self._is_open = False
            for _ in self._lanes:
                self._line.put(None)
        for lane in self._lanes:
            lane.join()
        self._line_of_thought.put(None)
        self._thought.join()
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

    def _serve_at_once(self) -> None:
        """One lane of those that sell what needs no deciding, until nobody follows."""
        try:
            follows = True
            while follows:
                callers, follows = self._gather(self._line)
                for own in _by_duty(callers):
                    self._sell_at_once(own)
        finally:
            _leave_connection()

    def _sell_at_once(self, callers: Sequence[_Caller]) -> None:
        """Answer those who can be answered in one statement, and pass on the rest."""
        try:
            answers = self._recharge_at_once(
                asks=[caller.ask for caller in callers],
                now=max([caller.now for caller in callers]),
                known=self._known,
            )
        except Exception as error:
            # Whatever it was, the lane of thought finds out about whom; nothing was told to anybody.
            _leave_connection()
            why = str(error).partition("\n")[0]
            log.warning("a set of %d recharges needs thought: %s", len(callers), why)
            answers = [None] * len(callers)
        told = len(callers) - answers.count(None)
        leaving = _Leaving(told) if told else None
        for caller, answer in zip(callers, answers, strict=True):
            if answer is None:
                self._line_of_thought.put(caller)
            else:
                caller.tell(answer, leaving)
        with self._lock:
            self._waiting -= told
        if leaving is not None:
            leaving.wait()

    def _serve(self, line: _Line, is_patient: bool) -> None:
        """The lane of thought, or the patient one, until its line says that nobody follows."""
        try:
            follows = True
            while follows:
                callers, follows = self._gather(line)
                for own in _by_duty(callers):
                    self._sell(own, is_patient)
        finally:
            _leave_connection()

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
                known=self._known,
            )
        except (OperationalError, InterfaceError) as error:
            # A lost server, a deadlock, a lock that did not come: once more, on a fresh connection.
            _leave_connection()
            if is_retry:
                self._fail(callers, error)
            else:
                log.warning("a set of %d recharges goes to the desk again: %s", len(callers), error)
                self._sell(callers, is_patient, is_retry=True)
        except Exception as error:
            # Nor may anything of the connection outlive a failure, such as a plan that is out of date.
            _leave_connection()
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


def _leave_connection() -> None:
    """End this lane's connection, whatever the backend would keep of it."""
    if connection.connection is not None:
        connection.connection.close()
    connection.close()


def _be_patient() -> None:
    """Wait for locks so long and no longer, on whichever connection this lane has by now."""
    if connection.connection is None:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{PATIENCE_S}s"])
