// What all views share: building elements, talking with the kernel, icons, and a player of sounds.

const SLOW_MS = 1500; // after which a person is told that the kernel is busy
const AGAIN_MS = 5000; // after which a question is asked again, later at longer intervals: a connection may lose one

const ICONS = {
  play: 'M5 3.5v13l11-6.5z',
  pause: 'M5 4h3.5v12H5zM11.5 4H15v12h-3.5z',
  stop: 'M5 5h10v10H5z',
  check: 'M4 10.5 8.2 15 16 5.5',
  cross: 'M5 5l10 10M15 5 5 15',
  again: 'M15.5 8A6 6 0 1 0 16 11.5M16 4v4.5h-4.5',
  keep: 'M10 3v9M6 8.5l4 4 4-4M4 16.5h12',
  speak: 'M3 8v4h3l4 3.5v-11L6 8zM13 7.5a3.5 3.5 0 0 1 0 5M15 5a7 7 0 0 1 0 10',
};
const FILLED = new Set(['play', 'pause', 'stop']);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 20 20');
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('class', FILLED.has(name) ? 'vc-icon vc-filled' : 'vc-icon');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

function button(label, onclick, { picture = '', kind = '', title = '', only = false } = {}) {
  const inside = [picture ? icon(picture) : null, only ? null : make('span', {}, label)];
  return make('button', {
    type: 'button', class: `vc-button ${kind}`, title: title || (only ? label : null),
    'aria-label': only ? label : null, onclick,
  }, ...inside);
}

let fields = 0; // so that each label finds its own control

function field(label, control, note = null) {
  control.id ||= `vc-field-${Math.random().toString(36).slice(2)}-${++fields}`;
  return make('div', { class: 'vc-field' }, make('label', { for: control.id }, label), control, note);
}

function choice(options, value, onchange) {
  const select = make('select', { class: 'vc-select', onchange: () => onchange(select.value) });
  fill(select, options, value);
  return select;
}

function fill(select, options, value) {
  select.replaceChildren(...options.map(([name, key]) => make('option', { value: key }, name)));
  if (value != null) select.value = value;
}

// The frame of a view: keys pressed in it are not the notebook's, and its last line says what happened.
function frame(el, name, label) {
  const status = make('div', { class: 'vc-status', role: 'status', 'aria-live': 'polite' });
  const body = make('div', { class: 'vc-body' });
  const root = make('section', {
    class: `vc-view ${name}`, 'aria-label': label, 'data-lm-suppress-shortcuts': 'true',
    onkeydown: (event) => event.stopPropagation(),
  }, body, status);
  el.append(root);
  const say = (text, problem = false) => {
    status.textContent = text;
    status.classList.toggle('vc-problem', problem);
  };
  return { root, body, say };
}

// Questions to the kernel, each answered once; and the kernel's own news.
function kernel(model, say) {
  const mine = Math.random().toString(36).slice(2);
  const waiting = new Map();
  let closed = false;
  const listeners = new Map();
  let count = 0;
  const receive = (message, buffers) => {
    if (message.type !== 'reply') return listeners.get(message.type)?.(message, buffers || []);
    const answer = waiting.get(message.ask);
    if (!answer) return undefined;
    waiting.delete(message.ask);
    return answer({ ...message, buffers: buffers || [] });
  };
  model.on('msg:custom', receive);
  return {
    on: (type, listener) => listeners.set(type, listener),
    close() {
      model.off('msg:custom', receive);
      closed = true;
    },
    // Resolves to the answer, or to null when there was a problem, which is then shown.
    async ask(type, content = {}, { quiet = false } = {}) {
      const ask = `${mine}-${++count}`;
      const slow = setTimeout(() => say('The kernel is still busy; this will be done when it is free.'), SLOW_MS);
      let again = null;
      const answer = await new Promise((resolve) => {
        waiting.set(ask, resolve);
        const send = (pause) => {
          if (closed) return;
          model.send({ type, ask, ...content });
          again = setTimeout(() => send(2 * pause), pause);
        };
        send(AGAIN_MS);
      });
      clearTimeout(slow);
      clearTimeout(again);
      if (answer.problem || answer.said || !quiet) say(answer.problem || answer.said || '', Boolean(answer.problem));
      return answer.problem ? null : answer;
    },
  };
}

