"""A device's side of the short form: takes a session, verifies what it is told, keeps the number with the effect, answers.

What a meter behind a narrow link has to do and nothing of its radio; `sim.lorawan` has that. Without sockets or clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from prewatt.core.instructions import NotBelieved, Operation, Result
from prewatt.core.session_offers import believed_offer
from prewatt.core.short_instructions import (
    ShortState,
    concluded_short,
    forged_short,
    judged_short,
)
from prewatt.core.vocabulary import RelayState
from prewatt.signing.es256 import ES256PrivateKey, ES256PublicKey
from prewatt.signing.keys import KeyRole
from prewatt.signing.sessions import SessionKeys, session_keys

_MINUTE_US: Final = 60 * 1_000_000


@dataclass(frozen=True, slots=True)
class Memory:
    """What a device keeps of its session without power; ``platform_point`` is empty before the first one."""

    number: int = 0
    platform_point: bytes = b""
    state: ShortState = field(default_factory=ShortState)


class ShortDevice:
    """One device, by its name, its key of agreement and the points of the instruction keys that it trusts."""

    def __init__(self, name: str, key: ES256PrivateKey, trusts: Iterable[bytes]) -> None:
        self._name = name
        self._key = key
        self._trusts = {_key_id(point): ES256PublicKey.from_point(point) for point in trusts}
        self._keys: SessionKeys | None = None
        self.memory = Memory()

    @property
    def has_session(self) -> bool:
        """Whether it was ever given one: from then on it obeys nothing else."""
        return self._keys is not None

    def take_offer(self, message: bytes) -> None:
        """Begin the session that a commissioning tool brings. Raises NotBelieved, ValueError for an old one.

        Its lifetime credit stays; it has carried nothing out yet.
        """
        offer = believed_offer(
            message, meter=self._name, verify=self._verify, after=self.memory.number
        )
        state = ShortState(credit_micro=self.state.credit_micro)
        self.restore(Memory(offer.number, offer.platform_point, state))

    def restore(self, memory: Memory) -> None:
        """Take up where it left."""
        self.memory, point = memory, memory.platform_point
        if point:
            name = self._name
            self._keys = session_keys(self._key, point, meter=name, platform_point=point)

    @property
    def state(self) -> ShortState:
        """How it stands."""
        return self.memory.state

    @state.setter
    def state(self, state: ShortState) -> None:
        self.memory = replace(self.memory, state=state)

    def receive(
        self, message: bytes, *, now_us: int, switch: Callable[[RelayState | None], RelayState]
    ) -> bytes:
        """What it answers; nothing to what it does not believe, which it counts.

        ``switch`` moves the relay (None: leaves it) and says how its contacts are then.
        """
        if self._keys is None:
            return b""
        try:
            command, result, stored = judged_short(
                self.state,
                message,
                meter=self._name,
                key=self._keys.down,
                now_min=now_us // _MINUTE_US,
            )
        except NotBelieved:
            self.state = forged_short(self.state)
            return b""
        if stored:
            return stored
        is_order = result is Result.OK and command.operation is Operation.RELAY
        relay = switch(RelayState(command.argument) if is_order else None)
        self.state, answer = concluded_short(
            self.state,
            command,
            result,
            message=message,
            relay=relay,
            meter=self._name,
            key=self._keys.up,
        )
        return answer

    def _verify(self, key_id: bytes, message: bytes, signature: bytes) -> bool:
        key = self._trusts.get(key_id)
        return key is not None and key.is_signed(message, signature)


def _key_id(point: bytes) -> bytes:
    """As `signing.keys.PublicKey.key_id` has it."""
    return hashlib.sha256(f"{KeyRole.INSTRUCTION}\n".encode() + point).digest()[:16]
