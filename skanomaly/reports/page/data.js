"use strict";
// What the report holds, and what follows from the threshold that is set.

const $ = (id) => document.getElementById(id);
const report = JSON.parse($("report").textContent);
const pictureText = $("pictures").textContent;
const images = report.images;
const hasTruth = images[0].truth !== undefined;

// The page speaks of how anomalous an image is: higher is worse, the threshold's is exact.
const OWN_THRESHOLD = -report.offset;
images.forEach((image, i) => {
  image.index = i;
  image.anomaly = -image.score;
});
const state = { threshold: OWN_THRESHOLD, opacity: 0.6 }; // a defect shows through its map

function isFlagged(image) {
  return image.anomaly > state.threshold;
}

function mapThreshold() {
  if (state.threshold === OWN_THRESHOLD) return report.mapThreshold;
  if (report.inMultiples) return report.mapThreshold * (state.threshold / OWN_THRESHOLD);
  return report.mapThreshold + (state.threshold - OWN_THRESHOLD);
}

function asMultiple(anomaly) {
  return report.inMultiples ? `${(anomaly / OWN_THRESHOLD).toFixed(2)} × threshold` : `score ${short(-anomaly)}`;
}

// The same in few characters.
function inShort(anomaly) {
  return report.inMultiples ? `${(anomaly / OWN_THRESHOLD).toFixed(2)} ×` : short(-anomaly);
}

function verdictOf(image) {
  return isFlagged(image) ? "anomalous" : "normal";
}

// Against the truth, where it is known.
function outcomeOf(image) {
  if (!hasTruth) return "";
  if (image.truth === 1) return isFlagged(image) ? "false alarm" : "";
  return isFlagged(image) ? "found" : "missed";
}

function short(number) {
  return String(Number(number.toPrecision(4)));
}

function ofImages(n) {
  return n === 1 ? "1 image" : `${n} images`;
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

// Bytes of a file's name that are no UTF-8 come as lone surrogates, which no text shows.
function printable(name) {
  return name.replace(/[\ud800-\udfff]/gu, (unit) => `\\u${unit.charCodeAt(0).toString(16)}`);
}

const commonFolder = (() => {
  const folders = images.map((image) => image.name.split(/[\\/]/).slice(0, -1));
  const first = folders[0];
  let n = first.length;
  for (const folder of folders) {
    let k = 0;
    while (k < n && folder[k] === first[k]) k += 1;
    n = k;
  }
  return n === 0 ? 0 : first.slice(0, n).join("/").length + 1;
})();

function shortName(image) {
  return printable(image.name.slice(commonFolder));
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// The first line of a table; the corner above names of rows is no heading.
function headOf(names) {
  const cells = names.map((text) => (text ? element("th", { scope: "col", text }) : element("td")));
  return element("thead", {}, element("tr", {}, ...cells));
}

function unique(values) {
  return [...new Set(values)].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
}
