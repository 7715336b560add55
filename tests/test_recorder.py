"""The recorder's kernel side: whatever happens to a page or its messages, its takes come whole into the folder."""

from __future__ import annotations

import base64
import threading
import zlib

import numpy as np
import pytest
import soundfile
from talk import talk

from voiceclone import Voice, widgets
from voiceclone.audio import load
from voiceclone.check import check_take
from voiceclone.prompts import PROMPTS
from voiceclone.widgets import verify
from voiceclone.widgets.arriving import LARGEST_PIECE, left_behind
from voiceclone.widgets.coverage import coverage_map
from voiceclone.widgets.recorder import Recorder

RATE = 48_000
TAKE = "0123456789abcdef"


def pcm(seconds=2.0, seed=0):
    """Speech-like samples, as a page sends them."""
    return np.round(talk(seconds, rate=RATE, seed=seed) * 32767).astype("<i2")


class Page:
    """Speaks to a recorder as recorder.js does, and keeps what it is told."""

    def __init__(self, recorder, name="page one"):
        self.recorder, self.name, self.told = recorder, name, []
        recorder.send = lambda content, buffers=None: self.told.append((content, buffers or []))

    def say(self, kind, buffers=(), **message):
        """Send a message and return what was answered."""
        before = len(self.told)
        self.recorder._receive(None, {"type": kind, **message}, list(buffers))
        return [content for content, _ in self.told[before:]]

    def hello(self, holds=(), able="yes"):
        return self.say("hello", page=self.name, holds=list(holds), able=able)

    def begin(self, take=TAKE, index=0, rate=RATE):
        return self.say("begin", take=take, page=self.name, index=index, rate=rate)

    def piece(self, number, data, take=TAKE, checksum=None):
        checksum = zlib.crc32(data) if checksum is None else checksum
        return self.say("piece", [memoryview(data)], take=take, number=number, sum=checksum)

    def end(self, pieces, take=TAKE):
        return self.say("end", take=take, pieces=pieces)

    def send(self, samples, take=TAKE, index=0, rate=RATE):
        """A whole take."""
        self.begin(take, index, rate)
        pieces = split(samples)
        for number, data in enumerate(pieces):
            self.piece(number, data, take)
        return self.end(len(pieces), take)


