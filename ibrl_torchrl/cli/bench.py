"""``ibrl bench``: a grid of methods, tasks and seeds, run side by side and reported."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ibrl_torchrl.builders.imitation import policy_path
from ibrl_torchrl.cli import report
from ibrl_torchrl.cli.launchers.base import Launcher, Sweep
from ibrl_torchrl.cli.launchers.hydra import HydraLauncher
from ibrl_torchrl.cli.launchers.ray import RayLauncher
from ibrl_torchrl.cluster import ray_cluster
from ibrl_torchrl.config.commands import BenchConfig, ReportConfig
from ibrl_torchrl.config.compose import composed, quoted
from ibrl_torchrl.config.imitation import ImitationConfig, SelfImitationConfig
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.plan import warmup_warning
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.folder import is_finished, lock_folder
from ibrl_torchrl.runs.manifest import require_no_links
from ibrl_torchrl.runs.names import DEMOS, LOG, TRAIN
from ibrl_torchrl.runs.tables import read_rows

_LOG = "bench.log"  # output of the runs' processes


def run(config: BenchConfig) -> None:
    """Make shared inputs, then every run that is not finished, then the report.

    Raises:
        UsageError: a name or setting is unknown, the launcher is not installed, there is no such
            cluster, another process uses the folder, or runs failed.
        KeyboardInterrupt: the same command resumes.
    """
    cases = [_case(config, f"task={name}", name.replace("/", "-")) for name in config.tasks]
    cases += [_case(config, f"experiment={name}", name) for name in config.experiments]
    with _launcher(config) as launcher, lock_folder(Path(config.dir)):
        for warning in _warnings(cases):
            echo(warning)
        reasons = [reason for case in cases for reason in _run_case(config, case, launcher)]
        _report(config, cases, reasons)


@contextmanager
def _launcher(config: BenchConfig) -> Iterator[Launcher]:
    """Launcher of a grid's runs, connected to its cluster."""
    if config.launcher != "ray":
        yield HydraLauncher(config.launcher, config.jobs)
        return
    for setting in config.settings:
        if _is_for_launcher(setting):
            raise UsageError(f"{setting}: is for launchers of Hydra, launcher=ray has ray.cpus=...")
    with ray_cluster(config.ray.address, cpus=config.ray.cpus, gpus=config.ray.gpus) as ray:
        yield RayLauncher(ray, config.ray)


def _report(config: BenchConfig, cases: Sequence[_Case], reasons: Sequence[str]) -> None:
    """Report the finished runs; print the last message of each other one.

    Args:
        config: settings.
        cases: tasks and experiments.
        reasons: why processes of the grid ended, such as a signal.

    Raises:
        UsageError: a run is not finished.
    """
    folders = [folder for case in cases for folder in case.runs]
    unfinished = [folder for folder in folders if not is_finished(folder)]
    if len(unfinished) < len(folders):
        report.run(
            ReportConfig(runs=[config.dir], out=f"{config.dir}/report", title="Methods compared")
        )
    if unfinished:
        shared = [folder for case in cases for folder in case.shared]
        first = next(folder for folder in (*shared, *unfinished) if not is_finished(folder))
        for folder in unfinished:
            echo(f"not finished: {folder} ({_last_message(folder)})")
        reason = next(iter(reasons), None) or _last_message(first)
        raise UsageError(
            f"{len(unfinished)} of {len(folders)} runs did not finish, such as {first} "
            f"({reason}); the same command resumes them"
        )


@dataclass(frozen=True)
class _Case:
    """Task or experiment of the grid.

    Attributes:
        override: override that selects it.
        folder: folder of its runs.
        base: settings of IBRL, whose imitation policies are shared.
        methods: settings by method.
        seeds: seeds of each method.
    """

    override: str
    folder: Path
    base: TrainConfig
    methods: dict[str, TrainConfig]
    seeds: list[int]

    @property
    def shared(self) -> list[Path]:
        """Folders of the shared imitation policies, one a seed."""
        if all(policy.path is not None for policy in self.base.imitation.values()):
            return []
        return [self.folder / f"shared/seed{seed}" for seed in self.seeds]

    @property
    def runs(self) -> list[Path]:
        """Folders of all runs."""
        return [self.run(algo, seed) for algo in self.methods for seed in self.seeds]

    def run(self, algo: str, seed: int) -> Path:
        """Folder of one run."""
        return self.folder / f"{self.methods[algo].algo.name}-seed{seed}"


def _case(config: BenchConfig, override: str, name: str) -> _Case:
    """Compose every method, which refuses what is misspelt before anything runs."""
    common = [override, *(each for each in config.settings if not _is_for_launcher(each))]

    def settings(algo: str) -> TrainConfig:
        return parse(TrainConfig, composed("train", [*common, f"algo={algo}", "run_dir=x"]))

    methods = {algo: settings(algo) for algo in config.algos}
    return _Case(override, Path(config.dir) / name, settings("ibrl"), methods, config.seeds)


