// The recorder's page side (anywidget): what a person does, what comes, and which of both is waited for.
// Its parts are recorder_microphone.js, recorder_takes.js, recorder_pictures.js and recorder_view.js, which
// recorder.py puts before this one; the messages are listed there.

const TAIL_MS = 150; // recorded after Stop: people press it on their last syllable
const ROOM_SECONDS = 2;
const LONGEST_SECONDS = 120;
const AGAIN_MS = 2000; // the page before this one may have gone a moment ago: then its take is asked for once more

const decibels = (amplitude) => 20 * Math.log10(Math.max(amplitude, 1e-5));
const ROOM = [[-60, 'very quiet'], [-50, 'quiet'], [-40, 'some noise'], [0, 'noisy: close windows, stop fans']];

class Recorder {
  constructor(model) {
    this.model = model;
    this.views = new Set();
    this.page = hex();
    this.microphone = new Microphone((...block) => this.hear(...block), () => this.fail({ name: 'NotFoundError' }));
    Object.assign(this, { phase: 'welcome', trouble: null, take: null, shown: null, playing: null, wanted: '', note: '' });
    Object.assign(this, { level: -60, clippedAt: -1e9, loudest: -100, tape: [], levels: [], room: null, devices: [] });
    this.onMessage = (message, buffers) => this.receive(message, buffers);
    this.onChange = () => this.paint();
    this.onDevices = () => this.listDevices();
    this.onLeave = (event) => { if (this.post.takes().length) event.preventDefault(); };
    this.attach();
  }

  attach() {
    if (SHARED.release) SHARED.release(); // one recorder of a page holds the microphone
    SHARED.release = () => this.release();
    this.post = new Post(this.model, this.page, () => this.paint());
    this.post.takes().forEach((take) => Object.assign(take, { state: 'unsent', tries: 3 })); // of a kernel that is gone
    this.model.on('msg:custom', this.onMessage);
    this.model.on('change', this.onChange);
    window.addEventListener('beforeunload', this.onLeave);
    if (navigator.mediaDevices) navigator.mediaDevices.addEventListener('devicechange', this.onDevices);
    this.hello();
    this.later = setTimeout(() => this.hello(), AGAIN_MS);
    if (ability() !== 'yes') this.fail({ name: ability() });
  }

  hello() {
    const holds = this.post.takes().map((take) => take.id);
    this.post.say({ type: 'hello', page: this.page, able: ability(), holds });
  }

  release() {
    if (this.phase === 'released') return;
    this.silence();
    this.finish();
    clearTimeout(this.later);
    this.post.close();
    this.microphone.close();
    this.model.off('msg:custom', this.onMessage);
    this.model.off('change', this.onChange);
    window.removeEventListener('beforeunload', this.onLeave);
    if (navigator.mediaDevices) navigator.mediaDevices.removeEventListener('devicechange', this.onDevices);
    this.set('released');
  }

  get index() { return this.model.get('index'); }
  get sentence() { return this.model.get('sentences')[this.index] || {}; }
  get busy() { return ['opening', 'room', 'recording', 'ending'].includes(this.phase); }

  set(phase) { this.phase = phase; this.paint(); }
  paint() { this.views.forEach((view) => view.paint()); }

  fail(error) {
    if (this.take) this.finish(); // what was recorded until now is kept
    this.trouble = TROUBLE[error.name] || ['Recording failed.', `${error.name}: ${error.message || ''}`];
    this.set('error');
  }

  async listDevices() {
    this.devices = await this.microphone.list();
    this.paint();
  }

  async open(device = '') {
    this.set('opening');
    try {
      await this.microphone.start(device);
      this.trouble = null;
      await this.listDevices();
      return true;
    } catch (error) {
      this.fail(error);
      return false;
    }
  }

  // What a person does

  main() {
    const actions = {
      welcome: () => this.checkRoom(), error: () => this.checkRoom(), released: () => this.takeBack(),
      ready: () => this.record(), recording: () => this.stop(), review: () => (this.redo ? this.record() : this.forward()),
    };
    if (actions[this.phase]) actions[this.phase]();
  }

  get redo() { return this.sentence.state === 'bad' || this.sentence.take === this.model.get('again'); }
  get following() { // the next sentence that needs a take
    const sentences = this.model.get('sentences'), count = sentences.length;
    const order = Array.from({ length: count - 1 }, (_, k) => (this.index + 1 + k) % count);
    return order.find((k) => !sentences[k].take) ?? order.find((k) => sentences[k].state === 'bad') ?? -1;
  }

  get finished() { return this.phase === 'review' && !this.redo && this.following < 0; }

