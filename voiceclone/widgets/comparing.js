// Blind comparison: two ways of saying a sentence, in an order that nobody sees, until one is preferred.

function render({ model, el }) {
  const { root, body, say } = frame(el, 'vc-comparing', 'Blind comparison');
  const { ask, on, close } = kernel(model, say);
  const state = model.get('state');
  const pair = [...state.pair];

  const choices = ['A', 'B'].map((name, at) => {
    const select = choice(state.candidates, pair[at], (value) => { pair[at] = value; });
    select.dataset.choice = name;
    return field(name, select);
  });
  const next = button('Play a pair', fresh, { picture: 'play', kind: 'vc-main' });
  const words = make('p', { class: 'vc-sentence' }, '\u00a0');
  const players = [player('the first'), player('the second')];
  const verdicts = [['first', 'The first is better (1)'], ['same', 'No difference (0)'], ['second', 'The second is better (2)']].map(
    ([key, label]) => {
      const one = button(label, () => decide(key));
      one.dataset.verdict = key;
      return one;
    });
  const reveal = make('p', { class: 'vc-faint', role: 'status', 'aria-live': 'polite' }, '\u00a0');
  const tally = make('div', { class: 'vc-tally' });
  let trial = null;
  let heard = new Set();

  function ready() {
    for (const one of verdicts) one.disabled = !trial || heard.size < 2;
  }
  players.forEach((one, at) => one.audio.addEventListener('play', () => { heard.add(at); ready(); }));
  players[0].audio.addEventListener('ended', () => { if (trial && !heard.has(1)) players[1].play(); });

  async function fresh() {
    next.disabled = true;
    reveal.textContent = '\u00a0';
    say('Both are saying it …');
    const answer = await ask('pair', { pair });
    next.disabled = false;
    if (!answer) return;
    trial = answer.trial;
    heard = new Set();
    words.textContent = answer.text;
    players[1].load(answer.buffers[1]);
    players[0].load(answer.buffers[0], { playing: true });
    ready();
  }

  async function decide(verdict) {
    if (!trial || heard.size < 2) return;
    const answer = await ask('verdict', { trial, verdict });
    if (!answer) return;
    trial = null;
    ready();
    reveal.textContent = answer.revealed;
    show(answer.tally);
    next.focus();
  }

  function show(rows) {
    tally.replaceChildren(...(rows.length ? rows.map((row) => make('div', { class: 'vc-tally-row' },
      make('span', {}, `${row.one} `, make('b', {}, row.for_one)),
      make('span', { class: 'vc-faint' }, `no difference ${row.same}`),
      make('span', {}, make('b', {}, row.for_other), ` ${row.other}`),
      make('span', { class: 'vc-split', 'aria-hidden': 'true', style: `--vc-one:${row.for_one};--vc-same:${row.same};--vc-other:${row.for_other}` },
        make('i'), make('i'), make('i')),
      make('span', { class: 'vc-faint vc-small' }, row.said))) : [make('span', { class: 'vc-faint' }, 'Nothing compared yet.')]));
  }

  root.addEventListener('keydown', (event) => {
    if (event.target.tagName === 'SELECT') return;
    const verdict = { 1: 'first', 2: 'second', 0: 'same' }[event.key];
    if (verdict) { event.preventDefault(); decide(verdict); }
  });
  on('tally', (message) => show(message.tally));
  body.append(
    make('div', { class: 'vc-bar vc-bottom' }, ...choices.map((one) => make('div', { class: 'vc-grow' }, one)), next),
    words,
    make('div', { class: 'vc-pair' }, ...players.map((one, at) => make('div', {},
      make('div', { class: 'vc-faint' }, ['first', 'second'][at]), one.element))),
    make('div', { class: 'vc-bar' }, ...verdicts),
    reveal,
    make('div', { class: 'vc-block' }, make('div', { class: 'vc-faint' }, 'So far'), tally));
  ready();
  show(state.tally);
  return () => { close(); players.forEach((one) => one.empty()); root.remove(); };
}

export default { render };
