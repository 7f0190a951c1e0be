"""The page: whole by itself, and honest about what it lacks."""

import csv
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from support.synthetic_runs import write_diagnosis, write_run

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.reports.page import write_report
from ibrl_torchrl.runs.reader import find_runs


@pytest.fixture
def report(tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path / f"runs/i{seed}", "ibrl", seed)
        write_run(tmp_path / f"runs/r{seed}", "rlpd", seed, curve=(0.0, 0.0, 0.2), final=0.2)
    write_run(tmp_path / "runs/cut", "ibrl", 4, final=None)
    write_run(tmp_path / "runs/other", "ibrl", 1, task="<assembly>")
    (tmp_path / "runs/i1/video.mp4").write_bytes(b"film")
    write_diagnosis(tmp_path / "runs/i2")
    write_report(find_runs([tmp_path / "runs"]), tmp_path / "out", "A & B")
    return tmp_path / "out"


class Tags(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self):
        super().__init__()
        self.fetched = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href", "xlink:href") and not value.startswith(("#", "data:")):
                self.fetched.append(value)


def test_the_page_fetches_nothing(report):
    page, tags = (report / "index.html").read_text(), Tags()
    tags.feed(page)
    assert tags.fetched == [] and "@import" not in page and "<script" not in page
    assert page.count("<svg") == 7 and 'src="data:video/mp4;base64,ZmlsbQ=="' in page


def test_the_page_names_what_is_missing(report):
    page = (report / "index.html").read_text()
    assert "ibrl, seed 4, did not finish" in page
    assert "metaworld/&lt;assembly&gt;" in page and "<assembly>" not in page
    assert "<title>A &amp; B</title>" in page


def test_tables_and_curves_lie_beside_it(report):
    names = {path.name for path in report.iterdir()}
    assert {"1-metaworld-assembly--final.csv", "2-metaworld-box-close-curves.png"} <= names
    with (report / "2-metaworld-box-close-final.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert [(row["method"], float(row["success"])) for row in rows] == [
        ("ibrl", 1.0),
        ("rlpd", pytest.approx(0.2)),
    ]


def test_the_same_runs_give_the_same_page(report, tmp_path):
    write_report(find_runs([tmp_path / "runs"]), tmp_path / "again", "A & B")
    assert (tmp_path / "again/index.html").read_text() == (report / "index.html").read_text()


def test_ablations_have_a_picture_of_their_own_beside_other_methods(tmp_path):
    write_run(tmp_path / "runs/a", "ibrl")
    write_run(tmp_path / "runs/b", "td3")
    write_report(find_runs([tmp_path / "runs"]), tmp_path / "one", "one")
    assert "<h3>Ablations</h3>" not in (tmp_path / "one/index.html").read_text()
    write_run(tmp_path / "runs/c", "rlpd")
    write_report(find_runs([tmp_path / "runs"]), tmp_path / "two", "two")
    page = (tmp_path / "two/index.html").read_text()
    curves = page[page.index("<h3>Learning curves") : page.index("<h3>Ablations")]
    ablations = page[page.index("<h3>Ablations") : page.index("<h3>Hybrid and")]
    assert ">rlpd<" in curves and ">td3<" not in curves
    assert ">td3<" in ablations and ">rlpd<" not in ablations and ">ibrl<" in ablations


def test_a_comparison_of_unfinished_runs_says_so(tmp_path):
    write_run(tmp_path / "a", final=None)
    write_report(find_runs([tmp_path / "a"]), tmp_path / "out", "none")
    assert "No run has finished." in (tmp_path / "out/index.html").read_text()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    write_run(tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot make this folder"):
        write_report(find_runs([tmp_path / "a"]), tmp_path / "file/out", "none")


def test_the_command(ibrl, tmp_path):
    write_run(tmp_path / "a, b/run", seed=1)
    write_run(tmp_path / "c", "rlpd", seed=2)
    out = tmp_path / "out"
    code, output, errors = ibrl("report", tmp_path / "a, b", tmp_path / "c", f"out={out}")
    assert code == 0, errors
    assert re.search(r"ibrl +1\.00 \(1\.00 to 1\.00\) of 1 runs", output)
    assert "note: rlpd has no run of seed 1." in output
    assert (out / "index.html").is_file()
    code, _, errors = ibrl("report", tmp_path / "nothing", f"out={out}")
    assert code == 2 and errors.startswith("error: ") and "holds no run" in errors


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
@pytest.mark.parametrize("size", ["1200,900", "400,800"])
def test_a_browser_shows_it_without_scrolling_sideways(report, tmp_path, size):
    probe = report / "probe.html"
    page = (report / "index.html").read_text()
    measure = (
        "<script>const e = document.documentElement;"
        "const shown = document.querySelectorAll('svg');"
        "document.title = [e.scrollWidth <= e.clientWidth, shown.length,"
        "[...shown].every(s => s.getBoundingClientRect().height > 100)].join(' ')</script>"
    )
    probe.write_text(page + measure)
    quiet = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    ]
    sizes = [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={size}"]
    done = subprocess.run(
        ["chromium", *quiet, *sizes, "--dump-dom", probe.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "<title>true 7 true</title>" in done.stdout
