"""Help on settings: for the terminal, and as a page of the documentation."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast, get_args, get_type_hints

from omegaconf import MISSING, OmegaConf

from ibrl_torchrl.config.commands import COMMANDS, Command
from ibrl_torchrl.config.compose import (
    DEFAULT_METHOD,
    DEFAULT_TASK,
    PAPER_METHOD,
    composed,
    method_of,
    option_names,
    options,
)
from ibrl_torchrl.config.setting import Setting, described
from ibrl_torchrl.errors import unknown_name

_INDENT = 4


class Group(NamedTuple):
    """Settings with a common prefix.

    Attributes:
        name: dotted, such as ``"algo.update"``; empty for those of the command itself.
        help: one sentence.
        settings: field name and description.
        defaults: value of each in the dataclass by field name; missing where it has none.
        values: value of each by field name as composed, where files may set another one.
    """

    name: str
    help: str
    settings: Mapping[str, Setting]
    defaults: Mapping[str, Any]
    values: Mapping[str, Any]

    def path(self, setting: str) -> str:
        """Dotted name of one of the settings."""
        return f"{self.name}.{setting}" if self.name else setting


def groups_of(schema: type[Any], config: Mapping[str, Any] | None = None) -> Iterator[Group]:
    """Groups of settings of a dataclass: its own, then those of its parts.

    Args:
        schema: dataclass.
        config: values as composed, which may lack some; default those of the dataclass.
    """
    yield from _groups(schema(), config or {}, "", _summary(schema))


def _groups(schema: Any, config: Mapping[str, Any], name: str, about: str) -> Iterator[Group]:
    types = get_type_hints(type(schema))
    settings: dict[str, Setting] = {}
    defaults: dict[str, Any] = {}
    values: dict[str, Any] = {}
    parts: list[tuple[Any, Mapping[str, Any], str, str]] = []
    for field in dataclasses.fields(schema):
        path = f"{name}.{field.name}" if name else field.name
        default, part = getattr(schema, field.name), _schema_in(types[field.name])
        value = config.get(field.name, default)
        inner = config.get(field.name) or {}
        if part is not None and isinstance(default, dict):
            parts += [
                (item, inner.get(key, {}), f"{path}.{key}", _summary(part))
                for key, item in default.items()
            ]
            continue
        if part is not None:
            parts.append((default or part(), inner, path, described(field).help.rstrip(".")))
            if value is not None:
                continue
        settings[field.name] = described(field)
        defaults[field.name] = default
        values[field.name] = value
    yield Group(name, about, settings, defaults, values)
    for part, inner, path, summary in parts:
        yield from _groups(part, inner, path, summary)


def _composed_groups(command: Command) -> list[Group]:
    """Groups of a command with the values that it has without arguments, not interpolated."""
    config = OmegaConf.to_container(composed(command.config_name), resolve=False)
    return [*groups_of(command.schema, cast(dict[str, Any], config))]


def command_help(command: Command, *, width: int, prefix: str = "") -> str:
    """Help text of a command for the terminal.

    Args:
        command: command.
        width: width of the terminal in columns.
        prefix: name of the only group of settings to show, such as ``"algo"``; default all.

    Raises:
        UsageError: there is no such group.
    """
    groups = _composed_groups(command)
    if prefix:
        chosen = [g for g in groups if f"{g.name}.".startswith(f"{prefix}.")]
        if not chosen:
            raise unknown_name("group of settings", prefix, {g.name for g in groups if g.name})
        groups = chosen
    lines = [] if prefix else [*_introduction(command, width)]
    for group in groups:
        lines += ["", *_group_lines(group, width)]
    return "\n".join(lines).strip("\n") + "\n"


def program_help() -> str:
    """Help text of the program: its commands in one line each."""
    names = {f"ibrl {c.name} {c.usage}".strip(): c.summary for c in COMMANDS.values()}
    column = max(map(len, names)) + 2
    lines = [f"  {name:{column}}{summary}" for name, summary in names.items()]
    return "\n".join(
        [
            "ibrl: imitation bootstrapped reinforcement learning",
            "",
            *lines,
            "",
            "ibrl COMMAND --help explains a command's settings, --help GROUP one group of them.",
            "ibrl --version prints the version, ibrl --completion bash the completion script.",
            "",
        ]
    )


def settings_markdown() -> str:
    """Reference of all settings in Markdown, by command and group."""
    lines = [
        "# Settings",
        "",
        "Every setting of every command with the value that it has where no argument sets it.",
        "Override one by `NAME=VALUE`; choose an option of a group by `GROUP=OPTION`, which brings",
        f"values of its own: `by algo={DEFAULT_METHOD}` are those of the default method, from its",
        "file under `configs/algo`, and `by task=...` those of the task, from its file under",
        "`configs/task`. `null` stands for none.",
        "",
    ]
    for command in COMMANDS.values():
        title = f"ibrl {command.name} {command.usage}".strip()
        lines += [f"## `{title}`", "", f"{_sentence(command.summary)}", ""]
        if command.groups:
            lines += [*(f"- {line}" for line in _group_options(command)), ""]
        if command.aliases:
            lines += [*(f"- {line}" for line in _alias_lines(command)), ""]
        for group in _composed_groups(command):
            if not group.settings:
                continue
            heading = f"`{group.name}`: {group.help}" if group.name else "General"
            lines += [f"### {heading}", "", "| setting | default | |", "|---|---|---|"]
            for name, about in group.settings.items():
                value = _value_of(group, name).replace("|", "\\|")
                lines.append(f"| `{group.path(name)}` | `{value}` | {_sentence_of(about)} |")
            lines.append("")
    return "\n".join(lines)


def _introduction(command: Command, width: int) -> Iterator[str]:
    usage = f"ibrl {command.name} {command.usage}".strip()
    takes = " [GROUP=OPTION ...]" if command.groups else ""
    yield f"{usage}{takes} [SETTING=VALUE ...]"
    yield ""
    yield from textwrap.wrap(_sentence(command.summary), width)
    if command.examples:
        yield ""
        column = min(max(len(line) for line, _ in command.examples) + 2, max(width // 2, 30))
        for line, comment in command.examples:
            yield from _columns(f"  {line}", comment, column + 2, width)
    if command.groups:
        yield ""
        for line in _group_options(command):
            yield from textwrap.wrap(
                line.replace("=` ", "=").replace("`", ""), width, subsequent_indent="  "
            )
    for line in _alias_lines(command):
        yield from textwrap.wrap(line.replace("`", ""), width, subsequent_indent="  ")
    if command.groups:
        yield ""
        others = f"{', '.join(command.groups[:-1])} or {command.groups[-1]}"
        yield from textwrap.wrap(
            f"In brackets: values without arguments. Another {others} may bring its own.", width
        )


def _alias_lines(command: Command) -> Iterator[str]:
    for alias, setting in command.aliases.items():
        yield f"`{alias}=...` is short for `{setting}=...`"


def _group_options(command: Command) -> Iterator[str]:
    for group in command.groups:
        names = ", ".join(f"`{name}`" for name in option_names(group))
        yield f"`{group}=` {names} ({_default_option(group)})"


def _default_option(group: str) -> str:
    """Option of a group where none is named, in words."""
    if group == "task":
        return f"default `{DEFAULT_TASK}`, or the experiment's"
    if group == "algo":
        same = [name for name in options("experiment") if method_of(name) == DEFAULT_METHOD]
        return (
            f"default `{DEFAULT_METHOD}`; with an experiment other than "
            f"{', '.join(f'`{name}`' for name in same)}: `{PAPER_METHOD}`"
        )
    return "default none"


def _group_lines(group: Group, width: int) -> Iterator[str]:
    if not group.settings:
        return
    heading = f"{group.name}: {group.help}" if group.name else "Settings"
    yield from textwrap.wrap(heading, width)
    entries = {group.path(name): name for name in group.settings}
    column = min(max(map(len, entries)) + _INDENT, max(width // 2, 30))
    for path, name in entries.items():
        about = group.settings[name]
        text = f"{_sentence_of(about)} [{_value_of(group, name)}]"
        yield from _columns(f"  {path}", text, column, width)


def _columns(left: str, right: str, column: int, width: int) -> list[str]:
    """Text in two columns; a left one that is too wide has a line of its own."""
    wrapped = textwrap.wrap(right, max(width - column, 20)) or [""]
    rows = [f"{'':{column}}{line}" for line in wrapped]
    if len(left) + 2 > column:
        return [left, *(row for row in rows if row.strip())]
    return [f"{left:{column}}{wrapped[0]}".rstrip(), *rows[1:]]


def _value_of(group: Group, name: str) -> str:
    """Value of a setting, and which option sets it: files of a task hold settings of it alone."""
    value = group.values[name]
    if value == group.defaults[name]:
        return _shown(value)
    return "by task=..." if group.name == "task" else f"{_shown(value)}, by algo={DEFAULT_METHOD}"


def _sentence_of(about: Setting) -> str:
    """Help with choices, limits and unit."""
    extra = [
        ", ".join(about.choices) if about.choices else "",
        about.limits,
        about.unit or "",
    ]
    details = "; ".join(part for part in extra if part)
    return f"{about.help} ({details})" if details else about.help


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def _summary(schema: type[Any]) -> str:
    return (schema.__doc__ or "").split("\n")[0].rstrip(".").replace("``", "")


def _schema_in(annotation: Any) -> type[Any] | None:
    """Dataclass in an annotation such as ``X``, ``X | None`` or ``dict[str, X]``."""
    for candidate in (annotation, *get_args(annotation)):
        if dataclasses.is_dataclass(candidate) and isinstance(candidate, type):
            return candidate
    return None


def _shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if value == MISSING:
        return "required"
    if value == "":
        return "''"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)
