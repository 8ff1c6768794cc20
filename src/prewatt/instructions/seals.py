"""Our instruction keys, and by which of them each meter is instructed.

The file of keys says which there are; what a meter trusts is what its last verified answer said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from prewatt.core.cose import Sealer
from prewatt.core.instructions import ids_of
from prewatt.runtime.prepared import fetch, integers

#: What stands before the id of its key in a message of `core.cose`.
_HEAD: Final = b"\xd2\x84\x55\xa2\x01\x26\x04\x50"


class Seals:
    """Our keys, and which of them signs to which meter.

    ``signers`` sign by now, the oldest first, and ``usual`` is the one that signs what is for nobody in particular. ``points``
    are of all keys that a meter may be told of, also of one that waits. All are living; ``ended`` are ids of revoked ones.
    """

    def __init__(
        self,
        signers: Sequence[Sealer],
        *,
        usual: Sealer | None = None,
        points: Mapping[bytes, bytes] | None = None,
        ended: Sequence[bytes] = (),
    ) -> None:
        self._signers = {each.key_id: each for each in signers}
        self.usual = signers[-1] if usual is None else usual
        self.points = dict(points or {})
        self.ended = tuple(ended)

    @property
    def signing(self) -> frozenset[bytes]:
        """The ids of those that sign by now."""
        return frozenset(self._signers)

    @property
    def ours(self) -> frozenset[bytes]:
        """The ids of all keys that ever were."""
        return frozenset([*self._signers, *self.points, *self.ended])

    @classmethod
    def of(cls, found: Sealer | Seals) -> Seals:
        """The one key there is, or all of them."""
        return found if isinstance(found, Seals) else cls([found])

    def signers_of(self, meter_ids: Sequence[int]) -> Callable[[int, int], Sealer]:
        """Who signs to each of these meters, by its id and the last number that it was given. Inside the caller's scope.

        As long as there is one key, nothing is asked. Else the newest that a meter says to trust signs, or that of the last
        command that it answered. One that never answered is taken to be made for the usual key, and where it does not
        answer that, by each in its turn. So is one that trusts none of ours by what is known, which may be old:
        whoever set the database back did not set the meter back.
        """
        if len(self._signers) == 1:
            return lambda _meter, _number: self.usual
        trusts = {
            meter: None if trusts is None else ids_of(bytes(trusts))
            for meter, trusts in fetch(_TRUSTS, [integers(meter_ids)])
        }
        return lambda meter, number: self.signer(trusts.get(meter), number)

    def signer(self, trusts: Sequence[bytes] | None, number: int) -> Sealer:
        """Who signs to a meter that trusts these keys, the newest last; None: that is not known."""
        for key_id in reversed(trusts or ()):
            if key_id in self._signers:
                return self._signers[key_id]
        others = [each for each in self._signers.values() if each is not self.usual]
        return [self.usual, *others][number % (1 + len(others))]


#: What a meter said to trust, ``s`` being its standing; of one that never said, the key of the last command that it answered.
TRUSTED: Final = rf"""coalesce(s.trusts, (
    SELECT substring(i.command FROM 9 FOR 16) FROM instruction i
    WHERE i.meter_id = s.meter_id AND i.state IN (3, 4) AND substring(i.command FROM 1 FOR 8) = '\x{_HEAD.hex()}'
    ORDER BY i.sequence DESC LIMIT 1))"""  # noqa: S608 - our own bytes
_TRUSTS: Final = f"""
SELECT s.meter_id, {TRUSTED} FROM instruction_state s WHERE s.meter_id = ANY (%s::bigint[])
"""  # noqa: S608 - our own column
