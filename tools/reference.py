"""Write the generated pages of docs/reference: all but json.md.

    python tools/reference.py            write them
    python tools/reference.py --check    exit 1 and name those that are stale

Everything in them comes from the code: parameters, `codes.toml`, docstrings, the catalogue; and
compatibility.md from the table beside it.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import typer

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
_WIDTH = 100
_NOTE = "<!-- Written by tools/reference.py: change the code, not this page. -->"
_SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises):")
_CHOICES = {
    "choices": "Choices",
    "proving": "VerifyChoices",
    "bench_choices": "BenchChoices",
    "live.channels": "ToConv",
}
_ITEM = re.compile(r"(\*{0,2}[\w., ]+): (.*)")


def pages() -> dict[str, str]:
    """Return the text of each generated page by its file name."""
    modules = ("architectures", "compatibility")
    more = {f"{name}.md": import_module(name).page(_NOTE) for name in modules}
    return more | {"cli.md": cli_page(), "codes.md": codes_page(), "python.md": python_page()}


def main() -> int:
    """Write or check the pages; return the exit code."""
    parser = argparse.ArgumentParser(description="Write the generated pages of docs/reference.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if stale")
    check = parser.parse_args().check
    stale = [name for name, text in pages().items() if _stored(name) != text]
    for name in stale:
        if not check:
            (FOLDER / name).write_text(pages()[name], encoding="utf-8")
        sys.stdout.write(f"{'stale' if check else 'written'}: docs/reference/{name}\n")
    return 1 if check and stale else 0


def _stored(name: str) -> str | None:
    path = FOLDER / name
    return path.read_text(encoding="utf-8") if path.exists() else None


def cli_page() -> str:
    """Return the page of every command and option."""
    from convsurgeon.cli import app

    group: Any = typer.main.get_command(app)
    lines = ["# Command line", "", _NOTE, "", *_wrapped(group.help), ""]
    more = "[Use it in CI](../how-to/ci.md) has what each exit code means for a batch."
    lines += [*_wrapped(f"{group.epilog} {more}"), "", *_parameters(group), ""]
    for name, command in group.commands.items():
        lines += [f"## convsurgeon {name}", "", "```text", _usage(name, command), "```", ""]
        lines += [*_wrapped(command.help), "", *_parameters(command), ""]
    return _joined(lines)


def _usage(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.opts[0] == p.name]
    words = [p.name.upper() + ("..." if p.nargs == -1 else "") for p in arguments]
    shown = [word if p.required else f"[{word}]" for word, p in zip(words, arguments, strict=True)]
    return " ".join(["convsurgeon", name, *shown, "[OPTIONS]"])


def _parameters(command: Any) -> list[str]:
    panels: dict[str, list[str]] = {}
    for parameter in command.params:
        if parameter.name in ("install_completion", "show_completion", "help"):
            continue
        is_argument = parameter.opts[0] == parameter.name
        panel = "Arguments" if is_argument else parameter.rich_help_panel or "Options"
        panels.setdefault(panel, []).append(_row(parameter, is_argument=is_argument))
    lines: list[str] = []
    for panel, rows in panels.items():
        lines += [f"**{panel}**", "", "| name | meaning | default |", "| --- | --- | --- |"]
        lines += [*rows, ""]
    return lines[:-1]


def _row(parameter: Any, *, is_argument: bool) -> str:
    if is_argument:
        shown = f"`{parameter.name.upper()}`"
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or _metavar(parameter)}"
        shown = ", ".join(f"`{option}{value}`" for option in parameter.opts)
    meaning = parameter.help + (" Repeatable." if parameter.multiple else "")
    return f"| {shown} | {_cell(meaning)} | {_default(parameter)} |"


def _metavar(parameter: Any) -> str:
    known = {"geometry": "RULE", "input_shape": "SHAPE", "layer": "GLOB", "exclude": "GLOB"}
    return {**known, "key": "KEY"}.get(parameter.name, "PATH")


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.required:
        return "required"
    if parameter.default in (None, False, ()):
        return ""
    return f"`{parameter.default}`"


def codes_page() -> str:
    """Return the page of every code, grouped as in `codes.toml`."""
    from convsurgeon.codes import codes

    lines = ["# Codes", "", _NOTE, ""]
    text = "Every refusal and every error has a stable code; `convsurgeon explain CODE` prints the"
    lines += [*_wrapped(f"{text} same text. A code is never reused for another meaning."), ""]
    toml = resources.files("convsurgeon").joinpath("codes.toml").read_text("utf-8")
    for title, name in re.findall(r"^# --- (.+)$|^\[(CS\d{3})\]$", toml, flags=re.MULTILINE):
        if title:
            lines += [f"## {title[0].upper()}{title[1:]}", ""]
            continue
        code = codes()[name]
        lines += [f"### {code.code}: {code.title}", "", *_wrapped(_cell(code.meaning)), ""]
        lines += [*_wrapped(f"- Example: {_cell(code.example)}", "  ")]
        lines += [*_wrapped(f"- What to do: {_cell(code.way_out)}", "  "), ""]
    return _joined(lines)


def python_page() -> str:
    """Return the page of every public name."""
    package = import_module("convsurgeon")
    lines = ["# Python", "", _NOTE, ""]
    text = "The public names of `convsurgeon`, then its drop-in modules in `convsurgeon.nn`."
    lines += [*_wrapped(f"{text} Importing `convsurgeon` imports neither torch nor rich."), ""]
    public = [name for name in package.__all__ if name != "__version__"]
    functions = [name for name in public if inspect.isfunction(getattr(package, name))]
    lines += ["## Functions", ""]
    for name in functions:
        lines += _entry(f"convsurgeon.{name}", getattr(package, name))
    for home, name in _CHOICES.items():
        value = getattr(import_module(f"convsurgeon.api.{home}"), name)
        lines += [f"### {name}", "", *_docstring(value), ""]
    lines += ["## Values", ""]
    for name in public:
        if name not in functions and name != "ConvsurgeonError":
            lines += [*_entry(f"convsurgeon.{name}", getattr(package, name)), *_members(name)]
    lines += ["## Errors", "", *_errors(), "", "## Drop-in modules", ""]
    nn = import_module("convsurgeon.nn")
    lines += [*_docstring(nn), ""]
    for name in nn.__all__:
        if callable(getattr(nn, name)):
            lines += _entry(f"convsurgeon.nn.{name}", getattr(nn, name))
    return _joined(lines)


def _entry(name: str, value: Any) -> list[str]:
    lines = [f"### {name}", ""]
    if inspect.isfunction(value):
        lines += ["```text", _signature(value), "```", ""]
    return [*lines, *_docstring(value), ""]


def _members(name: str) -> list[str]:
    value = getattr(import_module("convsurgeon"), name)
    rows: list[str] = []
    own = [kind for kind in value.__mro__ if kind.__module__.startswith("convsurgeon.")]
    members = {member: found for kind in reversed(own) for member, found in vars(kind).items()}
    for member, found in members.items():
        if isinstance(found, property | classmethod) or inspect.isfunction(found):
            call = "" if isinstance(found, property) else "()"
            rows.append(f"- `{member}{call}`: {_first_line(getattr(value, member))}")
    rows = [row for row in rows if not row.startswith("- `_")]
    return [*rows, ""] if rows else []


def _first_line(value: object) -> str:
    return (inspect.getdoc(value) or "").partition("\n\n")[0].replace("\n", " ")


def _signature(function: Any) -> str:
    lines: list[str] = []
    for p in inspect.signature(function).parameters.values():
        if p.kind is p.KEYWORD_ONLY and "    *," not in lines:
            lines.append("    *,")
        stars = "**" if p.kind is p.VAR_KEYWORD else ""
        default = "" if p.default is p.empty else f" = {_value(p.default)}"
        lines.append(f"    {stars}{p.name}: {p.annotation}{default},")
    result = inspect.signature(function).return_annotation
    return "\n".join([f"{function.__name__}(", *lines, f") -> {result}"])


def _value(default: object) -> str:
    if callable(default):
        return "..."
    return f'"{default}"' if isinstance(default, str) else repr(default)


def _errors() -> list[str]:
    text = inspect.getdoc(import_module("convsurgeon.errors")) or ""
    tree = "\n".join(line for line in text.splitlines() if line.startswith("    "))
    root = import_module("convsurgeon").ConvsurgeonError
    return ["```text", textwrap.dedent(tree), "```", "", *_docstring(root)]


def _docstring(value: object) -> list[str]:
    """Return a docstring in Google style as Markdown: each section a list."""
    lines: list[str] = []
    for paragraph in (inspect.getdoc(value) or "").split("\n\n"):
        head, _, body = paragraph.partition("\n")
        if _SECTION.fullmatch(head):
            lines += [f"{head[:-1]}:", "", *_items(textwrap.dedent(body)), ""]
        elif paragraph.startswith(("|", "    ")):
            lines += [*paragraph.splitlines(), ""]
        else:
            lines += [*_wrapped(_cell(paragraph)), ""]
    return lines[:-1]


def _items(body: str) -> Iterator[str]:
    for entry in re.sub(r"\n +", " ", body).splitlines():
        match = _ITEM.fullmatch(entry)
        text = f"`{match[1]}`: {match[2]}" if match else entry
        yield from _wrapped(f"- {_cell(text)}", "  ")


def _cell(text: str) -> str:
    """Keep `*` of shapes and `<` of words from being taken for Markdown, outside of code."""
    parts = re.split(r"(`[^`]*`)", text)
    plain = (re.sub(r"([*<|])", r"\\\1", part) for part in parts[::2])
    return "".join(a + b for a, b in zip(plain, [*parts[1::2], ""], strict=True))


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        _WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _joined(lines: list[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
