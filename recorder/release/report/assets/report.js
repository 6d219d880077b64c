"use strict";
// Draws the curves of a report.

(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const specs = new Map(data.charts.map((spec) => [spec.id, spec]));
  const views = {};
  for (const axis of ["steps", "seconds"]) {
    const own = data.charts.filter((spec) => spec.axis === axis);
    views[axis] = new View(Chart.extent(own), axis === "steps" ? data.moments : []);
  }
  for (const figure of document.querySelectorAll("[data-chart]")) {
    const spec = specs.get(figure.dataset.chart), view = views[spec.axis];
    view.charts.push(new Chart(figure, spec, view));
  }

  const tools = document.getElementById("tools"), steps = views.steps;
  if (!tools) return;
  const action = (label, act) => tools.append(html("button", { type: "button", textContent: label, onclick: act }));
  const choice = (label, name, title) => {
    const button = html("button", { type: "button", textContent: label, title });
    const show = () => button.setAttribute("aria-pressed", steps[name]);
    button.addEventListener("click", () => { steps[name] = !steps[name]; show(); steps.draw(); });
    show();
    tools.append(button);
  };
  action("Zoom in", () => steps.zoom(0.5));
  action("Zoom out", () => steps.zoom(2));
  action("Whole run", () => steps.reset());
  choice("Logarithmic", "log", "where all values are positive");
  if (data.charts.some((spec) => spec.lines.some((line) => line.curve.low))) choice("All extremes", "whole", "the scale holds every extreme, even where the means look flat then");
  if (data.moments.length) choice("Marks", "marks", "losses, restores, memberships and attempts");

  const key = document.getElementById("legend");
  const item = (label, ...shapes) => key.append(html("li", {}, svg("svg", { viewBox: "0 0 28 16", "aria-hidden": "true" }, ...shapes), label));
  const stroke = (style) => svg("path", { class: `line ${style}`, d: "M1 8h26" });
  const lines = data.charts.filter((spec) => spec.axis === "steps").flatMap((spec) => spec.lines);
  item("even memberships", stroke("c0"));
  if (lines.some((line) => line.colour === 1)) item("odd memberships", stroke("c1"));
  if (lines.some((line) => !line.kept)) item("superseded: computed again later", stroke("c0 superseded"));
  if (lines.some((line) => line.curve.low)) item("least to greatest", svg("rect", { class: "band c0", y: 2, width: 28, height: 12 }));
  if (data.charts.some((spec) => spec.dots)) item("validation", svg("circle", { class: "dot", cx: 14, cy: 8, r: 3 }));
  const shapes = { lost: "M-4-4l8 8m0-8l-8 8", restored: "M-4 3l4-7 4 7z", drained: "M-3-4l6 4-6 4z", attempt: "M0-5v9M0-5h5" };
  const names = { lost: "worker or node lost", restored: "state restored", drained: "worker drained", attempt: "attempt begins" };
  for (const [kind, label] of Object.entries(names))
    if (data.moments.some((moment) => moment.kind === kind)) item(label, svg("path", { class: `sign ${kind}`, d: shapes[kind], transform: "translate(14 8)" }));
  if (lines.some((line) => line.curve.low)) item("extreme beyond the scale", svg("path", { class: "beyond c0", d: "M10 12l4-8 4 8z" }));
  if (lines.some((line) => line.curve.bad)) item("not a finite number", svg("path", { class: "unfinite", d: "M14 3l5 9h-10z" }));
  tools.append(html("span", { className: "dim", textContent: "Drag over a chart to zoom; with the keyboard: arrows, + and −, 0." }));
})();
