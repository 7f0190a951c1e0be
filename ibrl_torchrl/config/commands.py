"""Commands of the program: settings, usage and help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ibrl_torchrl.config.imitation import DaggerConfig, ImitationConfig, require_supported
from ibrl_torchrl.config.ray import RayRunsConfig
from ibrl_torchrl.config.setting import (
    MAX_FIRST_SEED,
    MAX_SEED,
    MAX_THREADS,
    MOST_WORKERS,
    num_workers,
    require,
    setting,
)
from ibrl_torchrl.config.task import DemosConfig, TaskConfig
from ibrl_torchrl.config.train import (
    FinalEvalConfig,
    JobConfig,
    TrainConfig,
    default_imitation,
    require_names,
)

CHECKPOINTS = ("checkpoint.pt", "checkpoint-previous.pt", "best.pt", "not-finite.pt")
_VIDEO_CAMERA = (
    "Camera of the video; null: corner2 (metaworld), frontview (robosuite), the task's (gym)."
)
_TASK_ALIASES = {"id": "task.name"}


@dataclass(kw_only=True)
class BCRunConfig(JobConfig):
    """Training and evaluation of imitation policies."""

    run_dir: str = setting(
        "runs/${task.name}/bc-seed${seed}-${now:%Y%m%d-%H%M%S}", help="Run folder."
    )
    task: TaskConfig = setting(TaskConfig, help="Task.")
    demos: DemosConfig = setting(DemosConfig, help="Demonstrations.")
    imitation: dict[str, ImitationConfig] = setting(
        default_imitation, help="Imitation policies by name."
    )
    eval: FinalEvalConfig = setting(FinalEvalConfig, help="Evaluation.")

    def __post_init__(self) -> None:
        require_names(self.imitation)
        require_supported(self.imitation, self.demos.episodes)


@dataclass(kw_only=True)
class DaggerRunConfig(BCRunConfig):
    """Training of an imitation policy on its own states, labelled by the scripted expert."""

    run_dir: str = setting(
        "runs/${task.name}/dagger-seed${seed}-${now:%Y%m%d-%H%M%S}", help="Run folder."
    )
    dagger: DaggerConfig = setting(DaggerConfig, help="Dataset aggregation.")

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ", ".join(self.imitation) or "none"
        require(
            len(self.imitation) == 1,
            "imitation",
            names,
            "one policy, the learner; train others on its file: ibrl bc demos.path=RUN/demos.hdf5",
        )
        ((name, policy),) = self.imitation.items()
        require(
            policy.chunk.size == 1,
            f"imitation.{name}.chunk.size",
            policy.chunk.size,
            "1: the expert labels each visited state with one action",
        )
        require(
            not policy.recurrent,
            f"imitation.{name}.policy",
            policy.policy,
            "a policy without a state, which steps of the expert would interrupt",
        )
        demos = self.demos
        require(demos.path is None, "demos.path", demos.path, "null: round 0 records episodes")
        require(demos.noise == 0, "demos.noise", demos.noise, "0: the expert's actions are labels")
        require(
            policy.path is None,
            f"imitation.{name}.path",
            policy.path,
            "null: every round trains the policy anew",
        )


@dataclass(kw_only=True)
class DemosRunConfig:
    """Recording of scripted demonstrations."""

    out: str = setting("${task.name}-demos.hdf5", help="HDF5 file to write, robomimic's layout.")
    video: bool | str | None = setting(
        None, help="Video of the demonstrations: true (beside the file), or an .mp4 or .gif file."
    )
    video_camera: str | None = setting(None, help=_VIDEO_CAMERA)
    task: TaskConfig = setting(TaskConfig, help="Task.")
    demos: DemosConfig = setting(DemosConfig, help="Demonstrations.")


@dataclass(kw_only=True)
class DemosInfoConfig:
    """Description of a file of demonstrations."""

    file: str = setting(help="HDF5 file in robomimic's layout.")


@dataclass(kw_only=True)
class DemosCheckConfig:
    """Playback of recorded actions in the simulator."""

    file: str = setting(help="HDF5 file in robomimic's layout, with simulator states.")
    episodes: int | None = setting(None, help="Episodes at most; null: all.", at_least=1)
    filter_key: str | None = setting(
        None, help="List of episodes in the file, such as valid; null: all."
    )


@dataclass(kw_only=True)
class DemosRenderConfig(DemosCheckConfig):
    """Observations and images from recorded simulator states."""

    out: str = setting(help="HDF5 file to write.")
    cameras: list[str] = setting(["agentview"], help="Cameras whose images are added.")
    image_size: int = setting(
        96, help="Height and width of images.", at_least=1, at_most=4096, unit="pixels"
    )
    render_quality: str = setting(
        "fast",
        help="Rendering; demonstrations, imitation and RL must use the same.",
        choices=("fast", "shadows", "full"),
    )
    tolerance: float = setting(
        1e-3, help="Largest difference from recorded observations.", at_least=0
    )


@dataclass(kw_only=True)
class DemosConvertConfig:
    """Conversion of episodes to another format."""

    file: str = setting(
        help="HDF5 file, folder of a dataset of LeRobot or Minari, or run folder (its episodes)."
    )
    out: str = setting(help="Folder (lerobot) or HDF5 file (robomimic) to write.")
    to: str = setting(
        help="Format: lerobot (3.0, extra lerobot) or robomimic.", choices=("lerobot", "robomimic")
    )
    episodes: int | None = setting(None, help="Episodes at most; null: all.", at_least=1)
    filter_key: str | None = setting(
        None, help="List of episodes in the file, such as valid; null: all."
    )
    keys: dict[str, list[str]] = setting(
        dict,
        help="Names in the file of what makes up an observation: keys.state=[ee_pos,object_pose].",
        at_least=1,
    )
    images: str = setting(
        "video", help="Images of lerobot: video (H.264) or png (exact).", choices=("video", "png")
    )
    fps: int | None = setting(
        None,
        help="Steps per second of lerobot; null: robosuite's control rate, else 20.",
        at_least=1,
        at_most=1000,
    )
    description: str = setting("", help="Task in words, of lerobot; empty: the task's name.")


@dataclass(kw_only=True)
class DemosDownloadConfig:
    """Download of robomimic's human demonstrations."""

    dataset: str = setting(
        help="Dataset: lift, can, square, transport or tool_hang; with -raw without observations."
    )
    out: str = setting("${dataset}-human.hdf5", help="HDF5 file to write.")


