// The review table: every clip in one list that a keyboard alone can work through.

const STATES = { accepted: 'accepted', review: 'to look at', rejected: 'left out', missing: 'not read yet' };
const SOURCES = { prompt: 'as on the sheet', hand: 'by hand', tags: 'from tags', whisper: 'as heard', wav2vec2: 'as heard' };
const HELP = [['↑ ↓', 'move'], ['Space', 'listen'], ['Enter', 'edit, save'], ['Esc', 'undo'],
  ['A', 'accept'], ['X', 'leave out'], ['R', 'read again']];

function render({ model, el }) {
  const { root, body, say } = frame(el, 'vc-review', 'Review of the transcripts');
  const { ask, on, close } = kernel(model, say);
  const rows = new Map(); // by clip: the row's data and its elements
  const audio = make('audio', { preload: 'auto' });
  let active = null; // the clip that the keys act on
  let sounding = null; // the clip that is heard
  let shown = 'all';
  let fresh = Date.now(); // when the kernel was last asked what has changed

  // One row ---------------------------------------------------------------------------------------------------------

  function add(data) {
    const id = data.id;
    const parts = {
      listen: button(`Listen to clip ${id}`, () => listen(id), { picture: 'play', kind: 'vc-round', only: true }),
      heard: make('div', { class: 'vc-heard' }),
      text: make('div', { class: 'vc-text', role: 'textbox', contenteditable: 'plaintext-only', spellcheck: 'true',
        'aria-label': `Transcript of clip ${id}` }),
      note: make('div', { class: 'vc-note' }),
      sure: make('div', { class: 'vc-sure', role: 'gridcell' }),
      state: make('div', { class: 'vc-state', role: 'gridcell' }),
      accept: button(`Accept clip ${id}`, () => decide(id, 'accept'), { picture: 'check', only: true, title: 'Accept (A)' }),
      reject: button(`Leave out clip ${id}`, () => decide(id, 'reject'), { picture: 'cross', only: true, title: 'Leave out (X)' }),
      retake: button(`Read clip ${id} again`, () => retake(id), { picture: 'again', only: true, title: 'Read again (R)' }),
    };
    if (parts.text.contentEditable !== 'plaintext-only') parts.text.contentEditable = 'true'; // older browsers
    const element = make('div', { class: 'vc-row', role: 'row', tabindex: -1, 'data-clip': id },
      make('div', { class: 'vc-clip', role: 'gridcell' }, parts.listen, make('span', { class: 'vc-number' }, id)),
      make('div', { class: 'vc-words', role: 'gridcell' }, parts.heard, parts.text, parts.note),
      parts.sure, parts.state,
      make('div', { class: 'vc-actions', role: 'gridcell' }, parts.accept, parts.reject, parts.retake));
    parts.text.addEventListener('blur', () => save(id));
    element.addEventListener('focusin', () => choose(id));
    rows.set(id, { data, element, ...parts });
    list.append(element);
    paint(id);
  }

  function paint(id) {
    const row = rows.get(id);
    const { data } = row;
    row.element.dataset.state = data.state;
    row.heard.replaceChildren(...data.words.flatMap(([kind, sheet, heard]) => marked(kind, sheet, heard)));
    if (document.activeElement !== row.text) row.text.textContent = data.transcript;
    row.note.textContent = data.checks;
    const percent = data.confidence == null ? null : Math.round(100 * data.confidence);
    row.sure.replaceChildren(percent == null ? make('span', { class: 'vc-faint' }, '–')
      : make('span', { class: 'vc-meter', style: `--vc-share:${percent}%`, 'aria-hidden': 'true' }), percent == null ? '' : `${percent} %`);
    row.sure.setAttribute('aria-label', percent == null ? 'not heard yet' : `heard with ${percent} percent confidence`);
    row.state.replaceChildren(make('span', { class: 'vc-chip' }, STATES[data.state]),
      make('span', { class: 'vc-faint' }, SOURCES[data.source] || data.source));
    row.accept.setAttribute('aria-pressed', data.state === 'accepted');
    row.reject.setAttribute('aria-pressed', data.state === 'rejected');
    row.listen.disabled = !data.take;
  }

  function marked(kind, sheet, heard) {
    const pieces = [];
    if (kind === 'same') pieces.push(sheet);
    if (kind === 'missing' || kind === 'replaced') pieces.push(make('del', { title: 'on the sheet, not heard' }, sheet));
    if (kind === 'replaced') pieces.push(' ');
    if (kind === 'added' || kind === 'replaced') pieces.push(make('ins', { title: 'heard, not on the sheet' }, heard));
    return [...pieces, ' '];
  }

  // What a person does ------------------------------------------------------------------------------------------------

  function choose(id) {
    if (active !== id) {
      if (active && rows.has(active)) reach(active, false);
      active = id;
      reach(id, true);
    }
    if (Date.now() - fresh > 2000) { // a retake, or an edit elsewhere, may have changed the table
      fresh = Date.now();
      ask('refresh', {}, { quiet: true });
    }
  }

  function reach(id, now) { // only the row in hand is on the way of the Tab key
    const row = rows.get(id);
    row.element.tabIndex = now ? 0 : -1;
    row.element.setAttribute('aria-selected', now);
    for (const part of [row.listen, row.text, row.accept, row.reject, row.retake]) part.tabIndex = now ? 0 : -1;
  }

  function move(by) {
    const visible = [...rows.values()].filter((row) => !row.element.hidden);
    const at = visible.findIndex((row) => row.data.id === active);
    const next = visible[Math.min(Math.max(at + by, 0), visible.length - 1)];
    next?.element.focus();
    next?.element.scrollIntoView({ block: 'nearest' });
  }

  async function listen(id) {
    if (sounding === id && !audio.paused) return audio.pause();
    if (sounding !== id) {
      const answer = await ask('sound', { id });
      if (!answer) return undefined;
      if (audio.src) URL.revokeObjectURL(audio.src);
      if (sounding && rows.has(sounding)) rows.get(sounding).element.style.removeProperty('--vc-played');
      sounding = id;
      audio.src = blobUrl(answer.buffers[0], 'audio/flac');
    }
    return audio.play().catch(() => say('Press play again: the browser held the sound back.'));
  }

  function heard() {
    for (const [id, row] of rows) {
      const now = id === sounding && !audio.paused;
      if (now === row.element.classList.contains('vc-playing')) continue;
      row.element.classList.toggle('vc-playing', now);
      row.listen.replaceChildren(icon(now ? 'pause' : 'play'));
    }
    const row = rows.get(sounding);
    row?.element.style.setProperty('--vc-played', audio.duration ? audio.currentTime / audio.duration : 0);
  }

  async function save(id) {
    const row = rows.get(id);
    const text = row.text.innerText.replace(/\s+/g, ' ').trim();
    if (text === row.data.transcript) return row.text.removeAttribute('aria-invalid');
    const answer = await ask('correct', { id, text });
    if (answer) return row.text.removeAttribute('aria-invalid');
    return row.text.setAttribute('aria-invalid', 'true'); // what was typed stays, to be mended
  }

  function undo(id) {
    const row = rows.get(id);
    row.text.textContent = row.data.transcript;
    row.text.removeAttribute('aria-invalid');
    row.element.focus();
    say('');
  }

  async function decide(id, type) {
    const own = rows.get(id).element.contains(document.activeElement);
    if (await ask(type, { id }) && own && active === id) move(1);
  }

  async function retake(id) {
    if (!(await ask('retake', { id }))) return;
    const box = el.closest('.widget-vbox');
    for (let tries = 0; tries < 50; tries++) { // until the recorder is drawn below; its keys are the next ones pressed
      const recorder = box?.querySelector(".vcr:not([data-phase='released'])");
      if (recorder) {
        recorder.focus();
        recorder.scrollIntoView({ block: 'nearest' });
        return;
      }
      await new Promise((done) => { setTimeout(done, 100); });
    }
  }

  // Keys --------------------------------------------------------------------------------------------------------------

  function pressed(event) {
    const row = rows.get(active);
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === row.text) {
      if (event.key === 'Enter') { event.preventDefault(); row.element.focus(); move(1); }
      if (event.key === 'Escape') { event.preventDefault(); undo(active); }
      return;
    }
    const pressing = event.target.tagName === 'BUTTON' && (event.key === ' ' || event.key === 'Enter');
    const action = pressing ? null : {
      ArrowDown: () => move(1), ArrowUp: () => move(-1), j: () => move(1), k: () => move(-1),
      Home: () => move(-rows.size), End: () => move(rows.size), ' ': () => listen(active), p: () => listen(active),
      Enter: () => edit(row), a: () => decide(active, 'accept'), x: () => decide(active, 'reject'), r: () => retake(active),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  function edit(row) {
    row.text.focus();
    getSelection().selectAllChildren(row.text);
    getSelection().collapseToEnd();
  }

  // The page ----------------------------------------------------------------------------------------------------------

  function filter(which) {
    shown = which;
    for (const tab of filters.children) tab.setAttribute('aria-pressed', tab.dataset.which === which);
    for (const row of rows.values()) row.element.hidden = which !== 'all' && row.data.state !== which;
    const nothing = [...rows.values()].every((row) => row.element.hidden);
    empty.hidden = !nothing;
    const first = [...rows.values()].find((row) => !row.element.hidden);
    if (first && (!active || rows.get(active).element.hidden)) choose(first.data.id);
  }

  function count() {
    const of = (state) => [...rows.values()].filter((row) => row.data.state === state).length;
    for (const tab of filters.children) {
      const which = tab.dataset.which;
      tab.querySelector('b').textContent = which === 'all' ? rows.size : of(which);
    }
  }

  const filters = make('div', { class: 'vc-tabs', role: 'group', 'aria-label': 'Which clips are shown' },
    ...[['all', 'All'], ['review', 'To look at'], ['accepted', 'Accepted'], ['rejected', 'Left out']].map(([which, label]) =>
      make('button', { type: 'button', class: 'vc-tab', 'data-which': which, onclick: () => filter(which) }, `${label} `, make('b'))));
  const list = make('div', { class: 'vc-rows', role: 'rowgroup' });
  const empty = make('p', { class: 'vc-empty', hidden: true }, 'No clip here.');
  const heading = make('div', { class: 'vc-row vc-heading', role: 'row' },
    ...['clip', 'sheet and what was heard; transcript', 'confidence', 'state', ''].map((name) =>
      make('div', { role: 'columnheader' }, name)));
  const keys = make('p', { class: 'vc-keys' }, ...HELP.map(([key, what]) => make('span', {}, make('kbd', {}, key), ` ${what}`)));
  const grid = make('div', { class: 'vc-grid', role: 'grid', 'aria-label': 'Clips', onkeydown: pressed }, heading, list, empty);
  body.append(make('div', { class: 'vc-bar' }, filters), grid, keys, audio);

  for (const happening of ['timeupdate', 'play', 'pause', 'ended']) audio.addEventListener(happening, heard);
  on('row', ({ row }) => {
    const known = model.get('state').rows; // shared with other views of this table, and with what is drawn next
    const at = known.findIndex((one) => one.id === row.id);
    if (at >= 0) known[at] = row;
    if (!rows.has(row.id)) {
      add(row);
      reach(row.id, false);
      return count();
    }
    if (row.hash !== rows.get(row.id).data.hash && sounding === row.id) sounding = null; // another take
    rows.get(row.id).data = row;
    paint(row.id);
    return count();
  });
  for (const row of model.get('state').rows) add(row);
  for (const id of rows.keys()) reach(id, false);
  count();
  filter('all');
  return () => { close(); audio.pause(); root.remove(); };
}

export default { render };
