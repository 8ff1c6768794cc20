"""A queue between two threads that is bounded by weight and not by the number of its items."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """Takes an item while less than `weight_max` waits, so holds that much and one item at most."""

    def __init__(self, weight_max: int) -> None:
        self._weight_max = weight_max
        self._items: deque[tuple[Item, int]] = deque()
        self._weight = 0
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """The weight of what waits."""
        return self._weight

    def put(self, item: Item, weight: int, *, timeout_s: float) -> bool:
        """Add an item; False if there was no room for so long."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._weight < self._weight_max, timeout_s):
                return False
            self._items.append((item, weight))
            self._weight += weight
            self._changed.notify_all()
            return True

    def get(self, *, timeout_s: float) -> Item | None:
        """Take the oldest item; None if there was none for so long."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._items, timeout_s):
                return None
            item, weight = self._items.popleft()
            self._weight -= weight
            self._changed.notify_all()
            return item
