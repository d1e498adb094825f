// The codes of a small map, what they stand for, and the colours that they get.

const BELOW = 127; // the highest code of a value that does not exceed the detector's threshold
const STEPS = report.colours.table.length / 8; // on each side of the threshold

// The map value of each code of an image's map.
function valuesOfCodes(image) {
  const values = new Float64Array(256);
  const own = report.mapThreshold;
  const depth = Math.max(0, own - image.low);
  const height = Math.max(0, image.high - own);
  for (let code = 0; code < 256; code += 1) {
    const away = code <= BELOW ? (BELOW - code) / BELOW : (code - BELOW) / (255 - BELOW);
    values[code] = code <= BELOW ? own - depth * away * away : own + height * away * away;
  }
  return values;
}

// Bottom and top of the scale, in whose middle the threshold lies.
function scaleLimits(threshold) {
  if (threshold > 0) return [0, 2 * threshold];
  const width = Math.abs(threshold) || 1;
  return [threshold - width, threshold + width];
}

// Red, green, blue and opacity of each code, for the threshold that is set.
function coloursOfCodes(image, threshold, opacity) {
  const values = valuesOfCodes(image);
  const [bottom, top] = scaleLimits(threshold);
  const colours = new Uint8ClampedArray(4 * 256);
  for (let code = 0; code < 256; code += 1) {
    const value = values[code];
    const above = value > threshold;
    const along = above ? (value - threshold) / (top - threshold) : (value - bottom) / (threshold - bottom);
    const step = Math.round(Math.min(1, Math.max(0, along)) * (STEPS - 1)) + (above ? STEPS : 0);
    for (let c = 0; c < 3; c += 1) colours[4 * code + c] = report.colours.table[4 * step + c];
    colours[4 * code + 3] = report.colours.table[4 * step + 3] * opacity;
  }
  return colours;
}
