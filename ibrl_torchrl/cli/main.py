"""The command line ``ibrl COMMAND [SETTING=VALUE ...]``."""

from __future__ import annotations

import importlib
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Mapping
from itertools import takewhile
from typing import NoReturn

from ibrl_torchrl.cli.failure import report_error
from ibrl_torchrl.errors import UsageError, unknown_name

# Neither a flag nor a setting, nor Hydra's `+setting`, `++setting` and `~setting` without a value.
_NAME = re.compile(r"(?!-|[+~]+\w)[^=]+")
_HELP = re.compile(r"-h|--help(=.+)?")


def main() -> None:
    """Run a command; a mistake of the user costs one line and exit code 2.

    Any other exception costs one line and exit code 1; its traceback is saved to a file.
    """
    arguments = sys.argv[1:]
    try:
        _dispatch(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sys.exit(report_error(error))


def _dispatch(arguments: list[str]) -> None:
    if arguments[:1] == ["--version"]:
        from importlib.metadata import version

        print(f"ibrl_torchrl {version('ibrl_torchrl')}")
        return
    if arguments[:1] == ["--completion"]:
        from ibrl_torchrl.cli.completion import script

        print(script(*arguments[1:2]), end="")
        return
    if arguments[:1] == ["--complete"]:
        from ibrl_torchrl.cli.completion import candidates

        print("\n".join(candidates(arguments[1:])))
        return
    if not arguments or arguments[0] in ("-h", "--help"):
        from ibrl_torchrl.config.help import program_help

        print(program_help(), end="")
        return
    command, rest = _command_and_rest(arguments)
    flags = [i for i, argument in enumerate(rest) if _HELP.fullmatch(argument)]
    if flags:
        flag, *groups = rest[flags[0] :]
        _print_help(command, [flag.partition("=")[2], *groups] if "=" in flag else groups)
    else:
        _run(command, rest)


def _command_and_rest(arguments: list[str]) -> tuple[str, list[str]]:
    """Split off the command's one or two words.

    Raises:
        UsageError: there is no such command.
    """
    from ibrl_torchrl.config.commands import COMMANDS

    for words in (2, 1):
        command = " ".join(arguments[:words])
        is_followed_by_name = bool(arguments[words:] and _NAME.fullmatch(arguments[words]))
        if command in COMMANDS and (COMMANDS[command].argument or not is_followed_by_name):
            return command, arguments[words:]
    name = arguments[:2] if arguments[0] in COMMANDS else arguments[:1]
    raise unknown_name("command", " ".join(name), COMMANDS)


def _print_help(name: str, groups: list[str]) -> None:
    from ibrl_torchrl.config.commands import COMMANDS
    from ibrl_torchrl.config.help import command_help

    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    group = groups[0] if groups and _NAME.fullmatch(groups[0]) else ""
    print(command_help(COMMANDS[name], width=width, prefix=group), end="")


def _run(name: str, arguments: list[str]) -> None:
    import hydra
    from hydra._internal import utils as hydra_utils
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from ibrl_torchrl.cli import sweep
    from ibrl_torchrl.config.commands import COMMANDS
    from ibrl_torchrl.config.compose import (
        composed,
        config_directory,
        register_configs,
        trial_number,
        usage_error,
    )
    from ibrl_torchrl.config.parse import parse

    command = COMMANDS[name]
    overrides = _overrides(name, arguments)
    register_configs()
    main_process = os.getpid()
    if any(argument.startswith("-") for argument in overrides):
        _check_flags(name, overrides)
    else:
        composed(command.config_name, overrides)

    def task(config: DictConfig) -> float | None:
        # A launcher may have started a process of its own for this.
        if os.getppid() == main_process:
            from ibrl_torchrl.runtime import die_with_parent

            die_with_parent(main_process)
        _silence_libraries()
        register_configs()
        is_sweep = trial_number() is not None
        try:
            sweep.separate_run_dir(config)
            settings = parse(command.schema, config)
            result: float | None = importlib.import_module(
                f"ibrl_torchrl.cli.{command.module}"
            ).run(settings)
            return result
        except BrokenPipeError:  # for which Hydra would print a traceback
            _discard_output()
            return None
        except Exception as error:  # likewise
            if is_sweep:  # whose other trials continue
                raise sweep.fail_trial(error) from None
            sys.exit(report_error(error))

    sys.argv = [f"ibrl {name}", *overrides]
    # Hydra raises its errors, which cost one line here, instead of printing them.
    hydra_utils.run_and_report = lambda func: func()
    directory = str(config_directory())
    run = hydra.main(version_base="1.3", config_path=directory, config_name=command.config_name)
    try:
        run(task)()
    except sweep.FailedTrial:
        sys.exit(2)
    except (HydraException, OmegaConfBaseException) as error:
        raise usage_error(error, command.config_name) from error
    except Exception as error:
        if (killed := sweep.killed_process(error)) is not None:
            raise killed from error
        raise


def _check_flags(name: str, arguments: list[str]) -> None:
    """Refuse flags that Hydra does not have, or not together, in one line.

    Raises:
        UsageError: names the flag.
    """
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise UsageError(f"{message}; see: ibrl {name} --help")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    flags = parser.parse_args(arguments)
    if flags.cfg is None and (flags.resolve or flags.package):
        refuse("--resolve and --package belong to --cfg job")
    if flags.config_name or flags.config_path:
        refuse("--config-name and --config-path are the program's; use experiment=NAME")
    if sum(map(bool, (flags.run, flags.multirun, flags.cfg, flags.info))) > 1:
        refuse("only one of --run, --multirun, --cfg and --info is possible")


def _overrides(name: str, arguments: list[str]) -> list[str]:
    """Overrides for the short forms ``eval RUN``, ``bc policy=gmm``, ``--video``,
    ``--video=FILE``, ``seeds=1-9`` and ``bench ... -- total_frames=20000``.

    Raises:
        UsageError: the name of what the command is for is missing, or a list cannot be read.
    """
    from ibrl_torchrl.config.commands import COMMANDS
    from ibrl_torchrl.config.compose import quoted
    from ibrl_torchrl.config.lists import list_override, mapping_override

    command = COMMANDS[name]
    if command.rest and "--" in arguments:
        end = arguments.index("--")
        rest = ",".join(map(quoted, arguments[end + 1 :]))
        arguments = [*arguments[:end], f"{command.rest}=[{rest}]"]
    flags = [match for arg in arguments if (match := re.fullmatch(r"--video(=(.+))?", arg))]
    rest_of = [arg for arg in arguments if arg not in {flag.group() for flag in flags}]
    names = [*takewhile(_NAME.fullmatch, rest_of)] if command.argument else []
    if names and command.many:
        value = f"[{','.join(map(quoted, names))}]"
        rest_of = [f"{command.argument}={value}", *rest_of[len(names) :]]
    elif names:
        rest_of = [f"{command.argument}={quoted(names[0])}", *rest_of[1:]]
    is_given = any(re.match(rf"\+*{command.argument}=|-", argument) for argument in rest_of)
    if command.needs_argument and not is_given:
        raise UsageError(
            f"{command.argument}=... is needed; "
            f"usage: ibrl {name} {command.usage} [SETTING=VALUE ...]"
        )
    if not {"-m", "--multirun"} & {*rest_of}:
        rest_of = [list_override(command.schema, argument) for argument in rest_of]
    rest_of = [mapping_override(command.schema, argument) for argument in rest_of]
    videos = (f"video={quoted(flag[2])}" if flag[2] else "video=true" for flag in flags)
    return [*(_full_name(override, command.aliases) for override in rest_of), *videos]


def _full_name(override: str, aliases: Mapping[str, str]) -> str:
    """The override with the full name of its setting in place of an alias."""
    name, equals, value = override.partition("=")
    return f"{aliases.get(name, name)}{equals}{value}"


def _discard_output() -> None:
    """Discard output that a closed pipe, such as that to ``head``, no longer takes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _silence_libraries() -> None:
    """Keep progress readable: errors alone of TorchRL and of Gymnasium's wrappers.

    TorchRL sets the level of its logger when it is imported, here and in workers, by a variable.
    """
    os.environ.setdefault("RL_LOGGING_LEVEL", "ERROR")
    logging.getLogger("torchrl").setLevel(os.environ["RL_LOGGING_LEVEL"])
    warnings.filterwarnings("ignore", module=r"torchrl\..*|gymnasium\..*")
