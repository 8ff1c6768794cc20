"""Who may do what, read out of the code: every address, every operation, every duty.

The table in `docs/access.md` is made by :func:`table`; a check compares it with what stands there, so
that a change of who may do what is a change of that page, which a person reads. :func:`faults` names
what stands outside: an address without a rule, a rule without an address, an operation that neither
asks for a permission nor opens a scope, one that opens a scope and asks for nothing (but for those that
say why), and one of the inner kind that a page calls past its outer one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prewatt.access.models import Duty
from prewatt.access.scope import FOR_PEOPLE, PERMISSIONS
from prewatt.api_keys.models import DUTIES as KEY_DUTIES

if TYPE_CHECKING:
    from prewatt.web.rules import Rule

ROOT: Final = Path(__file__).resolve().parent
#: Packages whose public functions act for somebody.
PACKAGES: Final = (
    "access", "api_keys", "approvals", "billing", "debts", "devices", "estate", "fleet", "instructions", "ledger",
    "mandates", "mdm", "moves", "notify", "oversight", "reports", "sign_in", "supply", "tamper", "vending",
)  # fmt: skip
#: Where nothing but operations and queries stands: a function there without an actor is an inner one.
DOORS: Final = ("operations.py", "queries.py")
DUTIES: Final = tuple(duty for duty in Duty if duty is not Duty.SYSTEM)
_ASKS = {"require", "may", "place_of", "place_for", "holding_of"}
_OPENS = {"scope", "entered_by", "together"}
#: What is about actors and neither reads nor writes in their name.
_ABOUT_ACTORS: Final = {
    "access.scope": "the door itself",
    "reports.place.place_of": "asks for what it is told to ask for",
    "vending.sets.requests_of": "names where a wish came from",
    "moves.boundary.system": "makes an actor of an actor",
    "api_keys.operations.actor_of_key": "shows a key at the door, by a function of the database",
    "vending.sets.Columns.add": "writes a wish down in columns",
}
#: Deeds that stand beside duties: the person's own, or those of who keeps the installation.
_BESIDE_DUTIES: Final = {
    "access.passwords.set_password": "under the database's owner alone, who may write a digest",
    "sign_in.factors.forget": "under the database's owner alone, who may take one away",
}
#: All that may open a scope and ask for nothing; whatever else does is a fault.
_SCOPE_ALONE: Final = {
    "oversight.trail.Looks.note": "writes of a person what they looked at, whoever they are",
    "oversight.trail.note_refusals": "writes of a person what they were refused, whoever they are",
    "reports.properties.own_properties": "a person's own duties bound it, whichever they hold",
}
#: Scopes that stand in no package of operations, for they compose several; of a process's own actor.
_SCOPES_ELSEWHERE: Final = frozenset(
    {"head_end.raise_device_alert", "head_end.raise_forgery_alert"}
)
#: They measure, and no process runs them.
_MEASURES: Final = "benchmarks"
#: They take an actor for the record, inside a scope that somebody else opened.
_INNER: Final = frozenset(
    {
        "approvals.operations.note_ended", "billing.posting.post_chunk",
        "ledger.idempotency.stored_answer", "ledger.idempotency.store_answer",
        "moves.boundary.pass_on", "moves.boundary.post", "vending.sets.look", "vending.sets.sell",
        "moves.let_debts.name_shortfall", "moves.let_debts.pay_old_debts",
        "notify.operations.close_by_hand",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """What acts for somebody: what it asks for, and how it is held to the scope.

    A function, a method that is given an actor, or a class that is made for one: its constructor asks for all
    that its methods do. ``held`` is `asks` (by itself), `passes` (hands the actor on to what asks) or `scope` (only opens one).
    ``first``: it asks before it does anything else.
    """

    name: str
    permissions: tuple[str, ...]
    held: str
    first: bool


@dataclass(frozen=True, slots=True)
class _Function:
    """A function, a method (`Class.method`) or a class by its constructor (`Class`).

    ``opens``: whether a scope is opened, by the function or by any method of the class.
    """

    module: str
    short: str
    node: ast.FunctionDef | ast.ClassDef
    actor: str
    opens: bool

    @property
    def name(self) -> str:
        return f"{self.module}.{self.short}"

    @property
    def is_door(self) -> bool:
        return self.module.rpartition(".")[2] + ".py" in DOORS


def operations() -> tuple[Operation, ...]:
    """Everything public that is given an actor, by name; what stands outside is in `faults`."""
    return tuple(sorted(_found()[0], key=lambda each: each.name))


def inner() -> tuple[str, ...]:
    """Functions of operations and queries that work inside a scope that their caller opened."""
    return tuple(sorted(each.name for each in _functions() if _is_inner(each)))


def faults() -> list[str]:
    """What stands outside the walls, in sentences; empty where nothing does."""
    return [*_found()[1], *_past_the_door(), *_scopes_elsewhere(), *_addresses()]


def table() -> str:
    """The page `docs/access.md`."""
    parts = (_HEAD, _route_table(), _api_table(), _operation_table(), _inner_table())
    return "\n".join((*(line for part in parts for line in part), ""))


def duties_with(permission: str) -> frozenset[Duty]:
    """Whose duty holds a permission; several stand apart by a space and are all needed."""
    from prewatt.web import rules

    if permission == rules.ANYBODY:
        return frozenset(DUTIES)
    found = frozenset(DUTIES)
    for each in permission.split():
        found &= PERMISSIONS.get(each, frozenset())
    return found


# --- operations ---


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@cache
def _all_functions() -> Mapping[str, _Function]:
    """Every function at the top of a module and all of its classes that act for somebody, by whole name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" in path.parts:
                continue
            for node in _tree(path).body:
                for each in _functions_in(_module(path), node):
                    found[each.name] = each
    return found


