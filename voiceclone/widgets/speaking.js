// The listening view: type a text, choose who says it and how, hear it and see how it was said.

function render({ model, el }) {
  const { root, body, say } = frame(el, 'vc-speaking', 'Listening');
  const { ask, close } = kernel(model, say);
  const state = model.get('state');
  const chosen = { ...state.chosen };

  const text = make('textarea', { rows: 2, spellcheck: 'true' });
  text.value = state.text;
  const number = (name, lowest, highest) => {
    const input = make('input', { type: 'number', min: lowest, max: highest, step: 1, value: chosen[name], 'data-choice': name });
    input.addEventListener('change', () => {
      chosen[name] = Math.round(Math.min(Math.max(Number(input.value) || lowest, lowest), highest));
      input.value = chosen[name];
    });
    return input;
  };
  const checkpoints = choice([], null, (value) => { chosen.checkpoint = value; });
  function voiceChosen(name) {
    chosen.voice = name;
    const known = state.voices.find(([, key]) => key === name)?.[2] || [];
    if (!known.some(([, key]) => key === chosen.checkpoint)) chosen.checkpoint = known[0]?.[1];
    fill(checkpoints, known, chosen.checkpoint);
  }
  const voices = choice(state.voices, chosen.voice, voiceChosen);
  const vocoders = choice(state.vocoders, chosen.vocoder, (value) => { chosen.vocoder = value; });
  voiceChosen(chosen.voice);
  for (const [name, control] of Object.entries({ voice: voices, checkpoint: checkpoints, vocoder: vocoders })) {
    control.dataset.choice = name;
  }

  const speak = button('Speak', spoken, { picture: 'speak', kind: 'vc-main', title: 'Ctrl and Enter' });
  text.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); spoken(); }
  });

  const sound = player('what was said');
  const verdict = make('div', { class: 'vc-faint vc-verdict' }, '\u00a0');
  const alignment = picture('Alignment: which sound was spoken when', '1000 / 480');
  const mel = picture('Spectrogram of what was said', '1000 / 280');
  const history = make('ol', { class: 'vc-previews vc-said' });

  async function spoken() {
    if (speak.disabled) return;
    speak.disabled = true;
    root.setAttribute('aria-busy', 'true');
    say('Speaking …');
    const answer = await ask('speak', { text: text.value, ...chosen });
    speak.disabled = false;
    root.removeAttribute('aria-busy');
    if (!answer) return;
    const [wave, drawn, painted] = answer.buffers;
    sound.load(wave, { playing: true });
    verdict.textContent = answer.verdict;
    verdict.classList.toggle('vc-problem', !answer.ok);
    figures.hidden = false;
    alignment.show(drawn);
    mel.show(painted);
    remember(answer, wave);
  }

  function remember({ label, words, number: place }, wave) {
    const again = player(`“${words}”`);
    again.load(wave);
    const keep = button('Keep', async () => { if (await ask('keep', { number: place })) keep.disabled = true; },
      { picture: 'keep', title: 'Write it into the folder samples' });
    history.prepend(make('li', {}, make('span', { class: 'vc-words-said' }, words,
      make('span', { class: 'vc-faint vc-small' }, label)), again.element, keep));
    while (history.children.length > state.remembered) history.lastChild.remove();
    past.hidden = false;
  }

  const past = make('div', { class: 'vc-block', hidden: true }, make('div', { class: 'vc-faint' }, 'Said before; the newest first'), history);
  const figures = make('div', { class: 'vc-figures', hidden: true }, alignment.element, mel.element);
  body.append(
    field('Text', text),
    make('div', { class: 'vc-settings vc-choices' }, field('Voice', voices), field('Checkpoint', checkpoints), field('Vocoder', vocoders),
      field('Best of', number('takes', 1, 12)), field('Seed', number('seed', 0, 9999))),
    make('div', { class: 'vc-bar' }, speak, make('div', { class: 'vc-grow' }, sound.element)),
    verdict,
    figures,
    past);
  return () => { close(); sound.empty(); root.remove(); };
}

export default { render };
