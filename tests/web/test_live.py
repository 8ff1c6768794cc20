"""The bell: heard across processes, only by its own property, alive again after a lost connection."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import psycopg

from fernmoor import Fernmoor, web_login
from prewatt.web.live import Bell


def ring(place: Fernmoor, property_id: int | str, channel: str = "changed") -> None:
    """Ring as another process would."""
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_notify(%s, %s)", [channel, str(property_id)])


async def _listening(place: Fernmoor) -> Bell:
    bell = Bell(web_login(place.dsn))
    bell.start()
    mine = place.property_id
    for _ in range(100):
        await asyncio.to_thread(ring, place, mine)
        if await bell.wait((mine,), since=0, timeout_s=0.1):
            await _heard_out(bell, mine)
            return bell
    raise AssertionError("the bell never rang")


async def _heard_out(bell: Bell, property_id: int) -> None:
    """Wait until what was rung before it listened has all arrived."""
    count = bell.count((property_id,))
    while (now := await bell.wait((property_id,), since=count, timeout_s=0.5)) != count:
        count = now


def _run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 30))


def test_a_bell_wakes_its_own_property_only(fernmoor: Fernmoor) -> None:
    async def story() -> None:
        bell = await _listening(fernmoor)
        mine = fernmoor.property_id
        seen = bell.count((mine,))
        await asyncio.to_thread(ring, fernmoor, mine + 1)
        # Any login may ring, with any text: who listens goes on listening.
        for text in ("x", "-1", "\N{SUPERSCRIPT TWO}", "9" * 5_000):
            await asyncio.to_thread(ring, fernmoor, text)
        assert await bell.wait((mine,), since=seen, timeout_s=0.5) == seen
        await asyncio.to_thread(ring, fernmoor, mine, "supply_order")
        assert await bell.wait((mine,), since=seen, timeout_s=5) == seen + 1

    _run(story())


def test_after_a_lost_connection_everybody_looks_again(fernmoor: Fernmoor) -> None:
    async def story() -> None:
        bell = await _listening(fernmoor)
        seen = bell.count((fernmoor.property_id,))
        with psycopg.connect(fernmoor.dsn, autocommit=True) as owner:
            owner.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE usename = 'web' AND datname = current_database()"""
            )
        assert await bell.wait((fernmoor.property_id,), since=seen, timeout_s=10) > seen

    _run(story())


def test_an_open_page_holds_no_transaction(fernmoor: Fernmoor) -> None:
    async def story() -> None:
        await _listening(fernmoor)
        with psycopg.connect(fernmoor.dsn, autocommit=True) as owner:
            states = owner.execute(
                """SELECT state FROM pg_stat_activity
                   WHERE usename = 'web' AND datname = current_database()
                     AND query LIKE 'LISTEN%'"""
            ).fetchall()
        assert states == [("idle",)]

    _run(story())
