// Cards of the images that are shown; only those in view, and some around them, are in the page.

const gallery = $("gallery");
const GAP = 12;
const SPARE_ROWS = 2;
let shown = [];
let current = 0; // position among those that are shown, of the card that has the focus
let layout = { columns: 1, width: 0, height: 0, box: 0 };
const cards = new Map(); // by the image's index

function measure() {
  const available = gallery.clientWidth;
  const wanted = available < 480 ? 150 : 210;
  const columns = Math.max(1, Math.floor((available + GAP) / (wanted + GAP)));
  const width = Math.floor((available - GAP * (columns - 1)) / columns);
  const box = width - 2;
  layout = { columns, width, box, height: box + 122 };
  gallery.style.height = `${Math.ceil(shown.length / columns) * (layout.height + GAP)}px`;
}

function makeCard(image) {
  const canvas = element("canvas", { role: "img", "aria-label": `Picture of ${shortName(image)} with its map` });
  canvas.dataset.index = image.index;
  const parts = {
    canvas,
    verdict: element("p", { class: "verdict" }),
    tags: element("p", { class: "tags" }),
    decisions: decisionButtons(() => image),
  };
  const card = element(
    "div",
    { class: "card", role: "listitem", tabindex: "-1" },
    element("div", { class: "picture" }, canvas),
    element("h3", { text: shortName(image), title: printable(image.name) }),
    parts.verdict,
    parts.tags,
    parts.decisions,
  );
  card.querySelector(".picture").addEventListener("click", () => openViewer(shown.indexOf(image)));
  card.addEventListener("focusin", () => setCurrent(shown.indexOf(image)));
  return Object.assign(card, { parts, image });
}

function showVerdict(place, image, text = asMultiple(image.anomaly)) {
  place.className = `verdict ${verdictOf(image)}`;
  place.replaceChildren(
    element("span", { class: "mark", "aria-hidden": "true", text: isFlagged(image) ? "▲" : "●" }),
    element("b", { text: verdictOf(image) }),
    element("span", { text }),
  );
}

// Where verdict and truth differ, and what the image is.
function showTags(place, image) {
  const outcome = outcomeOf(image);
  const texts = [image.type, image.group].filter((text) => text !== undefined);
  place.replaceChildren(
    ...(outcome && outcome !== "found" ? [element("span", { class: "tag outcome", text: outcome })] : []),
    ...texts.map((text) => element("span", { class: "tag", text: printable(text) })),
  );
}

function updateCard(card) {
  const { image, parts } = card;
  showVerdict(parts.verdict, image, inShort(image.anomaly));
  showTags(parts.tags, image);
  showDecision(parts.decisions, image);
  const decision = decisions.get(image.name);
  card.dataset.decision = decision ?? "";
  card.setAttribute("aria-label", [shortName(image), verdictOf(image), asMultiple(image.anomaly), outcomeOf(image), decision].filter(Boolean).join(", "));
}

function drawCard(card) {
  const now = `${state.threshold} ${state.opacity}`;
  if (!card.isConnected || card.dataset.state === now) return;
  card.dataset.state = now;
  draw(card.parts.canvas, card.image, [layout.box, layout.box]);
}

function isInView(card) {
  const { top, bottom } = card.getBoundingClientRect();
  return bottom > 0 && top < window.innerHeight;
}

// Cards in view are drawn at once, those around them when there is time.
let later = null;

function drawCards() {
  const all = [...cards.values()];
  const seen = new Set(all.filter(isInView));
  seen.forEach(drawCard);
  clearTimeout(later);
  later = setTimeout(() => all.filter((card) => !seen.has(card)).forEach(drawCard), 100);
}

function placeCard(card, position) {
  const row = Math.floor(position / layout.columns);
  const column = position % layout.columns;
  card.style.width = `${layout.width}px`;
  card.style.height = `${layout.height}px`;
  card.style.transform = `translate(${column * (layout.width + GAP)}px, ${row * (layout.height + GAP)}px)`;
  card.firstChild.style.height = `${layout.box}px`;
  card.setAttribute("aria-posinset", position + 1);
  card.setAttribute("aria-setsize", shown.length);
  card.tabIndex = position === current ? 0 : -1;
}

// Positions of the images in view, and the one that has the focus, wherever it is.
function visiblePositions() {
  const step = layout.height + GAP;
  const top = -gallery.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(top / step) - SPARE_ROWS) * layout.columns;
  const last = Math.max(0, Math.ceil((top + window.innerHeight) / step) + SPARE_ROWS) * layout.columns;
  const positions = [];
  for (let k = first; k < Math.min(last, shown.length); k += 1) positions.push(k);
  if (current < shown.length && (current < first || current >= last)) positions.push(current);
  return positions.sort((a, b) => a - b);
}

function render() {
  const positions = visiblePositions();
  const wanted = new Set(positions.map((k) => shown[k].index));
  for (const [index, card] of cards) {
    if (wanted.has(index)) continue;
    card.remove();
    cards.delete(index);
  }
  let before = null;
  for (const position of positions) {
    const image = shown[position];
    if (!cards.has(image.index)) cards.set(image.index, makeCard(image));
    const card = cards.get(image.index);
    placeCard(card, position);
    // A card that is where it belongs is left alone, as moving it would take the focus from it.
    const next = before === null ? gallery.firstChild : before.nextSibling;
    if (next !== card) gallery.insertBefore(card, next);
    updateCard(card);
    before = card;
  }
  drawCards();
}

function setCurrent(position) {
  if (position < 0) return;
  current = position;
  for (const card of cards.values()) card.tabIndex = shown[position] === card.image ? 0 : -1;
}

// Move to a card, bring it into view and focus it.
function goTo(position) {
  if (shown.length === 0) return;
  current = Math.min(shown.length - 1, Math.max(0, position));
  render();
  const card = cards.get(shown[current].index);
  card.focus({ preventScroll: true });
  const { top, bottom } = card.getBoundingClientRect();
  const covered = getComputedStyle(document.querySelector(".bar")).position === "sticky" ? document.querySelector(".bar").offsetHeight : 0;
  if (top < covered + GAP) window.scrollBy(0, top - covered - GAP);
  else if (bottom > window.innerHeight - GAP) window.scrollBy(0, bottom - window.innerHeight + GAP);
  render();
}

// Choose and order anew, keeping the current image where it is still shown.
function refresh() {
  const image = shown[current];
  const hadFocus = gallery.contains(document.activeElement);
  shown = shownImages();
  const position = shown.indexOf(image);
  current = position >= 0 ? position : Math.max(0, Math.min(current, shown.length - 1));
  $("nothing").hidden = shown.length > 0;
  $("shown").textContent = `${shown.length === images.length ? "" : `${shown.length} of `}${ofImages(images.length)}`;
  $("filters-reset").hidden = !isFiltered();
  measure();
  render();
  if (hadFocus && !gallery.contains(document.activeElement)) goTo(current);
}

function startGallery() {
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      render();
    });
  };
  window.addEventListener("scroll", soon, { passive: true });
  new ResizeObserver(() => {
    const before = layout.width;
    measure();
    if (layout.width !== before) for (const card of cards.values()) card.dataset.state = "";
    render();
  }).observe(gallery);
  decisionListeners.push((image) => {
    if (chosen.decision !== ALL) refresh();
    else if (cards.has(image.index)) updateCard(cards.get(image.index));
  });
}
