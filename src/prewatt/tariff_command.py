"""`prewatt tariff`: the published format (`schema`), and whether a document is a plan (`check`).

A document that is refused ends with status 2 and one line on standard error: place and reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import resources
from pathlib import Path
from typing import Final

from prewatt.core.tariff import TariffRefused, digest, load_tariff, to_document
from prewatt.core.tariff.summary import summary_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`schema`, or `check FILE`."""
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("schema", help="print the JSON Schema of a tariff document")
    check = verbs.add_parser("check", help="say what a document means, or what is wrong with it")
    check.add_argument("file", type=Path, help="a tariff document (JSON); - reads standard input")
    check.add_argument("--format", choices=("text", "json"), default="text")


def run(arguments: argparse.Namespace) -> int:
    """Return 0, or 2 where a document is refused."""
    if arguments.verb == "schema":
        print(_schema_text(), end="")
        return 0
    return _check(arguments.file, as_json=arguments.format == "json")


def _schema_text() -> str:
    schema = resources.files("prewatt") / "data" / "tariffs" / "schema.json"
    return schema.read_text(encoding="utf-8")


#: The largest plan is some tens of kilobytes.
MAX_BYTES: Final = 1024 * 1024


def _read(file: Path) -> bytes:
    """What stands in the file, no further than allowed: it may be a device that never ends."""
    if str(file) == "-":
        content = sys.stdin.buffer.read(MAX_BYTES + 1)
    else:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise TariffRefused(str(file), f"there are more than {MAX_BYTES} bytes")
    return content


def _check(file: Path, *, as_json: bool) -> int:
    try:
        tariff = load_tariff(_read(file))
    except OSError as error:
        print(f"{file}: {error.strerror}", file=sys.stderr)
        return 2
    except TariffRefused as refusal:
        print(refusal, file=sys.stderr)
        return 2
    if as_json:
        found = {"digest": digest(tariff).hex(), "tariff": to_document(tariff)}
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return 0
    print("\n".join([*summary_lines(tariff), f"digest: {digest(tariff).hex()}"]))
    return 0
