"use strict";
// The cursor of a chart, and choosing the part that is shown.

Object.assign(Chart.prototype, {
  // Draw the cursor and say what is there.
  point() {
    if (!this.overlay) return;
    const place = this.view.cursor, [from, to] = this.view.range;
    for (const [name, value] of [["min", from], ["max", to], ["now", place ?? from]]) this.plot.setAttribute(`aria-value${name}`, Math.round(value));
    this.overlay.replaceChildren();
    const brush = this.view.brush;
    if (brush) {
      const [start, end] = brush.map(this.x).sort((a, b) => a - b);
      this.overlay.append(svg("rect", { class: "brush", x: start, width: end - start, y: TOP, height: this.size[1] - TOP - BOTTOM }));
    }
    const said = place === null ? "" : this.said(place);
    this.readout.textContent = said;
    this.plot.setAttribute("aria-valuetext", said || "no cursor yet");
    if (place === null || place < from || place > to) return;
    this.overlay.append(svg("line", { class: "cursor", x1: this.x(place), x2: this.x(place), y1: TOP, y2: this.size[1] - BOTTOM }));
  },

  said(place) {
    const at = this.spec.axis === "seconds" ? duration(place) : `step ${Math.round(place)}`, parts = [];
    const named = this.spec.dots ? [...this.spec.lines, { name: "validation", curve: this.spec.dots }] : this.spec.lines;
    for (const { name, curve } of named) {
      const index = before(curve.x, place);
      if (index < 0 || place >= curve.x[index] + Math.max(curve.width, this.sparse(curve) * curve.width / 1.5)) continue;
      const band = curve.low && curve.low[index] !== curve.high[index] ? ` (${number(curve.low[index])} to ${number(curve.high[index])})` : "";
      const wide = curve.width > 1 ? `, ${curve.x[index]} to ${curve.x[index] + curve.width - 1}` : "";
      parts.push(`${name ? `${name}: ` : ""}${number(curve.y[index])}${band}${parts.length ? "" : wide}`);
    }
    return `${at}: ${parts.slice(0, 6).join("; ") || "nothing recorded"}${parts.length > 6 ? ` and ${parts.length - 6} more` : ""}`;
  },

  listen() {
    const at = (event) => {
      const place = this.x.back(event.clientX - this.plot.getBoundingClientRect().left), [from, to] = this.view.range;
      return Math.min(to, Math.max(from, Math.round(place)));
    };
    let start = null;
    this.plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.x) return;
      start = at(event);
      this.plot.setPointerCapture(event.pointerId);
    });
    this.plot.addEventListener("pointermove", (event) => {
      if (!this.x) return;
      const place = at(event);
      this.view.brush = start !== null && place !== start && event.pointerType === "mouse" ? [start, place] : null;
      this.view.move(place);
    });
    this.plot.addEventListener("pointerup", (event) => {
      const brush = this.view.brush;
      start = this.view.brush = null;
      if (brush && Math.abs(this.x(brush[0]) - this.x(brush[1])) > 8) this.view.show(Math.min(...brush), Math.max(...brush));
      else if (this.x) this.view.move(at(event));
    });
    this.plot.addEventListener("pointercancel", () => { start = this.view.brush = null; });
    this.plot.addEventListener("keydown", (event) => this.key(event));
  },

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [from, to] = this.view.range, width = Math.max(1, ...this.curves.map((curve) => curve.width));
    const step = Math.max(width, Math.round((to - from) / 200)), now = this.view.cursor ?? from;
    const moves = { ArrowLeft: now - step, ArrowRight: now + step, ArrowDown: now - step, ArrowUp: now + step,
      PageDown: now - 10 * step, PageUp: now + 10 * step, Home: from, End: to };
    if (event.key in moves) this.view.move(Math.min(to, Math.max(from, moves[event.key])));
    else if (event.key === "+" || event.key === "=") this.view.zoom(0.5);
    else if (event.key === "-") this.view.zoom(2);
    else if (event.key === "0" || event.key === "Escape") this.view.reset();
    else return;
    event.preventDefault();
  },
});

// What all charts of an axis share.
class View {
  constructor(extent, moments = []) {
    Object.assign(this, { extent, range: extent, moments, cursor: null, brush: null, log: false, whole: false, marks: true, charts: [] });
  }

  move(place) {
    this.cursor = place;
    for (const chart of this.charts) chart.point();
  }

  show(from, to) {
    this.range = [Math.max(this.extent[0], from), Math.min(this.extent[1], Math.max(to, from + 1))];
    this.draw();
  }

  zoom(factor) {
    const [from, to] = this.range, half = ((to - from) * factor) / 2;
    const middle = this.cursor !== null && this.cursor >= from && this.cursor <= to ? this.cursor : (from + to) / 2;
    this.show(Math.floor(middle - half), Math.ceil(middle + half));
  }

  reset() { this.show(...this.extent); }

  draw() { for (const chart of this.charts) chart.draw(); }
}
