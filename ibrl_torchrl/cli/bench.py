"""``ibrl bench``: a grid of methods, tasks and seeds, run side by side and reported."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ibrl_torchrl.cli import report
from ibrl_torchrl.config.commands import BenchConfig, ReportConfig
from ibrl_torchrl.config.compose import composed, quoted
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.console import echo, progress_bar
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.folder import LOG, is_finished, lock_folder
from ibrl_torchrl.runs.tables import read_rows


def run(config: BenchConfig) -> None:
    """Make what is shared, then every run that is not finished, then the report.

    Raises:
        UsageError: a name or setting is unknown, the launcher is not installed, another process is
            at the folder, or runs failed.
        KeyboardInterrupt: the same command goes on from there.
    """
    _require_launcher(config.launcher)
    cases = [_case(config, f"task={name}", name.replace("/", "-")) for name in config.tasks]
    cases += [_case(config, f"experiment={name}", name) for name in config.experiments]
    with lock_folder(Path(config.dir)):
        for case in cases:
            _make(config, case)
        _tell(config, cases)


def _tell(config: BenchConfig, cases: Sequence[_Case]) -> None:
    """Report what is finished.

    Raises:
        UsageError: something is not.
    """
    folders = [folder for case in cases for folder in case.runs]
    unfinished = [folder for folder in folders if not is_finished(folder)]
    if len(unfinished) < len(folders):
        report.run(ReportConfig([config.dir], f"{config.dir}/report", "Methods compared"))
    if unfinished:
        beginnings = [folder for case in cases for folder in case.shared]
        first = next(each for each in (*beginnings, *unfinished) if not is_finished(each))
        raise UsageError(
            f"{len(unfinished)} of {len(folders)} runs did not finish, such as {first} "
            f"({_last_words(first)}); the same command goes on"
        )


def _require_launcher(name: str) -> None:
    """Refuse a launcher whose package is not installed; Hydra has ``basic`` itself."""
    package = name.split("_")[0]
    if name != "basic" and find_spec(f"hydra_plugins.hydra_{package}_launcher") is None:
        raise UsageError(
            f"launcher={name}: not installed; install it with: pip install hydra-{package}-launcher"
        )


@dataclass(frozen=True)
class _Case:
    """A task or experiment of the grid.

    Attributes:
        setting: the override that chooses it.
        folder: of its runs.
        base: what IBRL would be run with; its BC policy is the shared one.
        plans: what each method would be run with.
        seeds: of each method.
    """

    setting: str
    folder: Path
    base: TrainConfig
    plans: dict[str, TrainConfig]
    seeds: list[int]

    @property
    def shared(self) -> list[Path]:
        """Folders of the BC policies made for this case, one a seed."""
        if self.base.bc.path is not None:
            return []
        return [self.folder / f"shared/seed{seed}" for seed in self.seeds]

    @property
    def runs(self) -> list[Path]:
        return [self.run(algo, seed) for algo in self.plans for seed in self.seeds]

    def run(self, algo: str, seed: int) -> Path:
        return self.folder / f"{self.plans[algo].algo.name}-seed{seed}"


def _case(config: BenchConfig, setting: str, name: str) -> _Case:
    """Compose every method, which refuses what is misspelt before anything runs."""
    own = [setting, *(each for each in config.settings if not _is_for_launcher(each))]

    def plan(algo: str) -> TrainConfig:
        return parse(TrainConfig, composed("train", [*own, f"algo={algo}", "run_dir=x"]))

    plans = {algo: plan(algo) for algo in config.algos}
    return _Case(setting, Path(config.dir) / name, plan("ibrl"), plans, config.seeds)


def _make(config: BenchConfig, case: _Case) -> None:
    """Bring a case's shared files and runs into being, as far as they are not yet."""
    common = [case.setting, "if_exists=go_on", "quiet=true"]
    common.append(f"seed={','.join(map(str, case.seeds))}")
    shared = f"{case.folder}/shared/seed${{seed}}"
    given, policy = [], []
    if case.shared:
        if case.base.demos.path is None:
            given.append(f"demos.path={quoted(f'{shared}/demos.hdf5')}")
        fitting = [s for s in config.settings if _is_for_launcher(s) or _fits("bc_run", s)]
        overrides = [*common, *fitting, f"run_dir={quoted(shared)}"]
        _sweep(config, "bc", overrides, case.shared, f"{case.folder.name}: BC", len(case.shared))
        policy.append(f"bc.path={quoted(f'{shared}/bc.pt')}")
    # A method that clones with networks of its own (RFT from pixels) shares demonstrations alone.
    sharing = [algo for algo in case.plans if case.plans[algo].bc == case.base.bc]
    others = [algo for algo in case.plans if algo not in sharing]
    for algos, bc in ((sharing, policy), (others, [])):
        folders = [case.run(algo, seed) for algo in algos for seed in case.seeds]
        place = f"run_dir={quoted(f'{case.folder}/${{algo.name}}-seed${{seed}}')}"
        overrides = [*common, *config.settings, *given, *bc, place, f"algo={','.join(algos)}"]
        total = case.base.frames * len(folders)
        _sweep(config, "train", overrides, folders, case.folder.name, total)


def _sweep(
    config: BenchConfig,
    command: str,
    overrides: Sequence[str],
    folders: Sequence[Path],
    title: str,
    total: int,
) -> None:
    """Run a command for every combination by Hydra's launcher, and show how far it is."""
    if all(map(is_finished, folders)):
        return
    root = Path(config.dir)
    launcher = [f"hydra/launcher={config.launcher}", f"hydra.sweep.dir={quoted(str(root))}"]
    if config.launcher == "joblib":
        launcher.append(f"hydra.launcher.n_jobs={config.jobs}")
    program = [sys.executable, "-m", "ibrl_torchrl", command, "--multirun"]
    with (root / "bench.log").open("a") as log:
        started = subprocess.Popen([*program, *launcher, *overrides], stdout=log, stderr=log)
        unit = "frame" if command == "train" else "policy"
        with progress_bar(total=total, desc=title, unit=unit) as shown:
            try:
                while started.poll() is None:
                    time.sleep(0.5)
                    done = sum(min(_frames(f), total // len(folders)) for f in folders)
                    shown.update(done - shown.n if command == "train" else 0)
            except KeyboardInterrupt:
                started.wait()
                raise
    finished = sum(map(is_finished, folders))
    echo(f"{title}: {finished} of {len(folders)} finished")


def _frames(folder: Path) -> int:
    """How far a run is, by the last line of its table."""
    try:
        return max((int(row["frames"]) for row in read_rows(folder / "train.csv")), default=0)
    except (OSError, ValueError, TypeError):  # not begun, or caught while a line is written
        return 0


def _last_words(folder: Path) -> str:
    """The last line of a run's messages."""
    try:
        return (folder / LOG).read_text().strip().splitlines()[-1]
    except (OSError, IndexError):
        return f"see {folder.parent.parent / 'bench.log'}"


def _is_for_launcher(setting: str) -> bool:
    return setting.lstrip("+~").startswith("hydra")


def _fits(file: str, setting: str) -> bool:
    """Whether a command knows a setting."""
    try:
        composed(file, [setting])
    except UsageError:
        return False
    return True
