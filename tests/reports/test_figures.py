"""Figures: what is drawn, and files."""

import re
import warnings

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from support.synthetic_runs import write_run

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.reports import figures
from ibrl_torchrl.reports.charts import comparison_charts
from ibrl_torchrl.reports.comparison import compare
from ibrl_torchrl.reports.drawing import draw
from ibrl_torchrl.reports.embedding import embed
from ibrl_torchrl.reports.heat_maps import improvement_maps
from ibrl_torchrl.reports.style import FigureStyle
from ibrl_torchrl.reports.tables import improvement_table
from ibrl_torchrl.runs.reader import find_runs, read_run


def lines(axes):
    """Points of the labelled lines by label."""
    return {
        line.get_label(): [*zip(*line.get_data(), strict=True)]
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }


@pytest.fixture
def drawings(tmp_path):
    """Draw the charts and a heat map of two methods."""

    def contents(first="ibrl", second="rlpd"):
        write_run(tmp_path / "runs/a", first)
        write_run(tmp_path / "runs/b", second, curve=(0.5,))
        (comparison,) = compare(find_runs([tmp_path / "runs"]))
        heat_maps = improvement_maps(improvement_table(comparison))
        return {content.name: content for content in (*comparison_charts(comparison), *heat_maps)}

    return contents


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


def test_a_method_that_looks_like_a_formula_does_not_stop_the_run_figure(tmp_path):
    run = read_run(write_run(tmp_path / "a", r"$\frac{$", imitation=(r"$\x$",)))
    figures.save_png(figures.run_figure(run), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_chart_draws_lines_bands_and_references(drawings):
    figure = draw(drawings()["curves"], FigureStyle())
    (axes,) = figure.axes
    drawn = lines(axes)
    assert drawn["ibrl"] == [(1000, 0.0), (2000, 0.5), (3000, 1.0)]
    assert {*drawn} == {"ibrl", "rlpd", "bc (mean of runs)"}
    markers = {line.get_label(): line.get_marker() for line in axes.get_lines()}
    assert markers == {"ibrl": "o", "rlpd": "s", "bc (mean of runs)": "None"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "bc (mean of runs)",
        "ibrl",
        "rlpd",
    ]


def test_a_line_of_many_points_has_few_markers(tmp_path):
    for method in ("ibrl", "rlpd"):
        write_run(tmp_path / method, method, curve=(0.5,) * 30, total_frames=30_000)
    (comparison,) = compare(find_runs([tmp_path]))
    (axes,) = draw(comparison_charts(comparison)[0], FigureStyle()).axes
    drawn = [line for line in axes.get_lines() if line.get_label() in ("ibrl", "rlpd")]
    # 30 points: every third; the lines coincide, their markers do not.
    assert [line.get_markevery() for line in drawn] == [(0, 3), (1, 3)]


def test_heat_map_has_a_number_for_each_pair(drawings):
    (axes,) = draw(drawings()["improvement"], FigureStyle()).axes
    assert [text.get_text() for text in axes.texts] == ["50", "50"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ibrl  1", "rlpd  2"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (r"$\frac{$", r"$\frac{$"),
        ("_hidden", "_hidden"),
        ("x" * 300, 20 * "x"),
        ("&<b>", "&amp;&lt;b&gt;"),
        ("µ 漢", "µ 漢"),
    ],
)
def test_names_are_drawn_as_they_are(drawings, tmp_path, name, shown):
    contents = drawings(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("error")
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        for content in contents.values():
            embed(content, "s1")
            for file_format in ("svg", "pdf", "png"):
                file = tmp_path / f"{content.name}.{file_format}"
                figures.save_figure(draw(content, FigureStyle()), file, file_format)
    assert shown in (tmp_path / "curves.svg").read_text()
    assert shown in (tmp_path / "improvement.svg").read_text()


def test_figure_files_have_the_size_and_font_of_the_settings(drawings, tmp_path):
    style = FigureStyle(width=3.25, height=2, font="serif", font_size=7)
    figure = draw(drawings()["curves"], style)
    for file_format in ("svg", "pdf"):
        figures.save_figure(figure, tmp_path / f"a.{file_format}", file_format)
    svg = (tmp_path / "a.svg").read_text()
    assert 'width="234pt" height="144pt"' in svg and "7px; font-family: 'DejaVu Serif'" in svg
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"/MediaBox [ 0 0 234 144 ]" in pdf
    assert b"/Type3" not in pdf and b"DejaVuSerif" in pdf


def test_font_that_is_not_installed_is_refused():
    with pytest.raises(UsageError, match=r"figures\.font=No Such Font is not a font"):
        FigureStyle(font="No Such Font")


@pytest.mark.parametrize("file_format", ["svg", "pdf", "png"])
def test_figure_files_are_deterministic(drawings, tmp_path, file_format):
    content = drawings()["curves"]
    for name in ("a", "b"):
        figures.save_figure(draw(content, FigureStyle()), tmp_path / name, file_format)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_embedded_figure_has_unique_identifiers_and_methods(drawings):
    contents = drawings()
    first, second = (embed(contents["curves"], prefix)["svg"] for prefix in ("s1", "s2"))
    assert first.startswith("<svg") and first.count("data-method=") == 4  # two lines, two bands
    ids = [{*re.findall(r'\bid="([^"]*)"', svg)} for svg in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    used = {*re.findall(r'(?:url\(|href=")#([^")]*)', first)}
    assert used and used <= ids[0]
    assert "<image" not in embed(contents["improvement"], "s1")["svg"]


def test_save_png_replaces_the_file(tmp_path):
    figure = figures.run_figure(read_run(write_run(tmp_path / "a")))
    (tmp_path / "curve.png").write_text("old")
    figures.save_png(figure, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["curve.png"]
    with pytest.raises(UsageError, match=r"missing/curve\.png: "):
        figures.save_png(figure, tmp_path / "missing/curve.png")
