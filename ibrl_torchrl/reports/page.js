"use strict";
// Sorts tables by a click on a heading; names values of a figure under the pointer; shows one
// method alone while its row or its entry in a legend is pointed at; has Bokeh draw interactive
// curves. Nothing is loaded.

const textOf = (row, column) => row.cells[column].textContent.trim();
const keyOf = (row, column) => row.cells[column].dataset.sort ?? textOf(row, column);

function compareRows(column, isNumber, sign) {
  return (a, b) => {
    const x = keyOf(a, column), y = keyOf(b, column);
    if (x === "" || y === "") return (x === "") - (y === "");  // missing values come last
    return sign * (isNumber ? x - y : x.localeCompare(y, undefined, { numeric: true }));
  };
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    // Not a <button>, with which Chromium does not repeat the headings on each page in print.
    const button = document.createElement("span");
    button.role = "button";
    button.tabIndex = 0;
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      button.click();
    });
    button.addEventListener("click", () => {
      const isNumber = "sort" in (table.tBodies[0].rows[0]?.cells[column].dataset ?? {});
      // The first click shows the best: low numbers where marked, else high ones; A before Z.
      const orders = ["descending", "ascending"];
      if (!isNumber || head.dataset.best === "low") orders.reverse();
      const next = orders[head.getAttribute("aria-sort") === orders[0] ? 1 : 0];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", next);
      const rows = [...table.tBodies[0].rows];
      rows.sort(compareRows(column, isNumber, next === "ascending" ? 1 : -1));
      table.tBodies[0].append(...rows);
    });
  });
}

function showAlone(section, method) {
  for (const part of section.querySelectorAll("g[data-method], .legend li[data-method]")) {
    part.classList.toggle("faded", method !== null && part.dataset.method !== method);
  }
}

function makeHighlighting(section) {
  for (const entry of section.querySelectorAll(".legend li[data-method], tr[data-method]")) {
    entry.addEventListener("pointerenter", () => showAlone(section, entry.dataset.method));
    entry.addEventListener("pointerleave", () => showAlone(section, null));
  }
}

function add(parent, name, className, text = "") {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
}

function makeReadable(figure) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const svg = figure.querySelector("svg");
  const xs = [...new Set(data.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
  if (!xs.length) return;
  const [left, top, right, bottom] = data.box;
  const place = (x) => left + (x - data.x[0]) / (data.x[1] - data.x[0]) * (right - left);
  let tip = null, rule = null;
  const clear = () => { tip?.remove(); rule?.remove(); tip = rule = null; };
  const show = (event) => {
    clear();
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width;
    if (at < left || at > right) return;
    const nearest = xs.reduce((a, b) => Math.abs(place(b) - at) < Math.abs(place(a) - at) ? b : a);
    const values = data.lines
      .filter((line) => line.x.includes(nearest))
      .map((line) => ({ ...line, y: line.y[line.x.indexOf(nearest)] }))
      .sort((a, b) => b.y[0] - a.y[0]);
    rule = add(figure, "div", "rule");
    rule.style.left = `${place(nearest) * box.width}px`;
    rule.style.top = `${top * box.height}px`;
    rule.style.height = `${(bottom - top) * box.height}px`;
    tip = add(figure, "div", "tip");
    add(tip, "p", "", `${nearest.toLocaleString("en")} ${data.axis}`);
    for (const { label, colour, y } of values.slice(0, 12)) {
      const [value, low, high] = y.map((number) => number.toFixed(2));
      const entry = add(tip, "div", "", `${label} ${value} `);
      entry.style.setProperty("--colour", colour);
      add(entry, "span", "quiet", `(${low} to ${high})`);
    }
    if (values.length > 12) add(tip, "p", "", `and ${values.length - 12} more`);
    const isLeft = place(nearest) < .5;
    tip.style[isLeft ? "left" : "right"] =
      `${(isLeft ? place(nearest) : 1 - place(nearest)) * box.width + 8}px`;
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", clear);
}

document.querySelectorAll("table").forEach(makeSortable);
document.querySelectorAll("section").forEach(makeHighlighting);
document.querySelectorAll("figure:has(> script)").forEach(makeReadable);
for (const data of document.querySelectorAll(".interactive > script")) {
  Bokeh.embed.embed_item(JSON.parse(data.textContent));
}

// Browsers without ::details-content print closed parts closed.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open]):not(.long)")];
  opened.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));
