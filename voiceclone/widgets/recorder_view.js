// What one sees of the recorder. Every part is painted from the recorder's state and keeps its place.

const PAGE = `<div class="vc-view vcr" tabindex="0" role="group" aria-label="Voice recorder" data-lm-suppress-shortcuts="true">
  <div class="vcr-top"><span class="vcr-count"></span><div class="vcr-steps" role="list" aria-label="Sentences"></div></div>
  <div class="vcr-words"><p class="vcr-prompt" aria-live="polite"></p><p class="vcr-next vc-faint"></p></div>
  <div class="vcr-stage"><canvas class="vcr-picture" role="img"></canvas><p class="vcr-hint vc-faint"></p></div>
  <div class="vcr-level">
    <div class="vcr-meter" role="meter" aria-label="Level of the microphone" aria-valuemin="-60" aria-valuemax="0"><i></i></div>
    <span class="vcr-loud"></span>
  </div>
  <div class="vcr-controls">
    <button type="button" class="vc-button vc-main vcr-main"><i></i><span></span><kbd>Space</kbd></button>
    <button type="button" class="vc-button vcr-listen"><span>Listen</span><kbd>L</kbd></button>
    <button type="button" class="vc-button vcr-retake">Retake<kbd>R</kbd></button>
    <button type="button" class="vc-button vcr-back" aria-label="Previous sentence"><kbd>←</kbd></button>
    <button type="button" class="vc-button vcr-skip"><span>Skip</span><kbd>→</kbd></button>
  </div>
  <div class="vcr-said" role="status" aria-live="polite"><p class="vcr-status"></p><div class="vcr-verdict"></div>
    <div class="vcr-unsent"></div></div>
  <div class="vcr-foot">
    <div class="vcr-line"><label>Microphone <select class="vc-select vcr-device" aria-label="Microphone"></select></label>
      <span class="vcr-room"></span><span class="vcr-ears"></span></div>
    <details class="vcr-map" open><summary>Sounds of English</summary><div class="vcr-coverage"></div></details>
  </div></div>`;

const MAIN = {
  welcome: 'Check the room', opening: 'Opening …', room: 'Listening …', ready: 'Record', recording: 'Stop', ending: 'Stop',
  error: 'Try again', released: 'Use this one',
};
const HINT = {
  welcome: 'First two seconds of silence, to hear the room: press Space, and allow the microphone.',
  opening: 'Opening the microphone …', room: 'Silence, please …', ready: 'Press Space and read the sentence aloud.',
  released: 'Another recorder has the microphone.',
};
const MARK = { good: '✓', doubtful: '•', bad: '!', checked: '…' };
const WORD = { good: 'good', doubtful: 'worth a look', bad: 'to be read again', checked: 'kept', '': 'not recorded' };

const minus = (number) => number.toFixed(0).replace('-', '−');

function element(tag, name, text, attributes = {}) {
  const made = Object.assign(document.createElement(tag), { className: name, textContent: text });
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  return made;
}

function heardRow(words) { // word for word, where it is the sentence for the most part
  const row = element('p', 'vcr-heard', 'Heard: '), same = words.filter(([kind]) => kind === 'same').length;
  if (2 * same < words.length) {
    row.append(words.filter(([kind]) => kind !== 'missing').map(([, , heard]) => heard).join(' ') || 'nothing');
    return row;
  }
  for (const [kind, wanted, heard] of words) {
    if (kind !== 'added' && kind !== 'same') row.append(element('del', '', wanted, { 'aria-label': `not heard: ${wanted}` }), ' ');
    if (kind !== 'missing') row.append(kind === 'same' ? heard : element('ins', '', heard), ' ');
  }
  return row;
}

class View {
  constructor(recorder, el) {
    this.recorder = recorder;
    el.innerHTML = PAGE;
    this.root = el.firstElementChild;
    this.$ = (name) => this.root.querySelector(`.vcr-${name}`);
    const click = (name, action) => this.$(name).addEventListener('click', (event) => {
      action();
      if (event.detail) this.root.focus({ preventScroll: true }); // a mouse: the keys are the recorder's again
    });
    click('main', () => recorder.main());
    click('listen', () => recorder.listen());
    click('retake', () => recorder.record());
    click('back', () => recorder.go(recorder.index - 1));
    click('skip', () => recorder.go(recorder.index + 1));
    this.$('device').addEventListener('change', (event) => recorder.choose(event.target.value));
    this.root.addEventListener('keydown', (event) => this.key(event));
    this.sizes = new ResizeObserver(() => { this.drawn = null; this.paintPicture(); });
    this.sizes.observe(this.$('picture'));
    recorder.views.add(this);
    recorder.settle();
  }

  remove() { this.sizes.disconnect(); this.recorder.views.delete(this); }