def _functions_in(module: str, node: ast.stmt) -> Iterator[_Function]:
    if isinstance(node, ast.FunctionDef):
        yield _Function(module, node.name, node, _actor_in(node), _opens(node))
    elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
        yield from _functions_of(module, node)


def _functions_of(module: str, kind: ast.ClassDef) -> Iterator[_Function]:
    """A class that is made for an actor, by its constructor; of another one, its methods that are given one."""
    methods = [each for each in kind.body if isinstance(each, ast.FunctionDef)]
    made_by: ast.FunctionDef | ast.ClassDef = kind
    field = next((each for each in kind.body if _is_actor_field(each)), None)
    actor = ast.unparse(field.target) if isinstance(field, ast.AnnAssign) else ""
    for method in methods:
        if method.name in {"__init__", "__post_init__"}:
            made_by, actor = method, actor or _actor_in(method)
    if actor:
        # What only carries an actor from hand to hand does nothing in their name.
        if methods:
            yield _Function(module, kind.name, made_by, actor, _opens(kind))
        return
    for method in methods:
        if not method.name.startswith("_") and _actor_in(method):
            short = f"{kind.name}.{method.name}"
            yield _Function(module, short, method, _actor_in(method), _opens(method))


def _is_actor_field(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "Actor"


def _actor_in(node: ast.FunctionDef) -> str:
    """The parameter in which the actor comes; empty without one."""
    names = [each.arg for each in (*node.args.args, *node.args.kwonlyargs)]
    return next((each for each in names if each in {"actor", "actors", "ask", "asks"}), "")


def _opens(node: ast.AST) -> bool:
    return bool(_calls(node) & _OPENS)


def _calls(node: ast.AST) -> frozenset[str]:
    return frozenset(_called(each) for each in ast.walk(node) if isinstance(each, ast.Call))


def _functions() -> Iterator[_Function]:
    return (each for each in _all_functions().values() if not each.short.startswith("_"))


@cache
def _by_short_name() -> Mapping[str, tuple[_Function, ...]]:
    found: dict[str, tuple[_Function, ...]] = {}
    for each in _functions():
        found[each.short] = (*found.get(each.short, ()), each)
    return found


@cache
def _found() -> tuple[tuple[Operation, ...], tuple[str, ...]]:
    found, outside = [], []
    for function in _functions():
        if not function.actor or _is_apart(function):
            continue
        permissions, held = _held(function.name, frozenset())
        if not held:
            outside.append(f"{function.name} neither asks for a permission nor opens a scope")
            continue
        if held == "scope" and function.name not in _SCOPE_ALONE:
            outside.append(f"{function.name} opens a scope and asks for no permission")
        unknown = sorted(permissions - set(PERMISSIONS))
        outside += [f"{function.name} asks for {each!r}, which nobody has" for each in unknown]
        asked = tuple(sorted(permissions))
        found.append(Operation(function.name, asked, held, _asks_first(function)))
    return tuple(found), tuple(outside)


def _held(name: str, on_the_way: frozenset[str]) -> tuple[frozenset[str], str]:
    """(permissions, how) by itself, or else by what it hands its actor on to; ("", "") where by nothing."""
    function = _all_functions()[name]
    calls = [node for node in ast.walk(function.node) if isinstance(node, ast.Call)]
    permissions = frozenset(word for each in calls for word in _permission(each))
    if permissions:
        return permissions, "asks"
    handed = {_called(each) for each in calls if _hands_on(each, function.actor)}
    for short in sorted(handed):
        for each in _named(function.module, short):
            if each.name not in on_the_way and each.actor and not _is_apart(each):
                permissions |= _held(each.name, on_the_way | {name})[0]
    if permissions:
        return permissions, "passes"
    return permissions, "scope" if function.opens else ""


def _named(module: str, short: str) -> tuple[_Function, ...]:
    """The function that a module means by a short name: its own, or the only one so named."""
    own = _all_functions().get(f"{module}.{short}")
    if own is not None:
        return (own,)
    others = _by_short_name().get(short, ())
    return others if len(others) == 1 else ()


def _is_inner(function: _Function) -> bool:
    if function.name in _INNER:
        return True
    is_registered = function.name in _ABOUT_ACTORS
    return function.is_door and not function.actor and not is_registered and _reads(function)


def _is_apart(function: _Function) -> bool:
    names = {function.module, function.name}
    return bool(names & {*_ABOUT_ACTORS, *_BESIDE_DUTIES, *_INNER})


def _called(call: ast.Call) -> str:
    target = call.func
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def _permission(call: ast.Call) -> Iterator[str]:
    """The permissions that a call asks for by name; a report's own, where it names none."""
    name = _called(call)
    if name in _ASKS - {"may"}:
        written = [each.value for each in call.args if isinstance(each, ast.Constant)]
        words = [each for each in written if isinstance(each, str)]
        yield from words
        if not words and name != "require":
            yield "accounts.read"


def _hands_on(call: ast.Call, actor: str) -> bool:
    given = [*call.args, *(each.value for each in call.keywords)]
    return any(isinstance(each, ast.Name) and each.id == actor for each in given)


def _asks_first(function: _Function) -> bool:
    """Whether its first statement, after what it says of itself, is the question."""
    if isinstance(function.node, ast.ClassDef):
        return False
    body = function.node.body
    first = body[1] if len(body) > 1 and ast.get_docstring(function.node) else body[0]
    value = first.value if isinstance(first, ast.Expr) else None
    if not isinstance(value, ast.Call) or _called(value) != "require":
        return False
    return not any(isinstance(each.value, ast.Attribute) for each in value.keywords)


_TOUCHES = {"rows", "cursor", "execute", "filter", "get", "create", "bulk_create", "select_for_update",
            "update", "atomic"}  # fmt: skip


def _reads(function: _Function) -> bool:
    """Whether a function asks the database for anything, as far as can be seen of it alone."""
    return any(
        isinstance(node, ast.Call) and _called(node) in _TOUCHES for node in ast.walk(function.node)
    )


# --- pages ---


def _past_the_door() -> Iterator[str]:
    """Pages that take an inner function, which asks nobody for anything."""
    shut = set(inner())
    named = re.compile(rf"\b(?:{'|'.join({each.rpartition('.')[2] for each in shut})})\b")
    for path in sorted((ROOT / "web").rglob("*.py")):
        module = _module(path)
        if not named.search(path.read_text(encoding="utf-8")):
            continue
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prewatt."):
                came = (node.module or "").removeprefix("prewatt.")
                for each in node.names:
                    if f"{came}.{each.name}" in shut:
                        yield f"{module} takes {came}.{each.name}, which opens no scope of its own"


def _scopes_elsewhere() -> Iterator[str]:
    """Modules outside `PACKAGES` that open a scope, where no row of the matrix would see them."""
    for path in sorted(ROOT.rglob("*.py")):
        package = path.relative_to(ROOT).parts[0]
        if package in {*PACKAGES, _MEASURES} or " scope(" not in path.read_text(encoding="utf-8"):
            continue
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.FunctionDef) and _opens(node):
                name = f"{_module(path)}.{node.name}"
                if name not in _SCOPES_ELSEWHERE:
                    yield f"{name} opens a scope outside the packages of operations"


