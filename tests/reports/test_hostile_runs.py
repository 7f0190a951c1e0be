"""Run folders of unknown origin in a report: values, names, formulas, damage."""

import csv
import random
import shutil

import pytest
from support.damage import mutated_bytes
from support.synthetic_runs import write_diagnosis, write_run

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import write_table
from ibrl_torchrl.reports.comparison import compare
from ibrl_torchrl.reports.diagnosis_tables import read_diagnoses
from ibrl_torchrl.runs.reader import find_runs, read_run

VALUES = ["7", "-1", "nan", "inf", "1e400", "", "x", "0.5", "1e9", "9" * 400, "True", "=1+1", "²"]


def changed(path, table, column, value, row=0):
    """Change one cell of a table."""
    with (path / table).open(newline="") as file:
        rows = [*csv.DictReader(file)]
    rows[row][column] = value
    write_table(path / table, rows[0], ([*each.values()] for each in rows))


@pytest.mark.parametrize(
    ("table", "column", "valid"),
    [
        ("eval.csv", "success", {"0.5"}),
        ("eval.csv", "frames", {"7"}),
        ("eval.csv", "proposal_share/acting/bc", {"0.5"}),
        ("evaluation.csv", "success", set()),
        ("evaluation.csv", "proposal_frames/bc", set()),
    ],
)
@pytest.mark.parametrize("value", VALUES)
def test_cells_out_of_range_are_refused(tmp_path, table, column, valid, value):
    path = write_run(tmp_path / "a")
    changed(path, table, column, value)
    if value in valid:
        read_run(path)
    else:
        with pytest.raises(UsageError, match="is not a readable run folder") as error:
            read_run(path)
        assert str(error.value).isprintable()


@pytest.mark.parametrize("header_only", [True, False])
def test_finished_runs_without_evaluations_of_the_hybrid_are_refused(tmp_path, header_only):
    path = write_run(tmp_path / "a")
    header, *rows = (path / "eval.csv").read_text().splitlines(keepends=True)
    kept = [] if header_only else [row for row in rows if ",hybrid," not in row]
    assert header_only or 0 < len(kept) < len(rows)
    (path / "eval.csv").write_text(header + "".join(kept))
    with pytest.raises(UsageError, match="has no row of hybrid"):
        read_run(path)


@pytest.mark.parametrize("column", ["value", "return", "success", "step"])
@pytest.mark.parametrize("value", ["nan", "inf", "7.5", "x"])
def test_cells_of_a_diagnosis_out_of_range_are_refused(tmp_path, column, value):
    path = write_run(tmp_path / "a")
    write_diagnosis(path)
    (comparison,) = compare(find_runs([path]))
    assert read_diagnoses(comparison)
    changed(path, "diagnosis_steps.csv", column, value)
    if (column, value) in {("value", "7.5"), ("return", "7.5")}:
        assert read_diagnoses(comparison)
    else:
        with pytest.raises(UsageError, match="is damaged or not a table"):
            read_diagnoses(comparison)


@pytest.mark.parametrize(
    "setting",
    [
        "seed: x",
        "seed: -1",
        "seed: 1.5",
        "total_frames: .nan",
        "total_frames: 0",
        "total_frames: [1]",
        "algo: {name: [1], proposals: {acting: {policies: [rl]}}}",
        "algo: {name: '', proposals: {acting: {policies: [rl]}}}",
        'algo: {name: "a\\nb", proposals: {acting: {policies: [rl]}}}',
        "imitation: [bc]",
        "imitation: {3: {}}",
        "eval: {every: 0}",
        "task: {suite: metaworld}",
    ],
)
def test_settings_of_other_types_are_refused(tmp_path, setting):
    path = write_run(tmp_path / "a")
    config = path / "config.yaml"
    name = setting.split(":")[0]
    lines, kept = config.read_text().splitlines(), []
    for line in lines:
        if not line.startswith(" "):
            keep = not line.startswith(f"{name}:")
        kept += [line] if keep else []
    config.write_text("\n".join([*kept, setting]))
    with pytest.raises(UsageError, match=r"is not a readable run folder|cannot be read"):
        read_run(path)


def test_text_that_spreadsheets_take_for_a_formula_is_quoted(tmp_path):
    rows = [["=cmd|' /C calc'!A0", "+1+1", "-0.5", "-x", "@a", "plain", -1.5, 3, None, "[rl,bc]"]]
    write_table(tmp_path / "t.csv", ["=a", *"bcdefghij"], rows)
    header, cells = csv.reader((tmp_path / "t.csv").open(newline=""))
    assert header[0] == "'=a"
    assert cells == [
        "'=cmd|' /C calc'!A0",
        "'+1+1",
        "-0.5",
        "'-x",
        "'@a",
        "plain",
        "-1.5",
        "3",
        "",
        "[rl,bc]",
    ]


def test_mutated_run_folders_are_refused_in_one_line_or_reported(ibrl, tmp_path):
    original = write_run(tmp_path / "original")
    write_diagnosis(original)
    rng, refused = random.Random(0), 0
    files = sorted(path.name for path in original.iterdir())
    for number in range(40):
        folder, out = tmp_path / f"run{number}", tmp_path / f"report{number}"
        shutil.copytree(original, folder)
        for _ in range(rng.choice([1, 1, 2])):
            file = folder / rng.choice(files)
            if rng.random() < 0.15:
                file.unlink(missing_ok=True)
            elif file.exists():
                file.write_bytes(mutated_bytes(file.read_bytes(), rng))
        code, _, error = ibrl("report", folder, f"out={out}")
        if code:
            refused += 1
            assert code == 2 and error.count("\n") == 1, error
            assert not out.exists() or not (out / "index.html").exists()
        assert not [*tmp_path.rglob("*.tmp")]
    assert refused >= 20
