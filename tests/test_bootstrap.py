"""The bootstrap `run` finds the configured index, and runs nothing that does not match its digest."""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest

RUN = Path(__file__).resolve().parents[1] / "run"


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    """The script as a module."""
    loader = SourceFileLoader("bootstrap", str(RUN))
    spec = importlib.util.spec_from_loader("bootstrap", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def wheel(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> tuple[str, bytes]:
    """A small wheel pinned in the place of uv's, by name and content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"uv-{bootstrap.UV_VERSION}.data/scripts/uv", "#!/bin/sh\necho fake\n")
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(bootstrap, "UV_WHEELS", {("Linux", "x86_64"): ("any", digest)})
    monkeypatch.setattr(bootstrap.platform, "system", lambda: "Linux")
    monkeypatch.setattr(bootstrap.platform, "machine", lambda: "x86_64")
    return f"uv-{bootstrap.UV_VERSION}-py3-none-any.whl", content


class _Index(BaseHTTPRequestHandler):
    """A package index that wants a name and a password."""

    files: ClassVar[dict[str, bytes]] = {}
    secret = "Basic " + base64.b64encode(b"me:p@ss").decode()

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != self.secret:
            self.send_error(401)
            return
        if self.path == "/index/uv/":
            links = "".join(f'<a href="../../files/{name}#sha256=0">x</a>' for name in self.files)
            body, kind = links.encode(), "text/html"
        else:
            body, kind = self.files[self.path.rpartition("/")[2]], "application/octet-stream"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def index(wheel: tuple[str, bytes]) -> Iterator[str]:
    """The address of such an index, with the wheel in it."""
    _Index.files = dict([wheel])
    server = HTTPServer(("127.0.0.1", 0), _Index)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://me:p%40ss@127.0.0.1:{server.server_port}/index"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_old_python_can_read_far_enough_to_be_told() -> None:
    ast.parse(RUN.read_text("utf-8"), feature_version=(3, 7))


def test_help_needs_no_environment_at_all(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", RUN],
        env={"PATH": os.defpath, "PREWATT_ENV": str(tmp_path / "env")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ./run")]
    assert [line.split()[1] for line in lines[:2]] == ["demo", "check"]
    assert not (tmp_path / "env").exists()


def test_pips_files_are_read_in_pips_order_and_variables_win(
    bootstrap: ModuleType, tmp_path: Path
) -> None:
    user = tmp_path / ".config/pip/pip.conf"
    user.parent.mkdir(parents=True)
    user.write_text("[global]\nindex-url = https://user.example/simple\ntimeout = 3\n")
    named = tmp_path / "named.conf"
    named.write_text("[install]\nindex_url = https://named.example/simple\n")
    environ = {"HOME": str(tmp_path)}
    assert bootstrap.pip_settings(environ)["index-url"] == "https://user.example/simple"
    environ["PIP_CONFIG_FILE"] = str(named)
    assert bootstrap.pip_settings(environ)["index-url"] == "https://named.example/simple"
    assert bootstrap.pip_settings(environ)["timeout"] == "3"
    environ["PIP_INDEX_URL"] = "https://variable.example/simple"
    assert bootstrap.pip_settings(environ)["index-url"] == "https://variable.example/simple"
    off = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    assert bootstrap.pip_settings(off) == {"config-file": os.devnull}


def test_the_installer_gets_pips_settings_unless_it_has_its_own(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_", "SSL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://a.example/s\nhttps://b.example/s")
    monkeypatch.setenv("PIP_CERT", "/company.pem")
    environ = bootstrap.installer_environment(tmp_path)
    assert environ["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert environ["UV_INDEX"] == "https://a.example/s https://b.example/s"
    assert environ["SSL_CERT_FILE"] == "/company.pem"
    assert bootstrap.places_with_wheels(environ)[0] == "https://mirror.example/simple/uv/"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://own.example/simple")
    assert bootstrap.installer_environment(tmp_path)["UV_DEFAULT_INDEX"].startswith("https://own")


def test_it_comes_from_an_index_with_a_password(
    bootstrap: ModuleType, wheel: tuple[str, bytes], index: str
) -> None:
    assert bootstrap.fetch_uv_wheel({"UV_DEFAULT_INDEX": index}) == wheel[1]


def test_a_password_is_neither_shown_nor_carried_to_another_host(
    bootstrap: ModuleType, index: str
) -> None:
    with pytest.raises(bootstrap.BootstrapError) as refusal:
        bootstrap.fetch_uv_wheel({"UV_DEFAULT_INDEX": index.replace("p%40ss", "wr0ng")})
    assert "wr0ng" not in str(refusal.value)
    assert "401" in str(refusal.value)
    carried = bootstrap.with_credentials_of(index, "http://files.example/uv.whl")
    assert carried == "http://files.example/uv.whl"


def test_another_file_of_that_name_is_refused(
    bootstrap: ModuleType, wheel: tuple[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / wheel[0]).write_bytes(wheel[1] + b"!")
    with pytest.raises(bootstrap.BootstrapError, match="not the file that was pinned"):
        bootstrap.fetch_uv_wheel({"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(tmp_path)})


def test_a_folder_of_wheels_is_enough(
    bootstrap: ModuleType, wheel: tuple[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / wheel[0]).write_bytes(wheel[1])
    environ = {"PATH": str(tmp_path), "UV_NO_INDEX": "1", "UV_FIND_LINKS": tmp_path.as_uri()}
    target = tmp_path / "tools" / "uv"
    bootstrap.unpack_uv(bootstrap.fetch_uv_wheel(environ), target)
    done = subprocess.run([target], capture_output=True, text=True, check=True)
    assert done.stdout == "fake\n"


def test_an_unknown_machine_is_told_what_helps(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.platform, "machine", lambda: "pdp11")
    with pytest.raises(bootstrap.BootstrapError, match="put uv on PATH"):
        bootstrap.fetch_uv_wheel({})


@pytest.mark.parametrize("given", [["--port", "99"], ["--units=3", "--port=99"]])
def test_the_page_is_shown_where_the_demo_will_be(bootstrap: ModuleType, given: list[str]) -> None:
    assert bootstrap.option(given, "--port") == "99"


def test_a_changed_requirement_or_place_makes_the_environment_stale(
    bootstrap: ModuleType, tmp_path: Path
) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("one==1\n")
    stamp = bootstrap.environment_stamp(requirements)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").touch()
    (tmp_path / ".stamp").write_text(stamp)
    assert bootstrap.is_stamped(tmp_path, stamp)
    requirements.write_text("one==2\n")
    assert not bootstrap.is_stamped(tmp_path, bootstrap.environment_stamp(requirements))


def test_bytecode_is_kept_in_the_environment_where_none_may_lie_beside_the_sources(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    environ = bootstrap.program_environment(tmp_path)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "module.py").write_text("")
    command = [sys.executable, "-c", "import module"]
    subprocess.run(command, cwd=tmp_path / "source", env=environ, check=True)
    assert not (tmp_path / "source" / "__pycache__").exists()
    assert list((tmp_path / "bytecode").rglob("module.*.pyc"))
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "/elsewhere")
    assert bootstrap.program_environment(tmp_path)["PYTHONPYCACHEPREFIX"] == "/elsewhere"
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX")
    assert "PYTHONPYCACHEPREFIX" not in bootstrap.program_environment(tmp_path)
