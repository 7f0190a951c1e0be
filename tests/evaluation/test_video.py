"""Videos: captions of the frames, and the files read back."""

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from support.parts import Constant, networks
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.data.demos import record_demos, save_demos
from ibrl_torchrl.data.demos.playback import open_playback
from ibrl_torchrl.envs import make_env
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.evaluation.evaluate import evaluate
from ibrl_torchrl.evaluation.video import scenes
from ibrl_torchrl.evaluation.video.overlay import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PROPOSAL_COLOURS,
    TRACK,
    Caption,
    ValueBar,
    annotate,
    format_value,
    proposal_colour,
)
from ibrl_torchrl.evaluation.video.scenes import (
    FINAL_FRAMES,
    demo_frames,
    policy_frames,
    require_camera,
)
from ibrl_torchrl.evaluation.video.writer import save_video, video_path
from ibrl_torchrl.experts import scripted_expert
from ibrl_torchrl.modules import CriticEnsemble, ExecuteProposal, FrozenPolicy, IBRLSelector

SIZE = 160  # the smallest size at which bars fit
PROPOSALS = ("rl", "bc")
STEPS = 4


class AlternatingCritics(torch.nn.Module):
    """Two critics whose minimum is 0.5 + a / 4 and 0.5 - a / 4 in turn, from call to call."""

    num_critics = 2

    def __init__(self):
        super().__init__()
        self.sign = -1.0

    def forward(self, state, action, members=None):
        self.sign = -self.sign
        value = 0.5 + self.sign * action[..., :1] / 4
        return torch.cat([value, value + 1], -1)


class ConstantAction(Constant):
    def forward(self, state):
        return self.value.expand(*state.shape[:-1], 4)


def constant_policy(key, value):
    return TensorDictModule(ConstantAction(value), ["state"], [key])


@pytest.fixture
def env():
    pytest.importorskip("metaworld")
    return make_env("metaworld", "box-close", horizon=STEPS)


@pytest.fixture
def captions(monkeypatch):
    """All captions that are drawn."""
    drawn = []

    def record(rendered, caption):
        drawn.append(caption)
        return annotate(rendered, caption)

    monkeypatch.setattr(scenes, "annotate", record)
    return drawn


def is_near(pixel, colour, tolerance=24):
    return np.abs(np.asarray(pixel, dtype=int) - colour).max() <= tolerance


