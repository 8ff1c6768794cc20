"""What debts take of a recharge, and what is missing when credit is taken back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prewatt.core.debts import PPM, Agreement, RecoveryLimit, missing_micro, recovered_micro

MONEY = st.integers(0, 10**12)
SHARES = st.integers(0, PPM)
ROOMS = st.one_of(st.none(), MONEY)
AGREEMENTS = st.builds(Agreement, MONEY, SHARES, ROOMS)
LIMITS = st.builds(RecoveryLimit, SHARES, ROOMS)


@given(MONEY, st.data(), st.lists(AGREEMENTS, max_size=5), LIMITS)
def test_a_debt_takes_what_was_agreed_and_never_more(
    recharge: int, data: st.DataObject, debts: list[Agreement], limit: RecoveryLimit
) -> None:
    spendable = data.draw(st.integers(0, recharge))
    taken = recovered_micro(
        recharge_micro=recharge, spendable_micro=spendable, debts=debts, limit=limit
    )
    assert len(taken) == len(debts)
    for part, debt in zip(taken, debts, strict=True):
        assert 0 <= part <= debt.left_micro
        assert part * PPM <= recharge * debt.share_ppm
        assert debt.room_micro is None or part <= debt.room_micro
    total = sum(taken)
    assert total <= spendable and total * PPM <= recharge * limit.share_ppm
    assert limit.room_micro is None or total <= limit.room_micro
    # Nothing is left out either: a debt gets less than it asks for only where the room ends.
    asked = [
        min(
            debt.left_micro,
            recharge * debt.share_ppm // PPM,
            recharge if debt.room_micro is None else debt.room_micro,
        )
        for debt in debts
    ]
    room = min(
        spendable,
        recharge * limit.share_ppm // PPM,
        recharge if limit.room_micro is None else limit.room_micro,
    )
    assert total == min(room, sum(asked))
    assert all(
        part == want or sum(asked[: at + 1]) >= room
        for at, (part, want) in enumerate(zip(taken, asked, strict=True))
    ), "older debts come first"


def test_a_share_of_a_recharge_in_numbers() -> None:
    old, young = Agreement(30_000_000, 250_000), Agreement(100_000_000, 500_000, 4_000_000)
    assert recovered_micro(
        recharge_micro=20_000_000,
        spendable_micro=20_000_000,
        debts=[old, young],
        limit=RecoveryLimit(400_000),
    ) == [5_000_000, 3_000_000]


@given(st.integers(-(10**12), 10**12), MONEY, st.integers(0, 10**11))
def test_taking_credit_back_goes_no_further_than_emergency_credit_and_lifts_nobody(
    available: int, taken: int, emergency: int
) -> None:
    missing = missing_micro(
        available_micro=available, taken_back_micro=taken, emergency_micro=emergency
    )
    after = available - taken + missing
    assert 0 <= missing <= taken and after <= available
    assert after >= min(available, -emergency)
    assert missing == 0 or after == min(available, -emergency), "emergency credit gives first"
