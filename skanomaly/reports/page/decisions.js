// What is decided on each image: kept in this browser, saved as files.

const DECISIONS = ["good", "defect", "unsure"];
const KEYS = { g: "good", d: "defect", u: "unsure" };
const STORED_AS = `skanomaly decisions ${report.id}`;
const decisions = new Map(); // by name
const decisionListeners = [];

function notify(text) {
  $("notice").textContent = text;
  $("notice").hidden = false;
}

function readDecisions() {
  try {
    const stored = JSON.parse(localStorage.getItem(STORED_AS) ?? "{}");
    for (const { name } of images) {
      if (Object.hasOwn(stored, name) && DECISIONS.includes(stored[name])) decisions.set(name, stored[name]);
    }
  } catch {
    notify("This browser keeps no decisions for this page. Save them as a file before you close it.");
  }
}

function storeDecisions() {
  try {
    localStorage.setItem(STORED_AS, JSON.stringify(Object.fromEntries(decisions)));
  } catch {
    notify("The browser could not keep the last decision. Save the decisions as a file before you close the page.");
  }
}

// Decide on an image; the same decision again takes it back.
function decide(image, decision) {
  if (decisions.get(image.name) === decision) decisions.delete(image.name);
  else decisions.set(image.name, decision);
  storeDecisions();
  decisionListeners.forEach((listener) => listener(image));
}

function decisionButtons(imageOf) {
  const group = element("div", { class: "decisions", role: "group", "aria-label": "Decision" });
  for (const [key, decision] of Object.entries(KEYS)) {
    const button = element("button", {
      type: "button",
      "data-decision": decision,
      "aria-keyshortcuts": key,
      text: decision[0].toUpperCase() + decision.slice(1),
    });
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      decide(imageOf(), decision);
    });
    group.append(button);
  }
  return group;
}

function showDecision(group, image) {
  for (const button of group.children) {
    button.setAttribute("aria-pressed", String(decisions.get(image.name) === button.dataset.decision));
  }
}

function decidedImages() {
  return images.filter((image) => decisions.has(image.name));
}

function decisionsAsJson() {
  const entries = decidedImages().map((image) => ({
    name: image.name,
    decision: decisions.get(image.name),
    verdict: image.anomaly > OWN_THRESHOLD ? "anomalous" : "normal",
    score: image.score,
    p_value: image.p,
  }));
  const head = { format: "skanomaly decisions", version: 1, report: report.id, title: report.title };
  return JSON.stringify({ ...head, saved: new Date().toISOString(), decisions: entries }, null, 1);
}

function decisionsAsCsv() {
  const quoted = (text) => (/[",\r\n;]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = decidedImages().map((image) => [
    quoted(image.name),
    decisions.get(image.name),
    image.anomaly > OWN_THRESHOLD ? "anomalous" : "normal",
    image.score,
    image.p,
  ]);
  const header = ["name", "decision", "verdict", "score", "p_value"];
  return [header, ...lines].map((line) => `${line.join(",")}\r\n`).join("");
}

// UTF-8, but for lone surrogates, which stand for bytes of names that are no UTF-8.
function encoded(text) {
  const encoder = new TextEncoder();
  return text
    .split(/([\udc80-\udcff])/u)
    .map((part, i) => (i % 2 ? Uint8Array.of(part.charCodeAt(0) - 0xdc00) : encoder.encode(part)));
}

function download(name, kind, text) {
  const url = URL.createObjectURL(new Blob(encoded(text), { type: kind }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

function showDecided() {
  const counts = DECISIONS.map((decision) => [decision, [...decisions.values()].filter((d) => d === decision).length]);
  const parts = counts.filter(([, n]) => n).map(([decision, n]) => `${n} ${decision}`);
  $("decided").textContent = parts.length ? `Decided: ${parts.join(", ")}` : "No decisions yet";
  $("save-csv").disabled = $("save-json").disabled = decisions.size === 0;
}

function startDecisions() {
  readDecisions();
  decisionListeners.push(showDecided);
  showDecided();
  const name = `decisions-${report.id}`;
  $("save-csv").addEventListener("click", () => download(`${name}.csv`, "text/csv", decisionsAsCsv()));
  $("save-json").addEventListener("click", () => download(`${name}.json`, "application/json", decisionsAsJson()));
}
