"use strict";
// A chart in a figure: lines with the band of their extremes, marks, and a cursor for pointer, finger and keyboard.

const MANY_DOTS = 80;
const FLAT = 8; // how many times the range of the means the extremes may take up
const LEFT = 58, RIGHT = 14, TOP = 18, BOTTOM = 24;

// What the colours of lines stand for.
function legend(lines) {
  const list = html("ul", { className: "legend" });
  for (const { name, colour, dashed } of lines) {
    const stroke = svg("path", { class: `line c${colour}${dashed ? " dashed" : ""}`, d: "M1 8h26" });
    list.append(html("li", {}, svg("svg", { viewBox: "0 0 28 16", "aria-hidden": "true" }, stroke), name));
  }
  return list;
}

class Chart {
  // `view` is shared by all charts of an axis: the part that is shown, the cursor, and what was chosen.
  constructor(figure, spec, view) {
    Object.assign(this, { spec, view });
    this.plot = html("div", { className: "plot", tabIndex: 0 });
    for (const [name, value] of Object.entries({ role: "slider", "aria-label": `${spec.title}: move the cursor with the arrow keys` }))
      this.plot.setAttribute(name, value);
    this.readout = html("p", { className: "readout" });
    if (spec.axis === "seconds" && spec.lines.length > 1) figure.append(legend(spec.lines));
    figure.append(this.plot, this.readout);
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  get curves() { return [...this.spec.lines.map((line) => line.curve), ...(this.spec.dots ? [this.spec.dots] : [])]; }

  // The first and last place of any curve.
  static extent(specs) {
    const curves = specs.flatMap((spec) => [...spec.lines.map((line) => line.curve), ...(spec.dots ? [spec.dots] : [])]);
    const places = curves.flatMap((curve) => [...(curve.x.length ? [curve.x[0], curve.x[curve.x.length - 1] + curve.width - 1] : []),
      ...(curve.bad || []).map(([place]) => place)]);
    return places.length ? [Math.min(...places), Math.max(...places)] : [0, 1];
  }

  // Indices of a curve's points that are shown, with one neighbour at each side.
  shown(curve) {
    const [from, to] = this.view.range;
    return [Math.max(0, before(curve.x, from - curve.width)), Math.min(curve.x.length, before(curve.x, to) + 2)];
  }

  // The range of what is shown: with the extremes, unless they would press the means flat and the reader lets them.
  bounds() {
    const [means, all] = [this.range(false), this.range(true)];
    const isFlat = this.log ? all[1] / all[0] > (means[1] / means[0]) ** FLAT : all[1] - all[0] > FLAT * (means[1] - means[0]);
    const [low, high] = isFlat && !this.view.whole && means[0] < means[1] ? means : all;
    if (low > high) return this.log ? [0.1, 1] : [0, 1];
    if (this.log) return low === high ? [low / 2, high * 2] : [low, high];
    // Halves: the difference of two floats can be more than a float holds.
    const margin = (high / 2 - low / 2) * 0.08 || Math.abs(high) * 0.05 || 1;
    return [low - margin, high + margin];
  }

  range(withBand) {
    let low = Infinity, high = -Infinity;
    for (const curve of this.curves) {
      const [from, to] = this.shown(curve), [least, greatest] = withBand && curve.low ? [curve.low, curve.high] : [curve.y, curve.y];
      for (let place = from; place < to; place++) {
        low = Math.min(low, least[place]);
        high = Math.max(high, greatest[place]);
      }
    }
    return [low, high];
  }

  get log() { return this.view.log && this.curves.every((curve) => (curve.low || curve.y).every((value) => value > 0)); }

  draw() {
    const width = this.plot.clientWidth, height = this.plot.clientHeight;
    if (width < 100 || !this.spec) return;
    const [from, to] = this.view.range, [low, high] = this.bounds();
    this.x = scale(from, to === from ? from + 1 : to, LEFT, width - RIGHT);
    this.y = scale(low, high, height - BOTTOM, TOP, this.log);
    this.size = [width, height];
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", focusable: "false" });
    const id = `clip-${this.spec.id}`;
    const area = { x: LEFT - 4, y: TOP, width: width - LEFT - RIGHT + 8, height: height - TOP - BOTTOM }; // whole dots at the ends
    picture.append(svg("clipPath", { id }, svg("rect", area)), ...this.axes());
    const inside = svg("g", { "clip-path": `url(#${id})` });
    for (const line of this.spec.lines) inside.append(...this.line(line));
    if (this.spec.dots) inside.append(...this.dots(this.spec.dots));
    picture.append(...this.marks(), inside, ...this.beyond(low, high), ...this.unfinite());
    this.overlay = picture.appendChild(svg("g"));
    this.plot.replaceChildren(picture);
    this.point();
  }

  axes() {
    const [width, height] = this.size, [from, to] = this.view.range, found = [];
    const room = Math.max(2, Math.floor((height - TOP - BOTTOM) / 40));
    const [low, high] = [this.y.back(height - BOTTOM), this.y.back(TOP)];
    for (const value of this.log ? logTicks(low, high, room) : ticks(low, high, room)) {
      const y = this.y(value);
      found.push(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }),
        svg("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, number(value)));
    }
    const across = Math.max(2, Math.floor((width - LEFT - RIGHT) / 70));
    const places = this.spec.axis === "seconds" ? timeTicks(from, to, across) : ticks(from, to, across).filter(Number.isInteger);
    for (const place of places) {
      const label = this.spec.axis === "seconds" ? duration(place) : number(place);
      found.push(svg("line", { class: "grid", x1: this.x(place), x2: this.x(place), y1: height - BOTTOM, y2: height - BOTTOM + 4 }),
        svg("text", { x: this.x(place), y: height - 6, "text-anchor": "middle" }, label));
    }
    return found;
  }

  line({ curve, colour, kept, dashed }) {
    const [from, to] = this.shown(curve), style = `c${colour}${kept ? "" : " superseded"}${dashed ? " dashed" : ""}`;
    const parts = [];
    let path = "", ahead = "", back = "";
    const close = () => { if (ahead) parts.push(svg("path", { class: `band ${style}`, d: `${ahead}${back}Z` })); ahead = back = ""; };
    const height = (value) => this.y(this.log ? Math.max(value, Number.MIN_VALUE) : value).toFixed(1);
    for (let place = from; place < to; place++) {
      const x = this.x(curve.x[place] + (curve.width - 1) / 2).toFixed(1);
      const isGap = place === from || curve.x[place] - curve.x[place - 1] > curve.width * this.sparse(curve);
      if (isGap) close();
      path += `${isGap ? "M" : "L"}${x} ${height(curve.y[place])}${isGap ? "h.01" : ""}`;
      if (!curve.low) continue;
      ahead += `${isGap ? "M" : "L"}${x} ${height(curve.high[place])}`;
      back = `L${x} ${height(curve.low[place])}${back}`;
    }
    close();
    return [...parts, svg("path", { class: `line ${style}`, d: path, "stroke-linecap": "round" })];
  }

  // How far apart a curve's points usually are, in buckets: a longer way is a gap.
  sparse(curve) {
    if (curve.sparse === undefined) {
      const ways = curve.x.slice(1).map((place, index) => (place - curve.x[index]) / curve.width).sort((a, b) => a - b);
      curve.sparse = 1.5 * (ways[Math.floor(ways.length / 2)] || 1);
    }
    return curve.sparse;
  }

  // Where extremes lie beyond the scale, one sign for each few pixels.
  beyond(low, high) {
    const found = [], bottom = this.size[1] - BOTTOM;
    for (const { curve, colour } of this.spec.lines) {
      if (!curve.low) continue;
      const [from, to] = this.shown(curve), last = { high: -Infinity, low: -Infinity };
      for (let place = from; place < to; place++) {
        const x = this.x(curve.x[place] + (curve.width - 1) / 2);
        for (const [side, isOver, y, shape] of [["high", curve.high[place] > high, TOP, "M-3 5l3-5 3 5z"], ["low", curve.low[place] < low, bottom, "M-3-5l3 5 3-5z"]]) {
          if (!isOver || x - last[side] < 7 || x < LEFT || x > this.size[0] - RIGHT) continue;
          last[side] = x;
          const title = svg("title", {}, `step ${curve.x[place]}: ${number(curve[side][place])}, beyond the scale`);
          found.push(svg("path", { class: `beyond c${colour}`, d: shape, transform: `translate(${x} ${y})` }, title));
        }
      }
    }
    return found;
  }

  // A few points as dots, many as a line.
  dots(curve) {
    const [from, to] = this.shown(curve), found = [];
    if (to - from > MANY_DOTS) return [this.line({ curve, colour: 3, kept: true }).pop()];
    for (let place = from; place < to; place++) {
      if (this.log && curve.y[place] <= 0) continue;
      found.push(svg("circle", { class: "dot", r: 3, cx: this.x(curve.x[place] + (curve.width - 1) / 2), cy: this.y(curve.y[place]) }));
    }
    return found;
  }

  marks() {
    if (!this.view.marks) return [];
    const [from, to] = this.view.range, bottom = this.size[1] - BOTTOM;
    // What happened before the first step is marked where the curves begin.
    const isShown = (step) => (step >= from || from === this.view.extent[0]) && step <= to;
    const shapes = { lost: "M-4-4l8 8m0-8l-8 8", restored: "M-4 3l4-7 4 7z", drained: "M-3-4l6 4-6 4z", attempt: "M0-5v9M0-5h5", membership: "M0-4v6" };
    return this.view.moments.filter(({ step }) => isShown(step)).map(({ step, kind, text, more }) => {
      const x = this.x(Math.max(step, from));
      return svg("g", {}, svg("title", {}, `step ${step}: ${text}${more ? `, and ${more} more` : ""}`),
        svg("line", { class: `mark ${kind}`, x1: x, x2: x, y1: TOP - 4, y2: bottom }),
        svg("path", { class: `sign ${kind}`, d: shapes[kind], transform: `translate(${x} ${TOP - 10})` }));
    });
  }

  unfinite() {
    const found = [], bottom = this.size[1] - BOTTOM, [from, to] = this.view.range;
    for (const curve of this.curves) {
      for (const [place, times] of curve.bad || []) {
        if (place < from || place > to) continue;
        found.push(svg("path", { class: "unfinite", d: "M0-9l5 9h-10z", transform: `translate(${this.x(place)} ${bottom})` },
          svg("title", {}, `step ${place}: ${times} not finite`)));
      }
    }
    return found;
  }
}
