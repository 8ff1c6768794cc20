"""The page a visitor sees while the demo prepares: what is being done, and how far it is.

Standard library only: `run` shows it before anything is downloaded, and hands the open socket over
to the program that it becomes. The state is one small file, `progress.json`, that whoever
does the work writes (`Progress`) and the page reads, so the two need not be one process.

The page asks for `/progress.json` every half second. When the real program has taken over the port
that address is gone, and the page loads itself anew: the visitor is in.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOPBACK = "127.0.0.1"
SOCKET_VARIABLE = "PREWATT_PROGRESS_FD"
"""Names the inherited file descriptor of the page's listening socket."""

STEPS: Mapping[str, tuple[str, str]] = {
    "download": ("Download the program's parts", "下载程序组件"),
    "postgres": ("Start PostgreSQL", "启动 PostgreSQL"),
    "property": ("Set up the property", "建立物业"),
    "history": ("Feed the history", "导入历史数据"),
    "meters": ("Start the meters", "启动电表"),
    "web": ("Open the doors", "开放访问"),
}
"""The steps in their order, each with its name in English and Chinese."""


class Progress:
    """The written half: which step is under way. Only one process writes at a time."""

    def __init__(self, state_dir: Path) -> None:
        """Write to `state_dir/progress.json`; nothing is written before the first `step`."""
        self.path = state_dir / "progress.json"

    def step(
        self, name: str, *, done: int | None = None, total: int | None = None, detail: str = ""
    ) -> None:
        """Say that the step `name` of `STEPS` is under way, `done` of `total` if they are known.

        The steps before it count as finished. `detail` is shown as it is, behind the step.
        """
        if name not in STEPS:
            raise ValueError(f"not a step of the preparation: {name!r}")
        self._write({"step": name, "done": done, "total": total, "detail": detail})

    def failed(self, reason: str) -> None:
        """Say that the preparation ended in failure, and why."""
        self._write({**read_progress(self.path), "failed": reason})

    def _write(self, state: dict[str, Any]) -> None:
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps(state), "utf-8")
        draft.replace(self.path)


def read_progress(path: Path) -> dict[str, Any]:
    """Return what was last written to `path`, or an empty dict if nothing readable is there."""
    try:
        state = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