def routes() -> tuple[str, ...]:
    """Every address of the web, those of the API among them."""
    from prewatt.web.urls import urlpatterns

    return tuple(_routes_below("", list(urlpatterns)))


def _routes_below(prefix: str, patterns: list[Any]) -> Iterator[str]:
    for each in patterns:
        route = f"{prefix}{each.pattern}"
        below = getattr(each, "url_patterns", None)
        if below is None:
            yield route
        else:
            yield from _routes_below(route, below)


def _addresses() -> Iterator[str]:
    from prewatt.web.rules import ANYBODY, NOBODY, RULES

    known = set(routes())
    for route in sorted(known - set(RULES)):
        yield f"the address /{route} has no rule in web/rules.py"
    for route in sorted(set(RULES) - known):
        yield f"web/rules.py has a rule for /{route}, which is no address"
    for route, rule in RULES.items():
        for word in (*rule.read.split(), *rule.write.split()):
            if word not in {*PERMISSIONS, ANYBODY, NOBODY}:
                yield f"the rule of /{route} asks for {word!r}, which nobody has"


# --- the page ---

_HEAD: Final = (
    "# Who may do what",
    "",
    "Made from the code by `prewatt access --write docs/access.md`; `tests/web/test_access_matrix.py` asserts every",
    "cell and fails where this page differs from the code. `look`: may open it; `do`: may also send its form;",
    "`–`: refused. At a property where a person has no duty, and in another organisation, every cell is `–`:",
    "of what is not theirs nobody learns that it exists (404). A program's key has the column of its duty, less",
    f"what its key does not name, and never {' or '.join(f'`{each}`' for each in sorted(FOR_PEOPLE))}.",
    "",
)


