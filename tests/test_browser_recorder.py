"""The recorder as a person meets it: a real Chromium, whose microphone plays a file, before a real JupyterLab."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import soxr
from lab import Chromium, Lab, Notebook, busy_machine, needs_browser, wait_until
from recorder_page import RATE, RecorderOnPage, record_as_played, samples_of, write_chirps

from voiceclone import Voice

pytestmark = [needs_browser, busy_machine]

PANEL = """from voiceclone import Voice, widgets
voice = Voice.open({path!r})
panel = widgets.TakePanel(voice)
panel"""


@pytest.fixture(scope="module")
def chirps(tmp_path_factory):
    return write_chirps(tmp_path_factory.mktemp("microphone") / "chirps.wav")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with Lab(tmp_path_factory.mktemp("lab"), arguments=["--ServerApp.allow_remote_access=True"]) as lab:
        yield lab


@pytest.fixture(scope="module")
def chromium():
    with Chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def window(chromium, chirps):
    return chromium.window(wav=chirps, size=(1024, 900))


@pytest.fixture
def voice(tmp_path):
    return Voice.create("Test Voice", root=tmp_path, consent="Test Person")


@pytest.fixture
def open_recorder(lab, window, voice, request):
    """The recorder, shown by a cell of its own; the page is closed after the test, and no script must have failed."""
    opened = []

    def show(in_window=window, *, kind="lab", host="127.0.0.1"):
        name = f"{request.node.name.split('[')[0]}-{len(opened)}.ipynb"
        lab.write(name, [PANEL.format(path=str(voice.path))])
        notebook = Notebook(lab, in_window, name, kind=kind, host=host)
        opened.append(notebook)
        notebook.__enter__()
        notebook.run(0)
        return RecorderOnPage(notebook.page, notebook)

    yield show
    for notebook in opened:
        notebook.__exit__()
        assert not notebook.problems


# Takes ------------------------------------------------------------------------------------------------------------


def test_the_take_is_what_the_microphone_played(open_recorder, voice, chirps):
    recorder = open_recorder()
    recorder.ready()
    record_as_played(recorder, voice.takes_dir, chirps)


def test_recording_by_keys_retake_skip_and_listen(open_recorder, voice):
    recorder = open_recorder()
    recorder.ready()
    recorder.take(0.6, "0001-1.wav")
    first = (voice.takes_dir / "0001-1.wav").read_bytes()
    recorder.take(0.6, "0001-2.wav", key="r")
    assert (voice.takes_dir / "0001-1.wav").read_bytes() == first
    recorder.key("ArrowRight", "ArrowRight")
    recorder.wait(index=2, phase="ready")
    assert "coffee" not in recorder.part("prompt").inner_text()
    recorder.key("ArrowLeft")
    recorder.wait(index=1)
    recorder.part("skip").click()
    recorder.wait(index=2)
    recorder.part("main").click()
    recorder.wait(phase="recording")
    recorder.key("Escape")  # this one was no good
    recorder.wait(phase="ready", name="")
    recorder.take(0.6, "0003-1.wav")  # the keys are the recorder's again after a click
    recorder.key("l")
    recorder.page.locator(".vcr-listen", has_text="Stop").wait_for()
    recorder.page.locator(".vcr-listen", has_text="Listen").wait_for()
    assert sorted(path.name for path in voice.takes_dir.iterdir()) == ["0001-1.wav", "0001-2.wav", "0003-1.wav"]


def test_an_earlier_take_is_seen_and_heard_again(open_recorder, voice):
    recorder = open_recorder()
    recorder.ready()
    recorder.take(0.6, "0001-1.wav")
    recorder.key("ArrowRight")
    recorder.wait(index=1, phase="ready")
    assert recorder.part("listen").is_disabled()
    recorder.key("ArrowLeft")
    recorder.wait(index=0, phase="review")
    recorder.page.locator(".vcr-listen:enabled").wait_for()  # its sound has come from the kernel
    assert "Waveform" in recorder.part("picture").get_attribute("aria-label")


def test_the_level_moves_and_nothing_else_does(open_recorder):
    recorder = open_recorder()

    def height():
        return round(recorder.root.bounding_box()["height"])

    heights = [height()]
    recorder.ready()
    heights.append(height())
    recorder.record(0.5)
    heights.append(height())
    levels = set()
    for _ in range(10):
        levels.add(int(recorder.part("meter").get_attribute("aria-valuenow")))
        recorder.page.wait_for_timeout(100)
    recorder.key("Space")
    recorder.wait(name="0001-1.wav")
    heights.append(height())
    assert len(levels) > 1 and max(levels) > -20  # the file peaks at -5 dBFS
    assert len(set(heights)) == 1, heights
    assert recorder.root.evaluate("e => e.scrollWidth <= e.clientWidth")


def test_too_quiet_and_too_loud_are_said_while_one_reads(open_recorder, chromium, tmp_path):
    t = np.arange(40 * RATE) / RATE
    whisper_then_shout = np.clip(np.sin(2 * np.pi * 300 * t) * np.where(t < 12, 0.002, 3), -1, 1)
    soundfile.write(tmp_path / "levels.wav", whisper_then_shout, RATE, subtype="PCM_16")
    recorder = open_recorder(chromium.window(wav=tmp_path / "levels.wav"))
    recorder.ready()
    recorder.record(0)
    for state, said in (("doubtful", "Too quiet: come closer"), ("bad", "Too loud: move back")):
        recorder.page.locator(f".vcr-meter[data-state={state}]").wait_for()
        assert recorder.part("loud").inner_text() == said


def test_another_microphone_is_chosen_and_records(open_recorder, voice):
    recorder = open_recorder()
    recorder.ready()
    names = recorder.part("device").locator("option").all_inner_texts()
    recorder.part("device").select_option(names[-1])
    recorder.wait(phase="ready")
    recorder.take(0.6, "0001-1.wav")
    chosen = recorder.part("device").evaluate("(select) => select.selectedOptions[0].textContent")
    assert len(names) > 1 and chosen == names[-1]


def test_every_control_has_a_name(open_recorder):
    recorder = open_recorder()
    nameless = recorder.root.evaluate(
        "e => [...e.querySelectorAll('button, select, canvas, [role]')]"
        ".filter((c) => !(c.getAttribute('aria-label') || c.closest('label') || c.textContent.trim()))"
        ".map((c) => c.outerHTML).filter((c) => !c.includes('vcr-said') && !c.includes('vcr-picture'))"
    )
    assert not nameless


def test_it_works_in_notebook_7(open_recorder, voice):
    recorder = open_recorder(kind="notebook")
    recorder.ready()
    recorder.take(0.6, "0001-1.wav")
    assert len(samples_of(voice.takes_dir / "0001-1.wav")) > 0.5 * RATE


# Words ------------------------------------------------------------------------------------------------------------


def test_a_read_sentence_is_found_good_in_the_notebook_itself(lab, chromium, voice, sample_takes, tmp_path):
    wave, rate = soundfile.read(sample_takes / "0001-1.flac")
    # The file begins when the microphone opens: two seconds of the room, time to press Record, then the sentence.
    heard = np.concatenate([np.zeros(7 * RATE), soxr.resample(wave, rate, RATE), np.zeros(30 * RATE)])
    heard += np.random.default_rng(0).normal(size=len(heard)) * 10 ** (-65 / 20)
    soundfile.write(tmp_path / "sentence.wav", heard, RATE, subtype="PCM_16")
    lab.copy("notebooks/01_record.ipynb", voice_path=str(voice.path))
    with Notebook(lab, chromium.window(wav=tmp_path / "sentence.wav"), "01_record.ipynb") as notebook:
        for cell in range(4):
            notebook.run(cell)
        recorder = RecorderOnPage(notebook.page)
        recorder.ready()
        assert "quiet" in recorder.part("room").inner_text()
        recorder.record(0)
        recorder.page.wait_for_timeout(8000 + 1000 * len(wave) / rate)
        recorder.key("Space")
        recorder.wait(state="good", name="0001-1.wav")
        assert "the words are right" in recorder.part("status").inner_text()
        wait_until(lambda: "0 of 39" not in recorder.part("map").inner_text(), "the map", pause=notebook._pause)
        recorder.key("Space")  # to the next sentence
        recorder.wait(index=1, phase="ready")
        notebook.run(notebook.page.locator(".jp-CodeCell").count() - 1)
        assert voice.clip("0001").state == "accepted"
        assert not notebook.problems


# What goes wrong --------------------------------------------------------------------------------------------------


def test_a_take_outlives_a_restart_of_the_kernel(open_recorder, voice, tmp_path):
    recorder = open_recorder()
    recorder.ready()
    recorder.record(1)
    recorder.notebook.restart()
    recorder.page.wait_for_timeout(500)
    recorder.key("Space")
    recorder.part("download").wait_for()
    with recorder.page.expect_download() as download:
        recorder.part("download").click()
    download.value.save_as(tmp_path / "download.wav")
    saved = samples_of(tmp_path / "download.wav")
    assert len(saved) > 1.4 * RATE
    recorder.notebook.run(0)
    recorder = RecorderOnPage(recorder.page, recorder.notebook)
    recorder.wait(phase="welcome")  # the new one: the old one is still shown for a moment
    recorder.part("again").click()
    recorder.wait(name="0001-1.wav")
    assert np.array_equal(samples_of(voice.takes_dir / "0001-1.wav"), saved)
    assert [path.name for path in voice.takes_dir.iterdir()] == ["0001-1.wav"]


def test_a_page_that_goes_takes_at_most_a_second_with_it(open_recorder, voice):
    recorder = open_recorder()
    recorder.notebook.save()  # else the page would come back without the recorder
    recorder.ready()
    recorder.page.on("dialog", lambda dialog: dialog.accept())  # "Leave site?"
    recorder.record(2.5)
    shown = float(recorder.part("loud").inner_text().split()[0])
    recorder.notebook.reload()
    RecorderOnPage(recorder.page).wait(name="0001-1.wav")
    assert len(samples_of(voice.takes_dir / "0001-1.wav")) / RATE > shown - 1


def test_a_lost_piece_is_sent_again(open_recorder, voice):
    recorder = open_recorder()
    recorder.ready()
    lose = """
