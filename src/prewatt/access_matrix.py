"""Who may do what, read out of the code: every address, every operation, every duty.

The table in `docs/access.md` is made by :func:`table`; a check compares it with what stands there, so
that a change of who may do what is a change of that page, which a person reads. :func:`faults` names
what stands outside: an address without a rule, a rule without an address, an operation that neither
asks for a permission nor opens a scope, one that opens a scope and asks for nothing (but for those that
say why), and one of the inner kind that a page calls past its outer one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from prewatt.access.models import Duty
from prewatt.access.scope import FOR_PEOPLE, PERMISSIONS

ROOT: Final = Path(__file__).resolve().parent
#: Packages whose public functions act for somebody.
PACKAGES: Final = (
    "access", "api_keys", "approvals", "billing", "debts", "devices", "estate", "instructions", "ledger", "mandates",
    "mdm", "moves", "notify", "oversight", "reports", "sign_in", "supply", "tamper", "vending",
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
}
#: Deeds that stand beside duties: the person's own, or those of who keeps the installation.
_BESIDE_DUTIES: Final = {
    "access.passwords.set_password": "under the database's owner alone, who may write a digest",
    "sign_in.factors.forget": "under the database's owner alone, who may take one away",
}
#: They take an actor for the record, inside a scope that somebody else opened.
#: All that may open a scope and ask for nothing; whatever else does is a fault.
_SCOPE_ALONE: Final = {
    "oversight.trail.note_refusals": "writes of a person what they were refused, whoever they are",
    "reports.properties.own_properties": "a person's own duties bound it, whichever they hold",
}
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
    """A public function that acts for somebody: what it asks for, and how it is held to the scope.

    ``held`` is `asks` (by itself), `passes` (hands the actor on to what asks) or `scope` (only opens one).
    ``first``: it asks before it does anything else.
    """

    name: str
    permissions: tuple[str, ...]
    held: str
    first: bool


@dataclass(frozen=True, slots=True)
class _Function:
    module: str
    node: ast.FunctionDef

    @property
    def name(self) -> str:
        return f"{self.module}.{self.node.name}"

    @property
    def actor(self) -> str:
        """The parameter in which the actor comes; empty without one."""
        arguments = self.node.args
        names = [each.arg for each in (*arguments.args, *arguments.kwonlyargs)]
        return next((each for each in names if each in {"actor", "actors", "ask", "asks"}), "")

    @property
    def is_door(self) -> bool:
        return self.module.rpartition(".")[2] + ".py" in DOORS


def operations() -> tuple[Operation, ...]:
    """Every public function that is given an actor, by name; those that stand outside are in `faults`."""
    return tuple(sorted(_found()[0], key=lambda each: each.name))


def inner() -> tuple[str, ...]:
    """Functions of operations and queries that work inside a scope that their caller opened."""
    return tuple(sorted(each.name for each in _functions() if _is_inner(each)))


def faults() -> list[str]:
    """What stands outside the walls, in sentences; empty where nothing does."""
    return [*_found()[1], *_past_the_door(), *_addresses()]


def table() -> str:
    """The page `docs/access.md`."""
    return "\n".join((*_HEAD, *_route_table(), *_operation_table(), *_inner_table(), ""))


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
def _all_functions() -> Mapping[str, _Function]:
    """Every function at the top of a module, by its whole name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" in path.parts:
                continue
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef):
                    found[f"{module}.{node.name}"] = _Function(module, node)
    return found


def _functions() -> Iterator[_Function]:
    return (each for each in _all_functions().values() if not each.node.name.startswith("_"))


@cache
def _by_short_name() -> Mapping[str, tuple[_Function, ...]]:
    found: dict[str, tuple[_Function, ...]] = {}
    for each in _functions():
        found[each.node.name] = (*found.get(each.node.name, ()), each)
    return found


def _found() -> tuple[list[Operation], list[str]]:
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
    return found, outside


def _held(name: str, on_the_way: frozenset[str]) -> tuple[frozenset[str], str]:
    """(permissions, how) by itself, or else by what it hands its actor on to; ("", "") where by nothing."""
    function = _all_functions()[name]
    calls = [node for node in ast.walk(function.node) if isinstance(node, ast.Call)]
    names = {_called(each) for each in calls}
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
    return permissions, "scope" if names & _OPENS else ""


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
    for path in sorted((ROOT / "web").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prewatt."):
                came = (node.module or "").removeprefix("prewatt.")
                for each in node.names:
                    if f"{came}.{each.name}" in shut:
                        yield f"{module} takes {came}.{each.name}, which opens no scope of its own"


def routes() -> tuple[str, ...]:
    """Every address of the web; those of the API stand for themselves under their prefix."""
    from prewatt.web.urls import urlpatterns

    patterns: list[Any] = list(urlpatterns)
    return tuple(str(each.pattern) for each in patterns)


def _addresses() -> Iterator[str]:
    from prewatt.web.rules import ANYBODY, KEY, NOBODY, RULES

    known = set(routes())
    for route in sorted(known - set(RULES)):
        yield f"the address /{route} has no rule in web/rules.py"
    for route in sorted(set(RULES) - known):
        yield f"web/rules.py has a rule for /{route}, which is no address"
    for route, rule in RULES.items():
        for word in (*rule.read.split(), *rule.write.split()):
            if word not in {*PERMISSIONS, ANYBODY, KEY, NOBODY}:
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
    from prewatt.web.rules import KEY, NOBODY, RULES

    yield "## Addresses"
    yield ""
    yield from _heading("address", "look", "do")
    for route, rule in RULES.items():
        if rule.read in {NOBODY, KEY}:
            said = "all" if rule.read == NOBODY else "key"
            cells = dict.fromkeys(DUTIES, said)
        else:
            may_look, may_do = duties_with(rule.read), duties_with(rule.write or "-")
            cells = {
                duty: "do" if duty in may_do else "look" if duty in may_look else "–"
                for duty in DUTIES
            }
        yield _row(f"/{route}", cells, rule.read, rule.write or "–")


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
