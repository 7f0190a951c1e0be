"""HTML page: self-contained, complete and deterministic."""

import base64
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes

import pytest
from support.synthetic_runs import write_diagnosis, write_run

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.reports.page import write_report
from ibrl_torchrl.reports.style import FigureStyle
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


class Urls(HTMLParser):
    """URLs of a page by tag, without those within the page."""

    def __init__(self, page):
        super().__init__()
        self.tags = defaultdict(list)
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href", "xlink:href") and not value.startswith("#"):
                self.tags[tag].append(value)


class Tags(HTMLParser):
    """Names of a page's tags and attributes."""

    def __init__(self):
        super().__init__()
        self.names, self.attributes = set(), set()

    def handle_starttag(self, tag, attributes):
        self.names.add(tag)
        self.attributes |= {name for name, _ in attributes}


def test_page_loads_nothing_but_videos_of_its_runs(report):
    page = (report / "index.html").read_text()
    urls = Urls(page).tags
    assert {*urls} == {"a", "video"} and urls["video"] == ["../runs/i1/video.mp4"]
    assert "@import" not in page and "url(h" not in page
    assert page.count("<figure><svg") == 10 and "media-src 'self' file:\"" in page


def test_runs_are_linked_with_the_files_that_they_have(report):
    links = Urls((report / "index.html").read_text()).tags["a"]
    folders = ["other", "i1", "i2", "i3", "r1", "r2", "r3"]
    assert [link for link in links if link.endswith("/")] == [f"../runs/{f}/" for f in folders]
    assert [link for link in links if not link.endswith("/")] == ["../runs/i1/video.mp4"]
    assert all((report / link).exists() for link in links)


def test_links_lead_to_folders_of_any_name(tmp_path):
    folder = tmp_path / """javascript:alert(1) "><img src=x onerror='a'> #?%2e&é"""
    run = write_run(folder / os.fsdecode(b"\xff"))
    for name in ("curve.png", "log.txt", "video.mp4"):
        (run / name).write_text("")
    out = folder / "report"
    write_report(find_runs([folder]), out, "", FigureStyle(formats=()))
    page = (out / "index.html").read_text()
    urls = Urls(page).tags
    assert urls["a"] == ["../%FF/", *(f"../%FF/{f}" for f in ("curve.png", "video.mp4", "log.txt"))]
    elsewhere = tmp_path / "out"
    write_report(find_runs([folder]), elsewhere, "", FigureStyle(formats=()))
    urls = Urls((elsewhere / "index.html").read_text()).tags
    assert {*urls} == {"a", "video"}
    for url in (*urls["a"], *urls["video"]):
        assert re.fullmatch(r"\.\./[A-Za-z0-9_.~/%-]+", url)
        path = os.fsencode(elsewhere) + b"/" + unquote_to_bytes(url)
        assert os.path.exists(path) and os.fsencode(run) in os.path.realpath(path)


def test_page_runs_its_own_scripts_alone(report):
    page = (report / "index.html").read_text()
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)
    own = [text for attributes, text in scripts if not attributes]
    digests = (hashlib.sha256(script.encode()).digest() for script in own)
    sources = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src {sources};" in page
    for attributes, text in scripts:
        if attributes:
            assert attributes == ' type="application/json"' and json.loads(text)


