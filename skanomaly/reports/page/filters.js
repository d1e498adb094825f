// Which images are shown, and in which order.

const ORDERS = {
  "most anomalous first": (a, b) => b.anomaly - a.anomaly,
  "least anomalous first": (a, b) => a.anomaly - b.anomaly,
  "nearest to the threshold": (a, b) => Math.abs(a.anomaly - state.threshold) - Math.abs(b.anomaly - state.threshold),
  "by name": (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
  "as given": (a, b) => a.index - b.index,
};
const ALL = Symbol("all"); // a type may be called anything
const chosen = { verdict: ALL, type: ALL, group: ALL, decision: ALL, order: Object.keys(ORDERS)[0] };

const PASSES = {
  verdict: (image, value) => verdictOf(image) === value || outcomeOf(image) === value,
  type: (image, value) => image.type === value,
  group: (image, value) => image.group === value,
  decision: (image, value) => (decisions.get(image.name) ?? "undecided") === value,
};

// Names beside their lower case, which would take long to make with every letter typed.
const searched = images.map((image) => image.name.toLowerCase());

function shownImages() {
  const text = $("search").value.trim().toLowerCase();
  const active = Object.entries(PASSES).filter(([name]) => chosen[name] !== ALL);
  return images
    .filter((image) => active.every(([name, passes]) => passes(image, chosen[name])) && searched[image.index].includes(text))
    .sort((a, b) => ORDERS[chosen.order](a, b) || a.index - b.index);
}

function isFiltered() {
  return Object.keys(PASSES).some((name) => chosen[name] !== ALL) || $("search").value.trim() !== "";
}

function addFilter(name, label, values) {
  const select = element("select", { id: `filter-${name}` });
  for (const value of values) select.append(element("option", { text: value === ALL ? "all" : printable(value) }));
  select.addEventListener("change", () => {
    chosen[name] = values[select.selectedIndex];
    refresh();
  });
  $("filters").append(element("label", {}, `${label} `, select));
}

function startFilters() {
  const outcomes = hasTruth ? ["found", "missed", "false alarm"] : [];
  addFilter("verdict", "Verdict", [ALL, "anomalous", "normal", ...outcomes]);
  if (images[0].type !== undefined) addFilter("type", "Type", [ALL, ...unique(images.map((image) => image.type))]);
  if (images[0].group !== undefined) addFilter("group", "Group", [ALL, ...unique(images.map((image) => image.group))]);
  addFilter("decision", "Decision", [ALL, "undecided", ...DECISIONS]);
  addFilter("order", "Order", Object.keys(ORDERS));
  $("search").addEventListener("input", refresh);
  $("filters-reset").addEventListener("click", () => {
    for (const name of Object.keys(PASSES)) {
      chosen[name] = ALL;
      if ($(`filter-${name}`)) $(`filter-${name}`).selectedIndex = 0;
    }
    $("search").value = "";
    refresh();
    $("search").focus();
  });
}