@dataclass(kw_only=True)
class EvalRunConfig:
    """Evaluation of a run's policies."""

    run: str = setting(help="Run folder.")
    checkpoint: str = setting("checkpoint.pt", help="File of that folder.", choices=CHECKPOINTS)
    out: str | None = setting(None, help="CSV file for the single episodes.")
    episodes: int = setting(50, help="Episodes of each policy.", at_least=1, at_most=10**6)
    seed: int = setting(
        100_000,
        help="Seed of the first initial state; the next has seed + 1.",
        at_least=0,
        at_most=MAX_FIRST_SEED,
    )
    device: str = setting("cpu", help="Device of PyTorch: cpu, cuda, cuda:1, ...")
    workers: int | None = setting(
        0,
        help="Rollout processes; 0: this process; null: a core each, 8 at most.",
        at_least=0,
        at_most=MOST_WORKERS,
    )
    threads: int | None = setting(
        1, help="Threads of PyTorch; null: all cores.", at_least=1, at_most=MAX_THREADS
    )
    video: bool | str | None = setting(
        None, help="Video of the hybrid: true (RUN/video.mp4), or an .mp4 or .gif file."
    )
    video_camera: str | None = setting(None, help=_VIDEO_CAMERA)
    video_episodes: int = setting(3, help="Episodes in the video.", at_least=1)

    def __post_init__(self) -> None:
        self.workers = num_workers(self.workers, reserved=0)


