"""Time the recorder in a real browser: ``python benchmarks/recorder.py [keeping] [memory] [session] [table] [size]``.

It starts a JupyterLab and a Chromium of its own. `keeping`: from Stop until a take of 10 s and of 60 s is in the voice
folder. `memory`: the page's heap over 100 takes. `session`: the 25 sentences of the sample voice, played by the fake
microphone, from opening notebook 01 to the last verdict, with nobody touching the kernel; and how long after Stop each
take is kept, and its words are judged. `table`: the review of 500 clips. `size`: of the page's script.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from lab import Chromium, Lab, Notebook, wait_until  # noqa: E402 - a module of the tests

from voiceclone import Voice  # noqa: E402
from voiceclone.prompts import PROMPTS  # noqa: E402
from voiceclone.record import import_takes  # noqa: E402

RATE = 44_100  # Hz, of Chromium's fake microphone
TAKES = ROOT / "data" / "sample_voice" / "takes"
OPENING = 12.0  # s of silence in the file before the first sentence: the check of the room
PAUSE = 3.0  # s between the sentences
ROWS = 500  # clips of the long table

# Presses the button, and tells how many ms later this take is kept.
STOP = """(name) => new Promise((done) => {
  const root = document.querySelector('.vcr'), begun = performance.now();
  const look = () => { if (root.dataset.name === name) done(performance.now() - begun); };
  new MutationObserver(look).observe(root, { attributes: true });
  root.querySelector('.vcr-main').click();
})"""
# Notes when each sentence is first in a state, for `stopped` to be taken off.
WATCH = """() => {
  const steps = document.querySelector('.vcr-steps'), states = [...steps.children].map(() => ({}));
  window.watched = { states, stopped: [] };
  new MutationObserver(() => [...steps.children].forEach((step, k) => {
    if (step.dataset.state) states[k][step.dataset.state] ??= performance.now();
  })).observe(steps, { attributes: true, subtree: true });
}"""

# Goes 100 rows down, and tells how many ms later each is on the screen.
DOWN = """async () => {
  const times = [];
  for (let k = 0; k < 100; k++) {
    const begun = performance.now();
    document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowDown', bubbles: true }));
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - begun);
  }
  return times;
}"""


def keeping(notebook: Notebook) -> None:
    """From Stop to kept."""
    page, number = notebook.page, 0
    for seconds, repeats in ((10, 3), (60, 1)):
        found = []
        for _ in range(repeats):
            number += 1
            page.locator(".vcr").focus()
            page.keyboard.press("r" if number > 1 else "Space")
            page.locator(".vcr[data-phase=recording]").wait_for()
            page.wait_for_timeout(1000 * seconds)
            found.append(page.evaluate(STOP, f"0001-{number}.wav") / 1000)
        print(f"a take of {seconds} s is kept {statistics.median(found):.2f} s after Stop (worst {max(found):.2f} s)")


def memory(notebook: Notebook) -> None:
    """The page's heap over 100 takes of three seconds."""
    page, session = notebook.page, notebook.window.new_cdp_session(notebook.page)
    for number in range(1, 101):
        page.locator(".vcr").focus()
        page.keyboard.press("r" if number > 1 else "Space")
        page.locator(".vcr[data-phase=recording]").wait_for()
        page.wait_for_timeout(3000)
        page.keyboard.press("Space")
        page.locator(f".vcr[data-phase=review][data-name='0001-{number}.wav']").wait_for()
        if number % 10 == 0:
            session.send("HeapProfiler.collectGarbage")
            used = session.send("Runtime.getHeapUsage")
            total = (used["usedSize"] + used.get("backingStorageSize", 0)) / 2**20
            print(f"after {number} takes: {total:.1f} MB in the page", flush=True)


def session(lab: Lab, chromium: Chromium, folder: Path) -> None:
    """All the sentences in one go."""
    sound, times = sentences(folder)
    voice = Voice.create("Session", root=folder, consent="the voiceclone project (synthetic voice)")
    lab.copy("notebooks/01_record.ipynb", voice_path=str(voice.path))
    begun = time.monotonic()
    with Notebook(lab, chromium.window(wav=sound), "01_record.ipynb") as notebook:
        for cell in range(4):
            notebook.run(cell)
        page = notebook.page
        page.evaluate(WATCH)
        page.locator(".vcr-main").click()
        page.locator(".vcr[data-phase=room]").wait_for()
        opened = time.monotonic()
        for number, (start, end) in enumerate(times):
            page.wait_for_timeout(max(0, 1000 * (opened + start - time.monotonic()) - 1200))
            page.locator(f".vcr[data-index='{number}'][data-phase=ready]").wait_for()
            page.keyboard.press("Space")
            page.locator(".vcr[data-phase=recording]").wait_for()
            page.wait_for_timeout(max(0, 1000 * (opened + end - time.monotonic()) + 700))
            page.evaluate("watched.stopped.push(performance.now())")
            page.keyboard.press("Space")
            page.locator(f".vcr[data-name='{number + 1:04d}-1.wav']").wait_for()
            page.keyboard.press("ArrowRight")
        steps = page.locator(".vcr-step:is([data-state=good], [data-state=bad], [data-state=doubtful])")
        wait_until(lambda: steps.count() == len(PROMPTS), "the last verdict", pause=notebook._pause)
        seconds = time.monotonic() - begun
        good = page.locator(".vcr-step[data-state=good]").count()
        watched = page.evaluate("watched")
    accepted = sum(clip.state == "accepted" for clip in voice.clips)
    spoken = sum(end - start for start, end in times)
    said = f"{accepted} accepted by their levels, {good} with their words too"
    print(f"{len(times)} sentences ({spoken:.0f} s of speech) in {seconds:.0f} s: {said}")
    found = zip(watched["states"], watched["stopped"], strict=True)
    waits = [sorted((at - stopped) / 1000 for at in states.values()) for states, stopped in found]
    for what, place in (("kept", 0), ("judged by its words", -1)):
        some = [wait[place] for wait in waits]
        print(f"a take is {what} {statistics.median(some):.2f} s after Stop (worst {max(some):.2f} s)")


