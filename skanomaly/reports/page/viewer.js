// One image, large, beside all that is known of it.

const viewer = $("viewer");
const viewerDecisions = decisionButtons(() => viewed);
let viewed = null;
let viewedAt = 0; // its position, also after a filter has taken it out

function openViewer(position) {
  if (position < 0 || position >= shown.length) return;
  setCurrent(position);
  viewed = shown[position];
  viewedAt = position;
  if (!viewer.open) viewer.showModal();
  showViewed();
}

function showViewed() {
  $("viewer-title").textContent = shortName(viewed);
  $("viewer-title").title = printable(viewed.name);
  showVerdict($("viewer-verdict"), viewed);
  showDecision(viewerDecisions, viewed);
  $("viewer-facts").replaceChildren(...factsOf(viewed).flatMap(([what, text]) => [element("dt", { text: what }), element("dd", { text })]));
  showRegions();
  const position = shown.indexOf(viewed);
  $("viewer-position").textContent = position < 0 ? "no longer among those shown" : `${position + 1} of ${shown.length}`;
  $("viewer-before").disabled = positionAfter(-1) === null;
  $("viewer-after").disabled = positionAfter(1) === null;
  drawViewed();
}

function factsOf(image) {
  return [
    ["Score", `${short(image.score)} (threshold ${short(-state.threshold)})`],
    ["p-value", `${short(image.p)}, of ${report.nValidation} good images`],
    ["Size", `${image.size[1]} × ${image.size[0]} px`],
    ["Highest map value", report.inMultiples ? `${(image.high / mapThreshold()).toFixed(2)} × map threshold` : short(image.high)],
    ...(hasTruth ? [["Truth", `${image.truth === 1 ? "good" : "defective"}${outcomeOf(image) ? `: ${outcomeOf(image)}` : ""}`]] : []),
    ...(image.type === undefined ? [] : [["Type", printable(image.type)]]),
    ...(image.group === undefined ? [] : [["Group", printable(image.group)]]),
    ["File", printable(image.name)],
  ];
}

function showRegions() {
  const regions = regionsAbove(viewed);
  const more = viewed.nRegions > viewed.regions.length ? ` (the ${viewed.regions.length} highest of ${viewed.nRegions})` : "";
  $("viewer-regions-title").textContent = `Regions: ${regions.length}${more}`;
  const pixels = viewed.size[0] * viewed.size[1];
  const lines = regions.map(([top, left, bottom, right, area, max], k) => {
    const value = report.inMultiples ? `${(max / mapThreshold()).toFixed(2)} ×` : short(max);
    const cells = [`${left}, ${top}`, `${right - left} × ${bottom - top}`, `${area} (${percent(area / pixels)})`, value];
    return element("tr", {}, element("th", { scope: "row", text: k + 1 }), ...cells.map((text) => element("td", { text })));
  });
  const names = ["", "Left, top", "Box", "Area px", "Peak"];
  const none = element("p", { class: "quiet", text: "Nothing exceeds the map's threshold." });
  $("viewer-regions").replaceChildren(regions.length ? element("table", {}, headOf(names), element("tbody", {}, ...lines)) : none);
}

function drawViewed() {
  const stage = $("stage");
  stage.dataset.index = viewed.index;
  stage.setAttribute("aria-label", `Picture of ${shortName(viewed)} with its map, ${regionsAbove(viewed).length} regions outlined and boxed`);
  const box = stage.parentElement;
  draw(stage, viewed, [box.clientWidth, box.clientHeight], { boxes: true });
}

// Where a step leads to, or null; the next of an image that is filtered out has taken its place.
function positionAfter(by) {
  const position = shown.indexOf(viewed);
  const to = position >= 0 ? position + by : viewedAt + Math.min(0, by);
  return to >= 0 && to < shown.length ? to : null;
}

function step(by) {
  const position = positionAfter(by);
  if (position !== null) openViewer(position);
}

function startViewer() {
  $("viewer-decisions").append(viewerDecisions);
  $("viewer-close").addEventListener("click", () => viewer.close());
  $("viewer-before").addEventListener("click", () => step(-1));
  $("viewer-after").addEventListener("click", () => step(1));
  viewer.addEventListener("close", () => goTo(shown.includes(viewed) ? shown.indexOf(viewed) : viewedAt));
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer) viewer.close();
  });
  window.addEventListener("resize", () => viewer.open && drawViewed());
  decisionListeners.push(() => viewer.open && showViewed());
}