def _warnings(cases: Sequence[_Case]) -> Iterator[str]:
    """Warnings of budgets that may end within the warm-up; single runs write theirs to files."""
    for case in cases:
        for name, settings in case.methods.items():
            if (warning := warmup_warning(settings)) is not None:
                yield f"{case.folder.name}, {name}: {warning}"


def _run_case(config: BenchConfig, case: _Case, launcher: Launcher) -> Iterator[str]:
    """Run what is not finished: shared demonstrations and imitation policies, then the methods.

    Yields:
        Why runs were lost, such as by a signal.
    """
    common = [case.override, "if_exists=resume", "quiet=true"]
    shared = f"{case.folder}/shared/seed${{seed}}"
    demos, policies = [], []
    if case.shared:
        if case.base.demos.path is None:
            demos.append(f"demos.path={quoted(f'{shared}/{DEMOS}')}")
        fitting = [s for s in config.settings if _is_for_launcher(s) or _fits("bc", s)]
        seeds = {
            folder: {"seed": str(seed)}
            for seed, folder in zip(case.seeds, case.shared, strict=True)
        }
        sweep = Sweep("bc", [*common, *fitting, f"run_dir={quoted(shared)}"], seeds)
        title = f"{case.folder.name}: imitation"
        yield from _run_sweep(config, launcher, sweep, title, total=len(case.shared))
        policies = [
            f"imitation.{name}.path={quoted(str(policy_path(Path(shared), name)))}"
            for name in case.base.imitation
        ]
    # A method with imitation networks of its own (RFT from pixels) shares demonstrations alone.
    sharing = [a for a in case.methods if _pretraining(case.methods[a]) == _pretraining(case.base)]
    others = [a for a in case.methods if a not in sharing]
    for algos, paths in ((sharing, policies), (others, [])):
        runs = {
            case.run(algo, seed): {"seed": str(seed), "algo": algo}
            for seed in case.seeds
            for algo in algos
        }
        run_dir = f"run_dir={quoted(f'{case.folder}/${{algo.name}}-seed${{seed}}')}"
        overrides = [*common, *config.settings, *demos, *paths, run_dir]
        total = case.base.total_frames * len(runs)
        sweep = Sweep("train", overrides, runs)
        yield from _run_sweep(config, launcher, sweep, case.folder.name, total)


def _pretraining(config: TrainConfig) -> dict[str, ImitationConfig]:
    """Imitation policies without what a method does with them later, during RL."""
    return {
        name: replace(policy, self_imitation=SelfImitationConfig())
        for name, policy in config.imitation.items()
    }


def _run_sweep(
    config: BenchConfig, launcher: Launcher, sweep: Sweep, title: str, total: int
) -> Iterator[str]:
    """Run a command for every combination by a launcher, with a progress bar.

    Args:
        config: settings.
        launcher: starts the runs.
        sweep: runs.
        title: of the bar.
        total: frames of all runs of ``"train"``; runs of ``"bc"``.

    Yields:
        Why runs were lost, such as by a signal.
    """
    folders = [*sweep.runs]
    for folder in folders:
        require_no_links(folder)
    if all(map(is_finished, folders)):
        return
    is_training = sweep.command == "train"
    running = launcher.start(sweep, Path(config.dir) / _LOG)
    with progress_bar(total=total, desc=title, unit="frame" if is_training else "policy") as bar:
        try:
            while not running.is_done():
                time.sleep(0.5)
                if is_training:
                    done = sum(min(_frames(f), total // len(folders)) for f in folders)
                else:
                    done = sum(map(is_finished, folders))
                bar.update(done - bar.n)
        except KeyboardInterrupt:
            running.interrupt()
            raise
    finished = sum(map(is_finished, folders))
    echo(f"{title}: {finished} of {len(folders)} finished")
    yield from running.failures()


def _frames(folder: Path) -> int:
    """Frames of a run, by the last line of its table."""
    try:
        return max((int(row["frames"]) for row in read_rows(folder / TRAIN)), default=0)
    except (OSError, ValueError, TypeError):  # not started, or a line is being written
        return 0


def _last_message(folder: Path) -> str:
    """Last line of a run's log."""
    try:
        return (folder / LOG).read_text().strip().splitlines()[-1]
    except (OSError, IndexError):
        return f"see {folder.parent.parent / _LOG}"


def _is_for_launcher(setting: str) -> bool:
    return setting.lstrip("+~").startswith("hydra")


def _fits(config_name: str, setting: str) -> bool:
    """Whether a command has a setting."""
    try:
        composed(config_name, [setting])
    except UsageError:
        return False
    return True
