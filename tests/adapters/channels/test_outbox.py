"""The demonstration's outbox: letters to people who sign in are kept, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prewatt.adapters.channels import channels_from
from prewatt.notify.ports import Rendered, Sent
from prewatt.runtime import letters

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
LETTER = Rendered(
    reference="notice-1", address="lena@fernmoor.example", contact_name="Lena Voß", language="zh",
    subject="邀请您使用 Prewatt", body="在这里设置密码：\n\nhttp://127.0.0.1:8600/invited/1/abc\n", at=NOON,
)  # fmt: skip


def test_letters_to_people_who_sign_in_are_kept_latest_first(tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    assert letters.kept(folder, 20) == []
    (outbox,) = channels_from({"PREWATT_OUTBOX": "1", "PREWATT_OUTBOX_FOLDER": str(folder)})
    for number in range(1, 4):
        at = NOON + timedelta(minutes=number)
        sent = replace(LETTER, reference=f"notice-{number}", at=at)
        assert outbox.send(sent) == Sent()
    # A second try of one is the same letter; a customer's message stands in the database.
    outbox.send(replace(LETTER, reference="notice-2", at=NOON + timedelta(minutes=9)))
    outbox.send(replace(LETTER, reference="message-7"))
    found = letters.kept(folder, 20)
    assert [each.at - NOON for each in found] == [timedelta(minutes=each) for each in (9, 3, 1)]
    assert {(each.name, each.address, each.subject, each.body) for each in found} == {
        (LETTER.contact_name, LETTER.address, LETTER.subject, LETTER.body)
    }
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_an_outbox_without_a_folder_keeps_nothing(tmp_path: Path) -> None:
    (outbox,) = channels_from({"PREWATT_OUTBOX": "1"})
    assert outbox.send(LETTER) == Sent() and list(tmp_path.iterdir()) == []