  key(event) {
    const { recorder } = this;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const keys = {
      ' ': () => recorder.main(), l: () => recorder.listen(), r: () => recorder.sentence.take && recorder.record(),
      ArrowLeft: () => recorder.go(recorder.index - 1), ArrowRight: () => recorder.go(recorder.index + 1),
      Escape: () => recorder.cancel(),
    };
    const other = event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.matches('select, input');
    // Space on a button presses that button.
    if (!keys[name] || other || (name === ' ' && event.target.matches('button, summary'))) return;
    event.preventDefault();
    event.stopPropagation();
    keys[name]();
  }

  paint() {
    const { recorder, root } = this, { phase, sentence } = recorder;
    const prompts = recorder.model.get('prompts'), sentences = recorder.model.get('sentences'), index = recorder.index;
    const take = recorder.post.takes().find((one) => one.index === index && one.whole);
    Object.assign(root.dataset, { phase, index, state: take ? take.state : sentence.state || '', name: sentence.take || '' });
    this.$('count').textContent = `${index + 1} of ${prompts.length}`;
    this.$('prompt').textContent = prompts[index];
    this.$('next').textContent = prompts[index + 1] ? `Next: ${prompts[index + 1]}` : 'This is the last sentence.';
    this.paintSteps(sentences);
    this.paintButtons(sentence);
    this.$('hint').textContent = recorder.shown ? '' : HINT[phase] || '';
    this.paintWords(take);
    this.paintUnsent();
    this.paintFoot();
    this.paintPicture();
    this.paintSound();
  }

  paintSteps(sentences) {
    const steps = this.$('steps'), { recorder } = this;
    while (steps.children.length < sentences.length) {
      const at = steps.children.length;
      const step = steps.appendChild(element('button', 'vcr-step', '', { type: 'button', tabindex: -1, role: 'listitem' }));
      step.addEventListener('click', () => { recorder.go(at); this.root.focus({ preventScroll: true }); });
    }
    sentences.forEach(({ state }, k) => {
      const label = `Sentence ${k + 1}: ${WORD[state || '']}`;
      Object.assign(steps.children[k].dataset, { state: state || '', here: k === recorder.index });
      if (steps.children[k].title !== label) { steps.children[k].title = label; steps.children[k].setAttribute('aria-label', label); }
    });
  }

  paintButtons(sentence) {
    const { recorder } = this, { phase, busy } = recorder, last = recorder.model.get('prompts').length - 1;
    const done = recorder.finished;
    const label = phase === 'review' ? (recorder.redo ? 'Read it again' : done ? 'All done' : 'Next sentence') : MAIN[phase];
    this.$('main').querySelector('span').textContent = label;
    this.$('main').disabled = ['opening', 'room', 'ending'].includes(phase) || done;
    this.$('listen').disabled = busy || !recorder.shown;
    this.$('listen').querySelector('span').textContent = recorder.playing ? 'Stop' : 'Listen';
    this.$('retake').disabled = busy || !sentence.take || !recorder.microphone.open;
    this.$('back').disabled = busy || recorder.index === 0;
    this.$('skip').querySelector('span').textContent = sentence.take ? 'Next' : 'Skip';
    this.$('skip').disabled = busy || recorder.index === last;
  }

  paintWords(take) {
    const { recorder } = this, { sentence, trouble, phase } = recorder;
    const status = this.$('status'), verdict = this.$('verdict');
    let line = recorder.note, state = '';
    if (phase === 'error' && trouble) [line, state] = [trouble.join(' '), 'bad'];
    else if (phase === 'recording') line = 'Recording. Read the sentence, then press Space; Esc throws it away.';
    else if (take) line = take.state === 'unsent' ? '' : 'Keeping …';
    else if (sentence.take && phase !== 'opening') [line, state] = [this.verdictLine(sentence), sentence.state];
    status.textContent = line;
    status.dataset.state = state;
    const rows = [];
    if (phase === 'error') rows.push(element('p', '', recorder.model.get('local') ? WAY_OUT_LOCAL : WAY_OUT));
    else if (state && !take) {
      if (sentence.words.some(([kind]) => kind !== 'same')) rows.push(heardRow(sentence.words));
      for (const [found, why] of sentence.findings) {
        const row = element('p', '', `${found} `);
        row.append(element('span', 'vc-faint', why));
        rows.push(row);
      }
      if (recorder.note) rows.push(element('p', 'vc-faint', recorder.note));
      if (recorder.finished) rows.push(element('p', '', 'Every sentence is recorded. Go on below, or read one again.'));
    }
    const key = JSON.stringify(rows.map((row) => row.innerHTML));
    if (key !== this.rows) { this.rows = key; verdict.replaceChildren(...rows); } // told to screen readers once
  }

