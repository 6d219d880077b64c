"use strict";
// Runs side by side: their losses in one chart, and in what their configs differ.

(() => {
  const { runs } = JSON.parse(document.getElementById("page-data").textContent);
  const place = document.getElementById("comparison"), hint = document.getElementById("hint");

  function compare(selected) {
    hint.hidden = selected.length > 0;
    place.replaceChildren();
    if (!selected.length) return;
    const lines = selected.map((run, index) => ({ name: run.run, colour: index % 8, dashed: index >= 8, kept: true, curve: run.curve }));
    const spec = { id: "compared", title: "Loss", axis: "steps", lines: lines.filter((line) => line.curve), dots: null };
    const figure = html("figure", { className: "chart wide" }, html("figcaption", {}, "Loss", html("small", { textContent: "nats per token" })));
    const log = html("button", { type: "button", textContent: "Logarithmic" }), whole = html("button", { type: "button", textContent: "All steps" });
    place.append(html("div", { className: "tools" }, log, whole), legend(lines), html("div", { className: "charts" }, figure), differences(selected));
    const view = new View(Chart.extent([spec]));
    view.charts.push(new Chart(figure, spec, view));
    const show = () => log.setAttribute("aria-pressed", view.log);
    log.addEventListener("click", () => { view.log = !view.log; show(); view.draw(); });
    whole.addEventListener("click", () => view.reset());
    show();
  }

  function differences(selected) {
    if (selected.length < 2) return html("p", { textContent: "Choose a second run to compare the configs." });
    const keys = [...new Set(selected.flatMap((run) => Object.keys(run.config)))].sort();
    const differing = keys.filter((key) => new Set(selected.map((run) => run.config[key])).size > 1);
    if (!differing.length) return html("p", { textContent: "Their configs are the same." });
    const heads = ["key", ...selected.map((run) => run.run)].map((name) => html("th", { scope: "col", textContent: name }));
    const rows = differing.map((key) => html("tr", {}, html("th", { scope: "row", className: "code", textContent: key }),
      ...selected.map((run) => html("td", { className: "code", textContent: run.config[key] ?? "-" }))));
    const caption = html("caption", { textContent: `Configs: ${differing.length} of ${keys.length} keys differ` });
    const table = html("table", {}, caption, html("thead", {}, html("tr", {}, ...heads)), html("tbody", {}, ...rows));
    const region = html("div", { className: "scroll", tabIndex: 0 }, table);
    region.setAttribute("role", "region");
    region.setAttribute("aria-label", "Configs that differ");
    return region;
  }

  new Runs(runs, document.getElementById("runs"), compare);
})();