def split(samples, size=RATE // 2):
    return [samples[at : at + size].tobytes() for at in range(0, len(samples), size)]


@pytest.fixture
def recorder(voice, monkeypatch):
    """A recorder that does not listen: what is heard has tests of its own."""
    monkeypatch.setattr(verify, "load_transcriber", no_ears)
    made = Recorder(voice, PROMPTS)
    yield made
    made.release()
    made._listener.join()


def no_ears(engine):
    raise verify.VoiceCloneError("no engine here")


@pytest.fixture
def page(recorder):
    return Page(recorder)


def kept(voice, name):
    samples, rate = soundfile.read(voice.takes_dir / name, dtype="int16")
    return samples, rate


# Takes come in ----------------------------------------------------------------------------------------------------


def test_a_take_is_in_the_voice_folder_sample_for_sample_when_the_page_is_told(voice, page):
    samples = pcm()
    (told,) = page.send(samples)
    assert told == {"type": "kept", "take": TAKE, "index": 0, "name": "0001-1.wav"}
    heard, rate = kept(voice, "0001-1.wav")
    assert rate == RATE and np.array_equal(heard, samples)
    assert voice.clip("0001").take == "0001-1.wav"
    assert not list(left_behind(voice.takes_dir))


def test_a_lost_piece_is_asked_for_again(voice, page):
    samples = pcm()
    first, second, *rest = split(samples)
    page.begin()
    page.piece(0, first)
    (told,) = page.piece(2, rest[0])
    assert (told["pieces"], told["again"], told["known"]) == (1, True, True)
    for number, data in enumerate([second, *rest], 1):
        page.piece(number, data)
    page.end(2 + len(rest))
    assert np.array_equal(kept(voice, "0001-1.wav")[0], samples)


def test_a_damaged_piece_is_asked_for_again(voice, page):
    samples = pcm()[: RATE // 2]
    (data,) = split(samples, len(samples))
    page.begin()
    (told,) = page.piece(0, data[:-2] + b"\0\0", checksum=zlib.crc32(data))
    assert told["again"] and told["pieces"] == 0
    page.piece(0, data)
    page.end(1)
    assert np.array_equal(kept(voice, "0001-1.wav")[0], samples)


def test_what_is_said_twice_counts_once(voice, page):
    samples = pcm()
    for number, data in enumerate(split(samples)):
        page.begin()
        page.piece(number, data)
        page.piece(number, data)
    answers = [page.end(len(split(samples))) for _ in range(3)]
    assert [told["type"] for (told,) in answers] == ["kept"] * 3
    assert page.begin() == answers[0]
    assert len(voice.takes("0001")) == 1 and np.array_equal(kept(voice, "0001-1.wav")[0], samples)


def test_the_end_of_a_take_that_is_not_whole_keeps_nothing(voice, page):
    page.begin()
    page.piece(0, split(pcm())[0])
    (told,) = page.end(4)
    assert (told["type"], told["pieces"], told["again"]) == ("got", 1, True)
    assert not voice.takes("0001")


def test_pieces_come_as_letters_where_messages_carry_no_bytes(voice, page):
    samples = pcm()[: RATE // 2]
    data = samples.tobytes()
    page.begin()
    page.say("piece", take=TAKE, number=0, sum=zlib.crc32(data), text=base64.b64encode(data).decode())
    page.end(1)
    assert np.array_equal(kept(voice, "0001-1.wav")[0], samples)


def test_a_retake_is_another_file_and_the_first_stays(voice, page):
    first, second = pcm(seed=1), pcm(seed=2)
    page.send(first, "aaaaaaaa", index=3)
    page.send(second, "bbbbbbbb", index=3)
    assert np.array_equal(kept(voice, "0004-1.wav")[0], first)
    assert np.array_equal(kept(voice, "0004-2.wav")[0], second)
    assert page.recorder.sentences[3]["takes"] == 2


def test_a_take_that_is_dropped_leaves_nothing(voice, page):
    page.begin()
    page.piece(0, split(pcm())[0])
    page.say("drop", take=TAKE)
    assert not list(voice.takes_dir.iterdir())


# Pages and kernels go ---------------------------------------------------------------------------------------------


def test_what_had_come_when_the_kernel_died_becomes_a_take(voice, page):
    samples = pcm(3)
    pieces = split(samples)
    page.begin(index=6)
    for number, data in enumerate(pieces[:-2]):
        page.piece(number, data)
    after = Page(Recorder(voice, PROMPTS), "page two")  # another kernel knows only the folder
    told = [message for message in after.hello() if message["type"] == "said"]
    assert "sentence 7" in told[0]["text"] and "0007-1.wav" in told[0]["text"]
    assert np.array_equal(kept(voice, "0007-1.wav")[0], samples[: (len(pieces) - 2) * RATE // 2])
    after.recorder.release()


def test_a_take_that_its_page_still_holds_is_waited_for(voice, page):
    samples = pcm()
    page.begin()
    page.piece(0, split(samples)[0])
    after = Page(Recorder(voice, PROMPTS), "page two")
    after.hello(holds=[TAKE])
    assert not voice.takes("0001")
    after.send(samples)
    assert np.array_equal(kept(voice, "0001-1.wav")[0], samples)
    assert len(voice.takes("0001")) == 1
    after.recorder.release()


def test_a_page_that_records_now_is_not_taken_for_gone(voice, page):
    page.begin()
    page.piece(0, split(pcm())[0])
    page.say("hello", page="another window", holds=[], able="yes")
    assert not voice.takes("0001")
    page.recorder._arrivals[TAKE].touched -= 60  # it says nothing for a minute
    page.say("hello", page="another window", holds=[], able="yes")
    assert len(voice.takes("0001")) == 1


def test_an_interrupted_take_does_not_stand_for_a_good_one(voice, page, sample_takes):
    wave, rate = load(sample_takes / "0001-1.flac", sample_rate=None)
    good = np.round(wave * 32768).astype("<i2")
    page.send(good, "aaaaaaaa", rate=rate)
    page.begin("bbbbbbbb", rate=rate)
    page.piece(0, good[: rate * 3 // 4].tobytes(), "bbbbbbbb")
    Page(Recorder(voice, PROMPTS), "page two").hello()
    assert len(voice.takes("0001")) == 2
    assert (voice.clip("0001").take, voice.clip("0001").state) == ("0001-1.wav", "accepted")


def test_a_newer_recorder_releases_the_one_before(voice, page, recorder):
    Recorder(voice, PROMPTS).release()
    assert {"type": "release"} in [content for content, _ in page.told]
    assert recorder.comm is None


# What must not come in --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        {"take": "../../evil", "index": 0, "rate": RATE},
        {"take": TAKE, "index": 99, "rate": RATE},
        {"take": TAKE, "index": 0, "rate": 10**9},
        {"take": TAKE, "index": 0},
    ],
)
def test_what_no_recorder_says_is_refused(voice, page, message):
    (told,) = page.say("begin", **message)
    assert told["type"] == "refused" and told["why"]
    assert not list(voice.takes_dir.iterdir())


def test_a_piece_larger_than_messages_may_be_is_refused(page):
    page.begin()
    (told,) = page.piece(0, bytes(LARGEST_PIECE + 2))
    assert told["type"] == "refused"


def test_a_take_that_cannot_be_written_is_said_and_kept_when_it_can(voice, page):
    samples = pcm()
    (voice.path / "clips.csv").write_text("damaged")
    (told,) = page.send(samples)
    assert told["type"] == "refused" and "clips.csv" in told["why"]
    (voice.path / "clips.csv").unlink()
    (told,) = page.end(len(split(samples)))
    assert told["name"] == "0001-1.wav" and np.array_equal(kept(voice, "0001-1.wav")[0], samples)


def test_messages_on_several_threads_lose_no_take(voice, page):
    takes = {f"{number:08x}": pcm(0.6, seed=number) for number in range(6)}
    threads = [
        threading.Thread(target=page.send, args=(samples, take, index))
        for index, (take, samples) in enumerate(takes.items())
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, samples in enumerate(takes.values()):
        assert np.array_equal(kept(voice, f"{index + 1:04d}-1.wav")[0], samples)
    assert [clip.id for clip in voice.clips if clip.take] == [f"{n:04d}" for n in range(1, 7)]


# What the page is shown -------------------------------------------------------------------------------------------


def test_a_clipped_take_is_to_be_read_again_and_it_is_said_why(page):
    loud = np.clip(pcm().astype(np.int32) * 12, -32768, 32767).astype("<i2")
    page.send(loud)
    told = page.recorder.sentences[0]
    assert told["state"] == "bad"
    found, why = next(finding for finding in told["findings"] if "clipped" in finding[0])
    assert "crackle" in why


def test_a_recorder_that_opens_again_knows_the_takes(voice, page):
    page.send(pcm(), index=2)
    page.recorder.release()
    again = Recorder(voice, PROMPTS)
    assert [sentence["take"] for sentence in again.sentences[:4]] == ["", "", "0003-1.wav", ""]
    again.release()


def test_an_earlier_take_comes_small_to_be_heard(voice, page):
    samples = pcm(1.0)
    page.send(samples)
    page.say("sound", index=0)
    message, (data,) = next((content, buffers) for content, buffers in page.told if content["type"] == "sound")
    assert message["rate"] == 22_050
    assert len(data) == pytest.approx(2 * 22_050 * len(samples) / RATE, abs=4)


def test_a_page_without_microphone_unfolds_the_other_ways(voice, monkeypatch):
    monkeypatch.setattr(verify, "load_transcriber", no_ears)
    panel = widgets.TakePanel(voice)
    ways = panel.widget.children[1]
    assert ways.selected_index is None
    Page(panel.recorder).hello(able="blocked")
    assert ways.selected_index == 0
    panel.recorder.release()


def test_a_file_brought_in_by_hand_is_seen_in_the_recorder(voice, sample_takes, monkeypatch):
    monkeypatch.setattr(verify, "load_transcriber", no_ears)
    panel = widgets.TakePanel(voice, at=4)
    assert panel.widget
    panel._uploaded({"new": ({"name": "memo.flac", "content": (sample_takes / "0004-1.flac").read_bytes()},)})
    assert panel.recorder.sentences[3]["take"] == "0004-1.wav"
    panel.recorder.release()


def test_the_map_fills_as_sentences_are_read():
    nothing, all_read = coverage_map([]), coverage_map(PROMPTS)
    assert repr(nothing) == "0 of 39 sounds of English read" and repr(all_read) == "39 of 39 sounds of English read"
    html = coverage_map(["see"], ["see the sea"])._repr_html_()  # S IY, out of S IY DH AH S IY
    assert "IY as in sEE: read 1 of 2 times" in html and "DH as in THis: read 0 of 1 times" in html


# Verified takes ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listener():
    made = verify.Listener()
    yield made
    made.close()
    made.join()


def hear(listener, path, prompt):
    """What the page would be told of a file."""
    wave, rate = load(path, sample_rate=None)
    heard, told = [], threading.Event()
    listener.hear(wave, rate, lambda text: (heard.append(text), told.set()))
    assert told.wait(300)
    return verify.judge_words(verify.judge(check_take(wave, rate, prompt)), prompt, heard[0], wave, rate)


def test_a_take_that_says_its_sentence_is_good(listener, sample_takes):
    verdict = hear(listener, sample_takes / "0001-1.flac", PROMPTS[0])
    assert verdict.state == "good" and not verdict.findings


def test_a_misread_sentence_is_found_with_its_words(listener, sample_takes):
    prompt = "The evening sun sank slowly behind the quiet fishing village."
    verdict = hear(listener, sample_takes / "0001-1.flac", prompt)
    assert verdict.state == "bad"
    assert ("replaced", "evening", "morning") in verdict.words
    assert verdict.findings[-1][1]  # why it matters


def test_another_sentence_altogether_is_bad(listener, sample_takes):
    assert hear(listener, sample_takes / "0001-1.flac", "Thank you for listening.").state == "bad"


def test_without_an_engine_the_take_counts_as_checked(voice, page):
    page.send(pcm(3))
    page.recorder._listener.close()
    page.recorder._listener.join()
    assert page.recorder.ears == "no engine here"
    assert page.recorder.sentences[0]["state"] in ("checked", "bad")


def test_the_pages_script_is_short():
    assert len(str(Recorder._esm).encode()) < 40_000


def test_a_recorder_says_how_far_one_is(voice):
    made = Recorder(Voice.open(voice.path), PROMPTS)
    assert repr(made) == "0 of 25 sentences recorded"
    made.release()
