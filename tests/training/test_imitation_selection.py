"""Training of imitation policies with held-out demonstrations and averaged weights."""

import pytest
import torch
from support.parts import Countdown
from tensordict import TensorDict

from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.imitation import ImitationConfig
from ibrl_torchrl.config.networks import NetworkConfig
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.modules import Normalize
from ibrl_torchrl.training import imitation as stage
from ibrl_torchrl.training import selection


def episodes(number=4, length=20):
    """Episodes of one action each, which a network learns from the others but cannot predict."""
    return [
        TensorDict(
            state=torch.randn(length, 2),
            action=torch.full((length, 1), 0.2 * index) + 0.3 * torch.randn(length, 1),
            batch_size=[length],
        )
        for index in range(number)
    ]


def trained(demos=None, seed=0, **settings):
    """Network of ``imitation.bc`` after training."""
    torch.manual_seed(1)
    demos = demos or episodes()
    network = NetworkConfig(hidden=[32], dropout=0.0)
    defaults = {"steps": 60, "batch_size": 16, "lr": 1e-2, "validate_every": 10}
    config = ImitationConfig(network=network, **{**defaults, **settings})
    torch.manual_seed(seed)
    normalizers = {"state": Normalize.identity(2)}
    device = torch.device("cpu")
    return stage._trained("bc", config, demos, normalizers, Countdown(3), device)


def weights(network):
    return torch.cat([value.flatten() for value in network.state_dict().values()])


def step_counts(monkeypatch):
    """Steps at which weights are validated, and their losses."""
    found = []
    original = selection.LowestValidationLoss.evaluate

    def evaluate(self, step):
        stop = original(self, step)
        found.append((step, self._loss()))
        return stop

    monkeypatch.setattr(selection.LowestValidationLoss, "evaluate", evaluate)
    return found


@pytest.mark.parametrize(
    "settings",
    [{}, {"validation_fraction": 0.25, "patience": 2}, {"ema": 0.9}, {"policy": "flow"}],
)
def test_a_seed_gives_one_network(settings):
    settings = {"policy": "mlp", **settings}
    first, second = trained(**settings), trained(**settings)
    assert torch.equal(weights(first), weights(second)) and not first.training
    assert not torch.equal(weights(first), weights(trained(seed=1, **settings)))


def test_validation_selects_the_weights_of_the_lowest_loss(monkeypatch, capsys):
    found = step_counts(monkeypatch)
    network = trained(validation_fraction=0.25, steps=115)
    assert [step for step, _ in found] == [*range(10, 111, 10), 115]
    best = min(found, key=lambda item: item[1])
    line = f"bc step {best[0]:>7}  selected, validation loss {best[1]:.3g}\n"
    assert capsys.readouterr().out.endswith(line) and best[0] < 115
    # The weights are those after that many steps of the same training.
    again = trained(validation_fraction=0.25, steps=best[0])
    assert torch.equal(weights(network), weights(again))


def test_training_ends_when_the_validation_loss_no_longer_improves(monkeypatch):
    found = step_counts(monkeypatch)
    trained(validation_fraction=0.25, steps=3000, patience=3)
    losses = [loss for _, loss in found]
    assert found[-1][0] < 3000 and min(losses[-3:]) >= min(losses[:-3])
    assert len(losses) - 1 - losses.index(min(losses)) == 3


def test_held_out_episodes_are_not_trained_on():
    demos = episodes(2)
    for state in ("state", "action"):
        demos[0][state][:] = float("nan")
    # Whichever of both is held out, one loss is not finite.
    with pytest.raises(
        UsageError, match=r"^imitation\.bc\.lr=0\.01: the (validation|imitation) loss became nan"
    ):
        trained(demos, validation_fraction=0.5)


def test_averaged_weights_are_those_of_the_steps(monkeypatch):
    plain, averaged = trained(), trained(ema=0.5)
    assert not torch.equal(weights(plain), weights(averaged))
    steps = []
    original = stage.train_imitation

    def recording(network, *arguments, on_step, **settings):
        def record(step, loss):
            steps.append(weights(network).clone())
            return on_step(step, loss)

        original(network, *arguments, on_step=record, **settings)

    monkeypatch.setattr(stage, "train_imitation", recording)
    averaged = trained(ema=0.5)
    expected = steps[0]
    for number, step in enumerate(steps[1:], 1):
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * step
    assert torch.allclose(weights(averaged), expected, atol=1e-6)
    assert torch.equal(steps[-1], weights(plain))


def test_averaged_weights_are_the_ones_validated_and_selected(monkeypatch):
    found = step_counts(monkeypatch)
    trained(validation_fraction=0.25)
    plain = dict(found)
    found.clear()
    network = trained(validation_fraction=0.25, ema=0.9)
    best, loss = min(found, key=lambda item: item[1])
    assert loss != plain[best]
    again = trained(validation_fraction=0.25, ema=0.9, steps=best)
    assert torch.equal(weights(network), weights(again))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["imitation.bc.validation_fraction=0.1"],
            r"^imitation\.bc\.validation_fraction=0\.1 must be 0, or hold out at least one of "
            r"demos\.episodes=3 and leave one to train on$",
        ),
        (
            ["imitation.bc.validation_fraction=0.5", "demos.episodes=1"],
            r"^imitation\.bc\.validation_fraction=0\.5 must be 0, or hold out at least one of "
            r"demos\.episodes=1 ",
        ),
        (
            ["imitation.bc.patience=3"],
            r"^imitation\.bc\.patience=3 must be null unless imitation\.bc\.validation_fraction ",
        ),
        (
            ["imitation.bc.validation_fraction=0.34", "imitation.bc.eval_every=100"],
            r"^imitation\.bc\.eval_every=100 must be null, for with "
            r"imitation\.bc\.validation_fraction=0\.34 the validation loss selects the weights$",
        ),
        (["imitation.bc.ema=1"], r"^imitation\.bc\.ema=1\.0 must be above 0 and below 1$"),
        (
            ["imitation.bc.validation_fraction=1"],
            r"^imitation\.bc\.validation_fraction=1\.0 must be ",
        ),
    ],
)
def test_settings_that_exclude_each_other_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        parse(TrainConfig, composed("train", settings))
    path = ["imitation.bc.path=bc.pt", "imitation.bc.validation_fraction=0.1"]
    parse(TrainConfig, composed("train", path))  # nothing is trained
