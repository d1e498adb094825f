// Images with their maps on canvases; decoded when they are looked at, and the latest kept.

const MOST_DECODED = 200;
const decoded = new Map();
const GREYS = Float64Array.from({ length: 256 }, (_, k) => k);

function bytesOf(start, length) {
  const text = atob(pictureText.slice(start, start + length));
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function codesOf(bytes) {
  const plain = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }), plain);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const codes = new Uint8Array(bitmap.width * bitmap.height);
  for (let i = 0; i < codes.length; i += 1) codes[i] = data[4 * i];
  return { width: bitmap.width, height: bitmap.height, codes };
}

async function decode(image) {
  const [start, nPhoto, nMap, nMask] = image.picture;
  const photo = new Blob([bytesOf(start, nPhoto)], { type: "image/jpeg" });
  return {
    photo: await createImageBitmap(photo),
    map: await codesOf(bytesOf(start + nPhoto, nMap)),
    mask: nMask ? await codesOf(bytesOf(start + nPhoto + nMap, nMask)) : null,
  };
}

// A promise of an image's picture; asked again it is the same while it is among the latest.
function pictureOf(image) {
  const found = decoded.get(image.index) ?? decode(image);
  decoded.delete(image.index);
  decoded.set(image.index, found);
  for (const index of decoded.keys()) {
    if (decoded.size <= MOST_DECODED) break;
    decoded.delete(index);
  }
  return found;
}

function drawMap(context, image, { width, height, codes }, [w, h]) {
  const layer = new ImageData(width, height);
  const pixels = new Uint32Array(layer.data.buffer);
  const colours = new Uint32Array(coloursOfCodes(image, mapThreshold(), state.opacity).buffer);
  for (let i = 0; i < codes.length; i += 1) pixels[i] = colours[codes[i]];
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(layer, 0, 0);
  context.drawImage(canvas, 0, 0, w, h);
}

function strokeOutline(context, path, [scaleX, scaleY], strokes) {
  const scaled = new Path2D();
  scaled.addPath(path, new DOMMatrix([scaleX, 0, 0, scaleY, 0, 0]));
  context.lineJoin = "round";
  context.lineCap = "round";
  for (const [colour, lineWidth] of strokes) {
    context.strokeStyle = colour;
    context.lineWidth = lineWidth;
    context.stroke(scaled);
  }
}

function drawOutlines(context, image, picture, [w, h], unit) {
  if (image.high > mapThreshold()) {
    const { width, height } = picture.map;
    const path = outline(picture.map, valuesOfCodes(image), mapThreshold());
    strokeOutline(context, path, [w / width, h / height], [["#1b1f24", 3.6 * unit], ["#ffffff", 1.6 * unit]]);
  }
  if (picture.mask) {
    const { width, height } = picture.mask;
    const path = outline(picture.mask, GREYS, 127.5);
    context.setLineDash([5 * unit, 3 * unit]);
    strokeOutline(context, path, [w / width, h / height], [[report.colours.blue, 2 * unit]]);
    context.setLineDash([]);
  }
}

function drawBoxes(context, image, [w, h], unit) {
  const [scaleX, scaleY] = [w / image.size[1], h / image.size[0]];
  context.lineWidth = 1.5 * unit;
  context.font = `600 ${12 * unit}px system-ui, sans-serif`;
  regionsAbove(image).forEach(([top, left, bottom, right], k) => {
    context.strokeStyle = report.colours.orange;
    context.strokeRect(left * scaleX, top * scaleY, (right - left) * scaleX, (bottom - top) * scaleY);
    const label = String(k + 1);
    const [x, y] = [left * scaleX, Math.max(14 * unit, top * scaleY)];
    context.fillStyle = report.colours.orange;
    context.fillRect(x, y - 14 * unit, context.measureText(label).width + 6 * unit, 14 * unit);
    context.fillStyle = "#1b1f24";
    context.fillText(label, x + 3 * unit, y - 3 * unit);
  });
}

// Regions were found at the detector's own threshold; a higher one leaves those that reach it.
function regionsAbove(image) {
  return image.regions.filter((region) => region[5] > mapThreshold());
}

// Scaling well takes longer than all else, and is done once for a size.
function photoOfSize(picture, [width, height]) {
  if (picture.scaled?.width !== width || picture.scaled.height !== height) {
    picture.scaled = new OffscreenCanvas(width, height);
    const context = picture.scaled.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture.photo, 0, 0, width, height);
  }
  return picture.scaled;
}

// Draw an image as large as fits into a box of CSS pixels.
async function draw(canvas, image, [boxWidth, boxHeight], { boxes = false } = {}) {
  const picture = await pictureOf(image);
  if (canvas.dataset.index !== String(image.index)) return; // it has been given to another since
  const scale = Math.min(boxWidth / image.size[1], boxHeight / image.size[0]);
  const shown = [Math.max(1, Math.round(image.size[1] * scale)), Math.max(1, Math.round(image.size[0] * scale))];
  const unit = Math.min(2, window.devicePixelRatio || 1);
  const size = shown.map((side) => Math.round(side * unit));
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  canvas.style.width = `${shown[0]}px`;
  canvas.style.height = `${shown[1]}px`;
  const context = canvas.getContext("2d");
  context.drawImage(photoOfSize(picture, size), 0, 0);
  if (state.opacity > 0) drawMap(context, image, picture.map, size);
  drawOutlines(context, image, picture, size, unit);
  if (boxes) drawBoxes(context, image, size, unit);
  canvas.dataset.drawn = `${state.threshold} ${state.opacity}`;
}
