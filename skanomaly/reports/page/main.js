// What people do: sliders, keys, colours.

function setThreshold(threshold) {
  state.threshold = threshold;
  $("threshold").value = toShown(threshold);
  showThreshold();
  if (chosen.verdict !== ALL || chosen.order === "nearest to the threshold") refresh();
  else render();
  if (viewer.open) showViewed();
}

function showThreshold() {
  const text = inShort(state.threshold);
  $("threshold-value").textContent = text;
  $("threshold").setAttribute("aria-valuetext", report.inMultiples ? `${text} the detector's threshold` : `score ${text}`);
  $("threshold-reset").disabled = state.threshold === OWN_THRESHOLD;
  showMarker();
  showCounts();
}

function setOpacity(opacity) {
  state.opacity = opacity;
  $("opacity").value = Math.round(100 * opacity);
  $("opacity-value").textContent = `${$("opacity").value} %`;
  render();
  if (viewer.open) drawViewed();
}

// The work of many events of one frame is done once.
function onceAFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}

function startSliders() {
  const threshold = $("threshold");
  [threshold.min, threshold.max] = range;
  threshold.value = toShown(OWN_THRESHOLD);
  threshold.addEventListener("input", onceAFrame(() => setThreshold(fromShown(Number(threshold.value)))));
  // Arrow keys move a hundredth of the range, which step="any" leaves to the browser's taste.
  threshold.addEventListener("keydown", (event) => {
    const direction = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (direction === undefined) return;
    event.preventDefault();
    const size = (range[1] - range[0]) / 200;
    const moved = toShown(state.threshold) + direction * size;
    setThreshold(fromShown(Math.min(range[1], Math.max(range[0], moved))));
  });
  $("threshold-reset").addEventListener("click", () => {
    setThreshold(OWN_THRESHOLD);
    threshold.focus();
  });
  $("opacity").addEventListener("input", onceAFrame(() => setOpacity(Number($("opacity").value) / 100)));
}

function startColours() {
  const stored = "skanomaly colours";
  const scheme = $("scheme");
  const apply = () => {
    if (scheme.value) document.documentElement.dataset.scheme = scheme.value;
    else delete document.documentElement.dataset.scheme;
  };
  try {
    scheme.value = localStorage.getItem(stored) ?? "";
  } catch {
    scheme.value = ""; // a browser that stores nothing follows the system
  }
  apply();
  scheme.addEventListener("change", () => {
    apply();
    try {
      localStorage.setItem(stored, scheme.value);
    } catch {
      notify("This browser does not keep the choice of colours.");
    }
  });
}

let opacityBefore = state.opacity;

function toggleOverlay() {
  if (state.opacity > 0) {
    opacityBefore = state.opacity;
    setOpacity(0);
  } else setOpacity(opacityBefore);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) {
    if (event.key === "p" && !event.altKey) {
      event.preventDefault();
      printAll();
    }
    return;
  }
  const inText = event.target.matches("input[type=search], select, input[type=range]");
  if (event.target.matches("input[type=search]") && event.key === "Escape") event.target.blur();
  if (inText || $("keys").open) return;
  const image = viewer.open ? viewed : gallery.contains(document.activeElement) ? shown[current] : null;
  const done = pressed(event, image);
  if (done) event.preventDefault();
}

// Do what a key stands for; whether it stands for anything here.
function pressed(event, image) {
  const { key, target } = event;
  if (KEYS[key] && image) decide(image, KEYS[key]);
  else if (key === "o") toggleOverlay();
  else if (key === "?") $("keys").showModal();
  else if (key === "/" && !viewer.open) $("search").focus();
  else if (viewer.open) {
    if (key === "ArrowLeft" || key === "ArrowUp") step(-1);
    else if (key === "ArrowRight" || key === "ArrowDown") step(1);
    else return false;
  } else return movedInGallery(key, target);
  return true;
}

function movedInGallery(key, target) {
  const inside = gallery.contains(target);
  const { columns } = layout;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  if (by !== undefined && (inside || target === document.body)) goTo(inside ? current + by : current);
  else if (key === "Home" && inside) goTo(0);
  else if (key === "End" && inside) goTo(shown.length - 1);
  else if (key === "Enter" && target.matches(".card")) openViewer(current);
  else return false;
  return true;
}

function start() {
  startColours();
  startDecisions();
  startOverview();
  startSliders();
  startFilters();
  startGallery();
  startViewer();
  showAbout();
  showThreshold();
  setOpacity(state.opacity);
  refresh();
  document.addEventListener("keydown", onKey);
  $("help").addEventListener("click", () => $("keys").showModal());
  $("keys-close").addEventListener("click", () => $("keys").close());
  $("print").addEventListener("click", printAll);
  document.documentElement.dataset.ready = "";
}

start();
