// The recorder's pictures: the wave while it is recorded, wave and spectrogram after.

const MAGMA = [[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];

function fft(re, im) { // in place, of a power of two
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) { [re[i], re[j]] = [re[j], re[i]]; [im[i], im[j]] = [im[j], im[i]]; }
  }
  for (let size = 2; size <= n; size *= 2) {
    for (let k = 0; k < size / 2; k++) {
      const angle = (-2 * Math.PI * k) / size, c = Math.cos(angle), s = Math.sin(angle);
      for (let a = k; a < n; a += size) {
        const b = a + size / 2, x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
        re[b] = re[a] - x; im[b] = im[a] - y; re[a] += x; im[a] += y;
      }
    }
  }
}

function surface(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d');
  context.clearRect(0, 0, width, height);
  return { context, width, height, ratio };
}

function drawEnvelope(canvas, columns, share = 1) { // columns: [low, high] in -1..1, oldest first
  const { context, width, height, ratio } = surface(canvas);
  const style = getComputedStyle(canvas), middle = (height * share) / 2;
  context.fillStyle = style.getPropertyValue('color');
  context.globalAlpha = 0.25;
  context.fillRect(0, middle, width, Math.max(1, ratio / 2));
  context.globalAlpha = 1;
  const step = width / Math.max(1, columns.length);
  columns.forEach(([low, high], k) => {
    context.globalAlpha = high > 0.99 || low < -0.99 ? 1 : 0.85;
    context.fillStyle = style.getPropertyValue(high > 0.99 || low < -0.99 ? '--vcr-bad' : '--vcr-wave');
    context.fillRect(k * step, middle * (1 - high), Math.max(1, step * 0.7), Math.max(1, middle * (high - low)));
  });
  return { context, width, height };
}

function drawTake(canvas, wave, rate) {
  const count = Math.max(1, Math.floor(canvas.clientWidth / 2)), columns = [];
  for (let k = 0; k < count; k++) {
    let low = 0, high = 0;
    for (const x of wave.subarray(Math.floor((k * wave.length) / count), Math.floor(((k + 1) * wave.length) / count))) {
      if (x < low) low = x; else if (x > high) high = x;
    }
    columns.push([low / 32768, high / 32768]);
  }
  const { context, width, height } = drawEnvelope(canvas, columns, 0.4);
  const top = Math.round(height * 0.42);
  context.globalAlpha = 1;
  context.imageSmoothingEnabled = true;
  context.drawImage(spectrogram(wave, rate, 700, 128), 0, top, width, height - top);
}

function spectrogram(wave, rate, columns, rows) { // up to 8 kHz, 60 dB from the loudest down, high sounds lifted
  const size = 1024, re = new Float32Array(size), im = new Float32Array(size);
  const levels = new Float32Array(columns * rows);
  const window = Float32Array.from({ length: size }, (_, k) => 0.5 - 0.5 * Math.cos((2 * Math.PI * k) / size));
  const bin = (Math.min(8000, rate / 2) / rate) * size / rows;
  let loudest = 0; // dB, of quiet speech: a room in which nobody speaks stays dark
  for (let x = 0; x < columns; x++) {
    const middle = Math.floor((x * wave.length) / columns) - size / 2;
    for (let k = 0; k < size; k++) {
      re[k] = (((wave[middle + k] || 0) - 0.95 * (wave[middle + k - 1] || 0)) / 32768) * window[k];
      im[k] = 0;
    }
    fft(re, im);
    for (let y = 0; y < rows; y++) {
      let power = 1e-12;
      const last = Math.min(size / 2, Math.max(Math.floor(y * bin), Math.ceil((y + 1) * bin) - 1));
      for (let k = Math.floor(y * bin); k <= last; k++) power = Math.max(power, re[k] * re[k] + im[k] * im[k]);
      const level = 10 * Math.log10(power);
      levels[(rows - 1 - y) * columns + x] = level;
      if (level > loudest) loudest = level;
    }
  }
  const picture = Object.assign(document.createElement('canvas'), { width: columns, height: rows });
  const image = new ImageData(columns, rows);
  levels.forEach((level, k) => {
    const at = Math.max(0, 1 + (level - loudest) / 60) * (MAGMA.length - 1);
    const low = Math.min(MAGMA.length - 2, Math.floor(at)), from = MAGMA[low], to = MAGMA[low + 1];
    for (let c = 0; c < 3; c++) image.data[4 * k + c] = from[c] + (at - low) * (to[c] - from[c]);
    image.data[4 * k + 3] = 255;
  });
  picture.getContext('2d').putImageData(image, 0, 0);
  return picture;
}
