"""HTML page: self-contained, complete and deterministic."""

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
    (tmp_path / "runs/i1/video.mp4").write_bytes(b"video")
    write_diagnosis(tmp_path / "runs/i2")
    write_report(find_runs([tmp_path / "runs"]), tmp_path / "out", "A & B")
    return tmp_path / "out"


class LoadedUrls(HTMLParser):
    """URLs that a page loads."""

    def __init__(self):
        super().__init__()
        self.urls = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href", "xlink:href") and not value.startswith(("#", "data:")):
                self.urls.append(value)


def test_page_loads_nothing(report):
    page, tags = (report / "index.html").read_text(), LoadedUrls()
    tags.feed(page)
    assert tags.urls == [] and "@import" not in page and "<script" not in page
    assert page.count("<svg") == 7 and 'src="data:video/mp4;base64,dmlkZW8="' in page


def test_video_that_is_a_link_is_not_embedded(tmp_path):
    run = write_run(tmp_path / "run")
    (tmp_path / "key").write_text("secret")
    (run / "video.mp4").symlink_to(tmp_path / "key")
    with pytest.raises(UsageError, match=r"video\.mp4: is a link, which is not followed"):
        write_report(find_runs([run]), tmp_path / "out", "")
    assert not (tmp_path / "out").exists()


def test_page_notes_limits_and_escapes_names(report):
    page = (report / "index.html").read_text()
    assert "ibrl, seed 4, is unfinished" in page
    assert "metaworld/&lt;assembly&gt;" in page and "<assembly>" not in page
    assert "<title>A &amp; B</title>" in page


def test_tables_and_curves_are_written_beside_the_page(report):
    names = {path.name for path in report.iterdir()}
    assert {"1-metaworld-assembly--final.csv", "2-metaworld-box-close-curves.png"} <= names
    with (report / "2-metaworld-box-close-final.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert [(row["method"], float(row["success"])) for row in rows] == [
        ("ibrl", 1.0),
        ("rlpd", pytest.approx(0.2)),
    ]


def test_page_is_deterministic(report, tmp_path):
    write_report(find_runs([tmp_path / "runs"]), tmp_path / "again", "A & B")
    assert (tmp_path / "again/index.html").read_text() == (report / "index.html").read_text()


def test_ablations_have_a_separate_figure_beside_other_methods(tmp_path):
    write_run(tmp_path / "runs/a", "ibrl")
    write_run(tmp_path / "runs/b", "td3")
    write_report(find_runs([tmp_path / "runs"]), tmp_path / "one", "one")
    assert "<h3>Ablations</h3>" not in (tmp_path / "one/index.html").read_text()
    write_run(tmp_path / "runs/c", "rlpd")
    write_report(find_runs([tmp_path / "runs"]), tmp_path / "two", "two")
    page = (tmp_path / "two/index.html").read_text()
    curves = page[page.index("<h3>Learning curves") : page.index("<h3>Ablations")]
    ablations = page[page.index("<h3>Ablations") : page.index("<h3>Hybrid and RL")]
    assert ">rlpd<" in curves and ">td3<" not in curves
    assert ">td3<" in ablations and ">rlpd<" not in ablations and ">ibrl<" in ablations


def test_comparison_without_finished_runs_has_a_message(tmp_path):
    write_run(tmp_path / "a", final=None)
    write_report(find_runs([tmp_path / "a"]), tmp_path / "out", "none")
    assert "No run is finished." in (tmp_path / "out/index.html").read_text()


def test_output_folder_that_cannot_be_created_is_refused(tmp_path):
    write_run(tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot create this folder"):
        write_report(find_runs([tmp_path / "a"]), tmp_path / "file/out", "none")


def test_command_prints_success_and_notes(ibrl, tmp_path):
    write_run(tmp_path / "a, b/run", seed=1)
    write_run(tmp_path / "c", "rlpd", seed=2)
    out = tmp_path / "out"
    code, output, errors = ibrl("report", tmp_path / "a, b", tmp_path / "c", f"out={out}")
    assert code == 0, errors
    assert re.search(r"ibrl +1\.00 \(1\.00 to 1\.00\) of 1 runs", output)
    assert "note: rlpd has no run of seed 1." in output
    assert (out / "index.html").is_file()
    code, _, errors = ibrl("report", tmp_path / "nothing", f"out={out}")
    assert code == 2 and errors.startswith("error: ") and "contains no run" in errors


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
@pytest.mark.parametrize("size", ["1200,900", "400,800"])
def test_page_fits_the_browser_window(report, tmp_path, size):
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