@dataclass(kw_only=True)
class ExportConfig:
    """Export of a run's policy."""

    run: str = setting(help="Run folder.")
    policy: str | None = setting(
        None, help="Policy: hybrid, rl, or an imitation policy by its name; null: the hybrid."
    )
    checkpoint: str = setting("checkpoint.pt", help="File of that folder.", choices=CHECKPOINTS)
    out: str | None = setting(
        None, help="File to write: .onnx, or .pt2 of torch.export; null: RUN/policy.onnx."
    )


@dataclass(kw_only=True)
class DiagnoseConfig:
    """Diagnosis of a run's critics, proposals and imitation policies."""

    run: str = setting(help="Run folder.")
    episodes: int = setting(20, help="Episodes of the hybrid.", at_least=1, at_most=10**6)
    num_states: int = setting(
        50,
        help="States of these, and of the demonstrations, from which imitation policies start.",
        at_least=1,
    )
    seed: int = setting(
        100_000,
        help="Seed of the first initial state; the next has seed + 1.",
        at_least=0,
        at_most=MAX_FIRST_SEED,
    )
    device: str = setting("cpu", help="Device of PyTorch: cpu, cuda, cuda:1, ...")
    threads: int | None = setting(
        1, help="Threads of PyTorch; null: all cores.", at_least=1, at_most=MAX_THREADS
    )


@dataclass(kw_only=True)
class BenchConfig:
    """Grid of methods, tasks and seeds."""

    dir: str = setting("runs/bench", help="Folder of all runs; the same command resumes the grid.")
    algos: list[str] = setting(
        ["ibrl_plus", "ibrl", "td3", "rlpd_plus", "rft", "sqil"],
        help="Methods of configs/algo.",
        at_least=1,
    )
    tasks: list[str] = setting(["metaworld/box-close"], help="Tasks of configs/task.")
    experiments: list[str] = setting(
        [], help="Files of configs/experiment, which choose their task."
    )
    seeds: list[int] = setting(
        [1, 2, 3], help="Seeds of each method.", at_least=0, at_most=MAX_SEED
    )
    settings: list[str] = setting([], help="Settings of every run; shorter at the end, after --.")
    launcher: str = setting(
        "joblib", help="Launcher: ray, or one of Hydra's: joblib, basic, submitit_slurm, ..."
    )
    jobs: int = setting(
        2, help="Runs at a time on this machine (joblib).", at_least=1, at_most=1024
    )
    ray: RayRunsConfig = setting(RayRunsConfig, help="Ray cluster (launcher=ray).")

    def __post_init__(self) -> None:
        require(bool(self.tasks or self.experiments), "tasks", self.tasks, "a list of one or more")
        require(bool(self.seeds), "seeds", self.seeds, "a list of one or more")


@dataclass(kw_only=True)
class RunsConfig:
    """List of runs."""

    folders: list[str] = setting(["runs"], help="Folders with runs in or under them.", at_least=1)


@dataclass(kw_only=True)
class FigureConfig:
    """Figure files of a report, for a paper."""

    formats: list[str] = setting(
        ["svg", "pdf", "png"],
        help="Formats of the files; [] writes none.",
        choices=("svg", "pdf", "png"),
    )
    width: float = setting(5.5, help="Width.", at_least=1, at_most=40, unit="inches")
    height: float = setting(3.4, help="Height.", at_least=1, at_most=40, unit="inches")
    font: str = setting(
        "sans-serif", help="Font: sans-serif, serif, monospace, or the name of an installed one."
    )
    font_size: float = setting(8.0, help="Size of letters.", at_least=3, at_most=40, unit="points")


@dataclass(kw_only=True)
class ReportConfig:
    """Comparison of runs in one page."""

    runs: list[str] = setting(help="Folders with runs in or under them.", at_least=1)
    out: str = setting("report", help="Folder of the page; an earlier report is replaced.")
    title: str = setting("Learning from demonstrations, compared", help="Title of the page.")
    figures: FigureConfig = setting(FigureConfig, help="Figure files, for a paper.")
    interactive: bool = setting(
        True, help="Interactive learning curves in the page, 1.3 MB, with the extra report."
    )