def test_page_says_what_interactive_curves_need(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bokeh", None)
    runs = find_runs([write_run(tmp_path / "a")])
    pages = []
    for interactive in (True, False):
        out = tmp_path / str(interactive)
        write_report(runs, out, "", FigureStyle(formats=()), interactive=interactive)
        pages.append((out / "index.html").read_text().splitlines())
    (line,) = {*pages[0]} - {*pages[1]}
    assert line == (
        '<p class="interactive quiet">Learning curves, interactive: bokeh is not installed; '
        "install it with: pip install &#39;ibrl_torchrl[report]&#39;</p>"
    )
    assert {*pages[1]} <= {*pages[0]}


def test_video_that_is_a_link_is_refused(tmp_path):
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
    assert "1-metaworld-assembly--final.csv" in names
    charts = ("curves", "rl_actor", "imitation_share", "improvement", "improvement_auc")
    for chart in (*charts, "imitation_in_episode", "advantage_in_episode"):
        for suffix in ("svg", "pdf", "png"):
            assert f"2-metaworld-box-close-{chart}.{suffix}" in names
    with (report / "2-metaworld-box-close-final.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert [(row["method"], float(row["success"])) for row in rows] == [
        ("ibrl", 1.0),
        ("rlpd", pytest.approx(0.2)),
    ]


def test_page_is_deterministic(report, tmp_path):
    write_report(find_runs([tmp_path / "runs"]), tmp_path / "again", "A & B")
    assert (tmp_path / "again/index.html").read_text() == (report / "index.html").read_text()


def test_names_are_text_everywhere(tmp_path):
    attack = "</script><script>document.title='bad'</script><img src=x onerror=alert(1)>\"'&"
    run = write_run(tmp_path / "a", attack, imitation=(attack,))
    write_run(tmp_path / "b", "rlpd", update={attack: attack})
    (run / "run.json").write_text(json.dumps(dict.fromkeys(("commit", "command"), attack)))
    write_report(find_runs([tmp_path]), tmp_path / "out", attack)
    page, tags = (tmp_path / "out/index.html").read_text(), Tags()
    tags.feed(page)
    assert "script" in tags.names and "img" not in tags.names
    assert not any(name.startswith("on") for name in tags.attributes)
    assert page.count("document.title='bad'</script>") == 0


def test_best_values_are_marked(report):
    page = (report / "index.html").read_text()
    marked = re.findall(r'class="best">([\d.,]+)', page)
    assert marked[:2] == ["1.00", "0.50"]  # final and mean success of ibrl against 0.20 and 0.07
    assert marked.count("1.00") == 1


def test_contents_lead_to_every_heading(report):
    page = (report / "index.html").read_text()
    links = re.findall(r'<a href="#([^"]*)"', page)
    headings = re.findall(r'<h[23] id="([^"]*)"', page)
    assert len(links) == len({*links}) and {*links} <= {*headings}
    assert {"s1", "s2", "s2-results", "s2-videos", "s2-curves", "s2-runs"} <= {*links}
    assert page.index('id="s2-videos"') < page.index('id="s2-curves"')


def test_commands_that_differ_in_the_seed_are_quoted_once(report):
    page = (report / "index.html").read_text()
    assert page.count("ibrl train seed=N") == 3  # methods of two tasks
    assert "ibrl train seed=1<" not in page


def test_commands_keep_seeds_of_other_settings(tmp_path):
    for seed in (1, 2):
        folder = write_run(tmp_path / f"runs/i{seed}", "ibrl", seed)
        provenance = json.loads((folder / "run.json").read_text())
        provenance["command"] = f"ibrl train demos.seed=1 seed={seed} run_dir=runs/ibrl-seed{seed}"
        (folder / "run.json").write_text(json.dumps(provenance))
    write_report(find_runs([tmp_path / "runs"]), tmp_path / "out", "A")
    page = (tmp_path / "out/index.html").read_text()
    assert page.count("ibrl train demos.seed=1 seed=N run_dir=runs/ibrl-seedN") == 1


def test_runs_are_grouped_by_method_behind_a_click(report):
    page = (report / "index.html").read_text()
    summaries = re.findall(r"<summary>(.*?)</summary>", page)
    assert {"ibrl: 3 runs", "rlpd: 3 runs", "Commands"} <= {*summaries}
    assert "<details open" not in page


def test_videos_of_a_seed_are_side_by_side(tmp_path):
    for seed in (1, 2, 3, 4, 5):
        for method in ("ibrl", "rlpd"):
            run = write_run(tmp_path / f"runs/{method}{seed}", method, seed)
            if (method, seed) != ("rlpd", 2):
                (run / "video.mp4").write_bytes(b"video")
    write_report(find_runs([tmp_path / "runs"]), tmp_path / "out", "", FigureStyle(formats=()))
    page = (tmp_path / "out/index.html").read_text()
    rows = re.findall(r"<div>(<figure><video.*?)</div>", page, re.DOTALL)
    assert [re.findall("<figcaption[^>]*>(.*?)<", row) for row in rows] == [
        ["ibrl, seed 1", "rlpd, seed 1"],
        ["ibrl, seed 2"],
        *([f"ibrl, seed {seed}", f"rlpd, seed {seed}"] for seed in (3, 4, 5)),
    ]
    first = '<video controls preload="none" muted loop src="../runs/ibrl1/video.mp4">'
    assert rows[0].startswith(f"<figure>{first}")
    assert page.index("<summary>2 more seeds</summary>") > page.index("ibrl, seed 3")
    assert page.index("<summary>2 more seeds</summary>") < page.index("ibrl, seed 4")


def test_formats_of_figures_are_chosen(tmp_path):
    runs = find_runs([write_run(tmp_path / "a")])
    write_report(runs, tmp_path / "svg", "", FigureStyle(formats=("svg",)))
    write_report(runs, tmp_path / "none", "", FigureStyle(formats=()))
    suffixes = {path.suffix for path in (tmp_path / "svg").iterdir()}
    assert suffixes == {".html", ".csv", ".svg"}
    assert {path.suffix for path in (tmp_path / "none").iterdir()} == {".html", ".csv"}


def test_files_of_an_earlier_report_are_removed(report, tmp_path):
    kept = tmp_path / "out" / "notes.csv"
    kept.write_text("mine")
    improvement = report / "1-metaworld-box-close-improvement.csv"
    assert improvement.exists() or [*report.glob("*-improvement.csv")]
    write_report(find_runs([tmp_path / "runs/i1"]), report, "alone")
    assert kept.read_text() == "mine"
    files = {path.name for path in report.iterdir()}
    assert not [name for name in files if name.startswith("2-") or "improvement" in name]
    assert {"index.html", "1-metaworld-box-close-final.csv"} <= files


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


_BROWSER = [
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]
needs_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs Debian's chromium"
)


