"""Drafts: checked when saved, never lost to each other, tried once however often one asks."""

from __future__ import annotations

from copy import deepcopy

import pytest
from tests.invariants.places import NOW, TARIFF, one, place

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused
from prewatt.billing.drafts import Draft, DraftRefused, ask_trial, save_draft
from prewatt.core.tariff import TariffRefused

pytestmark = pytest.mark.usefixtures("database")


def administrator(property_id: int, code: str = "user:1") -> Actor:
    """Somebody who may make plans at one property."""
    return Actor(code, Duty.ADMINISTRATOR, (property_id,))


def save(property_id: int, edition: int | None = None, *, by: str = "user:1", code: str = "new") -> Draft:  # fmt: skip
    """Save the common plan as a draft."""
    return save_draft(
        actor=administrator(property_id, by),
        property_id=property_id,
        code=code,
        name="New prices",
        document=TARIFF,
        reason="The supplier's prices rose",
        now=NOW,
        edition=edition,
    )


def test_a_draft_is_checked_and_prices_nobody() -> None:
    here = place().property_id
    bad = deepcopy(TARIFF)
    bad["energy"]["bands"]["day"]["price"] = "-1"
    with pytest.raises(TariffRefused):
        save_draft(
            actor=administrator(here), property_id=here, code="new", name="", document=bad,
            reason="", now=NOW,
        )  # fmt: skip
    assert one("SELECT count(*) FROM tariff_draft WHERE property_id = %s", here) == 0
    epoch = one("SELECT epoch FROM tariff_epoch WHERE property_id = %s", here)
    assert save(here).edition == 1
    assert one("SELECT epoch FROM tariff_epoch WHERE property_id = %s", here) == epoch
    assert one("SELECT count(*) FROM audit_event WHERE code = 'billing.draft.saved'") == 1


def test_nobodys_change_is_lost_to_another() -> None:
    here = place().property_id
    first = save(here)
    assert save(here, first.edition, by="user:2").edition == 2
    with pytest.raises(DraftRefused) as refused:
        save(here, first.edition)
    assert refused.value.reason == "changed_meanwhile"
    assert one("SELECT made_by FROM tariff_draft WHERE id = %s", first.draft_id) == "user:2"


def test_only_an_administrator_of_the_place_makes_drafts() -> None:
    here, there = place().property_id, place().property_id
    for actor in (Actor("user:3", Duty.OPERATOR, (here,)), administrator(there)):
        with pytest.raises(PermissionRefused):
            save_draft(
                actor=actor, property_id=here, code="x", name="x", document=TARIFF, reason="",
                now=NOW,
            )  # fmt: skip


def test_asking_twice_is_one_trial_and_a_new_edition_another() -> None:
    here = place().property_id
    draft = save(here)
    actor = administrator(here)
    first = ask_trial(actor=actor, draft_id=draft.draft_id, days=30, now=NOW)
    assert ask_trial(actor=actor, draft_id=draft.draft_id, days=30, now=NOW) == first
    assert ask_trial(actor=actor, draft_id=draft.draft_id, days=60, now=NOW) != first
    save(here)
    assert ask_trial(actor=actor, draft_id=draft.draft_id, days=30, now=NOW) != first
    for days in (29, 91):
        with pytest.raises(DraftRefused):
            ask_trial(actor=actor, draft_id=draft.draft_id, days=days, now=NOW)
