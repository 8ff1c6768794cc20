"""Tariffs made and assigned; usage posted: accrued charges become transfers that never change."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from django.db import connection

from prewatt.access.scope import Actor, require, scope
from prewatt.approvals.kinds import saying_what_changed
from prewatt.audit.operations import record
from prewatt.audit.refusals import Noticed
from prewatt.billing.daily import due_accounts
from prewatt.billing.models import Tariff, TariffVersion
from prewatt.billing.posting import MOVE, Posted, post_chunk
from prewatt.core.tariff import parse_tariff, to_document
from prewatt.ledger.operations import UnknownAccount
from prewatt.supply.operations import look_again

#: Accounts per posting transaction. Their locks are held from the first transfer to the commit, some
#: tens of milliseconds for two hundred, and whoever pays in meanwhile waits: hence no more, and a set of
#: three hundred is no cheaper. Of a hundred each account costs an eighth more.
POSTING_CHUNK = 200


class SelfApproval(Noticed):
    """A tariff version named its maker as its approver (invariant 8)."""

    what = "self_approval"


def create_tariff_version(
    *,
    actor: Actor,
    property_id: int,
    code: str,
    name: str,
    document: Mapping[str, object],
    valid_from: datetime,
    approved_by: str,
    now: datetime,
) -> int:
    """Store an immutable tariff version and return its id; the tariff is made when new.

    ``document`` is checked first: raises ``core.tariff.TariffRefused`` with place and reason.
    ``approved_by`` must be somebody else than the actor. Raises SelfApproval.
    """
    require(actor, "billing.tariff", property_id=property_id)
    if approved_by == actor.code:
        raise SelfApproval(f"{actor.code} cannot approve the tariff they made")
    tariff_content = parse_tariff(document)
    content = to_document(tariff_content)
    digest = version_digest(content)
    with scope(actor):
        tariff, _ = Tariff.objects.get_or_create(
            property_id=property_id, code=code, defaults={"name": name}
        )
        version = TariffVersion.objects.create(
            property_id=property_id,
            tariff=tariff,
            number=tariff.versions.count() + 1,
            valid_from=valid_from,
            content=content,
            digest=digest,
            made_by=actor.code,
            approved_by=approved_by,
            approved_at=now,
        )
        advance_epoch(property_id)
        record(
            actor=actor.code,
            code="billing.tariff.version_created",
            property_id=property_id,
            subject=f"tariff:{tariff.pk}",
            now=now,
            version=version.number,
            digest=digest.hex(),
            approved_by=approved_by,
        )
    return int(version.pk)


def version_digest(content: Mapping[str, object]) -> bytes:
    """What a version is known by: SHA-256 of its stored content, with sorted names."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()


def assign_tariff(
    *,
    actor: Actor,
    property_id: int,
    account_ids: Sequence[int],
    tariff_code: str,
    valid_from: datetime,
    now: datetime,
) -> None:
    """Put accounts that have just begun on their first tariff. Raises Tariff.DoesNotExist, UnknownAccount.

    Of an account that has one already the database refuses it to whoever does not own the tables: that is
    `billing.plans`, and takes the agreement of others.
    """
    require(actor, "estate.write", property_id=property_id)
    with scope(actor):
        tariff = Tariff.objects.get(property_id=property_id, code=tariff_code)
        put_on_plan(property_id, account_ids, tariff.pk, valid_from)
        advance_epoch(property_id)
        record(
            actor=actor.code,
            code="billing.tariff.assigned",
            property_id=property_id,
            subject=f"tariff:{tariff.pk}",
            now=now,
            valid_from=valid_from,
            accounts=sorted(account_ids),
        )