@pytest.mark.simulator
def test_policy_frames_show_executed_proposal_and_values(env, captions, tmp_path):
    selector = IBRLSelector(CriticEnsemble(AlternatingCritics(), ["state", "action"]))
    policy = TensorDictSequential(
        constant_policy("rl_action", 1.0),
        FrozenPolicy(constant_policy("bc_action", -1.0)),
        selector,
    )
    path = tmp_path / "video.mp4"
    save_video(path, policy_frames(env, policy, [7, 8], SIZE, PROPOSALS))
    # The first values are 0.5 + 1 / 4 and 0.5 - 1 / 4, the next ones are swapped.
    episodes = [captions[i : i + STEPS + 1] for i in (0, STEPS + 1)]
    for seed, frames in zip((7, 8), episodes, strict=True):
        assert [caption.title for caption in frames] == [f"seed {seed}"] * (STEPS + 1)
        assert [caption.frame for caption in frames] == [*range(STEPS + 1)]
        assert [[bar.value for bar in caption.bars] for caption in frames] == [
            *([0.75, 0.25], [0.25, 0.75]) * (STEPS // 2),
            [None, None],
        ]
        assert {tuple(bar.bright for bar in c.bars) for c in frames[:-1:2]} == {(True, False)}
        assert {tuple(bar.bright for bar in c.bars) for c in frames[1:-1:2]} == {(False, True)}
    assert captions[0].label == "proposal: rl" and captions[1].label == "proposal: bc"
    assert [bar.name for bar in captions[0].bars] == ["Q(rl)", "Q(bc)"]
    assert captions[STEPS].label == "no success"

    video = iio.imread(path, plugin="pyav")
    per_episode = [BLUE, ORANGE] * (STEPS // 2) + [GREY] * FINAL_FRAMES
    assert video.shape[0] == 2 * len(per_episode)
    assert video.shape[2:] == (SIZE, 3) and video.shape[1] > SIZE and video.shape[1] % 2 == 0
    for frame, colour in zip(video, per_episode * 2, strict=True):
        assert is_near(frame[:SIZE, :2].reshape(-1, 3).mean(0), colour)
    assert video[:, 20 : SIZE - 20, 20 : SIZE - 20].std() > 20  # the scene inside the border
    meta = iio.immeta(path, plugin="pyav")
    assert (meta["codec"], meta["video_format"], meta["fps"]) == ("h264", "yuv420p", 10)
    assert [file.name for file in tmp_path.iterdir()] == ["video.mp4"]


@pytest.mark.simulator
def test_policy_frames_equal_the_evaluation_and_the_critics_values(env, captions):
    torch.manual_seed(1)
    actor, critic, bc = networks(state_size=39, action_size=4)
    policy = TensorDictSequential(actor, bc, IBRLSelector(critic, mode="soft", num_min=1)).eval()
    expected = []

    def record_values(step):
        with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
            values = [
                critic(step.clone().set("action", step[key]))["state_action_value"].min().item()
                for key in ("rl_action", "bc_action")
            ]
        expected.append(values)
        return step

    (outcome,) = evaluate(env, TensorDictSequential(policy, record_values), [5]).episodes
    [*_] = policy_frames(env, policy, [5], SIZE, PROPOSALS)
    shown = [[bar.value for bar in caption.bars] for caption in captions[:-1]]
    assert np.allclose(shown, expected, atol=1e-6) and np.isfinite(shown).all()
    assert len(shown) == outcome.frames
    best = [f"proposal: {PROPOSALS[int(bc > rl)]}" for rl, bc in expected]
    assert [caption.label for caption in captions[:-1]] == best


@pytest.mark.simulator
def test_policy_frames_without_critics_have_empty_bars(env, captions):
    policy = TensorDictSequential(
        constant_policy("bc_action", 0.1), ExecuteProposal("bc_action", 1)
    )
    frames = [*policy_frames(env, policy, [0], SIZE, PROPOSALS)]
    assert len(frames) == STEPS + FINAL_FRAMES and len({frame.size for frame in frames}) == 1
    assert {bar.value for caption in captions for bar in caption.bars} == {None}
    assert captions[0].colour == ORANGE


@pytest.mark.simulator
def test_policy_frames_name_every_proposal(env, captions):
    names = ("rl", "bc", "diffusion")
    keys = [f"{name}_action" for name in names]
    policy = TensorDictSequential(
        *(constant_policy(key, value) for key, value in zip(keys, (-1.0, 0.0, 1.0), strict=True)),
        IBRLSelector(CriticEnsemble(AlternatingCritics(), ["state", "action"]), keys),
    )
    [*_] = policy_frames(env, policy, [0], SIZE, names)
    assert [caption.label for caption in captions[:2]] == ["proposal: diffusion", "proposal: rl"]
    for caption in captions:
        assert [bar.name for bar in caption.bars] == ["Q(rl)", "Q(bc)", "Q(diffusion)"]
        assert tuple(bar.colour for bar in caption.bars) == PROPOSAL_COLOURS[:3]


def test_proposal_colours_are_distinct_and_repeat():
    distinct = {proposal_colour(index) for index in range(6)}
    assert len(distinct | {GREEN, GREY}) == 8
    assert proposal_colour(6) == proposal_colour(0)


@pytest.mark.simulator
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_demo_frames_show_states_and_rewards(captions, tmp_path, suffix):
    pytest.importorskip("metaworld")
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
        assert len(iio.imread(path, plugin="pyav")) == length + FINAL_FRAMES
        return
    with Image.open(path) as gif:
        shown = [(f.convert("RGB"), f.info["duration"]) for f in ImageSequence.Iterator(gif)]
        assert gif.info["loop"] == 0 and gif.size == frames[0].size
    assert sum(duration for _, duration in shown) == 100 * (length + FINAL_FRAMES)
    assert shown[-1][0].getpixel((SIZE // 2, 0)) == GREEN  # exactly: it is in the palette
    difference = np.asarray(shown[0][0], dtype=int) - np.asarray(frames[0], dtype=int)
    assert np.abs(difference).mean() < 6


@pytest.mark.simulator
def test_robosuite_videos_show_the_whole_scene_or_another_camera(lift_demos):
    """Of agentview, the default of robosuite's observations, the arm is missing."""
    playback = open_playback(lift_demos, episodes=1, cameras=[])
    playback.env.reset()
    images = {name: playback.env.render(name, 64) for name in (None, "frontview", "agentview")}
    assert np.array_equal(images[None], images["frontview"])
    assert not np.array_equal(images[None], images["agentview"])
    (default, side) = (
        next(demo_frames(open_playback(lift_demos, episodes=1, cameras=[]), 64, camera))
        for camera in (None, "sideview")
    )
    assert not np.array_equal(np.asarray(default), np.asarray(side))
    with pytest.raises(UsageError, match="unknown camera 'nosuch'"):
        require_camera(playback.env, "nosuch", 64)


@pytest.mark.parametrize(("value", "share"), [(-3.0, 0), (0.0, 0), (0.5, 0.5), (1.0, 1), (9.0, 1)])
def test_annotate_draws_bars_as_long_as_their_value(value, share):
    black = np.zeros((384, 384, 3), np.uint8)
    bars = (ValueBar("Q", BLUE, value, bright=True), ValueBar("Q", ORANGE))
    image = np.asarray(annotate(black, Caption("seed 1", 2, "proposal: rl", BLUE, bars)))
    assert is_near(image[100, 0], BLUE, 0) and is_near(image[100, 12], (0, 0, 0), 0)
    lines = (image.shape[0] - 384 - 4) // 3
    filled, empty = (image[384 + 2 + lines * row + lines // 2] for row in (1, 2))
    blue, track = ((filled == colour).all(-1).sum() for colour in (BLUE, TRACK))
    assert blue / (blue + track) == pytest.approx(share, abs=0.01)
    assert not (empty == ORANGE).all(-1).any() and (empty == TRACK).all(-1).any()


def test_annotate_shortens_long_names():
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    bars = (ValueBar("Q(" + "diffusion_" * 20 + ")", BLUE, 1.0),)
    image = np.asarray(annotate(black, Caption("seed 1", 2, "proposal: rl", BLUE, bars)))
    row = image[-1 - (image.shape[0] - SIZE - 4) // 4]  # through the middle of the bar
    assert (row == BLUE).all(-1).sum() > 10


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (-0.5, "-0.500"), (12.3456, "12.346"), (-12.3456, "-12"), (1e6, "1e+06")],
)
def test_format_value_fits_six_characters(value, text):
    assert format_value(value) == text


def test_video_path_of_the_setting(tmp_path):
    default = tmp_path / "video.mp4"
    assert video_path(True, default) == default
    assert video_path(None, default) is None and video_path(False, default) is None
    assert video_path(str(tmp_path / "a.gif"), default) == tmp_path / "a.gif"
    with pytest.raises(UsageError, match=r"video=a\.avi: must end in \.mp4 or \.gif"):
        video_path("a.avi", default)
    with pytest.raises(UsageError, match=r"missing/a\.mp4: there is no such folder"):
        video_path("missing/a.mp4", default)


def test_save_video_leaves_no_file_when_interrupted(tmp_path):
    def frames():
        yield Image.new("RGB", (32, 32))
        raise KeyboardInterrupt

    for name in ("video.mp4", "video.gif"):
        with pytest.raises(KeyboardInterrupt):
            save_video(tmp_path / name, frames())
    assert not [*tmp_path.iterdir()]
