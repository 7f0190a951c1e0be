"""Python blocks of documentation pages, run in order in one namespace."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from ibrl_torchrl.data.demos import load_demos

DOCS = Path(__file__).parent.parent / "docs"


def run_blocks(text, name):
    """Run the blocks of a page; returns their number."""
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    namespace = {}
    for i, block in enumerate(blocks, 1):
        exec(compile(block, f"{name}, block {i}", "exec"), namespace)
    return len(blocks)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", ["proposals.md", "interventions.md"])
def test_blocks_of_a_page_run(page):
    assert run_blocks((DOCS / page).read_text(), page) > 0


@pytest.mark.simulator
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["ibrl", "ibrl_plus"])  # the latter's fallback acts
def test_blocks_of_the_deployment_page_run(method, tmp_path, monkeypatch, ibrl):
    pytest.importorskip("metaworld")
    pytest.importorskip("onnxruntime")
    from support.untrained_runs import SMALL, write_untrained_run

    run = tmp_path / "runs" / "box-close" / "ibrl-seed1"
    run.parent.mkdir(parents=True)
    networks = (*SMALL, "imitation.bc.network.hidden=[8]")
    write_untrained_run(run, method=method, networks=networks)
    assert ibrl("export", run)[0] == 0
    monkeypatch.chdir(tmp_path)
    assert run_blocks((DOCS / "deploy.md").read_text(), "deploy.md") == 4


@pytest.mark.simulator
def test_blocks_of_the_data_page_run(box_close_demos, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    shutil.copy(box_close_demos, tmp_path / "assembly.hdf5")
    monkeypatch.chdir(tmp_path)
    assert run_blocks((DOCS / "data.md").read_text(), "data.md") == 2
    assert [len(episode) for episode in load_demos(Path("mine.hdf5")).episodes] == [50]


@pytest.mark.simulator
@pytest.mark.filterwarnings("ignore")
def test_blocks_and_commands_of_the_page_on_environments_run(tmp_path, monkeypatch, ibrl):
    pytest.importorskip("gymnasium")
    text = (DOCS / "your-environment.md").read_text()
    modules = re.findall(r"`(\w+)\.py`:.*?```python\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in modules] == ["point", "my_suite"]
    for name, block in modules:
        (tmp_path / f"{name}.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert run_blocks(text, "your-environment.md") == 5
        small = ["total_frames=60", "collector.workers=0", "imitation.bc.steps=20"]
        small += ["imitation.bc.network.hidden=[8]", "algo.actor.hidden=[8]", "eval.episodes=1"]
        small += ["algo.critic.hidden=[8]", "algo.warmup.episodes=1", "eval.final_episodes=2"]
        for line in re.findall(r"^ibrl (train .*task\.suite.*|.*point)$", text, re.MULTILINE):
            command, *arguments = line.split()
            settings = ["episodes=2", "workers=0"] if command == "eval" else small
            code, _, error = ibrl(command, *arguments, *settings)
            assert code == 0, error
    finally:
        for name, _ in modules:
            sys.modules.pop(name, None)


def test_a_wrong_block_is_found():
    with pytest.raises(NameError, match="undefined"):
        run_blocks("```python\nx = 1\n```\ntext\n```python\nundefined\n```", "page")