def table(lab: Lab, chromium: Chromium, folder: Path) -> None:
    """How fast one moves through the review of `ROWS` clips."""
    voice = Voice.create("Corpus", root=folder, consent="the voiceclone project (synthetic voice)")
    import_takes(voice, [TAKES / "0001-1.flac"])
    clip = voice.clip("0001")
    voice.update(*(replace(clip, id=f"{number:04d}") for number in range(1, ROWS + 1)))
    cell = f"from voiceclone import Voice, widgets\nwidgets.TranscriptTable(Voice.open({str(voice.path)!r}))"
    lab.write("table.ipynb", [cell])
    with Notebook(lab, chromium.window(), "table.ipynb") as notebook:
        begun = time.monotonic()
        notebook.run(0)
        notebook.page.locator(f"[data-clip='{ROWS:04d}']").wait_for(state="attached")
        drawn = time.monotonic() - begun
        notebook.page.locator("[data-clip='0001']").focus()
        found = notebook.page.evaluate(DOWN)
        print(f"{ROWS} clips are drawn {drawn:.1f} s after the cell is run, imports included")
        print(f"a key leads to the next row in {statistics.median(found):.0f} ms (worst {max(found):.0f} ms)")


def size() -> None:
    """The script that the page is sent."""
    from voiceclone.widgets.recorder import Recorder

    print(f"the recorder's script has {len(str(Recorder._esm).encode()):,} bytes")


def sentences(folder: Path) -> tuple[Path, list[tuple[float, float]]]:
    """A file of all the sentences, and when each begins and ends."""
    parts, times, at = [np.zeros(round(OPENING * RATE))], [], OPENING
    for number in range(1, len(PROMPTS) + 1):
        wave, rate = soundfile.read(sorted(TAKES.glob(f"{number:04d}-*.flac"))[-1])
        wave = soxr.resample(wave, rate, RATE)
        parts += [wave, np.zeros(round(PAUSE * RATE))]
        times.append((at, at + len(wave) / RATE))
        at += len(wave) / RATE + PAUSE
    heard = np.concatenate(parts)
    heard += np.random.default_rng(0).normal(size=len(heard)) * 10 ** (-65 / 20)
    soundfile.write(folder / "sentences.wav", heard, RATE, subtype="PCM_16")
    return folder / "sentences.wav", times


def one_panel(measure, lab: Lab, chromium: Chromium, folder: Path) -> None:  # noqa: ANN001
    """Open a recorder, past the check of the room, and measure."""
    name = measure.__name__
    voice = Voice.create(name, root=folder, consent="the voiceclone project (synthetic voice)")
    cell = f"from voiceclone import Voice, widgets\npanel = widgets.TakePanel(Voice.open({str(voice.path)!r}))\npanel"
    lab.write(f"{name}.ipynb", [cell])
    with Notebook(lab, chromium.window(), f"{name}.ipynb") as notebook:
        notebook.run(0)
        notebook.page.locator(".vcr-main").click()
        notebook.page.locator(".vcr[data-phase=ready]").wait_for()
        wait_until(lambda: notebook.ask("panel.recorder.ears") == "", "the transcriber", pause=notebook._pause)
        measure(notebook)


def main(*parts: str) -> None:
    """Measure these parts, or all."""
    if "size" in parts or not parts:
        size()
    if parts == ("size",):
        return
    with tempfile.TemporaryDirectory() as name, Lab(Path(name, "lab")) as lab, Chromium() as chromium:
        for measure in (keeping, memory):
            if measure.__name__ in parts or not parts:
                one_panel(measure, lab, chromium, Path(name))
        if "session" in parts or not parts:
            session(lab, chromium, Path(name))
        if "table" in parts or not parts:
            table(lab, chromium, Path(name))


if __name__ == "__main__":
    main(*sys.argv[1:])