function blobUrl(buffer, type) {
  return URL.createObjectURL(new Blob([buffer], { type }));
}

// An image whose place on the page stays while another takes its turn.
function picture(label, ratio) {
  const image = make('img', { class: 'vc-picture', alt: label, style: `aspect-ratio:${ratio}`, hidden: true });
  const holder = make('div', { class: 'vc-figure', style: `aspect-ratio:${ratio}` }, image);
  return {
    element: holder,
    show(buffer) {
      const old = image.src;
      image.onload = () => {
        const own = `${image.naturalWidth} / ${image.naturalHeight}`;
        image.style.aspectRatio = own;
        holder.style.aspectRatio = own;
        if (old) URL.revokeObjectURL(old);
      };
      image.src = blobUrl(buffer, 'image/png');
      image.hidden = false;
    },
  };
}

function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds || 0));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

// A player: a button, a place in time, the time. Without a sound of its own it asks for one when it is first played.
function player(label, { ask = null } = {}) {
  const audio = make('audio', { preload: 'auto' });
  const toggle = make('button', { type: 'button', class: 'vc-button vc-round', 'aria-label': `Play ${label}` }, icon('play'));
  const place = make('input', {
    type: 'range', class: 'vc-range', min: 0, max: 1000, value: 0, step: 1, 'aria-label': `Place in ${label}`,
  });
  const time = make('span', { class: 'vc-time' }, '0:00');
  const element = make('div', { class: 'vc-player' }, toggle, place, time, audio);
  const paint = () => {
    const length = Number.isFinite(audio.duration) ? audio.duration : 0;
    const share = length ? audio.currentTime / length : 0;
    place.value = Math.round(1000 * share);
    place.style.setProperty('--vc-share', `${100 * share}%`);
    place.setAttribute('aria-valuetext', `${clock(audio.currentTime)} of ${clock(length)}`);
    time.textContent = length ? `${clock(audio.currentTime)} / ${clock(length)}` : '0:00';
    toggle.replaceChildren(icon(audio.paused ? 'play' : 'pause'));
    toggle.setAttribute('aria-label', `${audio.paused ? 'Play' : 'Pause'} ${label}`);
  };
  for (const happening of ['timeupdate', 'play', 'pause', 'ended', 'loadedmetadata', 'emptied']) {
    audio.addEventListener(happening, paint);
  }
  audio.addEventListener('play', () => {
    if (player.playing && player.playing !== audio) player.playing.pause(); // two voices at once help nobody
    player.playing = audio;
  });
  place.addEventListener('input', () => {
    if (Number.isFinite(audio.duration)) audio.currentTime = (audio.duration * place.value) / 1000;
  });
  toggle.disabled = !ask;
  const self = {
    element, audio, toggle,
    load(buffer, { share = 0, playing = false } = {}) {
      const old = audio.src;
      audio.src = blobUrl(buffer, 'audio/flac');
      if (old) URL.revokeObjectURL(old);
      toggle.disabled = false;
      audio.addEventListener('loadedmetadata', () => {
        if (share) audio.currentTime = share * audio.duration;
        if (playing) self.play();
      }, { once: true });
    },
    async play() {
      if (!audio.src && ask) {
        const answer = await ask();
        if (!answer) return;
        self.load(answer.buffers[0]);
      }
      await audio.play().catch(() => paint()); // a browser may want another press first
    },
    empty() {
      if (audio.src) URL.revokeObjectURL(audio.src);
      audio.removeAttribute('src');
      audio.load();
      toggle.disabled = !ask;
    },
  };
  toggle.addEventListener('click', () => (audio.paused ? self.play() : audio.pause()));
  return self;
}
