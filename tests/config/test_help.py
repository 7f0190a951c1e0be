"""Help and reference of settings, shell completion."""

import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from functools import reduce
from operator import getitem

import pytest
import yaml
from omegaconf import OmegaConf

from ibrl_torchrl.cli.completion import candidates, script
from ibrl_torchrl.config.commands import COMMANDS
from ibrl_torchrl.config.compose import composed, setting_names
from ibrl_torchrl.config.help import command_help, groups_of, program_help, settings_markdown
from ibrl_torchrl.errors import UsageError


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_help_explains_every_setting_and_fits_the_terminal(command, width):
    text = command_help(command, width=width)
    examples = {f"  {line}" for line, _ in command.examples}
    assert [line for line in text.splitlines() if len(line) > width and line not in examples] == []
    for group in groups_of(command.schema):
        for name, setting in group.settings.items():
            path = f"{group.name}.{name}" if group.name else name
            assert f"  {path}" in text and setting.help[0].isupper()
            assert setting.help.endswith(".")
    for example in examples:
        assert example in text


def test_help_shows_defaults_choices_limits_and_units():
    text = command_help(COMMANDS["train"], width=200)
    assert "Learning rate of Adam; paper: 1e-4. (above 0) [0.0003]" in text
    assert "(online, target) [online]" in text
    assert "Interval of evaluations. (at least 1; frames) [3000]" in text
    assert "[by task=...]" in text and "algo=actor_proposal, bootstrap_proposal, expo" in text


@pytest.fixture(scope="module")
def shown():
    """Values in the reference, by command and setting."""
    sections = settings_markdown().split("## `ibrl ")
    rows = re.compile(r"^\| `(\S+)` \| `(.*?)` \|", re.MULTILINE)
    return {
        command.name: dict(rows.findall(sections[number]))
        for number, command in enumerate(COMMANDS.values(), start=1)
    }


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_reference_shows_the_values_that_the_command_has_without_arguments(shown, command):
    config = composed(command.config_name)
    values = OmegaConf.to_container(config)
    for name in setting_names(config):
        value = reduce(getitem, name.split("."), values)
        text = shown[command.name][name]
        if text in ("by task=...", "required"):
            assert (text == "required") == (value == "???"), name
            continue
        written = text.removesuffix(", by algo=ibrl_plus")
        read = written.strip("'") if isinstance(value, str) else yaml.safe_load(written)
        assert read == value, name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("algo.name", "ibrl_plus, by algo=ibrl_plus"),
        ("algo.actor_init", "bc, by algo=ibrl_plus"),
        ("algo.exploration_noise", "0.3, by algo=ibrl_plus"),
        ("algo.loss.q_filter", "true, by algo=ibrl_plus"),
        ("algo.proposals.acting.trusted", "[rl], by algo=ibrl_plus"),
        ("algo.actor.hidden", "${imitation.bc.network.hidden}, by algo=ibrl_plus"),
        ("replay.n_steps", "5, by algo=ibrl_plus"),
        ("algo.update.lr", "0.0003"),
        ("algo.encoder.network", "required"),
        ("task.relative_positions", "by task=..."),
        ("task.horizon", "by task=..."),
        ("task.cameras", "[]"),
    ],
)
def test_help_and_reference_show_what_the_default_method_and_task_set(shown, name, value):
    assert shown["train"][name] == value
    lines = command_help(COMMANDS["train"], width=1000).splitlines()
    (line,) = (line for line in lines if line.startswith(f"  {name} "))
    assert line.endswith(f" [{value}]")


def test_help_and_reference_name_the_default_options_of_groups():
    text = command_help(COMMANDS["train"], width=1000)
    assert "(default metaworld/box-close, or the experiment's)" in text
    assert (
        "td3 (default ibrl_plus; "
        "with an experiment other than small_can, small_lift, small_pixels, small_square: ibrl)"
    ) in text
    assert "small_square (default none)" in text
    assert "values without arguments. Another task, algo or experiment may bring its own" in text
    assert "`td3` (default `ibrl_plus`; " in settings_markdown()
    assert "Another task or experiment may" in command_help(COMMANDS["bc"], width=100)
    assert "In brackets" not in command_help(COMMANDS["eval"], width=100)


