"""Charts: which lines, dashes and colours they have."""

import numpy as np
import pytest
from support.synthetic_runs import write_diagnosis, write_run

from ibrl_torchrl.reports.charts import comparison_charts
from ibrl_torchrl.reports.comparison import compare
from ibrl_torchrl.reports.diagnosis_charts import diagnosis_charts
from ibrl_torchrl.reports.diagnosis_tables import read_diagnoses
from ibrl_torchrl.reports.heat_maps import improvement_maps
from ibrl_torchrl.reports.palette import DASHED, METHODS, SOLID, method_style
from ibrl_torchrl.reports.tables import improvement_table
from ibrl_torchrl.runs.reader import find_runs


@pytest.fixture
def comparison_of(tmp_path):
    def compare_folder():
        (comparison,) = compare(find_runs([tmp_path]))
        return comparison

    return compare_folder


def charts_of(comparison):
    return {chart.name: chart for chart in comparison_charts(comparison)}


def values(chart):
    """Points of the lines by label."""
    return {
        line.label: [
            (x, pytest.approx(e.value))
            for x, e in zip(line.curve.x, line.curve.estimates, strict=True)
        ]
        for line in chart.lines
    }


def test_learning_curves_have_a_line_for_each_method_and_imitation_policy(tmp_path, comparison_of):
    write_run(tmp_path / "a", "ibrl", imitation=("bc", "act"))
    write_run(tmp_path / "b", "rlpd", imitation=("bc",), curve=(0.5,), total_frames=3000)
    chart = charts_of(comparison_of())["curves"]
    assert values(chart) == {
        "ibrl": [(1000, 0.0), (2000, 0.5), (3000, 1.0)],
        "rlpd": [(1000, 0.5)],
    }
    assert [r.label for r in chart.references] == ["bc (mean of runs)", "act (mean of runs)"]
    assert [r.value for r in chart.references] == pytest.approx([0.1, 0.1])


def test_learning_curves_have_all_methods_and_ablations_a_chart_beside_others(
    tmp_path, comparison_of
):
    write_run(tmp_path / "a", "ibrl")
    write_run(tmp_path / "b", "td3")
    assert "ablations" not in charts_of(comparison_of())
    write_run(tmp_path / "c", "rlpd")
    charts = charts_of(comparison_of())
    assert [line.label for line in charts["curves"].lines] == ["ibrl", "rlpd", "td3"]
    assert [line.label for line in charts["ablations"].lines] == ["ibrl", "td3"]


def test_imitation_share_has_a_line_for_each_imitation_policy(tmp_path, comparison_of):
    write_run(tmp_path / "a", "ibrl", imitation=("bc", "act"))
    write_run(tmp_path / "b", "ibrl_soft", imitation=("bc",))
    write_run(tmp_path / "c", "rlpd")
    charts = charts_of(comparison_of())
    drawn = values(charts["imitation_share"])
    assert {*drawn} == {"ibrl: bc", "ibrl: act", "ibrl_soft"}
    assert drawn["ibrl: act"] == [(1000, 0.2), (2000, 0.2), (3000, 0.2)]
    policies = ("hybrid", "RL actor")
    lines = {line.label: line for line in charts["rl_actor"].lines}
    assert {*lines} == {f"{m}: {policy}" for m in ("ibrl", "ibrl_soft") for policy in policies}
    assert lines["ibrl: hybrid"].style.dashes == SOLID
    assert lines["ibrl: RL actor"].style.dashes == DASHED


def test_methods_without_acting_imitation_policies_have_no_share_chart(tmp_path, comparison_of):
    write_run(tmp_path / "a", "rlpd")
    assert {*charts_of(comparison_of())} == {"curves"}


def test_a_colour_means_the_same_method_in_every_chart(tmp_path, comparison_of):
    for number, method in enumerate(("ibrl", "ibrl_soft", "rlpd", "td3")):
        write_diagnosis(write_run(tmp_path / str(number), method))
    comparison = comparison_of()
    charts = [
        *comparison_charts(comparison),
        *diagnosis_charts(comparison, read_diagnoses(comparison)),
    ]
    colours = {(line.method, line.style.colour) for chart in charts for line in chart.lines}
    assert colours == {(number, METHODS[number]) for number in range(4)}


def test_markers_tell_methods_apart_without_colours():
    styles = [method_style(number) for number in range(42)]
    assert len({*styles}) == 42
    assert all(len({style.marker for style in styles[at : at + 6]}) == 6 for at in range(37))
    assert styles[0].colour == styles[6].colour and styles[0].marker != styles[6].marker


def test_diagnosis_charts_average_the_runs_of_a_method(tmp_path, comparison_of):
    for seed in range(1, 6):
        write_diagnosis(write_run(tmp_path / str(seed), seed=seed))
    comparison = comparison_of()
    share, advantage = diagnosis_charts(comparison, read_diagnoses(comparison))
    assert values(share) == {"ibrl": [(0.05, 0.5), (0.55, 0.0)]}
    assert values(advantage) == {"ibrl": [(0.05, 0.0), (0.55, -0.3)]}
    assert diagnosis_charts(comparison, []) == []


def test_heat_map_marks_intervals_without_one_half(tmp_path, comparison_of):
    for seed in (1, 2, 3):
        write_run(tmp_path / f"a{seed}", "ibrl", seed)
        write_run(tmp_path / f"b{seed}", "rlpd", seed, final=0.2)
        write_run(tmp_path / f"c{seed}", "sqil", seed, final=0.2)
    drawn, while_learning = improvement_maps(improvement_table(comparison_of()))
    assert drawn.labels == ("ibrl", "rlpd", "sqil")
    assert drawn.values["ibrl", "rlpd"] == 1.0 and drawn.values["rlpd", "ibrl"] == 0.0
    assert drawn.values["rlpd", "sqil"] == 0.5
    assert while_learning.values["ibrl", "rlpd"] == 0.5 and not while_learning.certain
    assert drawn.certain == {("ibrl", "rlpd"), ("rlpd", "ibrl"), ("ibrl", "sqil"), ("sqil", "ibrl")}


# Machado et al. (2009), severity 1, on linear RGB.
_VISION = {
    "normal": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def cielab(colour, vision):
    """CIELAB of a hexadecimal colour (sRGB, white D65), as people with a vision see it."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    xyz = to_xyz @ np.clip(np.array(_VISION[vision]) @ linear, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", _VISION)
def test_colours_of_methods_can_be_told_apart(vision):
    colours = [cielab(colour, vision) for colour in METHODS]
    pairs = [(a, b) for i, a in enumerate(colours) for b in colours[:i]]
    assert min(np.linalg.norm(a - b) for a, b in pairs) >= 15.9


def test_colour_distances_match_known_ones():
    assert cielab("#ffffff", "normal") == pytest.approx([100, 0, 0], abs=0.01)
    assert cielab("#ff0000", "normal") == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    # Two colours that earlier reports used together.
    pair = [cielab(colour, "deuteranopia") for colour in ("#c8553d", "#5a8f3d")]
    assert np.linalg.norm(pair[0] - pair[1]) == pytest.approx(5.9, abs=0.1)
