// Small charts of the last hour, as SVG that is drawn from the service's own samples.

import { $, at, clockText, numberText, setText } from "./dom.js";

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
const [WIDTH, HEIGHT, TOP] = [600, 100, 6];

/** The samples of the last hour, put together from the parts that polls bring. */
export class Samples {
  #samples = [];

  /** The time of the newest one, 0 without any. */
  get last() {
    return this.#samples.at(-1)?.at ?? 0;
  }

  add({ at_ms: times, series }) {
    const names = Object.keys(series);
    for (const [index, time] of times.entries()) {
      if (time <= this.last) continue;
      this.#samples.push({ at: time, numbers: Object.fromEntries(names.map((name) => [name, series[name][index]])) });
    }
    this.#samples = this.#samples.filter((sample) => sample.at > this.last - HOUR_MS);
    return times.length > 0;
  }

  /** The sample that is nearest to a time, with the numbers of some series; undefined without samples. */
  nearest(time, names) {
    const rows = names.map((name) => this.points(name));
    const distances = this.#samples.map((sample) => Math.abs(sample.at - time));
    const index = distances.indexOf(Math.min(...distances));
    return this.#samples[index] && { at: this.#samples[index].at, numbers: rows.map((points) => points[index][1]) };
  }

  /** [time, number] of a series, null where the service could not read it; `a+b` is a sum. A name that no sample has
      yet, such as a state in which there never was an order, is 0. */
  points(name) {
    return this.#samples.map(({ at: time, numbers }) => {
      const isGap = Object.keys(numbers).length === 0 || Object.values(numbers).every((number) => number === null);
      return [time, isGap ? null : name.split("+").reduce((sum, part) => sum + (numbers[part] ?? 0), 0)];
    });
  }
}

/** Draw every chart of the page. */
export function drawCharts(figures, samples) {
  for (const figure of figures) {
    const names = figure.dataset.series.split(" ");
    const kind = { lines: drawLines, bars: drawBars, strip: drawStrip }[figure.dataset.chart];
    const series = names.map((name) => (name ? samples.points(name) : []));
    const text = kind($("svg", figure), series, samples.last, figure);
    $("svg", figure).setAttribute("aria-label", `${figure.dataset.label}, over the last hour: ${text}`);
  }
}

/** Tell the numbers under the pointer. Who has none finds what matters in the description of the chart. */
export function readCharts(figures, samples) {
  for (const figure of figures.filter((each) => each.dataset.chart === "lines")) {
    const [svg, place] = [$("svg", figure), $("[data-span]", figure)];
    const names = figure.dataset.series.split(" ").filter(Boolean);
    const usual = place.textContent;
    svg.addEventListener("pointermove", (event) => {
      const { left, width } = svg.getBoundingClientRect();
      const time = samples.last - HOUR_MS * (1 - (event.clientX - left) / width);
      const nearest = samples.nearest(time, names);
      if (nearest) setText(place, `${clockText(new Date(nearest.at))}: ${nearest.numbers.map(numberText).join(", ")}`);
    });
    svg.addEventListener("pointerleave", () => setText(place, usual));
  }
}

const x = (time, end) => (((time - (end - HOUR_MS)) / HOUR_MS) * WIDTH).toFixed(1);
const y = (number, top) => (HEIGHT - (number / top) * (HEIGHT - TOP)).toFixed(1);

function drawLines(svg, series, end, figure) {
  const numbers = series.flat().map(([, number]) => number ?? 0);
  const top = Math.max(1, ...numbers);
  $("[data-top]", figure).textContent = `to ${numberText(top)}`;
  const shapes = [];
  for (const [index, points] of series.entries()) {
    if (!points.length) continue;
    const parts = withoutGaps(points);
    if (index === 0) {
      shapes.push(...parts.map((part) => shape("path", { class: "area", d: `${lineOf(part, end, top)} L${x(part.at(-1)[0], end)},${HEIGHT} L${x(part[0][0], end)},${HEIGHT} Z` })));
    }
    shapes.push(shape("path", { class: `line line-${index + 1}`, d: parts.map((part) => lineOf(part, end, top)).join(" ") }));
  }
  svg.replaceChildren(...shapes);
  return series.filter((points) => points.length).map((points) => summary(points)).join("; ");
}

const lineOf = (points, end, top) => `M${points.map(([time, number]) => `${x(time, end)},${y(number, top)}`).join(" L")}`;

/** Runs of points that follow each other: a service that was down or could not read its store leaves a gap. */
function withoutGaps(points) {
  const runs = [[]];
  const usual = points.length > 2 ? (points.at(-1)[0] - points[0][0]) / (points.length - 1) : HOUR_MS;
  for (const [index, [time, number]] of points.entries()) {
    const pause = index ? time - points[index - 1][0] : 0;
    if (number === null || pause > Math.max(20_000, usual * 4)) runs.push([]);
    if (number !== null) runs.at(-1).push([time, number]);
  }
  return runs.filter((run) => run.length);
}

/** How much a count has grown in each minute. One that falls, as after a restart, has grown by nothing. */
function drawBars(svg, [points], end, figure) {
  const grown = Array(60).fill(0);
  for (const [index, [time, number]] of points.entries()) {
    const before = index ? points[index - 1][1] : null;
    const minute = 59 - Math.floor((end - time) / MINUTE_MS);
    if (number !== null && before !== null && minute >= 0) grown[minute] += Math.max(0, number - before);
  }
  const top = Math.max(1, ...grown);
  $("[data-top]", figure).textContent = `to ${numberText(top)} ${figure.dataset.unit}`;
  svg.replaceChildren(
    ...grown.flatMap((number, minute) =>
      number ? [shape("rect", { class: "bar-1", x: minute * 10 + 1, width: 8, y: y(number, top), height: (HEIGHT - y(number, top)).toFixed(1) })] : [],
    ),
    shape("path", { class: "base", d: `M0,${HEIGHT} H${WIDTH}` }),
  );
  return `${numberText(grown.reduce((sum, number) => sum + number, 0))} in all, at most ${numberText(top)} in one minute`;
}

/** Whether something was so, minute by minute: always, at times, or never. */
function drawStrip(svg, [points], end) {
  const minutes = Array.from({ length: 60 }, () => []);
  for (const [time, number] of points) {
    const minute = 59 - Math.floor((end - time) / MINUTE_MS);
    if (minute >= 0 && number !== null) minutes[minute].push(number > 0);
  }
  const kinds = minutes.map((seen) => (seen.length === 0 ? "none" : seen.every(Boolean) ? "yes" : seen.some(Boolean) ? "partly" : "no"));
  svg.replaceChildren(
    ...kinds.map((kind, minute) => shape("rect", { class: `strip strip-${kind}`, x: minute * 10 + 1, width: 8, y: kind === "no" ? 60 : kind === "partly" ? 45 : 30, height: kind === "no" ? 40 : kind === "partly" ? 55 : 70 })),
  );
  const count = (kind) => kinds.filter((each) => each === kind).length;
  return `yes in ${count("yes")} minutes, at times in ${count("partly")}, no in ${count("no")}`;
}

function summary(points) {
  const numbers = points.map(([, number]) => number).filter((number) => number !== null);
  if (!numbers.length) return "no samples";
  return `now ${numberText(numbers.at(-1))}, between ${numberText(Math.min(...numbers))} and ${numberText(Math.max(...numbers))}`;
}

function shape(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Put the numbers of the present moment in. */
export function showNow(places, now) {
  for (const place of places) {
    setText(place, numberText(at(now, place.dataset.now)));
  }
}
