"""The texts in other languages: found in templates and code, kept in .po files, compiled at start.

GNU gettext is not on every machine, so finding and compiling are done here with polib and Django's
own lexer. ``python -m prewatt.web.ui.messages`` adds new texts to the .po files and drops unused ones.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polib

PACKAGE: Final = Path(__file__).resolve().parents[2]
LOCALE: Final = PACKAGE / "locale"
#: Directory name of each translated language.
LANGUAGES: Final = ("zh_Hans",)
_PLURALS: Final = {"zh_Hans": "nplurals=1; plural=0;"}
_ONE: Final = frozenset({"_", "gettext", "gettext_lazy", "worded"})
#: Besides the web's own files, those whose sentences it says again.
_BELOW: Final = ("estate/imports.py", "estate/fittings.py", "estate/sheets.py")
_MANY: Final = frozenset({"ngettext", "ngettext_lazy"})
_TRANSLATE: Final = re.compile(r"""{%\s*trans(?:late)?\s+(?:"([^"]*)"|'([^']*)')""")
_BLOCK: Final = re.compile(
    r"{%\s*blocktrans(?:late)?(?:\s[^%]*)?%}(.*?)(?:{%\s*plural\s*%}(.*?))?{%\s*endblocktrans(?:late)?\s*%}",
    re.DOTALL,
)
_VARIABLE: Final = re.compile(r"{{\s*([A-Za-z0-9_]+)\s*}}")


@dataclass(frozen=True, slots=True, order=True)
class Text:
    """A text to be translated, its plural form or "", and the file it stands in."""

    msgid: str
    plural: str
    place: str


def find_texts() -> list[Text]:
    """Every text of templates and code, once each, in the order of their files."""
    found: dict[tuple[str, str], Text] = {}
    below = [PACKAGE / each for each in _BELOW]
    for path in [*below, *sorted((PACKAGE / "web").rglob("*"))]:
        if path.suffix == ".html":
            texts = _of_template(path)
        elif path.suffix == ".py":
            texts = _of_code(path)
        else:
            continue
        for text in texts:
            found.setdefault((text.msgid, text.plural), text)
    return list(found.values())


def _of_template(path: Path) -> Iterator[Text]:
    source, place = path.read_text("utf-8"), path.relative_to(PACKAGE).as_posix()
    for match in _TRANSLATE.finditer(source):
        text = match[1] if match[1] is not None else match[2]
        # Django doubles the sign of per cent before it looks a text of a template up.
        yield Text(text.replace("%", "%%"), "", place)
    for match in _BLOCK.finditer(source):
        yield Text(_as_msgid(match[1]), _as_msgid(match[2] or ""), place)


def _as_msgid(text: str) -> str:
    return _VARIABLE.sub(r"%(\1)s", text.replace("%", "%%"))


def _of_code(path: Path) -> Iterator[Text]:
    place = path.relative_to(PACKAGE).as_posix()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            texts = [
                argument.value
                for argument in node.args[:2]
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            ]
            if node.func.id in _ONE and texts:
                yield Text(texts[0], "", place)
            elif node.func.id in _MANY and len(texts) == 2:
                yield Text(texts[0], texts[1], place)


def po_path(language: str) -> Path:
    """Where a language's texts are kept."""
    return LOCALE / language / "LC_MESSAGES" / "django.po"


def update(language: str) -> polib.POFile:
    """Bring the .po file in line with the templates and the code, keeping every translation."""
    path = po_path(language)
    former = {
        (entry.msgid, entry.msgid_plural): entry
        for entry in (polib.pofile(str(path)) if path.exists() else ())
    }
    file = polib.POFile(wrapwidth=100)
    file.metadata = {
        "Project-Id-Version": "Prewatt",
        "Language": language,
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Transfer-Encoding": "8bit",
        "Plural-Forms": _PLURALS[language],
    }
    for text in find_texts():
        entry = polib.POEntry(msgid=text.msgid, occurrences=[(text.place, "")])
        known = former.get((text.msgid, text.plural))
        if text.plural:
            entry.msgid_plural = text.plural
            entry.msgstr_plural = dict(known.msgstr_plural) if known else {0: ""}
        elif known:
            entry.msgstr = known.msgstr
        if "%(" in text.msgid:
            entry.flags.append("python-format")
        file.append(entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save(str(path))
    return file


def compile_all() -> None:
    """Write the .mo file of each language whose .po file is newer, whole or not at all."""
    for language in LANGUAGES:
        source = po_path(language)
        target = source.with_suffix(".mo")
        if target.exists() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns:
            continue
        fresh = target.with_suffix(".mo.new")
        polib.pofile(str(source)).save_as_mofile(str(fresh))
        fresh.replace(target)


if __name__ == "__main__":
    for each in LANGUAGES:
        update(each)
