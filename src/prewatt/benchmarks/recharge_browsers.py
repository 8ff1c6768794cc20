"""Browsers of `prewatt bench recharge --http`: people who are signed in and press the button again and again."""

from __future__ import annotations

import http.client
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from multiprocessing.connection import Connection
from typing import Final
from urllib.parse import urlencode

from prewatt.benchmarks.city import PASSWORD, City, cashier, login
from prewatt.benchmarks.recharge_desk import AMOUNT_MICRO, Sold
from prewatt.core.money import MICRO

_READY_WITHIN_S: Final = 60.0
_TOKEN: Final = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


def browse(pipe: Connection, port: int, city: City, callers: int) -> None:
    """Sign everybody in, then press for so many seconds whenever the pipe says so."""
    try:
        browsers = [_Browser(port, city, number) for number in range(callers)]
        pipe.send("ready")
        while True:
            seconds = pipe.recv()
            began = time.monotonic()
            threads = [
                threading.Thread(target=each.press, args=(began + seconds,)) for each in browsers
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            failures = [each.failure for each in browsers if each.failure]
            if failures:
                raise failures[0]
            waits = [wait for each in browsers for wait in each.take()]
            pipe.send(Sold(len(waits), time.monotonic() - began, tuple(waits)))
    except EOFError:
        return
    except Exception as error:
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


class _Browser:
    """One person's: a connection that stays open, cookies, and the token of their forms."""

    def __init__(self, port: int, city: City, number: int) -> None:
        self.failure: Exception | None = None
        self._waits: list[float] = []
        self._line = http.client.HTTPConnection("127.0.0.1", port)
        self._cookies: SimpleCookie = SimpleCookie()
        self._chance = random.Random(number)  # noqa: S311 - accounts at random, no secrets
        self._accounts = cashier(city, number)[1]
        token = _TOKEN.search(self._ask("GET", "/sign-in")[1])
        assert token is not None, "the sign-in has a form"
        self._token = token[1]
        form = {"email": email(number), "password": PASSWORD, "csrfmiddlewaretoken": self._token}
        status, _ = self._ask("POST", "/sign-in", form)
        if status != 302:
            raise RuntimeError(f"{email(number)} cannot sign in: {status}")
        page = self._ask("GET", f"/accounts/{self._accounts[0]}/recharge?amount=20")[1]
        token = _TOKEN.search(page)
        assert token is not None, "the recharge has a form"
        self._token = token[1]

    def take(self) -> list[float]:
        """How long each press of the last phase took, in seconds."""
        waits, self._waits = self._waits, []
        return waits

    def press(self, until: float) -> None:
        """Recharge an account at random until the time is over."""
        try:
            while (began := time.monotonic()) < until:
                form = {
                    "amount": str(AMOUNT_MICRO // MICRO),
                    "way": "cash",
                    "key": f"{self._chance.getrandbits(96):x}",
                    "csrfmiddlewaretoken": self._token,
                }
                account_id = self._chance.choice(self._accounts)
                status, page = self._ask("POST", f"/accounts/{account_id}/recharge", form)
                if status != 302:
                    raise RuntimeError(f"a recharge was answered {status}: {page[:200]}")
                self._waits.append(time.monotonic() - began)
        except Exception as error:
            self.failure = error

    def _ask(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        headers = {"Cookie": "; ".join(f"{k}={v.value}" for k, v in self._cookies.items())}
        if form is not None:
            headers |= {
                "Content-Type": "application/x-www-form-urlencoded",
                "Origin": f"http://127.0.0.1:{self._line.port}",
            }
        self._line.request(method, path, None if form is None else urlencode(form), headers)
        answer = self._line.getresponse()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                self._cookies.load(value)
        return answer.status, answer.read().decode()


def email(number: int) -> str:
    """The address of a cashier."""
    return f"cashier-{number}@city.example"


def hire(city: City, callers: int) -> None:
    """Give each caller a user with a duty at their property; as the database's owner."""
    from prewatt.access.models import Duty, DutyGrant, User
    from prewatt.benchmarks.city import OPENED

    for number in range(callers):
        user = User.objects.create_user(
            email=email(number), name=f"Cashier {number}", password=PASSWORD
        )
        property_id = cashier(city, number)[0]
        DutyGrant.objects.create(
            user=user, property_id=property_id, duty=Duty.OPERATOR, granted_at=OPENED
        )


@contextmanager
def web_process(owner: str) -> Iterator[int]:
    """`prewatt web` as in production, signed in as the web; yields its port."""
    import os

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = os.environ | {"PREWATT_DSN": login(owner, "web")}
    process = subprocess.Popen(
        [sys.executable, "-m", "prewatt", "web", "--port", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(port)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _await(port: int) -> None:
    until = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return