def measure(report, tmp_path, script, size="1200,900"):
    """Title that a script, added to the page, gives it in a browser."""
    probe = report / "probe.html"
    page = re.sub("<meta http-equiv[^>]*>", "", (report / "index.html").read_text())
    probe.write_text(page.replace("</body>", f"<script>document.title = {script}</script></body>"))
    done = subprocess.run(
        [
            *_BROWSER,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={size}",
            "--dump-dom",
            probe.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return re.search("<title>(.*?)</title>", done.stdout, re.DOTALL).group(1)


# Chromium's smallest window is 500 pixels wide; a frame is as wide as a phone.
_PHONE = """(() => {
  const page = document.documentElement.cloneNode(true), frame = document.createElement("iframe");
  page.querySelectorAll("script").forEach(script => script.remove());
  frame.style.cssText = "width: 390px; height: 844px; border: 0";
  frame.srcdoc = "<!doctype html>" + page.outerHTML;
  frame.onload = () => {
    const inner = frame.contentDocument, root = inner.documentElement;
    const row = inner.querySelector("tbody tr"), letter = inner.querySelector("figure svg text");
    const size = parseFloat(frame.contentWindow.getComputedStyle(letter).fontSize);
    document.title = [root.scrollWidth <= root.clientWidth,
                      row.cells[1].getBoundingClientRect().right <= root.clientWidth,
                      row.getBoundingClientRect().height < 80,
                      size * letter.ownerSVGElement.getScreenCTM().a > 8].join(" ");
  };
  document.body.append(frame);
  return "not loaded";
})()"""


@needs_chromium
def test_page_fits_a_phone_with_success_and_readable_figures(report, tmp_path):
    assert measure(report, tmp_path, _PHONE) == "true true true true"


@needs_chromium
@pytest.mark.parametrize("size", ["1280,900", "768,1024"])
def test_page_fits_the_browser_window(report, tmp_path, size):
    script = (
        "[document.documentElement.scrollWidth <= innerWidth,"
        "[...document.querySelectorAll('figure > svg')]"
        ".filter(s => s.getBoundingClientRect().height > 100).length].join(' ')"
    )
    assert measure(report, tmp_path, script, size) == "true 10"


_CLICKS = """(() => {
  const [, table] = document.querySelectorAll("section");
  const [head, body] = [table.querySelector("thead tr"), table.querySelector("tbody")];
  const order = () => [...body.rows].map(row => row.cells[0].textContent).join();
  const results = [];
  for (const column of [1, 1, 4, 0]) {
    head.cells[column].querySelector("[role=button]").click();
    results.push(order());
  }
  return results.join(" ") + " " + head.cells[0].ariaSort;
})()"""


@needs_chromium
def test_a_click_on_a_heading_sorts_the_table(report, tmp_path):
    # Highest success first, then lowest; fewest frames first; by name.
    expected = "ibrl,rlpd rlpd,ibrl ibrl,rlpd ibrl,rlpd ascending"
    assert measure(report, tmp_path, _CLICKS) == expected


_HOVER = """(() => {
  const [, section] = document.querySelectorAll("section");
  const svg = section.querySelector("figure:has(> script) svg"), box = svg.getBoundingClientRect();
  const at = { clientX: box.left + box.width / 2, clientY: box.top + 20 };
  svg.dispatchEvent(new PointerEvent("pointermove", at));
  section.querySelector("tr[data-method='1']").dispatchEvent(new PointerEvent("pointerenter"));
  const faded = new Set([...section.querySelectorAll("g.faded")].map(g => g.dataset.method));
  return [...section.querySelectorAll(".tip > *")].map(part => part.textContent).join("; ")
         + "; faded: " + [...faded].join();
})()"""


@needs_chromium
def test_hovering_names_values_and_shows_a_method_alone(report, tmp_path):
    assert measure(report, tmp_path, _HOVER) == (
        "2,000 environment steps (after action repeat); ibrl 0.50 (0.50 to 0.50); "
        "rlpd 0.00 (0.00 to 0.00); faded: 0"
    )


@needs_chromium
def test_no_column_is_lost_in_print(tmp_path):
    names = [f"method_{number}_with_a_long_name" for number in range(12)]
    for number, name in enumerate(names):
        write_run(tmp_path / f"runs/{number}", name, update={"lr": number})
    out = tmp_path / "out"
    write_report(find_runs([tmp_path / "runs"]), out, "", FigureStyle(formats=()))
    page = (out / "index.html").read_text()
    # A window as wide as the text of an A4 page, with the style of print.
    page = page.replace("@media print", "@media all").replace("@media screen", "@media print")
    (out / "index.html").write_text(page)
    widest = "Math.max(...[...document.querySelectorAll('table')].map(t => t.offsetWidth))"
    assert float(measure(out, tmp_path, widest, "703,1000")) <= 703


@needs_chromium
def test_print_has_settings_and_few_pages_of_many_runs(tmp_path):
    for seed in range(1, 41):
        for method in ("ibrl", "rlpd"):
            write_run(tmp_path / f"runs/{method}{seed}", method, seed)
    out = tmp_path / "out"
    write_report(find_runs([tmp_path / "runs"]), out, "", FigureStyle(formats=()))
    pdf = tmp_path / "page.pdf"
    arguments = [f"--user-data-dir={tmp_path / 'profile'}", "--no-pdf-header-footer"]
    subprocess.run(
        [*_BROWSER, *arguments, f"--print-to-pdf={pdf}", (out / "index.html").as_uri()],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert 1 < len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) <= 5
