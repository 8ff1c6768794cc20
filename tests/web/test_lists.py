"""Lists in the browser: pages by key, files that stream, and a board for a property of any size."""

from __future__ import annotations

import asyncio
import csv
import html
import io
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import AsyncClient

from crowd import FIRST, add_crowd
from fernmoor import Fernmoor
from prewatt.reports import board
from prewatt.web.console import streaming

AsOwner = Callable[[Fernmoor], AbstractContextManager[None]]


def link(text: str, rel: str) -> str | None:
    """The address of the next or previous page."""
    match = re.search(rf'<a href="([^"]+)" rel="{rel}"', text)
    return html.unescape(match[1]) if match else None


def shown(text: str) -> list[str]:
    """The rows of a list, by what they are of."""
    return re.findall(r'<tr data-row="([0-9]+)"', text)


@pytest.mark.parametrize("start", ["/accounts", "/accounts?sort=time&q=crowd", "/units", "/meters"])
def test_the_links_lead_through_the_list_and_back(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], as_owner: AsOwner, start: str
) -> None:
    with as_owner(fernmoor):
        add_crowd(fernmoor, 150)
    client = sign_in(fernmoor)
    first = client.get(start).content.decode()
    assert len(shown(first)) == 100 and link(first, "prev") is None
    onward = link(first, "next")
    assert onward is not None
    second = client.get(onward).content.decode()
    assert not set(shown(first)) & set(shown(second))
    assert ("q=crowd" in onward) is ("q=crowd" in start), "what was looked for is kept"
    back = link(second, "prev")
    assert back is not None
    assert shown(client.get(back).content.decode()) == shown(first)


def test_a_file_is_the_whole_list_and_comes_in_parts(
    fernmoor: Fernmoor,
    sign_in: Callable[..., Any],
    as_owner: AsOwner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "_ROWS", 40)
    with as_owner(fernmoor):
        add_crowd(fernmoor, 150)
    client = sign_in(fernmoor, language="zh-hans")
    for page, total in (("/accounts.csv?sort=balance", 246), ("/units.csv", 246)):
        parts = list(client.get(page).streaming_content)
        lines = list(csv.reader(io.StringIO(b"".join(parts).decode("utf-8-sig"))))
        assert len(lines) == 1 + total and len(parts) == 2 + (total + 1) // 40
        assert "状态" in lines[0], "every part in the language of the page"
        assert {len(line) for line in lines} == {len(lines[0])}
        assert not connection.in_atomic_block


def test_a_file_streams_from_the_servers_own_loop_and_may_be_left(
    fernmoor: Fernmoor, as_owner: AsOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_ROWS", 10)
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", ["testserver"])
    with as_owner(fernmoor):
        add_crowd(fernmoor, 30)
    from prewatt.access.models import User

    client = AsyncClient()
    client.force_login(User.objects.get(pk=fernmoor.users["operator"]))

    async def whole() -> bytes:
        response = await client.get("/accounts.csv")
        return b"".join([part async for part in response.streaming_content])

    async def left() -> int:
        response = await client.get("/accounts.csv")
        parts = response.streaming_content
        async for part in parts:
            if part.count(b"\n") > 1:
                break
        await parts.aclose()
        return len(part)

    assert asyncio.run(whole()).count(b"\r\n") == 1 + 126
    assert asyncio.run(left()) > 0
    assert not connection.in_atomic_block


def test_a_large_property_shows_its_buildings_and_the_loudest_ones_windows(
    fernmoor: Fernmoor,
    sign_in: Callable[..., Any],
    as_owner: AsOwner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(board, "WINDOWS_MAX", 60)
    with as_owner(fernmoor):
        add_crowd(fernmoor, 150)
    client = sign_in(fernmoor)

    def windows(text: str) -> list[int]:
        return [int(each) for each in re.findall(r'class="win [^"]+" id="u([0-9]+)"', text)]

    text = client.get("/").content.decode()
    south = [unit for name, unit in fernmoor.units.items() if name.startswith("S-")]
    assert sorted(windows(text)) == sorted(south), "there the cover of a meter is open"
    assert text.count("#board") == 5 and "North House" in text
    crowd = client.get(f"/today?building={FIRST}").content.decode()
    assert len(windows(crowd)) == 60
    onward = re.search(r'href="([^"#]+)#board" rel="next"', crowd)
    assert onward is not None
    rest = client.get(html.unescape(onward[1])).content.decode()
    assert len(windows(rest)) == 40 and not set(windows(rest)) & set(windows(crowd))
    assert 'rel="next"' not in rest
    live = re.search(r'hx-get="(/today[^"]*)" hx-trigger="sse:changed', rest)
    assert live is not None and f"building={FIRST}" in live[1]
    part = client.get(html.unescape(live[1]), headers={"HX-Request": "true"}).content.decode()
    assert windows(part) == windows(rest), "a bell changes no building under the eye"
    for nonsense in ("9" * 30, "x", "-1", "٣", "0"):
        assert client.get(f"/today?building={nonsense}&after={nonsense}").status_code == 200


def test_usage_that_takes_long_to_add_up_comes_after_the_page(
    fernmoor: Fernmoor, sign_in: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prewatt.reports import day_usage, today_query

    monkeypatch.setattr(today_query, "ADDED_AT_ONCE", 10)
    day_usage._kept.clear()
    client = sign_in(fernmoor)
    text = client.get("/").content.decode()
    assert text.count("being added up") == 2 and 'hx-get="/today?add=1" hx-trigger="load"' in text
    part = client.get("/today?add=1", headers={"HX-Request": "true"}).content.decode()
    assert "being added up" not in part and "charged" in part
    assert "being added up" not in client.get("/").content.decode()
