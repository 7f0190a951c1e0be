"""Shell completion of commands, settings, groups and choices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ibrl_torchrl.config.commands import COMMANDS, Command
from ibrl_torchrl.config.compose import options
from ibrl_torchrl.config.help import groups_of
from ibrl_torchrl.errors import unknown_name

_SCRIPTS = {
    "bash": """\
# Completion of ibrl for bash; in ~/.bashrc: eval "$(ibrl --completion bash)"
_ibrl() {
    local line="${COMP_LINE:0:COMP_POINT}" word words
    read -ra words <<< "$line"
    [[ "$line" == *" " ]] && words+=("")
    word="${words[-1]}"
    COMPREPLY=($(ibrl --complete "${words[@]:1}"))
    # bash completes what follows the last = or : alone
    local prefix="${word%"${word##*[=:]}"}"
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
}
complete -o default -F _ibrl ibrl
""",
    "zsh": """\
# Completion of ibrl for zsh; in ~/.zshrc, after compinit: eval "$(ibrl --completion zsh)"
_ibrl() {
    local -a found
    found=(${(f)"$(ibrl --complete "${(@)words[2,CURRENT]}")"})
    compadd -S '' -- $found
    [[ ${#found} -eq 0 ]] && _files
}
compdef _ibrl ibrl
""",
}


def script(shell: str = "") -> str:
    """Completion script of a shell, to be evaluated by it.

    Raises:
        UsageError: the shell is not supported.
    """
    if shell not in _SCRIPTS:
        raise unknown_name("shell", shell, _SCRIPTS)
    return _SCRIPTS[shell]


def candidates(words: Sequence[str]) -> list[str]:
    """Completions of the last of the words that follow ``ibrl``; may be none."""
    *before, last = [*words] or [""]
    command = _command(before)
    matches: Iterable[str]
    if command is None:
        matches = {name.split(" ")[len(before)] for name in COMMANDS if _starts(name, before)}
    else:
        matches = _settings(command, last)
        if len(before) == 1:
            matches = [
                *matches,
                *(n.split(" ")[1] for n in COMMANDS if n.startswith(f"{before[0]} ")),
            ]
    return sorted(name for name in matches if name.startswith(last))


def _starts(name: str, before: Sequence[str]) -> bool:
    words = name.split(" ")
    return len(words) > len(before) and words[: len(before)] == [*before]


def _command(before: Sequence[str]) -> Command | None:
    for length in (2, 1):
        name = " ".join(before[:length])
        if len(before) >= length and name in COMMANDS:
            return COMMANDS[name]
    return None


def _settings(command: Command, word: str) -> list[str]:
    """Settings ``NAME=``; after the ``=`` its choices, or the options of a group."""
    name = word.split("=")[0]
    if "=" in word:
        setting = command.aliases.get(name, name)
        values = options(name) if name in command.groups else _choices(command, setting)
        return [f"{name}={value}" for value in values]
    settings = [
        f"{group.path(setting)}="
        for group in groups_of(command.schema)
        for setting in group.settings
    ]
    short = [f"{name}=" for name in (*command.groups, *command.aliases)]
    return [*short, *settings, "--help"]


def _choices(command: Command, name: str) -> Sequence[str]:
    for group in groups_of(command.schema):
        for setting, about in group.settings.items():
            if name == group.path(setting):
                is_flag = isinstance(group.defaults[setting], bool)
                return about.choices or (("true", "false") if is_flag else ())
    return ()
