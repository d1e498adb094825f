// The distribution of scores, the counts that follow from the threshold, and metrics.

const SVG = "http://www.w3.org/2000/svg";
const PLOT = { width: 0, height: 0, left: 40, right: 12, top: 22, bottom: 40 };
const BINS = 40;

function svg(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// In what the axis shows: multiples of the threshold, or the detector's own scores.
const toShown = (anomaly) => (report.inMultiples ? anomaly / OWN_THRESHOLD : anomaly);
const fromShown = (value) => (report.inMultiples ? value * OWN_THRESHOLD : value);

const range = (() => {
  const shown = [...images.map((image) => toShown(image.anomaly)), toShown(OWN_THRESHOLD)];
  const low = shown.reduce((a, b) => Math.min(a, b));
  const high = shown.reduce((a, b) => Math.max(a, b));
  const margin = 0.04 * (high - low) || Math.abs(high) || 1;
  return [low - margin, high + margin];
})();

function scaled(value) {
  const share = (value - range[0]) / (range[1] - range[0]);
  return PLOT.left + share * (PLOT.width - PLOT.left - PLOT.right);
}

// Round numbers to label an axis with.
function ticks(low, high, n) {
  const rough = (high - low) / n;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k += 1) found.push(k * step);
  return found;
}

const groupsOfTruth = hasTruth
  ? [
      { name: "good", of: (image) => image.truth === 1, fill: report.colours.green },
      { name: "defective", of: (image) => image.truth === -1, fill: "url(#hatched)" },
    ]
  : [{ name: "images", of: () => true, fill: "var(--accent)" }];

// Counts by bin and group; the detector's threshold lies between two bins.
function histogram() {
  const width = (range[1] - range[0]) / BINS;
  const origin = toShown(OWN_THRESHOLD);
  const first = Math.floor((range[0] - origin) / width);
  const bins = Array.from({ length: BINS + 2 }, (_, k) => ({
    low: origin + (first + k) * width,
    high: origin + (first + k + 1) * width,
    counts: groupsOfTruth.map(() => 0),
  }));
  for (const image of images) {
    const place = (toShown(image.anomaly) - origin) / width;
    // At the threshold is not above it.
    const bin = bins[(image.anomaly > OWN_THRESHOLD ? Math.floor(place) : Math.ceil(place) - 1) - first];
    bin.counts[groupsOfTruth.findIndex((group) => group.of(image))] += 1;
  }
  return bins;
}

