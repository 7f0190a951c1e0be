"""Interactive learning curves: what they draw and name, and whether a browser draws them."""

import base64
import hashlib
import json
import re
import shutil
import subprocess

import pytest
from support.synthetic_runs import write_run

from ibrl_torchrl.reports.charts import comparison_charts
from ibrl_torchrl.reports.comparison import compare
from ibrl_torchrl.reports.interactive import interactive_curves, library
from ibrl_torchrl.reports.page import write_report
from ibrl_torchrl.reports.palette import METHODS
from ibrl_torchrl.reports.style import FigureStyle
from ibrl_torchrl.runs.reader import find_runs

pytest.importorskip("bokeh", reason="needs the extra report")

ATTACK = "</script><img src=x onerror=document.title='bad'>$$x$$ @run{safe}"


def objects(part, name):
    """Attributes of the Bokeh objects of a type, in the order of the item."""
    if isinstance(part, dict):
        if part.get("type") == "object" and part.get("name") == name:
            yield part.get("attributes", {})
        for value in part.values():
            yield from objects(value, name)
    elif isinstance(part, list):
        for value in part:
            yield from objects(value, name)


def identifiers(part):
    """Identifiers of an item's objects and references."""
    if isinstance(part, dict):
        if "id" in part:
            yield part["id"]
        for value in part.values():
            yield from identifiers(value)
    elif isinstance(part, list):
        for value in part:
            yield from identifiers(value)


def item_of(folder, prefix="s1"):
    (comparison,) = compare(find_runs([folder]))
    return interactive_curves(comparison, comparison_charts(comparison)[0], prefix)


def columns(item):
    """Columns of the sources whose points have names."""
    for source in objects(item, "ColumnDataSource"):
        data = dict(source["data"]["entries"])
        if "method" in data:
            yield data


def test_points_have_method_seed_frames_and_success_with_interval(tmp_path):
    for seed, curve in ((1, (0.0, 0.5)), (2, (0.2, 0.7))):
        run = write_run(tmp_path / f"a{seed}", seed=seed, curve=curve, total_frames=2000)
        table = run / "eval.csv"
        table.write_text(table.read_text().replace("20,0.7,0,1,", "20,0.7,0.48,0.85,"))
    runs, means = columns(item_of(tmp_path))
    assert runs == {
        "frames": [1007, 2007, 1007, 2007],
        "success": [0.0, 0.5, 0.2, 0.7],
        "low": [0.0, 0.0, 0.0, 0.48],
        "high": [1.0, 1.0, 1.0, 0.85],
        "method": ["ibrl"] * 4,
        "run": ["seed 1", "seed 1", "seed 2", "seed 2"],
    }
    assert means["frames"] == [1000, 2000] and means["success"] == [0.1, 0.6]
    assert means["low"] == [0.0, 0.5] and means["high"] == [0.2, 0.7]
    assert means["run"] == ["mean of 2"] * 2


def test_colours_markers_and_order_are_those_of_the_static_figures(tmp_path):
    for method in ("td3", "ibrl", "rlpd"):
        write_run(tmp_path / method, method)
    item = item_of(tmp_path)
    (legend,) = objects(item, "Legend")
    assert legend["click_policy"] == "hide"
    labels = [entry["attributes"]["label"]["value"] for entry in legend["items"]]
    assert labels == ["bc (mean of runs)", "ibrl", "rlpd", "td3"]
    # A click hides band, lines and points of a method.
    assert [len(entry["attributes"]["renderers"]) for entry in legend["items"]] == [1, 5, 5, 5]
    circle = {"value": "circle"}  # Bokeh's default, which an item leaves out
    drawn = {
        (part["fill_color"]["value"], part.get("marker", circle)["value"]): None
        for part in objects(item, "Scatter")
    }
    markers = ("circle", "square", "triangle")
    assert [*drawn] == [*zip(METHODS[:3], markers, strict=True)]


def test_items_are_the_same_for_the_same_runs_and_their_identifiers_are_unique(tmp_path):
    write_run(tmp_path / "a")
    first, again, second = (item_of(tmp_path, prefix) for prefix in ("s1", "s1", "s2"))
    assert first == again
    assert {*identifiers(first)} and not {*identifiers(first)} & {*identifiers(second)}
    assert first["target_id"] != second["target_id"]


def test_page_without_interactive_curves_is_the_static_page(tmp_path):
    runs = find_runs([write_run(tmp_path / "a")])
    pages = []
    for interactive in (True, False):
        out = tmp_path / str(interactive)
        write_report(runs, out, "", FigureStyle(formats=()), interactive=interactive)
        pages.append((out / "index.html").read_text())
    assert "Bokeh.embed" in pages[0] and library() in pages[0]
    assert library() not in pages[1] and 'class="interactive' not in pages[1]
    assert len(pages[0]) - len(pages[1]) < 1_400_000


_PROBE = """
let refused = 0;
document.addEventListener("securitypolicyviolation", () => { refused += 1; });
setTimeout(() => {
  const shown = Bokeh.documents.map((part) => part.roots()[0]);
  const labels = shown.flatMap((plot) => plot.below.filter((part) => part.type === "Legend"))
    .flatMap((legend) => legend.items.map((item) => item.label.value));
  const host = document.querySelector(".interactive .bk-Figure");
  const canvas = host.shadowRoot.querySelector(".bk-Canvas").getBoundingClientRect();
  document.title = JSON.stringify([refused, document.images.length, canvas.width > 300, labels]);
}, 2000);
"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
def test_a_browser_draws_the_curves_under_the_policy_of_the_page(tmp_path):
    write_run(tmp_path / "runs/a")
    write_run(tmp_path / "runs/b", ATTACK)
    out = tmp_path / "out"
    write_report(find_runs([tmp_path / "runs"]), out, ATTACK, FigureStyle(formats=()))
    digest = base64.b64encode(hashlib.sha256(_PROBE.encode()).digest()).decode()
    page = (out / "index.html").read_text()
    page = page.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    probe = out / "probe.html"
    probe.write_text(page.replace("</body>", f"<script>{_PROBE}</script></body>"))
    done = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--window-size=1200,900", "--virtual-time-budget=8000", "--dump-dom"),
            probe.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (title,) = re.findall("<title>(.*?)</title>", done.stdout, re.DOTALL)[:1]
    shown = title.replace("&lt;", "<").replace("&gt;", ">")
    labels = ["bc (mean of runs)", "ibrl", f"{ATTACK[:23]}…"]
    assert json.loads(shown) == [0, 0, True, labels]
