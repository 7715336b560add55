// Watching training: where it stands, how long it takes, its figures, what the voice says by now; stop and go on.

const NUMBERS = [['step', 'step', 0], ['epoch', 'epoch', 1], ['loss', 'loss', 3], ['mel_loss', 'mel loss', 3],
  ['attention_loss', 'attention loss', 3], ['learning_rate', 'learning rate', 6]];
const PLACES = [['curves', 'Losses and learning rate', '1000 / 520'], ['alignment', 'Alignment of the spoken sample', '1000 / 480'],
  ['mels', 'Spectrogram, predicted and recorded', '1000 / 440']];

function render({ model, el }) {
  const { root, body, say } = frame(el, 'vc-training', 'Training');
  const { ask, on, close } = kernel(model, say);

  const said = make('div', { class: 'vc-heading-line', role: 'status', 'aria-live': 'polite' });
  const left = make('div', { class: 'vc-faint vc-time' });
  const bar = make('i');
  const progress = make('div', { class: 'vc-progress', role: 'progressbar', 'aria-label': 'Share of the budget', 'aria-valuemin': 0, 'aria-valuemax': 100 }, bar);
  const stop = button('Stop', () => { stop.disabled = true; ask('stop'); }, { picture: 'stop' });
  const resume = button('Go on', () => { resume.disabled = true; ask('resume'); }, { picture: 'play', kind: 'vc-main' });
  const numbers = make('div', { class: 'vc-measures' });
  const notes = make('ul', { class: 'vc-notes' });
  const cells = Object.fromEntries(NUMBERS.map(([name, label]) => {
    const value = make('span', { class: 'vc-value' }, '–');
    numbers.append(make('div', {}, make('span', { class: 'vc-label' }, label), value));
    return [name, value];
  }));

  function status(now) {
    root.dataset.condition = now.condition;
    if (said.textContent !== now.said) said.textContent = now.said;
    said.classList.toggle('vc-problem', now.condition === 'failed');
    const spent = now.numbers.seconds == null ? '' : `${clock(now.numbers.seconds)} trained`;
    left.textContent = [spent, now.left == null ? '' : `about ${clock(now.left)} left`, now.cost].filter(Boolean).join(' · ') || '\u00a0';
    const percent = Math.round(100 * (now.share || 0));
    bar.style.width = `${percent}%`;
    progress.setAttribute('aria-valuenow', percent);
    for (const [name, , digits] of NUMBERS) {
      const value = now.numbers[name];
      cells[name].textContent = value == null ? '–' : digits > 4 ? Number(value.toPrecision(3)).toString() : value.toFixed(digits);
    }
    stop.disabled = !['preparing', 'training'].includes(now.condition);
    resume.disabled = !['new', 'stopped', 'failed'].includes(now.condition);
    notes.replaceChildren(...now.notes.map((note) => make('li', {}, note)));
    notes.hidden = !now.notes.length;
  }

  // Figures and sounds --------------------------------------------------------------------------------------------------

  const figures = Object.fromEntries(PLACES.map(([place, label, ratio]) => [place, picture(label, ratio)]));
  const sounds = make('ol', { class: 'vc-previews' });
  const none = make('li', { class: 'vc-faint vc-none' }, 'The voice speaks for the first time after some minutes.');
  sounds.append(none);
  const players = new Map();

  function preview({ step, heard }) {
    if (players.has(step)) return;
    const one = player(`what it says after ${step} steps`, { ask: () => ask('sound', { step }) });
    players.set(step, one);
    none.remove();
    sounds.prepend(make('li', { 'data-step': step },
      make('span', { class: 'vc-number' }, `step ${step}`), one.element,
      make('span', { class: 'vc-faint vc-small' }, heard ? `heard: “${heard}”` : '')));
  }

  const show = (place, buffer) => {
    figures[place]?.show(buffer);
    if (place !== 'curves') spoken.hidden = false;
  };
  const block = (title, ...content) => make('div', { class: 'vc-block' }, make('div', { class: 'vc-faint' }, title), ...content);
  const spoken = make('div', { class: 'vc-figures', hidden: true }, // last, so that nothing moves when they come
    block('Which sound is spoken when: it should become a diagonal', figures.alignment.element),
    block('A sentence that it does not train on: as predicted, and as you said it', figures.mels.element));
  body.append(
    make('div', { class: 'vc-bar' }, make('div', { class: 'vc-grow' }, said, left), stop, resume),
    progress, numbers, notes,
    block('Losses', figures.curves.element),
    block('The same sentence, said at different times; the newest first', sounds),
    spoken);

  on('status', status);
  on('figure', ({ place }, buffers) => show(place, buffers[0]));
  on('preview', ({ preview: one }) => preview(one));
  status(model.get('state').status);
  ask('hello').then((answer) => {
    if (!answer) return;
    status(answer.status);
    answer.places.forEach((place, at) => show(place, answer.buffers[at]));
    answer.previews.forEach(preview);
  });
  return () => { close(); players.forEach((one) => one.empty()); root.remove(); };
}

export default { render };
