"""`prewatt packages`: what the program is made of, as an SBOM, and which holes in that are known.

Both look at `requirements.txt`, which names every package that runs. The tools are others': cyclonedx-bom and pip-audit,
of the development requirements.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prewatt.runtime.state import CHECKOUT, CannotRunError

if TYPE_CHECKING:
    import argparse

_REQUIREMENTS: Final = CHECKOUT / "requirements.txt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two sub-commands."""
    commands = parser.add_subparsers(dest="packages_command", required=True)
    sbom = commands.add_parser("sbom", help="write an SBOM (CycloneDX, JSON)")
    sbom.add_argument("file", type=Path, nargs="?", default=Path("sbom.cdx.json"))
    commands.add_parser(
        "audit", help="ask a service of known holes about each package; needs the network"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; 1 where a hole is known, 2 where a package could not be asked about."""
    if arguments.packages_command == "sbom":
        return _write_sbom(arguments.file)
    found = _tool(
        "pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner=off", "--format=json",
        "--requirement", str(_REQUIREMENTS),
    )  # fmt: skip
    try:
        report = json.loads(found.stdout)
    except ValueError:
        raise CannotRunError(f"the audit did not come about: {found.stderr.strip()}") from None
    lines, status = verdict(report)
    print("\n".join(lines))
    return status


def verdict(report: dict[str, Any]) -> tuple[list[str], int]:
    """What a report of pip-audit says, in lines, and the exit status.

    A package that the service could not be asked about counts as one that was not audited, not as a good one.
    """
    packages = report["dependencies"]
    unasked = [each["name"] for each in packages if "skip_reason" in each]
    holes = [
        f"{each['name']} {each['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'none yet'}"
        for each in packages
        for hole in each.get("vulns", ())
    ]
    asked = len(packages) - len(unasked)
    lines = [*holes, f"{asked} packages asked about, {len(holes)} known holes"]
    if unasked or not packages:
        lines.append(
            f"NOT AUDITED: {', '.join(unasked) or 'anything'}. The service that knows of holes cannot be reached "
            "from here; ask again where it can."
        )
        return lines, 1 if holes else 2
    return lines, 1 if holes else 0


def _write_sbom(file: Path) -> int:
    done = _tool(
        "cyclonedx_py", "requirements", str(_REQUIREMENTS), "--pyproject", str(CHECKOUT / "pyproject.toml"),
        "--output-reproducible", "--output-format", "JSON", "--output-file", str(file),
    )  # fmt: skip
    if done.returncode != 0:
        raise CannotRunError(f"no SBOM was written: {done.stderr.strip()}")
    components = json.loads(file.read_text())["components"]
    print(f"{file}: {len(components)} packages, each with its version and digests")
    return 0


def _tool(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        (sys.executable, "-P", "-m", module, *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named" in done.stderr:
        raise CannotRunError(
            f"{module} is not installed here: it is one of the development requirements, which `./run check` installs"
        )
    return done
