"""A month leaves the database for Parquet: nothing is lost, refused with its reason, found again."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.db import connection, connections, transaction
from psycopg.conninfo import make_conninfo
from tests.conftest import role_dsn
from tests.invariants.places import CLERK, NOW, World, pay, place, post, rows, send
from tests.moves.test_carried_steps import ladder

from databases import TestDatabases, keep_rows
from django_sessions import leave_database, use_database
from prewatt import archive_command, cli
from prewatt.billing.rerate_requests import request_rerating
from prewatt.billing.rerating import CorrectionTooOld, correct_tariff, rerate
from prewatt.core.accounts import TransferKind
from prewatt.core.vee import Verdict
from prewatt.mdm import archive_files, archived
from prewatt.mdm.archive import ArchiveRefused, archive_month, months_due
from prewatt.mdm.archive_files import INTERVAL, READING
from prewatt.reports import archive
from prewatt.reports.account import EntryKind
from prewatt.reports.books import check_books, rests_on_archive
from prewatt.reports.charge_page import ChargePage
from prewatt.reports.charge_query import charge_page
from prewatt.runtime import embedded_postgres

Session = psycopg.Connection[Any]

BEGIN = datetime(2026, 7, 19, 22, tzinfo=UTC)
JULY, AUGUST, SEPTEMBER = (date(2026, month, 1) for month in (7, 8, 9))
#: When July and August are long past every correction.
LATER = datetime(2027, 5, 1, tzinfo=UTC)


def used(here: World, serial: str, until: int = 48 * 4, step: int = 1) -> None:
    """A reading every six hours from the opening on, 900 Wh apart."""
    wanted = range(step, until + 1, step)
    send(here, [(serial, BEGIN + timedelta(hours=6 * n), 10_000 + 900 * n) for n in wanted])


@pytest.fixture(scope="module")
def seven_weeks(postgres_dsn: str, template_database: str) -> Iterator[tuple[TestDatabases, World]]:
    """Databases with seven weeks from 20 July on, posted day by day; one meter is read late and rated anew.

    Lived once, since that takes as long as most tests here.
    """
    name = f"lived_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_dsn, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    dsn = make_conninfo(postgres_dsn, dbname=name)
    use_database(dsn)
    here = place(opened="2026-07-20T00:00")
    used(here, "M-101")
    pay(here, "one")
    post(here, BEGIN + timedelta(days=12, hours=3))
    send(here, [("M-101", BEGIN + timedelta(hours=6 * 30 + 2), 10_000 + 900 * 30 + 100)])
    post(here, BEGIN + timedelta(days=20))
    post(here)
    connections.close_all()
    keep_rows(dsn)
    with closing(TestDatabases(postgres_dsn, name)) as databases:
        yield databases, here


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """One in which seven weeks were lived where the test wants that, else one without rows."""
    databases = (
        request.getfixturevalue("seven_weeks")[0]
        if "lived" in request.fixturenames
        else request.getfixturevalue("test_databases")
    )
    dsn = databases.take()
    use_database(dsn)
    yield dsn
    leave_database()
    databases.give_back(dsn)


@pytest.fixture
def lived(database: str, seven_weeks: tuple[TestDatabases, World]) -> World:
    """The property that has lived for seven weeks."""
    return seven_weeks[1]


@pytest.fixture
def keeper(database: str) -> Iterator[Session]:
    # A test that waits for a lock of its own would wait for ever.
    rows("SET lock_timeout = '5s'")
    with psycopg.connect(role_dsn(database, "keeper")) as session:
        yield session


def breaches() -> list[str]:
    with connection.cursor() as cursor:
        return check_books(cursor)


def stored(table: str, month: date) -> list[tuple[Any, ...]]:
    layout = {"interval": INTERVAL, "register_reading": READING}[table]
    following = date(month.year, month.month + 1, 1)
    return rows(
        f"SELECT {', '.join(layout.columns)} FROM {table} WHERE {layout.time} >= %s "
        f"AND {layout.time} < %s ORDER BY {', '.join(layout.key)}",
        datetime(month.year, month.month, 1, tzinfo=UTC),
        datetime(following.year, following.month, 1, tzinfo=UTC),
    )


def in_file(path: Path) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in pq.read_table(path).to_pylist()]


def verify_archive(keeper: Session, folder: Path) -> list[str]:
    """What is wrong, and no lock left behind."""
    found = archive.verify_archive(keeper, folder)
    keeper.rollback()
    return found


def both(keeper: Session, folder: Path) -> None:
    for month in (JULY, AUGUST):
        assert archive_month(keeper, month=month, folder=folder, now=LATER).is_new


def test_every_column_comes_back_and_the_books_hold(
    lived: World, keeper: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Wherever files are cut into groups: the digest goes by rows.
    monkeypatch.setattr(archive_files, "GROUP_ROWS", 7)
    before = {(base, m): stored(base, m) for base in ("interval", "register_reading") for m in (JULY, AUGUST)}  # fmt: skip
    assert all(len(each) > 40 for each in before.values())
    assert breaches() == []
    both(keeper, tmp_path)
    for (base, month), known in before.items():
        assert in_file(tmp_path / f"{base}-{month:%Y%m}.parquet") == known
        assert stored(base, month) == []
        assert rows("SELECT to_regclass(%s)", f"{base}_{month:%Y%m}") == [(None,)]
    assert breaches() == []
    assert verify_archive(keeper, tmp_path) == []
    with connection.cursor() as cursor:
        told = rests_on_archive(cursor)
    assert f"{len(before['interval', JULY]) + len(before['interval', AUGUST])} intervals" in told[0]
    assert rows(
        """SELECT actor, subject, detail ->> 'intervals' FROM audit_event
           WHERE code = 'mdm.month.archived' AND property_id = %s ORDER BY id""",
        lived.property_id,
    ) == [
        ("login:keeper", f"month:{m:%Y-%m}", str(len(before["interval", m])))
        for m in (JULY, AUGUST)
    ]
    # It goes on: later usage, a posting, partitions made anew, and no archived month among them.
    send(lived, [("M-101", NOW, 460_000)])
    post(lived, NOW)
    rows("SELECT make_month_partitions('2026-06-01', '2027-03-01')")
    assert rows("SELECT to_regclass('interval_202607'), to_regclass('interval_202702') IS NOT NULL") == [(None, True)]  # fmt: skip
    assert breaches() == []


ALTERED = {
    "UPDATE archived_account SET energy_wh = energy_wh + 1": "Wh counted",
    "UPDATE archived_account SET rows = rows + 1": "interval_no has a gap",
    "UPDATE archived_account SET rest_energy = rest_energy + 1": "carry of energy",
    "UPDATE archived_account SET charge_energy = charge_energy + 1": "its postings are not what",
    "UPDATE archived_partition SET rows = rows + 1 WHERE base = 'interval'": "is not what left",
    "DELETE FROM archived_account WHERE month = '2026-08-01'": "interval_no has a gap",
}


def test_books_do_not_hold_over_an_altered_catalogue(
    lived: World, keeper: Session, tmp_path: Path
) -> None:
    both(keeper, tmp_path)
    for change, breach in ALTERED.items():
        with transaction.atomic():
            rows(change)
            assert any(breach in each for each in breaches()), change
            transaction.set_rollback(True)
    assert breaches() == []


class Killed(BaseException):
    """As kill -9 would: nobody catches it."""


@pytest.mark.parametrize("step", ["interval", "register_reading", "verified", "dropped"])
def test_a_kill_after_any_step_loses_nothing_and_it_can_be_said_again(
    lived: World, database: str, tmp_path: Path, step: str
) -> None:
    known = stored("interval", JULY)

    def killing(done: str) -> None:
        if done == step:
            raise Killed

    with psycopg.connect(role_dsn(database, "keeper")) as session:
        with pytest.raises(Killed):
            archive_month(session, month=JULY, folder=tmp_path, now=LATER, after=killing)
        session.rollback()
    assert breaches() == []
    if step == "dropped":
        assert stored("interval", JULY) == []
    else:
        assert stored("interval", JULY) == known
        # A file that was being written when the power went.
        (tmp_path / "register_reading-202607.parquet.part").write_bytes(b"PAR1 torn")
    with psycopg.connect(role_dsn(database, "keeper")) as session:
        again = archive_month(session, month=JULY, folder=tmp_path, now=LATER)
        assert (again.intervals, again.is_new) == (len(known), step != "dropped")
        assert verify_archive(session, tmp_path) == []
    assert in_file(tmp_path / "interval-202607.parquet") == known
    assert breaches() == []


def refused(keeper: Session, month: date, folder: Path, now: datetime = LATER) -> str:
    with pytest.raises(ArchiveRefused) as error:
        archive_month(keeper, month=month, folder=folder, now=now)
    assert not list(folder.iterdir())
    return str(error.value)


def test_each_refusal_says_why(lived: World, keeper: Session, tmp_path: Path) -> None:
    account = lived.accounts["1001"]
    assert refused(keeper, JULY, tmp_path, now=NOW) == "it can still be corrected until 2027-03-07"
    assert refused(keeper, AUGUST, tmp_path) == "2026-07 is archived before it"
    assert refused(keeper, date(2020, 1, 1), tmp_path) == "it has no partition"
    assert refused(keeper, date(2026, 7, 2), tmp_path) == "a month is named by its first day"

    used(lived, "M-102", until=20)
    assert "20 of its intervals are not posted (account" in refused(keeper, JULY, tmp_path) or (
        "of its intervals are not posted" in refused(keeper, JULY, tmp_path)
    )
    post(lived)

    request_rerating(from_at={account: BEGIN + timedelta(days=40)}, reason="late_reading", now=NOW)
    assert f"1 accounts wait to be rated anew with it (account {account} first)" == refused(keeper, JULY, tmp_path)  # fmt: skip
    rows("UPDATE rerate_request SET done_at = now()")

    send(lived, [("M-101", BEGIN + timedelta(days=3, hours=1), 900_000)])
    assert "1 held readings reach into it (case" in refused(keeper, JULY, tmp_path)
    rows("UPDATE vee_case SET state = 'discarded', closed_at = now(), closed_by = 'x', close_reason = 'x'")  # fmt: skip

    rows("""UPDATE tariff_version SET content = jsonb_set(content, '{window}', '"purchase"')""")
    assert "from purchase to purchase" in refused(keeper, JULY, tmp_path)
    rows("""UPDATE tariff_version SET content = jsonb_set(content, '{window}', '"year"')""")
    assert "until 2027-12-07" in refused(keeper, JULY, tmp_path)
    rows("UPDATE tariff_version SET content = content - 'window'")
    assert archive_month(keeper, month=JULY, folder=tmp_path, now=LATER).is_new


class _Undone(Exception):
    """Ends a transaction of which nothing shall stay."""


PURCHASES = "UPDATE tariff_version SET content = %s::jsonb WHERE property_id = %s"


def test_who_counts_from_purchase_to_purchase_keeps_the_months_since_their_opening_only(
    lived: World, keeper: Session, tmp_path: Path
) -> None:
    later = place(opened="2026-08-20T00:00")
    by_purchase = json.dumps(ladder("carry", "purchase"))
    rows(PURCHASES, by_purchase, later.property_id)
    assert archive_month(keeper, month=JULY, folder=tmp_path, now=LATER).is_new
    with pytest.raises(ArchiveRefused, match=r"\d accounts count from purchase to purchase"):
        archive_month(keeper, month=AUGUST, folder=tmp_path, now=LATER)
    # A plan that nobody was ever on keeps nothing.
    rows("DELETE FROM tariff_assignment WHERE property_id = %s", later.property_id)
    assert archive_month(keeper, month=AUGUST, folder=tmp_path, now=LATER).is_new
    # One who is put on such a plan afterwards has lost what is counted; others have not.
    rows(PURCHASES, by_purchase, lived.property_id)
    account, days = lived.accounts["1001"], [60, 400]
    assert [archived.archived_purchasers([each]) for each in (account, account + 1_000)] == [
        {account},
        set(),
    ]
    assert archived.correctable_from_us() < archived.correctable_from_us(account) == 2**63 - 1
    # A change to such a plan that was withdrawn before it began has counted nothing.
    with suppress(_Undone), transaction.atomic():
        rows(
            """INSERT INTO tariff_assignment (property_id, account_id, tariff_id, valid_from, withdraws)
               SELECT property_id, account_id, tariff_id, valid_from, true FROM tariff_assignment
               WHERE property_id = %s""",
            lived.property_id,
        )
        assert archived.archived_purchasers([account]) == set()
        assert rows("SELECT * FROM purchasers() WHERE account_id = %s", account) == []
        raise _Undone
    now = BEGIN + timedelta(days=500)
    last = [("M-101", BEGIN + timedelta(days=each), 200_000 + 1_000 * each) for each in days]
    assert send(lived, last, now=now) == [Verdict.ACCEPTED] * 2
    late = [("M-101", BEGIN + timedelta(days=300), 500_000)]
    assert send(lived, late, now=now) == [Verdict.ARCHIVED]
    assert rerate(actor=CLERK, account_ids=[account], from_at=now, reason="terms", now=now) == []
    assert rows("SELECT code FROM alert WHERE subject = %s", f"account:{account}") == [
        ("billing.correction_too_old",)
    ]


def test_a_file_of_the_digest_before_is_still_verified(
    lived: World, keeper: Session, tmp_path: Path
) -> None:
    """Version 1 gathered the rows of each account and meter, and then the digests of all of them."""
    used(lived, "M-102", until=20)
    post(lived)
    (gathered,) = rows(
        f"""SELECT sha256(string_agg(g.digest, ''::bytea ORDER BY g.account_id, g.meter_id))
            FROM (SELECT account_id, meter_id, sha256(string_agg(
                      record_send(ROW({", ".join(INTERVAL.columns)})), ''::bytea
                      ORDER BY register_code, start_at, revision, segment)) AS digest
                  FROM interval WHERE start_at < '2026-08-01' GROUP BY account_id, meter_id) g"""
    )
    both(keeper, tmp_path)
    assert rows("SELECT DISTINCT digest_version FROM archived_partition") == [(2,)]
    old = "UPDATE archived_partition SET digest_version = 1, digest = %s WHERE file_name = %s"
    name = "interval-202607.parquet"
    rows(old, bytes(32), name)
    assert any(f"{name}: its digest" in each for each in verify_archive(keeper, tmp_path))
    rows(old, bytes(gathered[0]), name)
    assert verify_archive(keeper, tmp_path) == []


def test_rows_that_came_after_the_file_was_written_are_never_dropped(
    lived: World, keeper: Session, tmp_path: Path
) -> None:
    def late(step: str) -> None:
        if step == "verified":
            send(lived, [("M-101", BEGIN + timedelta(days=2, hours=1), 10_000 + 900 * 8 + 20)])
            post(lived)

    with pytest.raises(ArchiveRefused, match="not what the database has"):
        archive_month(keeper, month=JULY, folder=tmp_path, now=LATER, after=late)
    assert breaches() == []
    # The file on the disk is of the time before: it is not overwritten, but named.
    with pytest.raises(
        ArchiveRefused, match=r"interval-202607.parquet is not what .* move it away"
    ):
        archive_month(keeper, month=JULY, folder=tmp_path, now=LATER)
    assert archive_month(keeper, month=JULY, folder=tmp_path / "new", now=LATER).is_new


def test_a_reader_in_the_way_makes_it_wait_and_give_up_never_block(
    lived: World, database: str, keeper: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prewatt.mdm.archive._TRIES", 1)
    with psycopg.connect(database) as reader:
        reader.execute("SELECT count(*) FROM interval")
        with pytest.raises(ArchiveRefused, match="in use"):
            archive_month(keeper, month=JULY, folder=tmp_path, now=LATER)
    assert archive_month(keeper, month=JULY, folder=tmp_path, now=LATER).is_new


def test_only_the_keeper_and_the_owner_may(lived: World, database: str) -> None:
    for login in ("web", "clerk", "head_end", "witness"):
        with (
            psycopg.connect(role_dsn(database, login)) as session,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            session.execute("SELECT archive_month('2026-07-01', '', '', 'a', 'b', 'c', now())")


def test_what_the_keeper_says_of_a_file_is_not_believed(lived: World, keeper: Session) -> None:
    call = "SELECT archive_month('2026-07-01', %s, %s, 'a', 'b', 'c', %s)"
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="not what the database"):
        keeper.execute(call, [bytes(32), bytes(32), LATER])


def test_what_comes_late_for_an_archived_month_is_held_and_charges_nothing(
    lived: World, keeper: Session, tmp_path: Path
) -> None:
    both(keeper, tmp_path)
    before = rows("SELECT available, interval_no FROM account_state ORDER BY account_id")
    inside = BEGIN + timedelta(days=5, hours=1)
    near = datetime(2026, 9, 2, 1, tzinfo=UTC)
    verdicts = send(
        lived, [("M-101", inside, 10_000 + 900 * 20 + 40), ("M-101", near, 10_000 + 900 * 176 + 30)]
    )
    # The second lies in a month that is here, but its window may reach into one that is not.
    assert verdicts == [Verdict.ARCHIVED, Verdict.ARCHIVED]
    assert rows("SELECT available, interval_no FROM account_state ORDER BY account_id") == before
    assert rows("SELECT reason, state FROM vee_case ORDER BY read_at") == [("mdm.vee.archived", "held")] * 2  # fmt: skip
    assert breaches() == []


def test_a_meter_that_was_silent_is_charged_from_the_archived_month_on(
    lived: World, keeper: Session, tmp_path: Path
) -> None:
    used(lived, "M-102", until=20)
    post(lived)
    both(keeper, tmp_path)
    assert send(lived, [("M-102", BEGIN + timedelta(days=60), 60_000)]) == [Verdict.ACCEPTED]
    assert rows("SELECT count(*) > 0 FROM interval_default") == [(True,)]
    assert breaches() == []
    post(lived)
    assert breaches() == []
    # What comes after the end of that interval belongs to no interval that is here.
    assert verify_archive(keeper, tmp_path) == []


def test_what_can_no_longer_be_rated_is_refused_or_told(
    lived: World, keeper: Session, tmp_path: Path
) -> None:
    both(keeper, tmp_path)
    account = lived.accounts["1001"]
    before = rows("SELECT available, interval_no FROM account_state ORDER BY account_id")
    with pytest.raises(CorrectionTooOld):
        correct_tariff(
            actor=CLERK, property_id=lived.property_id, account_ids=[account],
            tariff_code="day-night", from_at=BEGIN + timedelta(days=30), reason="wrong",
            made_by="user:9", now=NOW,
        )  # fmt: skip
    assert rerate(actor=CLERK, account_ids=[account], from_at=BEGIN, reason="terms", now=NOW) == []
    assert rows("SELECT code, subject FROM alert WHERE code = 'billing.correction_too_old'") == [
        ("billing.correction_too_old", f"account:{account}")
    ]
    assert rows("SELECT available, interval_no FROM account_state ORDER BY account_id") == before


def altered(path: Path, column: str) -> None:
    table = pq.read_table(path)
    at = table.schema.get_field_index(column)
    values = table.column(at).to_pylist()
    values[3] += 1
    field = table.schema.field(at)
    pq.write_table(table.set_column(at, field, pa.array(values, field.type)), path)


def test_an_altered_file_is_found(lived: World, keeper: Session, tmp_path: Path) -> None:
    both(keeper, tmp_path)
    path = tmp_path / "interval-202608.parquet"
    whole = path.read_bytes()
    for column in ("charge_energy", "quality", "rest_tax"):
        altered(path, column)
        assert any(f"{path.name}: its" in each for each in verify_archive(keeper, tmp_path)), column
        path.write_bytes(whole)
    table = pq.read_table(path)
    pq.write_table(table.slice(0, table.num_rows - 1), path)
    assert any(f"{path.name}: its rows" in each for each in verify_archive(keeper, tmp_path))


def test_torn_and_missing_files_are_found(lived: World, keeper: Session, tmp_path: Path) -> None:
    both(keeper, tmp_path)
    path = tmp_path / "register_reading-202607.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    (tmp_path / "interval-202608.parquet").unlink()
    found = verify_archive(keeper, tmp_path)
    assert [each.split(":")[0] for each in found] == [path.name, "interval-202608.parquet"]


def test_archived_and_live_intervals_make_the_hashes_of_their_postings(
    lived: World, keeper: Session, tmp_path: Path
) -> None:
    both(keeper, tmp_path)
    # A posting reaches over both ends of August; what is left of it is in the database.
    rows("UPDATE interval SET quality = quality + 1 WHERE start_at < '2026-09-02'")
    assert any("do not make its hash" in each for each in verify_archive(keeper, tmp_path))
    rows("DELETE FROM interval WHERE start_at < '2026-09-02'")
    assert any("is nowhere" in each for each in verify_archive(keeper, tmp_path))


def test_hashes_of_the_version_before_are_still_proved(
    lived: World, keeper: Session, tmp_path: Path
) -> None:
    """Postings from before there were images of records committed to lines of text."""
    rows(
        """UPDATE posting p SET hash_version = 2, interval_hash = (
               SELECT sha256(convert_to(string_agg(concat_ws('|', 'v2', i.meter_id, i.register_code,
                   (date_part('epoch', i.start_at) * 1000000)::bigint, i.revision, i.segment,
                   i.interval_no, (date_part('epoch', i.from_at) * 1000000)::bigint,
                   (date_part('epoch', i.to_at) * 1000000)::bigint, i.start_value_wh, i.end_value_wh,
                   i.multiplier, i.energy_wh, i.quality, i.tariff_version_id, i.band, i.step,
                   i.price_nano, i.charge_energy, i.charge_standing, i.charge_tax, i.charge_fee,
                   i.charge_demand, i.charge_subsidy), chr(10) ORDER BY i.interval_no), 'UTF8'))
               FROM interval i WHERE i.account_id = p.account_id
                 AND i.interval_no > p.interval_no_from AND i.interval_no <= p.interval_no_to)"""
    )
    both(keeper, tmp_path)
    assert verify_archive(keeper, tmp_path) == []
    rows("UPDATE posting SET hash_version = 3 WHERE posting_no = 1")
    assert any("do not make its hash" in each for each in verify_archive(keeper, tmp_path))


def test_the_command_archives_what_is_due_shows_and_verifies(
    lived: World, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("PREWATT_DSN", role_dsn(database, "keeper"))
    monkeypatch.setattr(embedded_postgres, "check_durable", lambda _dsn: None)
    monkeypatch.setattr(archive_command, "now", lambda: LATER)
    monkeypatch.setenv("PREWATT_STATE_DIR", str(tmp_path / "state"))
    folder = tmp_path / "archive"
    known = stored("interval", AUGUST)
    account = lived.accounts["1001"]
    assert cli.main(["archive", "due", "--keep-months", "8", "--to", str(folder)]) == 0
    assert capsys.readouterr().out.count("archived.") == 2
    assert cli.main(["archive", "month", "2026-08", "--to", str(folder)]) == 0
    assert "were archived already" in capsys.readouterr().out
    assert cli.main(["archive", "month", "2026-12", "--to", str(folder)]) == archive_command.REFUSED
    assert "2026-12 stays: it can still be corrected" in capsys.readouterr().err
    assert cli.main(["archive", "verify", str(folder)]) == 0
    assert cli.main(["archive", "verify", str(folder / "nowhere"), "--format", "json"]) == 1
    assert "is not there" in capsys.readouterr().out
    asked = [
        "archive",
        "show",
        str(folder),
        "--account",
        str(account),
        "--from",
        "2026-08-10T00:00Z",
    ]
    assert cli.main([*asked, "--to", "2026-08-11T00:00Z", "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    day = [datetime(2026, 8, 10, tzinfo=UTC), datetime(2026, 8, 11, tzinfo=UTC)]
    expected = [row for row in known if row[0] == account and row[9] > day[0] and row[8] < day[1]]
    assert len(expected) > 3
    assert [(each["interval_no"], each["charge_energy"]) for each in shown] == [
        (row[7], row[21]) for row in expected
    ]
    assert datetime.fromisoformat(shown[0]["from_at"]) == expected[0][8]
    assert cli.main([*asked, "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("account_id,meter_id,register_code")


def test_what_is_due_is_counted_in_whole_months(database: str, keeper: Session) -> None:
    assert months_due(keeper, keep_months=2, now=datetime(2026, 11, 30, tzinfo=UTC)) == [JULY, AUGUST]  # fmt: skip
    assert months_due(keeper, keep_months=3, now=datetime(2026, 11, 30, tzinfo=UTC)) == [JULY]
    with pytest.raises(ArchiveRefused):
        months_due(keeper, keep_months=0, now=NOW)


def test_a_charge_of_an_archived_month_says_so_and_claims_no_sum(
    lived: World, keeper: Session, tmp_path: Path
) -> None:
    account = lived.accounts["1001"]

    def page_of(day: date) -> ChargePage:
        ((event,),) = rows(
            """SELECT DISTINCT event_id FROM transfer WHERE account_id = %s AND kind = %s
               AND (service_from AT TIME ZONE 'Europe/Berlin')::date = %s LIMIT 1""",
            account, int(TransferKind.USAGE), day,
        )  # fmt: skip
        return charge_page(
            actor=lived.operator, account_id=account, event_id=event, kind=EntryKind.USAGE, day=day,
            now=NOW,
        )  # fmt: skip

    # The first day of September began in Berlin while it was August in UTC: half of it is archived.
    days = [date(2026, 8, 10), date(2026, 9, 1), date(2026, 9, 3)]
    assert [page_of(day).adds_up for day in days] == [True, True, True]
    both(keeper, tmp_path)
    found = [page_of(day) for day in days]
    # The days of August after the 8th and September's were posted as one.
    assert [each.archive for each in found] == ["interval-202608.parquet"] * 2 + [""]
    assert [each.adds_up for each in found] == [None, None, True]
    assert [bool(each.runs) for each in found] == [False, True, True]


def test_an_interval_never_takes_a_reading_from_after_its_end(
    lived: World, keeper: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used(lived, "M-102", until=20)
    post(lived)
    both(keeper, tmp_path)
    end = BEGIN + timedelta(days=60)
    send(lived, [("M-102", end, 60_000), ("M-102", end + timedelta(days=9), 60_000)])
    # As if the month of the second interval were archived, and the first one, of July, were not.
    rows("DELETE FROM interval WHERE meter_id = %s AND start_at = %s", lived.meters["M-102"], end)
    monkeypatch.setattr("prewatt.billing.backfill.correctable_from_us", lambda *_: -(2**63))
    assert send(lived, [("M-102", end + timedelta(days=4), 60_000)]) == [Verdict.BEFORE_OPENING]
