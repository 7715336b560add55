// Trying cleaning on one clip: settings, before and after in one figure, both to be heard, and all clips at once.

function render({ model, el }) {
  const { root, body, say } = frame(el, 'vc-cleaning', 'Cleaning');
  const { ask, on, close } = kernel(model, say);
  const state = model.get('state');
  const settings = { ...state.settings };
  let clip = state.clips.length ? state.clips[0][1] : null;
  let busy = false; // one question at a time: while it is answered only the newest wish is kept
  let again = false;

  // Settings ----------------------------------------------------------------------------------------------------------

  const sliders = {};
  function slider({ name, label, unit, lowest, highest, step, note }) {
    const input = make('input', { type: 'range', class: 'vc-range', min: lowest, max: highest, step, value: settings[name],
      'data-setting': name });
    const value = make('output', { class: 'vc-value' });
    const paint = () => {
      const said = Number(input.value).toFixed(step < 0.1 ? 2 : step < 1 ? 1 : 0).replace('-', '−');
      value.textContent = `${said} ${unit}`;
      input.setAttribute('aria-valuetext', `${said} ${unit}`);
      input.style.setProperty('--vc-share', `${(100 * (input.value - lowest)) / (highest - lowest)}%`);
    };
    let pause = null;
    input.addEventListener('input', () => {
      paint();
      settings[name] = Number(input.value);
      clearTimeout(pause);
      pause = setTimeout(tried, 200);
    });
    paint();
    sliders[name] = input;
    const shown = field(label, input, name === 'denoise_strength' ? reduce : make('span', { class: 'vc-faint vc-small' }, note));
    shown.querySelector('label').append(value);
    return shown;
  }

  const noise = make('input', { type: 'checkbox', 'data-setting': 'denoise' });
  noise.checked = settings.denoise;
  noise.addEventListener('change', () => {
    settings.denoise = noise.checked;
    sliders.denoise_strength.disabled = !noise.checked;
    tried();
  });
  const reduce = make('label', { class: 'vc-check' }, noise, ' reduce steady noise');

  // Before and after --------------------------------------------------------------------------------------------------

  const before = player('as recorded');
  const after = player('cleaned');
  const figure = picture('Waveform and spectrogram before and after cleaning', '1000 / 460');
  const figures = make('div', { class: 'vc-measures' });

  function measured(rows) {
    figures.replaceChildren(...rows.map(([name, was, now]) => make('div', {}, make('span', { class: 'vc-label' }, name),
      make('span', {}, was ? `${was} → ` : '', make('b', {}, now)))));
  }

  async function tried() {
    if (busy) { again = true; return; }
    busy = true;
    body.setAttribute('aria-busy', 'true');
    const asked = clip;
    const answer = await ask('try', { id: clip, settings });
    busy = false;
    body.removeAttribute('aria-busy');
    if (again) { again = false; tried(); }
    if (!answer || asked !== clip) return;
    const [recorded, cleaned, drawn] = answer.buffers;
    for (const [one, sound] of [[before, recorded], [after, cleaned]]) { // what is heard goes on with the new setting
      const length = one.audio.duration || 0;
      const fresh = one.element.dataset.clip !== asked;
      if (one === before && !fresh) continue;
      one.load(sound, { share: fresh || !length ? 0 : one.audio.currentTime / length, playing: !one.audio.paused });
      one.element.dataset.clip = asked;
      one.element.dataset.heard = JSON.stringify(settings);
    }
    figure.show(drawn);
    measured(answer.measures);
  }

  // All clips ---------------------------------------------------------------------------------------------------------

  const bar = make('i');
  const progress = make('div', { class: 'vc-progress', role: 'progressbar', 'aria-label': 'clips cleaned', hidden: true }, bar);
  const apply = button('Apply to all clips', async () => {
    apply.disabled = true;
    progress.hidden = false;
    bar.style.width = '0';
    await ask('apply', { settings });
    apply.disabled = false;
    progress.hidden = true;
  }, { picture: 'check', kind: 'vc-main' });
  on('progress', ({ done, total }) => {
    bar.style.width = `${(100 * done) / total}%`;
    progress.setAttribute('aria-valuenow', done);
    progress.setAttribute('aria-valuemax', total);
    say(`${done} of ${total} clips cleaned`);
  });

  const clips = choice(state.clips, clip, (id) => { clip = id; tried(); });
  const step = (by) => {
    const at = Math.min(Math.max(clips.selectedIndex + by, 0), clips.options.length - 1);
    if (at === clips.selectedIndex) return;
    clips.selectedIndex = at;
    clip = clips.value;
    tried();
  };
  body.append(
    make('div', { class: 'vc-bar vc-bottom' }, make('div', { class: 'vc-grow' }, field('Clip', clips)),
      button('Previous', () => step(-1)), button('Next', () => step(1))),
    make('div', { class: 'vc-settings' }, ...state.sliders.map(slider)),
    figure.element,
    make('div', { class: 'vc-pair' },
      make('div', {}, make('div', { class: 'vc-faint' }, 'as recorded'), before.element),
      make('div', {}, make('div', { class: 'vc-faint' }, 'cleaned'), after.element)),
    figures,
    make('div', { class: 'vc-bar' }, apply, make('div', { class: 'vc-grow' }, progress)));
  sliders.denoise_strength.disabled = !settings.denoise;
  if (clip) tried();
  else {
    say('No takes yet: record some in notebook 01.');
    apply.disabled = true;
  }
  return () => { close(); before.empty(); after.empty(); root.remove(); };
}

export default { render };
