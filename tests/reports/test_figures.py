"""Figures: which lines they have, and files."""

import html

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from support.synthetic_runs import write_diagnosis, write_run

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.reports import figures
from ibrl_torchrl.reports.comparison import compare
from ibrl_torchrl.reports.diagnosis_tables import read_diagnoses
from ibrl_torchrl.runs.reader import find_runs, read_run


def lines(axes):
    """Points of the labelled lines by label."""
    return {
        line.get_label(): [*zip(*line.get_data(), strict=True)]
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }


def test_run_figure_draws_every_evaluation_at_its_frame(tmp_path):
    path = write_run(tmp_path / "a", curve=(0.0, 0.2, 0.4), eval_every=500, final=None)
    figure = figures.run_figure(read_run(path))
    (axes,) = figure.axes
    assert lines(axes) == {
        "hybrid": [(507, 0.0), (1007, 0.2), (1507, 0.4)],
        "RL actor": [(507, 0.0), (1007, 0.1), (1507, 0.2)],
        "bc": [(0, 0.1)],
    }
    assert all(line.get_marker() == "o" for line in axes.get_lines())  # a single point is visible
    assert axes.get_title() == "metaworld/box-close: ibrl, seed 1"


def test_run_figure_shows_the_intervals_of_eval_csv(tmp_path):
    path = write_run(tmp_path / "a", curve=(0.0, 0.5), final=None)
    table = path / "eval.csv"
    table.write_text(table.read_text().replace("20,0.5,0,1,", "20,0.5,0.3,0.7,"))
    (axes,) = figures.run_figure(read_run(path)).axes
    band = axes.collections[0].get_paths()[0].vertices  # of the hybrid
    assert {(2007, 0.3), (2007, 0.7), (1007, 0), (1007, 1)} <= {(x, y) for x, y in band}


def test_lines_of_one_run_that_coincide_stay_visible(tmp_path):
    path = write_run(tmp_path / "a", curve=(0.4, 0.4, 0.4), final=None, imitation=("bc", "act"))
    table = path / "eval.csv"
    rows = table.read_text().replace("rl,20,0.2,", "rl,20,0.4,").replace(",10,0.1,", ",10,0.4,")
    last = [row.replace("0,1.0,", "3007,9.0,", 1) for row in rows.splitlines() if ",10," in row]
    table.write_text("\n".join([*rows.splitlines(), *last]) + "\n")
    figure = figures.run_figure(read_run(path))
    drawn = figure.axes[0].get_lines()
    assert len(drawn) == 4 and len({tuple(line.get_ydata()) for line in drawn[:2]}) == 1
    for band in figure.axes[0].collections:
        band.remove()
    figure.legends.clear()
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].reshape(-1, 3)
    for line in drawn:
        colour = np.array([round(255 * part) for part in to_rgb(line.get_color())])
        count = int((np.abs(pixels.astype(int) - colour).max(-1) < 24).sum())
        assert count > 100, line.get_label()


def test_run_figure_without_evaluations_is_empty(tmp_path):
    path = write_run(tmp_path / "a", curve=(), imitation=(), final=None)
    assert lines(figures.run_figure(read_run(path)).axes[0]) == {}


def test_learning_curves_have_a_line_for_each_method_and_imitation_policy(tmp_path):
    write_run(tmp_path / "a", "ibrl", imitation=("bc", "act"))
    write_run(tmp_path / "b", "rlpd", imitation=("bc",), curve=(0.5,), total_frames=3000)
    (comparison,) = compare(find_runs([tmp_path]))
    figure = figures.learning_curves(comparison)
    assert {*lines(figure.axes[0])} == {"ibrl", "rlpd", "bc (mean of runs)", "act (mean of runs)"}
    rlpd = next(line for line in figure.axes[0].get_lines() if line.get_label() == "rlpd")
    assert rlpd.get_marker() == "o"  # one point


def test_imitation_share_has_a_line_for_each_imitation_policy(tmp_path):
    write_run(tmp_path / "a", "ibrl", imitation=("bc", "act"))
    write_run(tmp_path / "b", "ibrl_soft", imitation=("bc",))
    write_run(tmp_path / "c", "rlpd")
    (comparison,) = compare(find_runs([tmp_path]))
    drawn = lines(figures.imitation_share(comparison).axes[0])
    assert {*drawn} == {"ibrl: bc", "ibrl: act", "ibrl_soft"}
    assert drawn["ibrl: act"] == [(1000, 0.2), (2000, 0.2), (3000, 0.2)]
    drawn = lines(figures.hybrid_and_rl(comparison).axes[0])
    policies = ("hybrid", "RL actor")
    assert {*drawn} == {f"{m}: {policy}" for m in ("ibrl", "ibrl_soft") for policy in policies}


def test_methods_without_acting_imitation_policies_have_no_share_figure(tmp_path):
    write_run(tmp_path / "a", "rlpd")
    (comparison,) = compare(find_runs([tmp_path]))
    assert figures.imitation_share(comparison) is None
    assert figures.hybrid_and_rl(comparison) is None


def test_diagnosis_figure_has_a_line_for_each_run(tmp_path):
    write_diagnosis(write_run(tmp_path / "a"))
    write_diagnosis(write_run(tmp_path / "b", seed=2))
    (comparison,) = compare(find_runs([tmp_path]))
    share, advantage = figures.diagnosis_figure(read_diagnoses(comparison)).axes
    assert {*lines(share)} == {*lines(advantage)} == {"ibrl, seed 1", "ibrl, seed 2"}


def test_save_png_replaces_the_file(tmp_path):
    figure = figures.run_figure(read_run(write_run(tmp_path / "a")))
    (tmp_path / "curve.png").write_text("old")
    figures.save_png(figure, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["curve.png"]
    with pytest.raises(UsageError, match=r"missing/curve\.png: "):
        figures.save_png(figure, tmp_path / "missing/curve.png")


def test_svg_is_deterministic(tmp_path):
    run = read_run(write_run(tmp_path / "a"))
    first, second = (figures.to_svg(figures.run_figure(run)) for _ in range(2))
    assert first == second and first.startswith("<svg")


@pytest.mark.parametrize("method", [r"$\frac{$", "$x$", r"\$a$b", "_hidden", "a" * 1000])
def test_names_of_methods_are_drawn_as_they_are(tmp_path, method):
    write_run(tmp_path / "a", method)
    (comparison,) = compare(find_runs([tmp_path]))
    svg = figures.to_svg(figures.learning_curves(comparison))
    assert html.escape(method, quote=False) in svg
    figures.save_png(figures.run_figure(read_run(tmp_path / "a")), tmp_path / "a.png")