  verdictLine(sentence) {
    const ears = this.recorder.model.get('ears'), kept = `Kept as ${sentence.take}`;
    const listening = ears === '' ? ', the words are being heard' : '';
    if (sentence.state === 'checked') return `${MARK.checked} ${kept}; level and length are fine${listening}.`;
    if (sentence.state === 'good') return `${MARK.good} ${kept}: good${sentence.words.length ? ', and the words are right' : ''}.`;
    return `${MARK[sentence.state]} ${kept}, ${sentence.state === 'bad' ? 'but better read again:' : 'worth a look:'}`;
  }

  paintUnsent() {
    const { recorder } = this, box = this.$('unsent');
    const takes = recorder.post.takes().filter((take) => take.state === 'unsent');
    const key = takes.map((take) => take.id + take.why + take.whole).join();
    if (key === this.unsent) return;
    this.unsent = key;
    box.replaceChildren(...takes.map((take) => {
      const why = take.why || 'The kernel does not answer: it is busy, was restarted, or the connection is gone.';
      const row = element('div', 'vcr-kept', '');
      const rest = take.whole ? ' Run the cell again if the kernel was restarted, then:' : '';
      row.append(element('p', '', `Sentence ${take.index + 1} is not in the voice folder yet; this page keeps it. ${why}${rest}`));
      if (take.whole) {
        const again = element('button', 'vc-button vcr-again', 'Send again', { type: 'button' });
        const save = element('button', 'vc-button vcr-download', 'Download', { type: 'button' });
        again.addEventListener('click', () => { recorder.post.again(take); recorder.paint(); });
        save.addEventListener('click', () => recorder.download(take));
        row.append(again, save);
      }
      return row;
    }));
  }

  paintFoot() {
    const { recorder } = this, select = this.$('device');
    const key = recorder.devices.map((device) => device.deviceId + device.label).join() + recorder.microphone.device;
    if (key !== this.devices) {
      this.devices = key;
      const devices = recorder.devices.length ? recorder.devices : [{ deviceId: '', label: 'the browser’s choice' }];
      const name = (device, k) => device.label || `Microphone ${k + 1}`;
      select.replaceChildren(...devices.map((d, k) => element('option', '', name(d, k), { value: d.deviceId })));
      if (recorder.microphone.device) select.value = recorder.microphone.device;
    }
    select.disabled = recorder.busy || !recorder.devices.length;
    const { room } = recorder, ears = recorder.model.get('ears'), map = recorder.model.get('coverage');
    this.$('room').textContent = room === null ? '' : `Room ${minus(room)} dB, ${ROOM.find(([top]) => room <= top)[1]}`;
    this.$('room').dataset.state = room === null || room <= -50 ? '' : room <= -40 ? 'doubtful' : 'bad';
    this.$('ears').textContent = ears === 'opening' ? 'The transcriber is loading …' : ears ? `Words are not heard: ${ears}` : '';
    if (map !== this.map) {
      this.map = map;
      this.$('coverage').innerHTML = map;
      const said = this.$('coverage').querySelector('[aria-label]');
      this.$('map').querySelector('summary').textContent = said ? said.getAttribute('aria-label') : 'Sounds of English';
      if (said) said.firstElementChild.remove();
    }
  }

  paintPicture() { // after a take; while recording, `paintSound` draws
    const { recorder } = this, canvas = this.$('picture');
    if (recorder.phase === 'recording' || recorder.phase === 'ending') { this.drawn = null; return; }
    if (this.drawn === (recorder.shown || 'none') || !canvas.clientWidth) return;
    this.drawn = recorder.shown || 'none';
    canvas.setAttribute('aria-label', recorder.shown ? 'Waveform and spectrogram of the take' : 'No take yet');
    if (recorder.shown) drawTake(canvas, recorder.shown.wave, recorder.shown.rate);
    else surface(canvas);
  }

  paintSound() {
    const { recorder } = this, { phase } = recorder, now = performance.now();
    const level = recorder.microphone.open ? Math.max(-60, Math.min(0, recorder.level)) : -60;
    const meter = this.$('meter'), clipped = now - recorder.clippedAt < 1500;
    const quiet = phase === 'recording' && recorder.take && recorder.take.seconds > 1.5 && recorder.loudest < -45;
    meter.firstElementChild.style.width = `${(100 * (level + 60)) / 60}%`;
    meter.setAttribute('aria-valuenow', level.toFixed(0));
    meter.dataset.state = clipped ? 'bad' : quiet ? 'doubtful' : '';
    let said = level > -60 ? `${minus(level)} dB` : '';
    if (clipped) said = 'Too loud: move back';
    else if (quiet) said = 'Too quiet: come closer';
    else if (recorder.take && phase === 'recording') said = `${recorder.take.seconds.toFixed(1)} s`;
    if (this.$('loud').textContent !== said) this.$('loud').textContent = said;
    if (phase !== 'recording') return;
    const canvas = this.$('picture'), count = Math.floor(canvas.clientWidth / 4);
    const tape = recorder.tape.slice(-count);
    drawEnvelope(canvas, [...tape, ...Array.from({ length: count - tape.length }, () => [0, 0])]);
  }
}
