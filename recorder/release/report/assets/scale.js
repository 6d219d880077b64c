"use strict";
// Scales, ticks and numbers as people read them.

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function html(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

// From [low, high] to [start, end]; logarithmic where wanted.
function scale(low, high, start, end, log = false) {
  const of = log ? Math.log10 : (value) => value;
  const from = of(low), span = of(high) - from || 1;
  const to = (value) => start + ((of(value) - from) / span) * (end - start);
  to.back = (place) => {
    const value = from + ((place - start) / (end - start)) * span;
    return log ? 10 ** value : value;
  };
  return to;
}

// About `count` round values between low and high.
function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
  const found = [];
  for (let number = Math.ceil(low / step); number * step <= high && found.length < 50; number++) found.push(number * step);
  return found;
}

// Powers of ten, with 2 and 5 where there are few; round values where there are none.
function logTicks(low, high, count) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) found.push(10 ** power);
  const whole = found.filter((value) => value >= low && value <= high);
  if (whole.length > count) return whole.filter((_, place) => place % Math.ceil(whole.length / count) === 0);
  const finer = found.flatMap((value) => [value, 2 * value, 5 * value]).filter((value) => value >= low && value <= high);
  if (whole.length > 2) return whole;
  return finer.length > 2 ? finer : ticks(low, high, count);
}

function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e15 || size < 1e-4) return value.toExponential(2).replace(/\.?0+e/, "e");
  for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= unit) return `${+(value / (name === "k" ? 1e3 : unit)).toPrecision(4)}${name}`;
  }
  return `${+value.toPrecision(5)}`;
}

function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${+seconds.toPrecision(3)} s`;
  for (const [unit, name, part, below] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    const rest = Math.floor((whole % unit) / part);
    if (whole >= unit) return `${Math.floor(whole / unit)} ${name}${rest ? ` ${rest} ${below}` : ""}`;
  }
  return "0";
}

// Round times, as many as have room.
function timeTicks(low, high, count) {
  const steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800];
  const step = steps.find((size) => (high - low) / size <= count);
  if (!step) return ticks(low, high, count);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) found.push(at);
  return found;
}

// The place of the last value in the sorted list that is not above `wanted`, or -1.
function before(sorted, wanted) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= wanted) low = middle + 1; else high = middle;
  }
  return low - 1;
}