@dataclass(frozen=True)
class Command:
    """Command of the program.

    Attributes:
        name: one or two words, such as ``"demos info"``.
        schema: dataclass of its settings.
        module: name of its module under ``ibrl_torchrl.cli``, with a function ``run``.
        usage: what follows the name, such as ``"RUN"``, in brackets if it may be left out.
        summary: one line.
        examples: command lines and comments.
        groups: config groups that it takes, with their options' folder.
        argument: setting that may be given first and without its name.
        many: whether that is a list of all names that come first.
        rest: setting that takes everything after ``--``.
        aliases: short names of settings, with the settings' full names.
    """

    name: str
    schema: type[Any]
    module: str
    usage: str
    summary: str
    examples: tuple[tuple[str, str], ...] = ()
    groups: tuple[str, ...] = ()
    argument: str | None = None
    many: bool = False
    rest: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs_argument(self) -> bool:
        """Whether ``argument`` must be given; brackets in ``usage`` mark one with a default."""
        return self.argument is not None and not self.usage.startswith("[")

    @property
    def config_name(self) -> str:
        """Name of its primary configuration."""
        return self.name.replace(" ", "_")


_COMMANDS = (
    Command(
        "train",
        TrainConfig,
        "train",
        "",
        "demonstrations, imitation, RL and evaluation in one run folder",
        (
            ("ibrl train", "box-close, 3 scripted demonstrations"),
            ("ibrl train task=metaworld/assembly seed=1", "another task"),
            ("ibrl train algo=rlpd_plus", "another method"),
            ("ibrl train algo.proposals.select=soft total_frames=60000", "other settings"),
            ("ibrl train experiment=small_pixels", "from camera images, sized for a CPU"),
            ("ibrl train experiment=paper_pixels device=cuda", "the paper's networks for images"),
            (
                "ibrl train demos.path=my.hdf5 imitation.bc.path=bc.pt",
                "existing demonstrations and imitation policy",
            ),
            ("ibrl train --multirun seed=1,2,3", "a sweep"),
            ("ibrl train task=gym id=FetchPush-v4 demos.path=FILE", "a task of Gymnasium"),
            ("ibrl train resume=RUN", "resume an interrupted run"),
        ),
        groups=("task", "algo", "experiment"),
        aliases=_TASK_ALIASES,
    ),
    Command(
        "eval",
        EvalRunConfig,
        "eval",
        "RUN",
        "success of a run's hybrid, RL actor and imitation policies",
        (
            ("ibrl eval RUN episodes=100 out=episodes.csv", "keep every episode"),
            ("ibrl eval RUN --video", "video of proposals and their values: RUN/video.mp4"),
            ("ibrl eval RUN workers=null", "on all cores; the same numbers"),
        ),
        argument="run",
    ),
    Command(
        "diagnose",
        DiagnoseConfig,
        "diagnose",
        "RUN",
        "values against returns, proposals over time, imitation off the demonstrations",
        (("ibrl diagnose RUN", "tables diagnosis_*.csv in the run folder and a summary"),),
        argument="run",
    ),
    Command(
        "export",
        ExportConfig,
        "export",
        "RUN",
        "a run's policy as an ONNX or torch.export file",
        (
            ("ibrl export RUN", "the hybrid's choice: RUN/policy.onnx"),
            ("ibrl export RUN policy=bc out=bc.pt2", "the imitation policy, for torch.export.load"),
        ),
        argument="run",
    ),
    Command(
        "bench",
        BenchConfig,
        "bench",
        "",
        "a grid of methods, tasks and seeds, and its report",
        (
            ("ibrl bench algos=[ibrl,td3] seeds=[1,2,3] jobs=2", "two methods, two runs at a time"),
            (
                "ibrl bench tasks=[] experiments=[small_lift] -- eval.episodes=10",
                "settings of every run",
            ),
            ("ibrl bench seeds=1-200 launcher=ray ray.cpus=2", "on a Ray cluster"),
        ),
        rest="settings",
    ),
    Command(
        "report",
        ReportConfig,
        "report",
        "FOLDER ...",
        "runs compared: one page, CSV files, figures",
        (
            ("ibrl report runs/box-close other/folder out=report", ""),
            (
                "ibrl report runs/box-close figures.width=3.25 figures.font=serif",
                "figures for a column of a paper",
            ),
        ),
        argument="runs",
        many=True,
    ),
    Command(
        "runs",
        RunsConfig,
        "runs",
        "[FOLDER ...]",
        "runs with their state, success and minutes",
        (("ibrl runs", "all in runs/"), ("ibrl runs runs/box-close other/folder", "")),
        argument="folders",
        many=True,
    ),
    Command(
        "bc",
        BCRunConfig,
        "bc",
        "",
        "train and evaluate imitation policies alone",
        (
            ("ibrl bc task=metaworld/assembly", "use it with: ibrl train imitation.bc.path=..."),
            ("ibrl bc policy=gmm", "another kind of policy"),
        ),
        groups=("task", "experiment"),
        aliases=_TASK_ALIASES | {"policy": "imitation.bc.policy"},
    ),
    Command(
        "dagger",
        DaggerRunConfig,
        "dagger",
        "",
        "train an imitation policy on its own states, labelled by the scripted expert (DAgger)",
        (
            ("ibrl dagger task=metaworld/assembly", "5 rounds of 3 episodes"),
            ("ibrl dagger dagger.rounds=10 dagger.beta=0", "the expert executes round 0 alone"),
            ("ibrl dagger policy=flow imitation.bc.steps=5000", "another kind of policy"),
            (
                "ibrl train demos.path=RUN/demos.hdf5 demos.episodes=15 "
                "imitation.bc.path=RUN/imitation/bc.pt",
                "use the episodes and the policy",
            ),
        ),
        groups=("task", "experiment"),
        aliases=_TASK_ALIASES | {"policy": "imitation.bc.policy"},
    ),
    Command(
        "demos",
        DemosRunConfig,
        "demos.record",
        "",
        "record scripted demonstrations",
        (("ibrl demos task=metaworld/assembly demos.episodes=10 out=assembly.hdf5 --video", ""),),
        groups=("task", "experiment"),
        aliases=_TASK_ALIASES,
    ),
    Command(
        "demos download",
        DemosDownloadConfig,
        "demos.download",
        "NAME",
        "robomimic's human demonstrations: lift, can, square, ...",
        (("ibrl demos download lift out=lift.hdf5", ""),),
        argument="dataset",
    ),
    Command(
        "demos info",
        DemosInfoConfig,
        "demos.info",
        "FILE",
        "contents of a file of demonstrations",
        (("ibrl demos info lift.hdf5", ""),),
        argument="file",
    ),
    Command(
        "demos check",
        DemosCheckConfig,
        "demos.check",
        "FILE",
        "whether the recorded actions still solve the task",
        (("ibrl demos check lift.hdf5 episodes=20", ""),),
        argument="file",
    ),
    Command(
        "demos render",
        DemosRenderConfig,
        "demos.render",
        "FILE",
        "observations and images from recorded simulator states",
        (("ibrl demos render raw.hdf5 out=images.hdf5 cameras=[agentview]", ""),),
        argument="file",
    ),
    Command(
        "demos convert",
        DemosConvertConfig,
        "demos.convert",
        "IN",
        "episodes of a run, a file or a dataset, to LeRobot or robomimic",
        (
            ("ibrl demos convert RUN out=episodes to=lerobot", "a run's episodes"),
            ("ibrl demos convert lift.hdf5 out=lift to=lerobot images=png", "exact images"),
            ("ibrl demos convert DATASET out=dataset.hdf5 to=robomimic", "of LeRobot or Minari"),
        ),
        argument="file",
    ),
)
COMMANDS = {command.name: command for command in _COMMANDS}