def test_help_names_the_methods_of_a_grid_the_default_one_first():
    text = command_help(COMMANDS["bench"], width=200)
    assert "Methods of configs/algo. (at least 1) [[ibrl_plus,ibrl,td3,rlpd_plus,rft,sqil]]" in text


def test_help_does_without_pytorch():
    program = (
        "import sys; sys.argv = ['ibrl', 'train', '--help']\n"
        "from ibrl_torchrl.cli.main import main\n"
        "main(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_help_of_one_group_shows_that_group_alone():
    text = command_help(COMMANDS["train"], width=100, prefix="algo.update")
    assert text.startswith("algo.update: ") and "algo.update.tau" in text
    assert "algo.loss" not in text and "seed" not in text
    with pytest.raises(UsageError, match="unknown group of settings 'algos'; did you mean algo"):
        command_help(COMMANDS["train"], width=100, prefix="algos")


def test_help_of_a_command_has_its_groups_alone():
    assert "algo" not in command_help(COMMANDS["eval"], width=100).split("Settings")[1]
    assert "replay" not in command_help(COMMANDS["bc"], width=100)


def test_help_and_reference_name_the_setting_behind_a_short_one():
    line = "policy=... is short for imitation.bc.policy=..."
    assert line in command_help(COMMANDS["bc"], width=100)
    assert line not in command_help(COMMANDS["train"], width=100)
    assert "- `policy=...` is short for `imitation.bc.policy=...`" in settings_markdown()
    assert "id=... is short for task.name=..." in command_help(COMMANDS["train"], width=100)


def test_the_program_help_lists_every_command():
    for command in COMMANDS.values():
        assert f"ibrl {command.name}" in program_help() and command.summary in program_help()


def test_the_reference_has_every_setting_of_every_command():
    text = settings_markdown()

    def names(schema, prefix=""):
        for field in fields(schema):
            value = getattr(schema, field.name)
            if isinstance(value, dict) and field.name == "imitation":
                yield from names(value["bc"], f"{prefix}imitation.bc.")
            elif is_dataclass(value):
                yield from names(value, f"{prefix}{field.name}.")
            else:
                yield f"{prefix}{field.name}"

    for command in COMMANDS.values():
        section = text.split(f"## `ibrl {command.name}")[1]
        for name in names(command.schema()):
            assert f"| `{name}` |" in section, name


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], ["train"]),
        (["demos", "in"], ["info"]),
        (["train", "algo=ibrl_so"], ["algo=ibrl_soft"]),
        (["train", "task=metaworld/box"], ["task=metaworld/box-close"]),
        (["train", "algo.proposals.sel"], ["algo.proposals.select="]),
        (["train", "device=cpu", "algo.proposals.select=so"], ["algo.proposals.select=soft"]),
        (["train", "quiet="], ["quiet=false", "quiet=true"]),
        (["eval", "checkpoint=b"], ["checkpoint=best.pt"]),
        (["demos", "render", "render_quality=f"], ["render_quality=fast", "render_quality=full"]),
        (["train", "seed="], []),
        (["bc", "pol"], ["policy="]),
        (["bc", "policy=gm"], ["policy=gmm", "policy=gmm_rnn"]),
        (["train", "policy=gm"], []),
    ],
)
def test_completions(words, expected):
    assert candidates(words) == expected


def test_bash_completes_with_the_script(tmp_path):
    """The script, in a real bash, with a program that completes as ``ibrl`` does."""
    setup = script("bash")
    program = 'ibrl() { python -m ibrl_torchrl "$@"; }\n'
    typed = "ibrl train algo.proposals.select=s"
    call = f'COMP_LINE="{typed}" COMP_POINT={len(typed)}; _ibrl; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-c", f"compopt() {{ :; }}\n{setup}\n{program}\n{call}"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["soft"], done.stderr
    with pytest.raises(UsageError, match="unknown shell 'fish'; known are bash, zsh"):
        script("fish")
