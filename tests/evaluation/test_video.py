"""Films: what frames say, and the files read back."""

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from support.parts import Constant, networks
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.envs.utils import ExplorationType, set_exploration_type

pytest.importorskip("metaworld")

from ibrl_torchrl.data.demos import record_demos, save_demos
from ibrl_torchrl.data.demos.playback import open_playback
from ibrl_torchrl.envs import make_env
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.evaluation.evaluate import evaluate
from ibrl_torchrl.evaluation.video import scenes as filming
from ibrl_torchrl.evaluation.video.overlay import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    TRACK,
    Caption,
    ValueBar,
    annotate,
    format_value,
)
from ibrl_torchrl.evaluation.video.scenes import ENDING, demo_frames, policy_frames
from ibrl_torchrl.evaluation.video.writer import save_video, video_path
from ibrl_torchrl.experts import scripted_expert
from ibrl_torchrl.modules import CriticEnsemble, ExecuteProposal, FrozenPolicy, IBRLSelector

SIZE = 160  # bars and their names need that much
STEPS = 4


class Alternating(torch.nn.Module):
    """Critics 0.5 + a / 4, then 0.5 - a / 4, and so on from call to call; the second is higher."""

    num_critics = 2

    def __init__(self):
        super().__init__()
        self.sign = -1.0

    def forward(self, state, action, members=None):
        self.sign = -self.sign
        value = 0.5 + self.sign * action[..., :1] / 4
        return torch.cat([value, value + 1], -1)


class Always(Constant):
    def forward(self, state):
        return self.value.expand(*state.shape[:-1], 4)


def acting(key, value):
    return TensorDictModule(Always(value), ["state"], [key])


@pytest.fixture
def env():
    return make_env("metaworld", "box-close", horizon=STEPS)


@pytest.fixture
def captions(monkeypatch):
    """All captions that are drawn."""
    drawn = []

    def watched(picture, caption):
        drawn.append(caption)
        return annotate(picture, caption)

    monkeypatch.setattr(filming, "mark", watched)
    return drawn


def near(pixel, colour, tolerance=24):
    return np.abs(np.asarray(pixel, dtype=int) - colour).max() <= tolerance


