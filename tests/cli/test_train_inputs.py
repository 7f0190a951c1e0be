"""Inputs of a run that cannot be used are refused before anything slow, and before its plan."""

import subprocess
import sys
import zipfile

import h5py
import pytest


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """A working folder of files and folders that may be inputs, and others."""
    monkeypatch.chdir(tmp_path)
    with h5py.File("good.hdf5", "w") as file:
        file.create_group("data/demo_0")
    with h5py.File("other.hdf5", "w") as file:
        file.create_group("observations")
    content = (tmp_path / "good.hdf5").read_bytes()
    (tmp_path / "cut.hdf5").write_bytes(content[: len(content) // 2])
    (tmp_path / "notes.txt").write_text("no input")
    (tmp_path / "empty").mkdir()
    for name in ("lerobot/meta/info.json", "minari/data/metadata.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}")
    with zipfile.ZipFile("good.pt", "w") as archive:
        archive.writestr("data.pkl", b"")
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("demos.path=none.hdf5", "none.hdf5: no such file; check the path"),
        ("demos.path=cut.hdf5", "cut.hdf5: not a readable HDF5 file"),
        ("demos.path=notes.txt", "notes.txt: not a readable HDF5 file"),
        ("demos.path=other.hdf5", "other.hdf5: no group 'data', found observations"),
        ("demos.path=empty", "empty: is a folder without meta/info.json (LeRobot) and data/meta"),
        ("imitation.bc.path=none.pt", "imitation.bc.path=none.pt: no such checkpoint; name a"),
        ("imitation.bc.path=empty", "imitation.bc.path=empty: no such checkpoint; name a"),
        ("imitation.bc.path=notes.txt", "imitation.bc.path=notes.txt: not a checkpoint, or dam"),
        ("log.wandb=online", "wandb is not installed; install it with: pip install 'ibrl_"),
        ("log.tensorboard=true", "tensorboard is not installed; install it with: pip install '"),
    ],
)
def test_unusable_inputs_are_refused_before_the_plan(ibrl, inputs, monkeypatch, setting, message):
    for tracker in ("wandb", "tensorboard"):
        monkeypatch.setitem(sys.modules, tracker, None)
    code, output, error = ibrl("train", "run_dir=run", setting)
    assert code == 2 and error.startswith(f"error: {message}") and error.count("\n") == 1
    assert not output and not (inputs / "run").exists()


def test_inputs_are_checked_without_pytorch(inputs):
    program = (
        "import sys\n"
        "from ibrl_torchrl.config.compose import composed\n"
        "from ibrl_torchrl.config.parse import parse\n"
        "from ibrl_torchrl.config.train import TrainConfig\n"
        "from ibrl_torchrl.training.inputs import require_inputs\n"
        "for path in ('good.hdf5', 'lerobot', 'minari', 'minari/data'):\n"
        "    settings = [f'demos.path={path}', 'imitation.bc.path=good.pt']\n"
        "    require_inputs(parse(TrainConfig, composed('train', settings)))\n"
        "print([n for n in ('torch', 'torchrl', 'tensordict', 'metaworld') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_demonstrations_are_loaded_before_the_size_of_the_replay_is_printed(
    ibrl, box_close_demos, tmp_path
):
    settings = [f"run_dir={tmp_path / 'run'}", f"demos.path={box_close_demos}", "demos.episodes=9"]
    code, output, error = ibrl("train", *settings)
    assert code == 2 and "holds 3 episodes, demos.episodes=9; use fewer" in error
    assert "replay:" not in output and not (tmp_path / "run").exists()