  takeBack() { // another recorder of this page had the microphone
    this.phase = 'welcome';
    this.attach();
    this.settle();
  }

  async checkRoom() {
    this.shown = null;
    if (!(await this.open())) return;
    this.levels = [];
    this.set('room');
  }

  async record() {
    if (this.busy || !(await this.open(this.wanted))) return;
    this.silence();
    this.take = new Take(this.model.get('place'), this.index, this.microphone.rate);
    Object.assign(this, { shown: null, tape: [], loudest: -100, clippedAt: -1e9, note: '' });
    this.post.begin(this.take);
    // 'recording', and with it the word to speak, is said when the first sound has come
  }

  stop() {
    if (this.phase !== 'recording') return;
    this.set('ending');
    setTimeout(() => this.finish(), TAIL_MS);
  }

  finish() {
    const take = this.take;
    if (!take) return;
    this.take = null;
    if (!take.samples) { this.post.drop(take); this.set('ready'); return; }
    this.post.finish(take);
    this.shown = { index: take.index, wave: take.wave(), rate: take.rate };
    this.set('review');
  }

  cancel() {
    if (!this.take) return;
    this.post.drop(this.take);
    this.take = null;
    this.settle();
  }

  go(index) {
    if (this.busy || index < 0 || index >= this.model.get('prompts').length) return;
    this.silence();
    this.model.set('index', index);
    this.model.save_changes();
    Object.assign(this, { shown: null, note: '' });
    this.settle();
  }

  settle() {
    if (!this.microphone.open && this.phase !== 'error') this.set('welcome');
    else if (this.phase !== 'error') this.set(this.sentence.take ? 'review' : 'ready');
    if (this.sentence.take && !this.shown) this.post.say({ type: 'sound', index: this.index });
    this.paint();
  }

  forward() { if (this.following >= 0) this.go(this.following); }

  listen() {
    if (this.playing) { this.silence(); return; }
    if (!this.shown || this.busy) return;
    const player = this.player = new AudioContext();
    const sound = player.createBuffer(1, this.shown.wave.length, this.shown.rate);
    sound.getChannelData(0).set(Float32Array.from(this.shown.wave, (x) => x / 32768));
    this.playing = new AudioBufferSourceNode(player, { buffer: sound });
    this.playing.onended = () => this.silence();
    this.playing.connect(player.destination);
    this.playing.start();
    this.paint();
  }

  silence() {
    if (!this.playing) return;
    this.playing.onended = null;
    this.playing = null;
    this.player.close();
    this.paint();
  }

  async choose(device) {
    this.wanted = device;
    if (await this.open(device)) this.settleRoom();
  }

  download(take) {
    const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(wavFile(take)) });
    link.download = `${String(take.index + 1).padStart(4, '0')}.wav`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // What comes

  hear(block, peak, power) {
    this.level = Math.max(decibels(peak), this.level - 2);
    if (peak > 0.99) this.clippedAt = performance.now();
    if (this.phase === 'room') this.hearRoom(decibels(Math.sqrt(power)), block.length);
    if (this.take) {
      if (this.phase === 'opening') this.set('recording');
      this.take.add(block);
      this.post.pump(this.take);
      this.loudest = Math.max(this.loudest, decibels(Math.sqrt(power)));
      this.tape.push([-peak, peak]);
      if (this.take.seconds > LONGEST_SECONDS) this.stop();
    }
    this.views.forEach((view) => view.paintSound());
  }

  hearRoom(level, length) {
    this.levels.push(level);
    if (this.levels.length * length < ROOM_SECONDS * this.microphone.rate) return;
    this.levels.sort((a, b) => a - b);
    this.room = Math.round(this.levels[Math.floor(this.levels.length / 2)]);
    this.settleRoom();
  }

  settleRoom() {
    this.phase = 'ready';
    this.settle();
  }

  receive(message, buffers) {
    if (message.type === 'release') this.release();
    else if (message.type === 'said') { this.note = message.text; this.paint(); }
    else if (message.type === 'sound' && message.index === this.index && !this.shown && !this.busy) {
      const { buffer, byteOffset = 0, byteLength } = buffers[0]; // a view, or the buffer itself
      const wave = new Int16Array((buffer || buffers[0]).slice(byteOffset, byteOffset + byteLength));
      this.shown = { index: message.index, wave, rate: message.rate };
      this.paint();
    } else if (message.type === 'refused' && !message.take) { this.note = message.why; this.paint(); }
    else this.post.receive(message);
  }
}

export default () => {
  let recorder = null;
  return {
    initialize({ model }) {
      recorder = new Recorder(model);
      return () => recorder.release();
    },
    render({ el }) {
      const view = new View(recorder, el);
      return () => view.remove();
    },
  };
};