def test_the_film_shows_who_acts_and_by_which_values(env, captions, tmp_path):
    selector = IBRLSelector(CriticEnsemble(Alternating(), ["state", "action"]))
    policy = TensorDictSequential(
        acting("rl_action", 1.0), FrozenPolicy(acting("bc_action", -1.0)), selector
    )
    path = tmp_path / "film.mp4"
    save_video(path, policy_frames(env, policy, [7, 8], SIZE))
    # The first values are 0.5 + 1 / 4 and 0.5 - 1 / 4, the next ones the other way round.
    episode = [captions[i : i + STEPS + 1] for i in (0, STEPS + 1)]
    for seed, frames in zip((7, 8), episode, strict=True):
        assert [caption.title for caption in frames] == [f"seed {seed}"] * (STEPS + 1)
        assert [caption.frame for caption in frames] == [*range(STEPS + 1)]
        assert [[bar.value for bar in caption.bars] for caption in frames] == [
            *([0.75, 0.25], [0.25, 0.75]) * (STEPS // 2),
            [None, None],
        ]
        assert {tuple(bar.bright for bar in c.bars) for c in frames[:-1:2]} == {(True, False)}
        assert {tuple(bar.bright for bar in c.bars) for c in frames[1:-1:2]} == {(False, True)}
    assert captions[0].label == "RL actor acts" and captions[1].label == "imitation acts"
    assert captions[STEPS].label == "no success"

    film = iio.imread(path, plugin="pyav")
    per_episode = [BLUE, ORANGE] * (STEPS // 2) + [GREY] * ENDING
    assert film.shape[0] == 2 * len(per_episode)
    assert film.shape[2:] == (SIZE, 3) and film.shape[1] > SIZE and film.shape[1] % 2 == 0
    for frame, colour in zip(film, per_episode * 2, strict=True):
        assert near(frame[:SIZE, :2].reshape(-1, 3).mean(0), colour)
    assert film[:, 20 : SIZE - 20, 20 : SIZE - 20].std() > 20  # and there is a picture within
    meta = iio.immeta(path, plugin="pyav")
    assert (meta["codec"], meta["video_format"], meta["fps"]) == ("h264", "yuv420p", 10)
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_the_film_is_the_evaluation_and_its_values_are_the_critics(env, captions):
    torch.manual_seed(1)
    actor, critic, bc = networks(state_size=39, action_size=4)
    policy = TensorDictSequential(actor, bc, IBRLSelector(critic, mode="soft", num_min=1)).eval()
    played = []

    def keep(step):
        with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
            values = [
                critic(step.clone().set("action", step[key]))["state_action_value"].min().item()
                for key in ("rl_action", "bc_action")
            ]
        played.append(values)
        return step

    (outcome,) = evaluate(env, TensorDictSequential(policy, keep), [5]).episodes
    [*_] = policy_frames(env, policy, [5], SIZE)
    shown = [[bar.value for bar in caption.bars] for caption in captions[:-1]]
    assert np.allclose(shown, played, atol=1e-6) and np.isfinite(shown).all()
    assert len(shown) == outcome.frames
    chosen = [caption.label for caption in captions[:-1]]
    best = [["RL actor acts", "imitation acts"][int(values[1] > values[0])] for values in played]
    assert chosen == best


def test_a_policy_that_asks_no_critics_has_empty_bars(env, captions):
    policy = TensorDictSequential(acting("bc_action", 0.1), ExecuteProposal("bc_action", 1))
    frames = [*policy_frames(env, policy, [0], SIZE)]
    assert len(frames) == STEPS + ENDING and len({frame.size for frame in frames}) == 1
    assert {bar.value for caption in captions for bar in caption.bars} == {None}
    assert captions[0].colour == ORANGE


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_demonstrations_are_replayed(captions, tmp_path, suffix):
    env = make_env("metaworld", "handle-press")
    episodes = [*record_demos(env, scripted_expert("metaworld", "handle-press"), 1)]
    demos, path = tmp_path / "demos.hdf5", tmp_path / f"demos{suffix}"
    save_demos(demos, episodes, env.env_args)
    frames = [*demo_frames(open_playback(demos), SIZE)]
    save_video(path, frames)
    length = len(episodes[0])
    assert [caption.frame for caption in captions] == [*range(length + 1)]
    assert {caption.label for caption in captions[:-1]} == {"reward 0"}
    assert (captions[-1].label, captions[-1].colour) == ("reward 1", GREEN)
    if suffix == ".mp4":
        assert len(iio.imread(path, plugin="pyav")) == length + ENDING
        return
    with Image.open(path) as film:
        shown = [(f.convert("RGB"), f.info["duration"]) for f in ImageSequence.Iterator(film)]
        assert film.info["loop"] == 0 and film.size == frames[0].size
    assert sum(duration for _, duration in shown) == 100 * (length + ENDING)
    assert shown[-1][0].getpixel((SIZE // 2, 0)) == GREEN  # exactly: it is in the palette
    difference = np.asarray(shown[0][0], dtype=int) - np.asarray(frames[0], dtype=int)
    assert np.abs(difference).mean() < 6


@pytest.mark.parametrize(("value", "share"), [(-3.0, 0), (0.0, 0), (0.5, 0.5), (1.0, 1), (9.0, 1)])
def test_bars_are_as_long_as_their_value(value, share):
    black = np.zeros((384, 384, 3), np.uint8)
    bars = (ValueBar("Q", BLUE, value, bright=True), ValueBar("Q", ORANGE))
    image = np.asarray(annotate(black, Caption("seed 1", 2, "RL actor acts", BLUE, bars)))
    assert near(image[100, 0], BLUE, 0) and near(image[100, 12], (0, 0, 0), 0)
    lines = (image.shape[0] - 384 - 4) // 3
    filled, empty = (image[384 + 2 + lines * row + lines // 2] for row in (1, 2))
    blue, track = ((filled == colour).all(-1).sum() for colour in (BLUE, TRACK))
    assert blue / (blue + track) == pytest.approx(share, abs=0.01)
    assert not (empty == ORANGE).all(-1).any() and (empty == TRACK).all(-1).any()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (-0.5, "-0.500"), (12.3456, "12.346"), (-12.3456, "-12"), (1e6, "1e+06")],
)
def test_numbers_fit_their_place(value, text):
    assert format_value(value) == text


def test_the_setting_names_a_file_that_can_be_made(tmp_path):
    default = tmp_path / "video.mp4"
    assert video_path(True, default) == default
    assert video_path(None, default) is None and video_path(False, default) is None
    assert video_path(str(tmp_path / "a.gif"), default) == tmp_path / "a.gif"
    with pytest.raises(UsageError, match=r"video=a\.avi: must end in \.mp4 or \.gif"):
        video_path("a.avi", default)
    with pytest.raises(UsageError, match=r"missing/a\.mp4: there is no such folder"):
        video_path("missing/a.mp4", default)


def test_an_interrupted_film_leaves_nothing(tmp_path):
    def frames():
        yield Image.new("RGB", (32, 32))
        raise KeyboardInterrupt

    for name in ("film.mp4", "film.gif"):
        with pytest.raises(KeyboardInterrupt):
            save_video(tmp_path / name, frames())
    assert not [*tmp_path.iterdir()]