def put_on_plan(
    property_id: int,
    account_ids: Sequence[int],
    tariff_id: int,
    valid_from: datetime,
    *,
    kind: str | None = None,
    about: str | None = None,
    withdraws: bool = False,
) -> None:
    """Write who is on a plan from an instant on, in the caller's transaction; no login writes it otherwise.

    ``kind`` and ``about`` name what was agreed to; without, it is the first plan of these accounts. Raises
    UnknownAccount, and Changed where the world has changed since it was proposed.
    """
    accounts = sorted(set(account_ids))
    with saying_what_changed(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT put_on_plan(%s, %s, %s, %s, %s, %s, %s)",
            [kind, property_id, about, accounts, tariff_id, valid_from, withdraws],
        )
        (made,) = cursor.fetchone()
    if made != len(accounts):
        raise UnknownAccount(f"not all accounts belong to property {property_id}")


def advance_epoch(property_id: int) -> None:
    """Let every book of the property's prices be read anew by the next batch; rings ``tariff``."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO tariff_epoch (property_id, epoch) VALUES (%s, 1)
               ON CONFLICT (property_id) DO UPDATE SET epoch = tariff_epoch.epoch + 1""",
            [property_id],
        )
        cursor.execute("SELECT pg_notify('tariff', %s)", [str(property_id)])


def post_usage(
    *,
    actor: Actor,
    now: datetime,
    until: datetime,
    cause: str,
    account_ids: Sequence[int] | None = None,
    supply_looks: bool = False,
    lanes: int = 1,
) -> Posted:
    """Post what was used up to ``until`` and what fell due by days: one event per account.

    The range (posted_interval_no, to] of each account is closed, ``to`` being the last interval
    before the first that reaches beyond ``until``; later arrivals enter the next event under their
    own service day. Usage leaves the available money as it was; a day that begins lowers it. Chunked and resumable: every chunk is its
    own transaction, and a second run finds nothing left to post. ``account_ids`` None means all.
    With ``supply_looks``, supply looks at each chunk's accounts in its transaction, so that nobody
    whose balance fell is overlooked when the process ends in between. ``lanes`` chunks are worked on
    at once, each in a thread with a connection of its own.
    """
    require(actor, "billing.post")

    def post(chunk: list[int]) -> Posted:
        with scope(actor):
            done = post_chunk(actor, chunk, now=now, until=until, cause=cause)
            if supply_looks:
                look_again(actor=actor, account_ids=chunk, now=now)
        return done

    chunks = _chunks(actor, account_ids, until, cause)
    done = list(map(post, chunks)) if lanes == 1 else _in_lanes(post, chunks, lanes)
    return Posted(sum(each.accounts for each in done), sum(each.transfers for each in done))


def _in_lanes(
    post: Callable[[list[int]], Posted], chunks: Sequence[list[int]], lanes: int
) -> list[Posted]:
    """What ``post`` makes of the chunks, several at once; the first failure ends all lanes."""
    waiting = deque(chunks)
    done: list[Posted] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            while not failures:
                try:
                    chunk = waiting.popleft()
                except IndexError:
                    return
                done.append(post(chunk))
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, name=f"posting-{n}") for n in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return done


def _chunks(
    actor: Actor, account_ids: Sequence[int] | None, until: datetime, cause: str
) -> list[list[int]]:
    """Accounts with usage to post, or with days that have begun and are not charged yet.

    Whoever moves is looked at in any case: days that are charged already may change hands.
    """
    wanted = None if account_ids is None else list(account_ids)
    if cause == MOVE and wanted is not None:
        due = set(wanted)
    else:
        due = set(due_accounts(actor=actor, until=until, account_ids=wanted))
    with scope(actor), connection.cursor() as cursor:
        cursor.execute(
            """SELECT account_id FROM account_state
               WHERE interval_no > posted_interval_no AND (%s::bigint[] IS NULL OR account_id = ANY(%s))""",
            [wanted, wanted],
        )
        ids = sorted(due | {int(row[0]) for row in cursor.fetchall()})
    return [ids[at : at + POSTING_CHUNK] for at in range(0, len(ids), POSTING_CHUNK)]