def _row(first: str, cells: Mapping[Any, str], *more: str) -> str:
    return f"| `{first}` | " + " | ".join((*more, *(cells[duty] for duty in DUTIES))) + " |"


def _heading(*first: str) -> tuple[str, str]:
    names = [*first, *(duty.value for duty in DUTIES)]
    return f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"


def _route_table() -> Iterator[str]:
    from prewatt.web.rules import API, RULES

    yield "## Addresses"
    yield ""
    yield from _heading("address", "look", "do")
    for route, rule in RULES.items():
        if not route.startswith(API):
            yield _row(f"/{route}", _cells(rule, DUTIES), rule.read, rule.write or "–")


def _cells(rule: Rule, duties: Collection[Duty]) -> Mapping[Duty, str]:
    from prewatt.web.rules import NOBODY

    if rule.read == NOBODY:
        return dict.fromkeys(DUTIES, "all")
    may_look, may_do = duties_with(rule.read or "-"), duties_with(rule.write or "-")
    return {
        each: "–" if each not in duties else "do" if each in may_do else "look" if each in may_look else "–"
        for each in DUTIES
    }  # fmt: skip


def _api_table() -> Iterator[str]:
    from prewatt.web.rules import API, RULES

    yield ""
    yield "## What programs ask"
    yield ""
    yield "By a key that names what is asked for; without it the cell is `–`. No key is made for other duties, and a"
    yield "person's session opens none of these."
    yield ""
    yield from _heading("address", "look", "do")
    for route, rule in RULES.items():
        if route.startswith(API):
            cells = _cells(rule, KEY_DUTIES)
            yield _row(f"/{route}", cells, rule.read or "–", rule.write or "–")


def _operation_table() -> Iterator[str]:
    yield ""
    yield "## Operations and queries"
    yield ""
    yield "Where several are asked for, all that are on the way are needed. `scope`: it asks for nothing, and sees"
    yield "what the database shows the actor."
    yield ""
    yield from _heading("function", "asks for")
    for each in operations():
        allowed = duties_with(" ".join(each.permissions))
        cells = {duty: "may" if duty in allowed else "–" for duty in DUTIES}
        if not each.permissions:
            cells = dict.fromkeys(DUTIES, each.held)
        yield _row(each.name, cells, ", ".join(each.permissions) or each.held)


def _inner_table() -> Iterator[str]:
    yield ""
    yield "## Inside a scope that somebody else opened"
    yield ""
    yield "They ask for nothing, no page may call them, and outside a scope the web's login sees no row."
    yield ""
    yield from (f"- `{each}`" for each in inner())
