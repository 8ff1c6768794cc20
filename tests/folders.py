"""Folders for servers that a test starts itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Linux's file system in memory. What these tests kill is a process, never the machine, so what was
#: written is there afterwards as it is on a disk; half of what such a test costs is writing to one.
_IN_MEMORY = Path("/dev/shm")
_ROOM_BYTES_MIN = 1 << 30


@contextmanager
def server_folder() -> Iterator[Path]:
    """An empty folder that the server's user can reach, as pytest's own cannot be; deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="prewatt-", dir=_memory_with_room()) as folder:
        path = Path(folder)
        path.chmod(0o755 if os.geteuid() == 0 else 0o700)
        yield path


def _memory_with_room() -> Path | None:
    """Where files are in memory, or None for a disk: containers often have but little of it."""
    if not os.access(_IN_MEMORY, os.W_OK | os.X_OK):
        return None
    return _IN_MEMORY if shutil.disk_usage(_IN_MEMORY).free >= _ROOM_BYTES_MIN else None
