"""The command line: ``ibrl demos | bc | train | eval | diagnose | bench | report``."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import warnings
from itertools import takewhile
from typing import NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ibrl_torchrl.config import commands
from ibrl_torchrl.config.compose import composed, config_directory, quoted, register_resolvers
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError, unknown_name


class Command(NamedTuple):
    """A command of the program.

    Attributes:
        file: its configuration under ``configs/``.
        schema: the types of that.
        job: the last part of its module's name.
        argument: the setting that can be given first and without its name.
        many: whether that is a list, of all names that come first.
        rest: the setting that takes everything after ``--``.
    """

    file: str
    schema: type
    job: str
    argument: str | None = None
    many: bool = False
    rest: str | None = None


COMMANDS = {
    "demos": Command("demos_run", commands.DemosRunConfig, "demos.record"),
    "demos info": Command("demos_info", commands.DemosInfoConfig, "demos.info", "file"),
    "demos check": Command("demos_check", commands.DemosCheckConfig, "demos.check", "file"),
    "demos render": Command("demos_render", commands.DemosRenderConfig, "demos.render", "file"),
    "demos download": Command(
        "demos_download", commands.DemosDownloadConfig, "demos.download", "dataset"
    ),
    "bc": Command("bc_run", commands.BCRunConfig, "bc"),
    "train": Command("train", TrainConfig, "train"),
    "eval": Command("eval_run", commands.EvalRunConfig, "eval", "run"),
    "diagnose": Command("diagnose_run", commands.DiagnoseConfig, "diagnose", "run"),
    "bench": Command("bench_run", commands.BenchConfig, "bench", rest="settings"),
    "report": Command("report_run", commands.ReportConfig, "report", "runs", many=True),
}
# What is neither a setting nor a flag.
_NAME = re.compile(r"[^-=][^=]*")
HELP = """\
ibrl: imitation bootstrapped reinforcement learning

  ibrl train                 demonstrations, BC, IBRL and evaluation in one run folder
  ibrl eval RUN              success of a run's hybrid, RL actor and BC policy
  ibrl diagnose RUN          are its critics right, who proposes when, does BC generalise?
  ibrl bench                 a grid of methods, tasks and seeds, reported
  ibrl report FOLDER ...     compare the runs in some folders: one page, CSV files, pictures
  ibrl bc                    train and evaluate the imitation policy alone
  ibrl demos                 record scripted demonstrations
  ibrl demos download NAME   fetch robomimic's human demonstrations: lift, can, square, ...
  ibrl demos info FILE       what a file of demonstrations holds
  ibrl demos check FILE      do the recorded actions still solve the task?
  ibrl demos render FILE     make observations and images from recorded simulator states

ibrl COMMAND --help explains a command's settings.
"""


def main() -> None:
    """Run a command; mistakes of the user cost one line and exit code 2."""
    arguments = sys.argv[1:]
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(HELP, end="")
        else:
            _run(*_command_and_rest(arguments))
        sys.stdout.flush()
    except UsageError as error:
        sys.exit(_complain(error))
    except BrokenPipeError:
        _discard_output()
    except KeyboardInterrupt:
        sys.exit(130)


def _command_and_rest(arguments: list[str]) -> tuple[str, list[str]]:
    """Split off the command's one or two words.

    Raises:
        UsageError: there is no such command.
    """
    for words in (2, 1):
        command = " ".join(arguments[:words])
        is_followed_by_name = bool(arguments[words:] and _NAME.fullmatch(arguments[words]))
        if command in COMMANDS and (COMMANDS[command].argument or not is_followed_by_name):
            return command, arguments[words:]
    named = arguments[:2] if arguments[0] in COMMANDS else arguments[:1]
    raise unknown_name("command", " ".join(named), COMMANDS)


def _run(command: str, overrides: list[str]) -> None:
    file, schema, job, *_ = COMMANDS[command]
    overrides = _spelled_out(COMMANDS[command], overrides)
    register_resolvers()
    directory = config_directory()
    failures = []
    if not any(argument.startswith("-") for argument in overrides):
        composed(file, overrides)

    def task(config: DictConfig) -> None:
        # A launcher may have started a process of its own for this.
        _quiet_libraries()
        register_resolvers()
        try:
            importlib.import_module(f"ibrl_torchrl.cli.{job}").run(parse(schema, config))
        except UsageError as error:
            failures.append(_complain(error))
            if HydraConfig.get().mode != RunMode.MULTIRUN:  # the other runs of a sweep go on
                sys.exit(failures[-1])
        except BrokenPipeError:  # of which Hydra would print a traceback
            _discard_output()

    sys.argv = [f"ibrl {command}", *overrides]
    hydra.main(version_base="1.3", config_path=str(directory), config_name=file)(task)()
    if failures:
        sys.exit(failures[-1])


def _discard_output() -> None:
    """Whoever read the output, such as ``head``, has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _spelled_out(command: Command, arguments: list[str]) -> list[str]:
    """Overrides for what is shorter to type: ``eval RUN``, ``--video``, ``--video=FILE``, and
    ``bench ... -- frames=20000``."""
    if command.rest and "--" in arguments:
        end = arguments.index("--")
        rest = ",".join(map(quoted, arguments[end + 1 :]))
        arguments = [*arguments[:end], f"{command.rest}=[{rest}]"]
    videos = [found for each in arguments if (found := re.fullmatch(r"--video(=(.+))?", each))]
    rest = [each for each in arguments if each not in {found.group() for found in videos}]
    names = [*takewhile(_NAME.fullmatch, rest)] if command.argument else []
    if names and command.many:
        rest = [f"{command.argument}=[{','.join(map(quoted, names))}]", *rest[len(names) :]]
    elif names:
        rest = [f"{command.argument}={quoted(names[0])}", *rest[1:]]
    films = (f"video={quoted(found[2])}" if found[2] else "video=true" for found in videos)
    return [*rest, *films]


def _complain(error: UsageError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


def _quiet_libraries() -> None:
    """Keep progress readable: only errors of TorchRL and of Gymnasium's wrappers get through."""
    logging.getLogger("torchrl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"torchrl\..*|gymnasium\..*")
