"use strict";
// The list of runs: search, order, and sweeps kept together.

class Runs {
  constructor(runs, table, onSelect) {
    Object.assign(this, { runs, key: "created", down: true, together: true, onSelect });
    this.body = table.tBodies[0];
    this.rows = new Map([...this.body.querySelectorAll("[data-run]")].map((row) => [+row.dataset.run, row]));
    this.groups = new Map([...this.body.querySelectorAll("[data-sweep]")].map((row) => [row.dataset.sweep, row]));
    this.texts = runs.map((run) => [run.run, run.outcome, run.sweep, run.parent, run.created, run.problem,
      ...Object.entries(run.config).map(([key, value]) => `${key}=${value}`)].filter(Boolean).join(" ").toLowerCase());
    this.heads = [...table.querySelectorAll("[data-key]")];
    for (const head of this.heads) head.addEventListener("click", () => this.sort(head.dataset.key));
    for (const box of table.querySelectorAll("[data-select]")) box.addEventListener("change", () => onSelect(this.selected()));
    for (const cell of table.querySelectorAll("[data-spark]")) this.spark(cell, runs[cell.dataset.spark].curve);
    this.search = document.getElementById("search");
    this.search.addEventListener("input", () => this.show());
    const sweeps = document.getElementById("sweeps");
    sweeps.hidden = !this.groups.size;
    sweeps.addEventListener("click", () => {
      this.together = !this.together;
      sweeps.setAttribute("aria-pressed", this.together);
      this.show();
    });
    document.getElementById("tools").hidden = false;
    this.show();
  }

  selected() { return this.runs.filter((_, place) => this.rows.get(place).querySelector("input").checked); }

  sort(key) {
    this.down = key === this.key ? !this.down : !["run", "outcome", "loss", "validation"].includes(key);
    this.key = key;
    this.show();
  }

  // What is missing or no number comes last, whichever way the order goes.
  compare(a, b) {
    const [first, second] = [a, b].map((place) => this.runs[place][this.key]);
    const [isOne, isOther] = [first, second].map((value) => value !== null && value !== "NaN");
    if (!isOne || !isOther) return isOther - isOne;
    const order = typeof first === "number" && typeof second === "number" ? first - second : String(first).localeCompare(String(second));
    return (this.down ? -order : order) || a - b;
  }

  show() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [...this.rows.keys()].filter((place) => words.every((word) => this.texts[place].includes(word)));
    found.sort((a, b) => this.compare(a, b));
    const shown = [], done = new Set();
    for (const place of found) {
      const { sweep } = this.runs[place];
      if (!this.together || !sweep) { shown.push(this.rows.get(place)); continue; }
      // A sweep stands where its first run would.
      if (done.has(sweep)) continue;
      done.add(sweep);
      shown.push(this.groups.get(sweep), ...found.filter((other) => this.runs[other].sweep === sweep).map((other) => this.rows.get(other)));
    }
    this.body.replaceChildren(...shown);
    for (const head of this.heads) {
      const way = head.dataset.key === this.key ? (this.down ? "descending" : "ascending") : "none";
      head.closest("th").setAttribute("aria-sort", way);
      head.textContent = head.textContent.replace(/ [▲▼]$/, "") + (way === "none" ? "" : this.down ? " ▼" : " ▲");
    }
    document.getElementById("status").textContent = words.length ? `${found.length} of ${this.runs.length} runs` : "";
  }

  spark(cell, curve) {
    if (!curve || !curve.x.length) return;
    const last = curve.x.length - 1, low = Math.min(...curve.y), high = Math.max(...curve.y);
    const x = scale(curve.x[0], curve.x[last] || 1, 1, 99), y = scale(low, high === low ? low + 1 : high, 19, 1);
    const path = curve.x.map((place, index) => `${index ? "L" : "M"}${x(place).toFixed(1)} ${y(curve.y[index]).toFixed(1)}`).join("");
    const picture = svg("svg", { class: "spark", viewBox: "0 0 100 20", preserveAspectRatio: "none", role: "img",
      "aria-label": `loss from ${number(curve.y[0])} to ${number(curve.y[last])}` });
    picture.append(svg("path", { d: path, "vector-effect": "non-scaling-stroke" }));
    cell.append(picture);
  }
}
