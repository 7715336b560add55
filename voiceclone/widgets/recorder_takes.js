// Takes and their way to the kernel. Sound is 16-bit samples from the worklet on: nothing is coded or lost.

const LARGEST = 96 * 1024; // bytes in a message
const PIECE_SECONDS = 0.5; // what a page that goes takes with it, at most
const WINDOW = 6; // pieces on their way before the kernel must have said that it got some
const PATIENCE_MS = 2000; // until what was not answered is sent again
const SILENCE_MS = 6000; // until the person is told

// Shared by the recorders of this page, also across a restart of the kernel: takes that are not yet kept.
const SHARED = (globalThis[Symbol.for('voiceclone.recorder')] ??= { takes: new Map(), release: null });

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

function crc32(bytes) {
  let sum = ~0;
  for (const byte of bytes) sum = CRC[(sum ^ byte) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

const hex = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, '0')).join('');
const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));

class Take {
  constructor(place, index, rate) {
    const size = Math.min(Math.floor(rate * PIECE_SECONDS), LARGEST / 2);
    Object.assign(this, { id: hex(), place, index, rate, size, pieces: [], filling: new Int16Array(size), filled: 0 });
    Object.assign(this, { got: 0, next: 0, whole: false, tries: 0, heard: performance.now(), state: 'sending', why: '' });
    Object.assign(this, { text: false, failed: -1, wentBack: 0 });
  }

  get samples() { return this.pieces.reduce((sum, piece) => sum + piece.length, 0) + this.filled; }
  get seconds() { return this.samples / this.rate; }

  add(block) {
    for (let from = 0; from < block.length;) {
      const part = block.subarray(from, from + this.size - this.filled);
      this.filling.set(part, this.filled);
      this.filled += part.length;
      from += part.length;
      if (this.filled === this.size) this.cut();
    }
  }

  cut() {
    if (this.filled) this.pieces.push(this.filling.slice(0, this.filled));
    this.filled = 0;
  }

  wave() {
    const wave = new Int16Array(this.samples);
    let at = 0;
    for (const piece of [...this.pieces, this.filling.subarray(0, this.filled)]) {
      wave.set(piece, at);
      at += piece.length;
    }
    return wave;
  }
}

class Post {
  // Sends pieces in order and goes back to where the kernel stands when one is lost (go-back-N).
  constructor(model, page, onChange) {
    Object.assign(this, { model, page, onChange });
    this.timer = setInterval(() => this.takes().forEach((take) => this.look(take)), 500);
  }

  takes() { return [...SHARED.takes.values()].filter((take) => take.place === this.model.get('place')); }
  say(message, buffers) {
    try {
      this.model.send(message, undefined, buffers);
    } catch { /* the kernel is gone: this is not answered, and so it is noticed */ }
  }

  begin(take) {
    SHARED.takes.set(take.id, take);
    take.heard = performance.now();
    this.sayBegin(take);
  }

  sayBegin(take) {
    this.say({ type: 'begin', take: take.id, page: this.page, index: take.index, rate: take.rate });
  }

  again(take) {
    Object.assign(take, { next: 0, got: 0, tries: 0, state: 'sending', why: '' });
    this.begin(take);
    this.pump(take);
  }

  pump(take) {
    while (take.next < take.pieces.length && take.next < take.got + WINDOW) {
      const bytes = new Uint8Array(take.pieces[take.next].slice().buffer);
      const message = { type: 'piece', take: take.id, number: take.next, sum: crc32(bytes) };
      if (take.text) this.say({ ...message, text: base64(bytes) });
      else this.say(message, [bytes.buffer]);
      take.next++;
    }
    if (take.whole && take.got >= take.pieces.length) this.say({ type: 'end', take: take.id, pieces: take.pieces.length });
  }

  finish(take) {
    take.cut();
    Object.assign(take, { whole: true, heard: performance.now() });
    this.pump(take);
  }

  drop(take) {
    SHARED.takes.delete(take.id);
    this.say({ type: 'drop', take: take.id });
    this.onChange(take);
  }

  look(take) { // what was not answered for a while is sent again, three times by itself
    const waits = take.whole || take.next > take.got ? performance.now() - take.heard : 0;
    if (waits > SILENCE_MS && take.state === 'sending') { take.state = 'unsent'; this.onChange(take); }
    if (take.why || waits < PATIENCE_MS * 2 ** take.tries || take.tries >= 3) return;
    take.tries++;
    take.next = take.got;
    this.sayBegin(take);
    this.pump(take);
  }

  receive(message) {
    const take = SHARED.takes.get(message.take);
    if (!take) return;
    const news = message.pieces > take.got || message.type !== 'got';
    if (news) Object.assign(take, { heard: performance.now(), tries: 0, state: 'sending' });
    if (message.type === 'got') {
      take.got = message.pieces;
      if (!message.known) this.sayBegin(take);
      if (message.again && take.next > take.got) this.goBack(take);
      this.pump(take);
    } else if (message.type === 'kept') {
      SHARED.takes.delete(take.id);
      take.state = 'kept';
    } else if (message.type === 'refused') {
      Object.assign(take, { state: 'unsent', why: message.why });
    }
    this.onChange(take);
  }

  goBack(take) {
    const now = performance.now(), same = take.failed === take.got;
    if (same && now - take.wentBack < PATIENCE_MS / 4) return; // said of pieces that were on their way already
    // The same piece again: this way carries no bytes (an old front end), but letters it does.
    Object.assign(take, { text: same, failed: take.got, wentBack: now, next: take.got });
  }

  close() { clearInterval(this.timer); }
}

function wavFile(take) {
  const wave = take.wave(), head = new DataView(new ArrayBuffer(44));
  const text = (at, letters) => [...letters].forEach((letter, k) => head.setUint8(at + k, letter.charCodeAt(0)));
  text(0, 'RIFF'); head.setUint32(4, 36 + wave.byteLength, true); text(8, 'WAVEfmt ');
  head.setUint32(16, 16, true); head.setUint16(20, 1, true); head.setUint16(22, 1, true); // 16 bytes; PCM; mono
  head.setUint32(24, take.rate, true); head.setUint32(28, take.rate * 2, true);
  head.setUint16(32, 2, true); head.setUint16(34, 16, true); text(36, 'data'); head.setUint32(40, wave.byteLength, true);
  return new Blob([head, wave], { type: 'audio/wav' });
}
