"""`prewatt access`: says who may do what, as the code has it, and what stands outside the walls."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where the page goes, or that it is only compared."""
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="write the page instead of printing it"
    )
    parser.add_argument(
        "--check", type=Path, metavar="FILE", help="say whether this page is what the code has"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print or write the page; 1 where something stands outside, or the page is an old one."""
    from prewatt import wiring

    wiring.start_django()
    from prewatt.access_matrix import faults, table

    page, outside = table(), faults()
    if arguments.write is not None:
        arguments.write.write_text(page, encoding="utf-8")
    elif arguments.check is None:
        print(page, end="")
    elif arguments.check.read_text(encoding="utf-8") != page:
        outside.append(f"{arguments.check} is not what the code has; prewatt access --write it")
    for each in outside:
        print(f"prewatt access: {each}", file=sys.stderr)
    return 1 if outside else 0