function hatching() {
  const { red } = report.colours;
  const pattern = svg("pattern", { id: "hatched", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  pattern.append(svg("rect", { width: 6, height: 6, fill: red }), svg("rect", { width: 2, height: 6, fill: "#fff", opacity: 0.45 }));
  const defs = svg("defs", {});
  defs.append(pattern);
  return defs;
}

function drawHistogram() {
  PLOT.width = Math.max(240, $("histogram").clientWidth);
  PLOT.height = PLOT.width < 480 ? 170 : 264;
  const { width, height, left, right, top, bottom } = PLOT;
  const floor = height - bottom;
  const bins = histogram();
  const most = Math.max(...bins.map((bin) => bin.counts.reduce((a, b) => a + b)));
  const up = (n) => floor - (n / most) * (floor - top);
  const plot = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-labelledby": "histogram-title histogram-text" });
  plot.append(svg("desc", { id: "histogram-text" }), hatching());
  for (const n of ticks(0, most, 4).filter(Number.isInteger)) {
    plot.append(
      svg("line", { class: "grid", x1: left, x2: width - right, y1: up(n), y2: up(n) }),
      svg("text", { x: left - 6, y: up(n) + 4, "text-anchor": "end" }, n),
    );
  }
  for (const bin of bins) {
    let below = 0;
    bin.counts.forEach((n, k) => {
      if (n === 0) return;
      const x = scaled(bin.low) + 0.75;
      const bar = svg("rect", {
        x,
        y: up(below + n),
        width: Math.max(1, scaled(bin.high) - x - 0.75),
        height: up(below) - up(below + n),
        fill: groupsOfTruth[k].fill,
      });
      bar.append(svg("title", {}, `${n} ${groupsOfTruth[k].name}, ${short(bin.low)} to ${short(bin.high)}`));
      plot.append(bar);
      below += n;
    });
  }
  plot.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: floor, y2: floor }));
  for (const value of ticks(range[0], range[1], width / 90)) {
    const label = short(report.inMultiples ? value : -value);
    plot.append(svg("text", { x: scaled(value), y: floor + 16, "text-anchor": "middle" }, label));
  }
  const axis = report.inMultiples ? "multiple of the threshold → more anomalous" : "score → more anomalous";
  plot.append(svg("text", { x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" }, axis));
  const marker = svg("g", { id: "marker", class: "marker" });
  marker.append(svg("line", { y1: top - 6, y2: floor }), svg("text", { y: top - 8 }));
  plot.append(marker);
  $("histogram").replaceChildren(plot);
}

function showLegend() {
  for (const name of ["red", "green", "blue", "orange"]) {
    document.documentElement.style.setProperty(`--palette-${name}`, report.colours[name]);
  }
  for (const group of groupsOfTruth) {
    const swatch = element("span", { class: `swatch ${group.name}` });
    $("legend").append(element("span", {}, swatch, `${group.name} (${images.filter(group.of).length})`));
  }
  $("legend").append(element("span", {}, element("span", { class: "swatch threshold" }), "threshold: drag it, or use the slider"));
}

function showMarker() {
  const marker = $("marker");
  const value = toShown(state.threshold);
  const x = scaled(value);
  marker.querySelector("line").setAttribute("x1", x);
  marker.querySelector("line").setAttribute("x2", x);
  const label = marker.querySelector("text");
  label.textContent = inShort(state.threshold);
  label.setAttribute("x", x);
  label.setAttribute("text-anchor", x > PLOT.width - 60 ? "end" : x < 60 ? "start" : "middle");
}

function showCounts() {
  const flagged = images.filter(isFlagged);
  const tiles = [["Flagged", flagged.length, images.length, ""]];
  if (hasTruth) {
    const [good, bad] = [1, -1].map((truth) => images.filter((image) => image.truth === truth));
    tiles.push(["False alarms", flagged.filter((image) => image.truth === 1).length, good.length, "good"]);
    tiles.push(["Missed", bad.filter((image) => !isFlagged(image)).length, bad.length, "defective"]);
  }
  $("counts").replaceChildren(
    ...tiles.map(([name, n, of, kind]) =>
      element(
        "div",
        { class: "panel count", "data-count": name.toLowerCase() },
        element("span", { class: "what", text: name }),
        element("b", { text: n }),
        element("span", { class: "quiet", text: `of ${of} ${kind} ${of ? `(${percent(n / of)})` : ""}` }),
      ),
    ),
  );
  $("histogram-text").textContent = tiles.map(([name, n, of, kind]) => `${name}: ${n} of ${of} ${kind}`).join("; ");
}

// The colours of maps beside what they mean.
function showMapLegend() {
  const ramp = element("canvas", { class: "ramp", width: 2 * STEPS, height: 1, role: "img", "aria-label": "Pale up to the threshold, red above it" });
  const colours = new ImageData(2 * STEPS, 1);
  report.colours.table.forEach((value, k) => {
    colours.data[k] = k % 4 === 3 ? 255 : value;
  });
  ramp.getContext("2d").putImageData(colours, 0, 0);
  const [bottom, top] = scaleLimits(report.mapThreshold).map((value) => (report.inMultiples ? `${value / report.mapThreshold} ×` : short(value)));
  const marks = [["white", "exceeds the threshold"], ["orange", "box of a region (enlarged)"]];
  if (report.evaluation !== null && images.some((image) => image.picture[3])) marks.push(["blue", "marked defect"]);
  $("map-legend").append(
    element("span", {}, `map ${bottom} `, ramp, ` ${top}, threshold in the middle`),
    ...marks.map(([kind, text]) => element("span", {}, element("span", { class: `line ${kind}` }), text)),
  );
}

const METRICS = {
  image_roc_auc: "image AUROC",
  image_average_precision: "image AP",
  image_f1_max: "image F1-max",
  pixel_roc_auc: "pixel AUROC",
  aupro: "AUPRO",
  aupimo: "AUPIMO",
  false_alarm_rate: "false alarms",
  detection_rate: "detected",
};

function showMetrics() {
  if (report.evaluation === null) return;
  const rows = report.evaluation.rows.filter((row) => row.group === "all" || row.group === "defect type");
  const shown = Object.keys(METRICS).filter((name) => name in rows[0].scores);
  const cell = (estimate) => {
    const made = element("td", { text: estimate.value === null ? "–" : estimate.value.toFixed(3) });
    if (estimate.low !== null) made.title = `${estimate.low.toFixed(3)} to ${estimate.high.toFixed(3)}`;
    return made;
  };
  const header = ["", "images", ...shown.map((name) => METRICS[name])];
  const lines = rows.map((row) =>
    element(
      "tr",
      {},
      element("th", { scope: "row", text: row.group === "all" ? "all" : printable(row.name) }),
      element("td", { text: row.n_anomalous }),
      ...shown.map((name) => cell(row.scores[name])),
    ),
  );
  const table = element("table", {}, headOf(header), element("tbody", {}, ...lines));
  $("metrics").querySelector(".scroll").append(table);
  const percentage = Math.round(100 * report.evaluation.confidence_level);
  $("metrics-note").textContent =
    `At the detector's own threshold; each type against all ${rows[0].n_normal} good images. ` +
    `“images” counts defective ones. Point at a figure for its ${percentage} % interval.`;
  $("metrics").hidden = false;
}

function startOverview() {
  drawHistogram();
  showLegend();
  showMetrics();
  showMapLegend();
  const plot = $("histogram");
  new ResizeObserver(() => {
    if (Math.max(240, plot.clientWidth) === PLOT.width) return;
    drawHistogram();
    showMarker();
    showCounts();
  }).observe(plot);
  const set = (event) => {
    const box = plot.getBoundingClientRect();
    const along = ((event.clientX - box.left) / box.width) * PLOT.width - PLOT.left;
    const share = Math.min(1, Math.max(0, along / (PLOT.width - PLOT.left - PLOT.right)));
    setThreshold(fromShown(range[0] + share * (range[1] - range[0])));
  };
  plot.addEventListener("pointerdown", (event) => {
    plot.setPointerCapture(event.pointerId);
    set(event);
  });
  plot.addEventListener("pointermove", (event) => {
    if (plot.hasPointerCapture(event.pointerId)) set(event);
  });
}
