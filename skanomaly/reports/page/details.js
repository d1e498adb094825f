// What the report is of, and how it is printed.

const MOST_PRINTED = 200;

function table(caption, entries) {
  const lines = Object.entries(entries).map(([name, value]) =>
    element("tr", {}, element("th", { scope: "row", text: name }), element("td", { text: printable(String(value)) })),
  );
  return element("table", {}, element("caption", { text: caption }), element("tbody", {}, ...lines));
}

function showAbout() {
  const checksums = {
    "report": report.id,
    "model, SHA-256": report.modelSha256 ?? `none: ${report.whyNoModelSha256}`,
    "pixels of all images, SHA-256": report.dataSha256,
  };
  const thresholds = {
    "threshold of scores (offset_)": report.offset,
    "threshold of maps (map_threshold_)": report.mapThreshold,
    "good images that set them": report.nValidation,
  };
  const parts = [table("Checksums", checksums), table("Thresholds", thresholds), table("Versions", report.versions)];
  if (Object.keys(report.settings).length) parts.push(table("Settings", report.settings));
  $("about-content").append(...parts);
  const made = new Date(report.made);
  $("subtitle").textContent = `${report.detector} · ${ofImages(images.length)} · ${made.toLocaleString()}`;
}

// Pictures are decoded before the browser prints, which does not wait for them.
async function printAll() {
  const chosenNow = shown.slice(0, MOST_PRINTED);
  $("print-note").textContent = shown.length > MOST_PRINTED ? `The first ${MOST_PRINTED} of ${shown.length} images; filter to print others.` : "";
  $("print-note").hidden = false;
  const sheet = element("div", { class: "sheet" });
  for (const image of chosenNow) {
    const card = makeCard(image);
    showVerdict(card.parts.verdict, image, inShort(image.anomaly));
    showTags(card.parts.tags, image);
    card.parts.decisions.replaceChildren(decisions.has(image.name) ? `Decision: ${decisions.get(image.name)}` : "");
    await draw(card.parts.canvas, image, [200, 200]);
    sheet.append(card);
  }
  gallery.after(sheet);
  document.body.classList.add("printing");
  window.print();
  document.body.classList.remove("printing");
  sheet.remove();
  $("print-note").hidden = true;
}
