// The recorder's microphone: raw samples in blocks, nothing done to them by the browser, or why there is none.

const TAP = `registerProcessor('voiceclone-tap', class extends AudioWorkletProcessor {
  constructor() { super(); this.block = new Int16Array(2048); this.n = 0; this.peak = 0; this.sum = 0; this.on = true;
    this.port.onmessage = () => { this.on = false; }; }
  process([[channel]]) {
    for (const x of channel || []) {
      this.peak = Math.max(this.peak, Math.abs(x)); this.sum += x * x;
      this.block[this.n++] = Math.max(-32768, Math.min(32767, Math.round(x * 32768)));
      if (this.n === this.block.length) {
        this.port.postMessage({ block: this.block, peak: this.peak, power: this.sum / this.n });
        this.n = 0; this.peak = 0; this.sum = 0;
      }
    }
    return this.on;
  }
});`;

const TROUBLE = {
  NotAllowedError: ['The microphone was refused.',
    'Click the sign left of the page’s address, allow the microphone, and press Try again.'],
  NotFoundError: ['No microphone was found.', 'Plug one in and press Try again.'],
  NotReadableError: ['The microphone is in use by another program.', 'Close that program and press Try again.'],
  OverconstrainedError: ['The chosen microphone is gone.', 'Choose another one below and press Try again.'],
  insecure: ['Browsers give their microphone to secure pages only.',
    'Open this notebook over https:// or at http://localhost (through an SSH tunnel, for example).'],
  blocked: ['This window gives notebooks no microphone, as VS Code does.', ''],
};
const WAY_OUT = 'Or read with any other program or a telephone, and bring the files in below.';
const WAY_OUT_LOCAL = 'Or record through this computer’s own microphone, or bring files in, below.';

function ability() {
  if (!window.isSecureContext || !navigator.mediaDevices) return 'insecure';
  const policy = document.permissionsPolicy || document.featurePolicy;
  return policy && policy.allowsFeature && !policy.allowsFeature('microphone') ? 'blocked' : 'yes';
}

class Microphone {
  constructor(onBlock, onGone) { Object.assign(this, { onBlock, onGone, stream: null, context: null, node: null }); }

  get open() { return !!this.stream && this.stream.active; }
  get rate() { return this.context ? this.context.sampleRate : 0; }
  get device() { return this.open ? this.stream.getAudioTracks()[0].getSettings().deviceId || '' : ''; }

  async start(device = '') {
    const able = ability();
    if (able !== 'yes') throw { name: able };
    if (this.open && (!device || device === this.device)) return this.context.resume();
    this.close();
    const raw = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    if (device) raw.deviceId = { exact: device };
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: raw });
    this.stream.getAudioTracks()[0].onended = () => { this.close(); this.onGone(); };
    this.context = new AudioContext(); // at the microphone's own rate: the kernel resamples better
    await this.context.resume();
    this.node = await this.tap();
    const silent = new GainNode(this.context, { gain: 0 }); // what leads nowhere is not pulled
    const source = this.context.createMediaStreamSource(this.stream);
    source.connect(this.node).connect(silent).connect(this.context.destination);
  }

  async tap() {
    const url = URL.createObjectURL(new Blob([TAP], { type: 'text/javascript' }));
    try {
      await this.context.audioWorklet.addModule(url);
    } catch { // a page's policy can forbid worklets from blobs
      return this.oldTap();
    } finally {
      URL.revokeObjectURL(url);
    }
    const options = { channelCount: 1, channelCountMode: 'explicit' };
    const node = new AudioWorkletNode(this.context, 'voiceclone-tap', options);
    node.port.onmessage = ({ data }) => this.onBlock(data.block, data.peak, data.power);
    return node;
  }

  oldTap() {
    const node = this.context.createScriptProcessor(2048, 1, 1);
    node.onaudioprocess = ({ inputBuffer }) => {
      const samples = inputBuffer.getChannelData(0);
      const peak = samples.reduce((top, x) => Math.max(top, Math.abs(x)), 0);
      const power = samples.reduce((sum, x) => sum + x * x, 0) / samples.length;
      const whole = Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32768))));
      this.onBlock(whole, peak, power);
    };
    return node;
  }

  async list() {
    if (!navigator.mediaDevices) return [];
    return (await navigator.mediaDevices.enumerateDevices()).filter((d) => d.kind === 'audioinput' && d.deviceId);
  }

  close() {
    if (this.node && this.node.port) this.node.port.postMessage('end');
    if (this.stream) this.stream.getTracks().forEach((track) => { track.onended = null; track.stop(); });
    if (this.context) this.context.close();
    this.stream = this.context = this.node = null;
  }
}
