"""Meters are fitted, heard and looked at; who stays silent calls a person, once for all that it stands for."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.estate.tables import NOW, tables
from tests.moves.world import World, hours, rows, snapshot, world

from prewatt.access.models import Duty
from prewatt.access.scope import Actor, PermissionRefused, scope, system_actor
from prewatt.core.field_rules import FieldRules, FieldRulesRefused
from prewatt.core.vee import Verdict
from prewatt.estate.operations import NewMeter
from prewatt.estate.sheets import ImportRefused, PropertySheets
from prewatt.moves import operations as moves
from prewatt.moves.commissioning import (
    Fitting,
    FittingRefused,
    NotChecked,
    UnitMetered,
    end_check,
    fit_meters,
)
from prewatt.moves.concentrators import put_behind, register_concentrator
from prewatt.moves.field_rules import set_field_rules
from prewatt.moves.field_watch import watch_field
from prewatt.moves.first_contact import Contact, contacts
from prewatt.moves.onboarding import import_property
from prewatt.moves.words import InFuture, NameTaken, RegisterRefused, TooEarly, UnknownPlace
from prewatt.signing.es256 import ES256PrivateKey

DAY = timedelta(days=1)


@pytest.fixture
def here(database: str) -> World:
    return world()


def installer(here: World) -> Actor:
    return Actor("user:9", Duty.INSTALLER, (here.property_id,), "Emil")


def fitting(here: World, unit: str = "101", serial: str = "F-1", **changed: Any) -> Fitting:
    asked = Fitting(here.units[unit], NewMeter(serial), 40, hours(30), beside=True)
    return replace(asked, **changed)


def fit(here: World, *fittings: Fitting, key: str = "k") -> list[int]:
    return fit_meters(
        actor=installer(here), property_id=here.property_id, fittings=fittings, key=key, now=NOW
    ).meter_ids


def seen(here: World, meter_id: int) -> Contact:
    with scope(installer(here)):
        (found,) = contacts(property_id=here.property_id, meter_ids=[meter_id], now=NOW)
    return found


def alerts() -> list[tuple[str, str]]:
    return rows("SELECT code, subject FROM alert WHERE closed_at IS NULL ORDER BY code")  # type: ignore[return-value]


def test_a_fitted_meter_is_charged_to_who_pays_there_and_waited_for(here: World) -> None:
    (meter,) = fit(here, fitting(here))
    assert fit(here, fitting(here)) == [meter]
    fitted = World(here.property_id, {"F-1": meter}, here.units, here.accounts)
    before = rows(
        "SELECT available FROM account_state WHERE account_id = %s", here.accounts["1001"]
    )
    assert fitted.read("F-1", hours(31), 40) is Verdict.ACCEPTED
    assert fitted.read("F-1", hours(32), 1_040) is Verdict.ACCEPTED
    after = rows("SELECT available FROM account_state WHERE account_id = %s", here.accounts["1001"])
    assert before[0][0] - after[0][0] == 1_000 * 250
    assert rows(
        "SELECT actor, subject, detail->>'serial' FROM audit_event WHERE code = 'moves.meter.fitted'"
    ) == [("user:9", f"meter:{meter}", "F-1")]
    found = seen(here, meter)
    assert (found.state, found.counts, found.heard) == ("fitted", "good", "waits")
    with pytest.raises(NotChecked):
        end_check(
            actor=installer(here), property_id=here.property_id, meter_id=meter, note="", now=NOW
        )
    rows(
        """UPDATE meter_link SET last_seen_at = %s, relay = 1, relay_read_at = %s, clock_drift_s = 3
           WHERE meter_id = %s""",
        hours(32), hours(32), meter,
    )  # fmt: skip
    found = seen(here, meter)
    assert (found.state, found.is_good) == ("heard", True)
    end_check(actor=installer(here), property_id=here.property_id, meter_id=meter, note="", now=NOW)
    assert seen(here, meter).state == "checked"
    with pytest.raises(UnknownPlace):
        end_check(
            actor=installer(here), property_id=here.property_id, meter_id=meter, note="", now=NOW
        )


def test_one_bad_fitting_takes_back_all(here: World) -> None:
    before, elsewhere = snapshot(), world("-x")
    before = snapshot()
    good = fitting(here)
    for bad, why in (
        (fitting(here, serial="M-101"), NameTaken),
        (fitting(here, serial="F-2", at=NOW + DAY), InFuture),
        (fitting(here, serial="F-2", at=hours(-900)), TooEarly),
        (fitting(here, serial="F-2", beside=False), UnitMetered),
        (fitting(here, serial="F-2", opening_wh=10**9), RegisterRefused),
        (fitting(here, serial="F-2", unit_id=elsewhere.units["101"]), UnknownPlace),
    ):
        with pytest.raises(FittingRefused) as refused:
            fit(here, good, bad)
        assert refused.value.at == 1 and isinstance(refused.value.why, why), why
    assert snapshot() == before and rows("SELECT count(*) FROM commissioning") == [(0,)]
    operator = Actor("user:6", Duty.OPERATOR, (here.property_id,))
    for stranger in (operator, replace(installer(here), property_ids=(elsewhere.property_id,))):
        with pytest.raises(PermissionRefused):
            fit_meters(
                actor=stranger, property_id=here.property_id, fittings=[good], key="s", now=NOW
            )


def test_an_exchanged_meter_is_waited_for_and_the_former_no_more(here: World) -> None:
    def exchange(old: int, serial: str, at: float) -> int:
        return moves.exchange_meter(
            actor=installer(here), meter_id=old, closing_wh=2_000, new_meter=NewMeter(serial),
            opening_wh=0 if serial == "N-2" else 2_000, at=hours(at), key=serial, now=NOW,
        ).new_meter_id  # fmt: skip

    first = exchange(here.meters["M-101"], "N-1", 10)
    second = exchange(first, "N-2", 20)
    assert rows("SELECT meter_id, note, checked_at IS NULL FROM commissioning ORDER BY id") == [
        (first, "exchanged", False), (second, "", True),
    ]  # fmt: skip


def test_who_is_never_heard_calls_once_and_a_silent_concentrator_for_all_behind_it(
    here: World,
) -> None:
    administrator = here.administrator
    with pytest.raises(FieldRulesRefused):
        set_field_rules(
            actor=administrator, property_id=here.property_id, rules=FieldRules(1), now=NOW
        )
    set_field_rules(
        actor=administrator, property_id=here.property_id, rules=FieldRules(7_200, 3_600), now=NOW
    )
    register_concentrator(
        actor=installer(here), property_id=here.property_id, serial="C-1", now=NOW
    )
    alone, behind = fit(here, fitting(here), fitting(here, serial="F-2", concentrator="C-1"))
    put_behind(
        actor=administrator, property_id=here.property_id, serial="C-1", meters=["M-102"],
        at=hours(1), now=NOW,
    )  # fmt: skip
    late = NOW + timedelta(hours=3)
    assert watch_field(now=late) == watch_field(now=late) == 2
    (concentrator,) = rows("SELECT id FROM concentrator")[0]
    assert alerts() == [
        ("concentrator.silent", f"concentrator:{concentrator}"),
        ("meter.never_heard", f"meter:{alone}"),
    ]
    # It speaks: the one behind it is now missed for itself, the other was heard.
    rows("UPDATE concentrator SET last_seen_at = %s", late)
    rows("UPDATE meter_link SET last_seen_at = %s WHERE meter_id = %s", late, alone)
    assert watch_field(now=late) == 1
    assert alerts() == [("meter.never_heard", f"meter:{behind}")]
    end_check(
        actor=installer(here), property_id=here.property_id, meter_id=behind, note="No network here yet",
        now=late,
    )  # fmt: skip
    assert watch_field(now=late) == 0 and alerts() == []


def test_an_import_names_concentrators_and_keys(database: str) -> None:
    key = b64encode(ES256PrivateKey.generate().spki).decode()
    made = tables()
    made["meters"][0] |= {"concentrator": "C-1", "instruction_key": key}
    made["meters"][1] |= {"concentrator": "C-1"}
    bad = tables()
    bad["meters"][0] |= {"concentrator": "M-102", "instruction_key": key}
    bad["meters"][1] |= {"concentrator": "no serial", "instruction_key": key}
    bad["meters"][2] |= {"instruction_key": "AAAA"}
    importer = system_actor("import")
    with pytest.raises(ImportRefused) as refused:
        import_property(actor=importer, sheets=PropertySheets.of(bad), now=NOW)
    assert sorted((each.row, each.column) for each in refused.value.errors) == [
        (2, "concentrator"), (3, "concentrator"), (3, "instruction_key"), (4, "instruction_key"),
    ]  # fmt: skip
    import_property(actor=importer, sheets=PropertySheets.of(made), now=NOW)
    behind = "SELECT count(*) FROM concentrator_meter WHERE upper_inf(period)"
    assert rows(behind) == [(2,)] and rows("SELECT count(*) FROM meter_key") == [(1,)]
    # Another property cannot take the concentrator over.
    made["property"][0]["code"] += "-2"
    for meter in made["meters"]:
        meter["serial"] += "-2"
    made["meters"][0]["instruction_key"] = ""
    with pytest.raises(ImportRefused):
        import_property(actor=importer, sheets=PropertySheets.of(made), now=NOW)