hear, lost = panel.recorder._receive, []
def deaf(widget, message, buffers):
    if message["type"] == "piece" and message["number"] == 1 and not lost:
        return lost.append(message)
    hear(widget, message, buffers)
panel.recorder.on_msg(hear, remove=True)
panel.recorder.on_msg(deaf)
"""
    assert recorder.notebook.execute(lose)[0] == "ok"
    recorder.take(2.5, "0001-1.wav")
    assert recorder.notebook.ask("len(lost)") == 1
    assert len(samples_of(voice.takes_dir / "0001-1.wav")) > 2.4 * RATE


def test_a_cell_that_is_run_again_has_the_microphone(open_recorder, voice):
    recorder = open_recorder()
    recorder.ready()
    recorder.notebook.run(0)
    recorder = RecorderOnPage(recorder.page, recorder.notebook)
    recorder.wait(phase="welcome")
    assert recorder.root.count() == 1
    recorder.ready()
    recorder.take(0.6, "0001-1.wav")


def test_a_cell_that_runs_does_not_lose_a_take(open_recorder, voice):
    recorder = open_recorder()
    recorder.ready()
    (recorder.notebook._client or recorder.notebook._connect()).execute("import time; time.sleep(4)")
    recorder.take(1, "0001-1.wav")


ELSEWHERE = (
    "--host-resolver-rules=MAP lab.test 127.0.0.1",
    # A page that was served by `route` is of no network, and might not connect to this machine.
    "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets",
)


def without_microphone(route):
    """Serve a page that may not ask for the microphone, as the frames of VS Code are."""
    answer = route.fetch()
    route.fulfill(response=answer, headers=answer.headers | {"permissions-policy": "microphone=()"})


def test_a_browser_without_worklets_records_too(open_recorder, chromium, chirps, voice):
    there = chromium.window(wav=chirps)
    there.add_init_script("delete AudioContext.prototype.__proto__.audioWorklet")
    recorder = open_recorder(there)
    assert not recorder.page.evaluate("'audioWorklet' in AudioContext.prototype")
    recorder.ready()
    record_as_played(recorder, voice.takes_dir, chirps)


@pytest.mark.parametrize(
    ("microphone", "host", "said"),
    [
        ("refused", "127.0.0.1", "The microphone was refused."),
        ("none", "127.0.0.1", "No microphone was found."),
        ("granted", "lab.test", "secure pages only"),
        ("policy", "127.0.0.1", "gives notebooks no microphone, as VS Code does"),
    ],
)
def test_without_a_microphone_it_is_said_what_to_do(open_recorder, chromium, microphone, host, said):
    policy = microphone == "policy"
    there = chromium.window(microphone="granted" if policy else microphone, arguments=ELSEWHERE)
    if policy:
        there.route("**/doc/tree/*", without_microphone)
    recorder = open_recorder(there, host=host)
    if host != "lab.test" and not policy:
        recorder.key("Space")
    recorder.wait(phase="error")
    assert said in recorder.part("status").inner_text()
    assert "bring" in recorder.part("verdict").inner_text()
