"""Scenario files: those that come along can be read, and what is wrong with one is said so that it can be put right."""

from __future__ import annotations

import pytest

from prewatt.scenarios.command import find_scenario, shipped_scenarios, shortened
from prewatt.scenarios.population import populate
from prewatt.scenarios.scenario import ScenarioRefused, read_scenario
from prewatt.sim.turns import Later, Way, Weather

HEAD = 'title = "T"\nduration_s = 60\n'
MQTT = '[[meters]]\nname = "a"\nradio = "mqtt"\ncount = 3\nperiod_s = 5\n'
LORA = '[[meters]]\nname = "l"\nradio = "lorawan"\ncount = 3\nperiod_s = 60\n'


def refusal(text: str) -> list[str]:
    with pytest.raises(ScenarioRefused) as refused:
        read_scenario(text)
    return refused.value.lines


@pytest.mark.parametrize("name", shipped_scenarios())
def test_a_scenario_that_comes_along_can_be_run(name: str) -> None:
    scenario = find_scenario(name)
    assert len(populate(shortened(scenario, 1), "x").meters) == scenario.count


@pytest.mark.parametrize(
    ("text", "where", "what", "remedy"),
    [
        ("x = [", "", "not TOML", "put texts in quotes"),
        (HEAD, "the file", "meters is missing", "write it"),
        (HEAD + MQTT + "cuont = 4", "meters[1].cuont", "no such key", "did you mean count"),
        (HEAD + MQTT.replace("mqtt", "zigbee"), "meters[1].radio", "invalid enum value", "put it"),
        (HEAD + MQTT + MQTT, "meters[2].name", "is there twice", "give each group its own"),
        (HEAD + MQTT + "sleeps_s = 9", "meters[1].sleeps_s", "of lwm2m alone", "leave it out"),
        (HEAD + MQTT + "latency_ms = [9, 1]", "meters[1].latency_ms", "usual", "write [80, 900]"),
        (HEAD + LORA + "in_reach = 3", "meters[1].in_reach", "number of gateways", "change one"),
        (
            HEAD + LORA + '[[meters.faults]]\nname = "drop"\npercent = 5',
            "meters[1].faults[1].name", "have no 'drop'", "there are stuck_relay",
        ),
        (
            HEAD + MQTT + '[[events]]\nwhat = "broker_restart"\nat_s = 61',
            "events[1].at_s", "not within", "move it",
        ),
        (
            HEAD + MQTT + '[[events]]\nwhat = "gateway_outage"\nat_s = 1\ngroup = "a"',
            "events[1].group", "a is mqtt", "name another",
        ),
        (
            HEAD + MQTT + '[[attacks]]\nwhat = "another_meters_topic"',
            "attacks[1].what", "proves nothing", "write tls = true",
        ),
        (HEAD + LORA + "signed_percent = 5", "meters[1].signed_percent", "of mqtt and concentrator and lwm2m", "leave it"),
        (HEAD + MQTT + "holds_credit_percent = 5", "meters[1].holds_credit_percent", "verify", "write signed_percent"),
        (
            "tls = true\n" + HEAD + MQTT + '[[attacks]]\nwhat = "stolen_key"',
            "attacks[1].what", "meters that verify", "signed_percent",
        ),
        (HEAD + MQTT + "[recharges]\nper_second = 1", "recharges", "nobody needs any", "poor_percent"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place_and_its_remedy(
    text: str, where: str, what: str, remedy: str
) -> None:
    lines = refusal(text)
    assert any(each.startswith(where) and what in each and remedy in each for each in lines), lines


def test_everything_that_is_wrong_is_said_at_once() -> None:
    assert len(refusal(HEAD + MQTT + "loss_percent = 101\nsleeps_s = 3\nperiod_s2 = 1")) == 1
    assert len(refusal(HEAD + MQTT + "loss_percent = 101\nsleeps_s = 3")) == 2


def test_one_seed_makes_one_field_and_another_another() -> None:
    scenario = find_scenario("mixed-ten-thousand")
    small = read_scenario(
        HEAD
        + MQTT
        + "breaks_per_hour = 60\npoor_percent = 34\nlatency_ms = [50, 500]\n"
        + '[[meters.faults]]\nname = "clock_drift"\npercent = 40\nvalue = 90\nfrom_s = 5\nuntil_s = 9\n'
        + LORA.replace("count = 3", "count = 40")
        + "gateways = 4\nin_reach = 2\n"
        + '[[events]]\nwhat = "gateway_outage"\ngroup = "l"\npercent = 50\nat_s = 20\nfor_s = 7\n'
    )
    assert populate(small, "7") == populate(small, "7")
    assert populate(small, "7") != populate(small, "8")
    field = populate(small, "7")
    turns = [turn for part in field.parts for turn in part.turns]
    assert {"outage", "clock_drift"} == {turn.name for turn in turns}
    assert [turn.at_us for turn in turns] == sorted(turn.at_us for turn in turns)
    assert [each[1:] for each in field.gateway_outages] == [(20_000_000, 27_000_000)] * 2
    assert sum(each.is_poor for each in field.meters) == 1
    assert not any(each.secret for each in field.meters), "none shall verify"
    signing = read_scenario(HEAD + MQTT + "signed_percent = 67\nholds_credit_percent = 50\n")
    assert [bool(each.secret) for each in populate(signing, "7").meters].count(True) == 2
    assert (
        sum(each.holds_credit and bool(each.secret) for each in populate(signing, "7").meters) == 1
    )
    # Of ten thousand, each concentrator is with all of its meters in one process.
    parts = populate(scenario, "7").parts
    homes = [(each.concentrator, part.name) for part in parts for each in part.meters]
    assert len({home for home in homes if home[0]}) == len({home[0] for home in homes if home[0]})


def test_a_radio_draws_the_same_for_a_meter_whoever_else_talks() -> None:
    way = Way(median_ms=100, slow_ms=1_000, loss_ppm=100_000)
    alone, beside, other = (Weather(way, "1", serial) for serial in ("A", "A", "B"))
    mine = [alone.delay_us() for _ in range(2_000)]
    both = [(beside.delay_us(), other.delay_us()) for _ in range(2_000)]
    assert mine == [each[0] for each in both] != [each[1] for each in both]
    heard = sorted(each for each in mine if each is not None)
    assert 0.07 < 1 - len(heard) / 2_000 < 0.13 and alone.lost == 2_000 - len(heard)
    assert 90_000 < heard[len(heard) // 2] < 110_000
    assert 800_000 < heard[len(heard) * 99 // 100] < 1_300_000
    assert Weather(Way(median_ms=20), "1", "A").delay_us() == 20_000


def test_what_waits_comes_in_its_order_and_never_early() -> None:
    later, said = Later(), list[str]()
    for at_us, word in ((5, "c"), (3, "a"), (3, "b"), (9, "d")):
        later.at(at_us, lambda word=word: said.append(word))  # type: ignore[misc]
    for now_us, wanted in ((2, ""), (3, "ab"), (8, "abc"), (9, "abcd")):
        for call in later.take(now_us):
            call()
        assert "".join(said) == wanted