class ProgressPage:
    """The shown half: a tiny web server on loopback, in a thread of its own."""

    def __init__(self, listener: socket.socket, path: Path) -> None:
        """Serve the state in the file `path` on the listening socket; it is closed by `close`."""
        self.port = int(listener.getsockname()[1])
        self._listener = listener
        handler = type("Handler", (_Handler,), {"path_of_state": path})
        self._server = ThreadingHTTPServer((LOOPBACK, 0), handler, bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.socket.close()
        self._server.socket = listener
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    @classmethod
    def open(cls, port: int, state_dir: Path) -> ProgressPage:
        """Show the page on 127.0.0.1:`port`. Raises OSError if the port is taken."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((LOOPBACK, port))
            listener.listen(64)
        except OSError:
            listener.close()
            raise
        return cls(listener, state_dir / "progress.json")

    @classmethod
    def adopt(cls, environ: Mapping[str, str], port: int, state_dir: Path) -> ProgressPage:
        """Go on with the page that `run` showed, or open it if `run` showed none.

        Raises OSError if there is none and the port is taken.
        """
        inherited = environ.get(SOCKET_VARIABLE)
        if inherited is not None:
            listener = socket.socket(fileno=int(inherited))
            listener.set_inheritable(False)
            if listener.getsockname()[1] == port:
                return cls(listener, state_dir / "progress.json")
            listener.close()
        return cls.open(port, state_dir)

    def hand_over(self) -> dict[str, str]:
        """Prepare for exec: return what the environment needs for `adopt` to go on with the page.

        Visitors who come meanwhile wait in the socket's queue; nobody is turned away.
        """
        self._server.shutdown()
        self._listener.set_inheritable(True)
        return {SOCKET_VARIABLE: str(self._listener.fileno())}

    def close(self) -> None:
        """Give the port free, for the real program to take."""
        self._server.shutdown()
        self._listener.close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    path_of_state: Path
    # A visitor who connects and says nothing must not hold a thread for ever.
    timeout = 5

    def do_GET(self) -> None:
        """Answer with the state, the page's script, or the page itself for any other address."""
        state = read_progress(self.path_of_state)
        if self.path == "/progress.json":
            self._answer(
                "application/json", json.dumps({**state, "html": _steps(state, self._chinese)})
            )
        elif self.path == "/progress.js":
            self._answer("text/javascript; charset=utf-8", _SCRIPT)
        else:
            self._answer("text/html; charset=utf-8", _page(state, self._chinese))

    @property
    def _chinese(self) -> bool:
        return self.headers.get("Accept-Language", "").lower().startswith("zh")

    def _answer(self, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.send_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'",
        )
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Log nothing: a page that asks twice a second would bury everything else."""


def _steps(state: Mapping[str, Any], chinese: bool) -> str:
    """Return the list of steps as HTML, each one done, under way or to come."""
    names = list(STEPS)
    current = names.index(state["step"]) if state.get("step") in STEPS else 0
    items = []
    for place, name in enumerate(names):
        mark = "done" if place < current else "now" if place == current else "later"
        text = STEPS[name][1 if chinese else 0]
        extra = _extent(state, chinese) if place == current else ""
        items.append(f'<li class="{mark}">{text}{extra}</li>')
    failed = state.get("failed")
    note = f'<p class="failed" role="alert">{_escaped(str(failed))}</p>' if failed else ""
    return f"<ol>{''.join(items)}</ol>{note}"


def _extent(state: Mapping[str, Any], chinese: bool) -> str:
    done, total, detail = state.get("done"), state.get("total"), str(state.get("detail") or "")
    if isinstance(done, int) and isinstance(total, int) and total > 0:
        counted = f"{done} / {total}" if chinese else f"{done} of {total}"
        shown = f"{counted} {detail}".strip()
        bar = f'<progress max="{total}" value="{min(done, total)}"></progress>'
        return f"<small>{_escaped(shown)}</small>{bar}"
    return f"<small>{_escaped(detail)}</small>" if detail else ""


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def _page(state: Mapping[str, Any], chinese: bool) -> str:
    title = "Prewatt 正在准备演示" if chinese else "Prewatt is preparing its demo"
    note = (
        "准备好后，本页会自动打开演示。"
        if chinese
        else "This page opens the demo by itself as soon as it is ready."
    )
    return (
        f'<!doctype html><html lang="{"zh-Hans" if chinese else "en"}"><head><meta charset="utf-8">'
        f"<title>{title}</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<noscript><meta http-equiv="refresh" content="2"></noscript>'
        f"<style>{_STYLE}</style><script src=/progress.js defer></script></head>"
        f'<body><main><h1>{title}</h1><p>{note}</p><div id="steps" aria-live="polite">'
        f"{_steps(state, chinese)}</div></main></body></html>"
    )


_STYLE = """
:root{color-scheme:light dark;--bg:light-dark(#f3f5f4,#0b1315);--surface:light-dark(#fff,#121c1f);
--ink:light-dark(#10201f,#e9f0ee);--ink-2:light-dark(#46575a,#aebcbb);--line:light-dark(#d6dddb,#26343a);
--on:light-dark(#1c6a45,#77d3a1);--brand:light-dark(#0a5a62,#79d2d0);--bad:light-dark(#9d1248,#ff93b6)}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);
font:400 1rem/1.5 Inter,system-ui,-apple-system,"Segoe UI",Roboto,"PingFang SC","Noto Sans CJK SC",sans-serif}
main{max-width:34rem;margin:12vh auto 0;padding:1.5rem}h1{font-size:1.625rem;line-height:1.2;margin:0 0 .5rem}
p{color:var(--ink-2);margin:0 0 1.5rem}ol{list-style:none;margin:0;padding:.5rem 1.25rem;background:var(--surface);
border:1px solid var(--line);border-radius:14px}li{padding:.625rem 0;display:flex;gap:.25rem .75rem;flex-wrap:wrap;
align-items:baseline}li+li{border-top:1px solid var(--line)}li::before{width:1.25rem;text-align:center}
.done::before{content:"\\2713";color:var(--on)}.now::before{content:"\\25cf";color:var(--brand)}.now{font-weight:620}
.later{color:var(--ink-2)}.later::before{content:"\\00b7"}small{font-weight:400;color:var(--ink-2);margin-left:auto;
font-variant-numeric:tabular-nums}progress{width:100%;height:.375rem;accent-color:var(--brand)}
.failed{color:var(--bad);margin:1rem 0;white-space:pre-wrap}
"""

_SCRIPT = """
const steps = document.getElementById("steps");
let shown = "";
async function ask() {
  try {
    const answer = await fetch("/progress.json", {cache: "no-store"});
    const type = answer.headers.get("content-type") || "";
    if (!answer.ok || answer.redirected || !type.startsWith("application/json")) return location.reload();
    const state = await answer.json();
    if (state.html !== shown) steps.innerHTML = shown = state.html;
  } catch { /* The port is between two owners: ask again. */ }
  setTimeout(ask, 500);
}
ask();
"""


def start_page(port: int, state_dir: Path, first_step: str) -> ProgressPage | None:
    """Show the page at once at `first_step`; None if the port is taken, which is no reason to stop.

    The program that follows will say so better when it wants the port for itself.
    """
    Progress(state_dir).step(first_step)
    try:
        return ProgressPage.open(port, state_dir)
    except OSError:
        os.environ.pop(SOCKET_VARIABLE, None)
        return None
