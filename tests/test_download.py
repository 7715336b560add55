"""Downloads from a server on this machine that breaks off, sends pages and other files, or is not there at all."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from voiceclone import download as module
from voiceclone.download import CHUNK, KNOWN, cache_folder, download, fetch
from voiceclone.errors import CheckpointError, UnavailableError, VoiceCloneError
from voiceclone.vocoders import load_vocoder

NUMBERS = bytes(number % 251 for number in range(299_900))
HEADER = json.dumps({"weight": {"dtype": "U8", "shape": [len(NUMBERS)], "data_offsets": [0, len(NUMBERS)]}})
CONTENT = (92).to_bytes(8, "little") + HEADER.ljust(92).encode() + NUMBERS  # 300,000 bytes, as safetensors writes them
OTHER = CONTENT[::-1]
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MESSAGE = b'{"error": "quota exceeded"}'
PAGE = b"<!DOCTYPE html><html>Too many users have viewed this file recently.</html>"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def saved(**options) -> bytes:
    """A file of weights as torch writes it."""
    file = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.arange(5000.0)}}, file, **options)
    return file.getvalue()


class Shelf(ThreadingHTTPServer):
    """What is served, and what was asked for.

    `most` cuts every answer off after so many bytes, `piece` makes every answer to a range at most so long, and an
    answer whose path is in `endless` does not say how long it is.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = {"/model.pt": CONTENT, "/other.pt": OTHER, "/page.pt": PAGE}
        self.types = {"/page": "text/html; charset=utf-8"}
        self.most: int | None = None
        self.piece: int | None = None
        self.endless: set[str] = set()
        self.packed: set[str] = set()  # sent by gzip, whatever was asked for
        self.ranges = True
        self.tags = True
        self.asked: list[tuple[str, str | None]] = []
        self.sent = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        shelf, path = self.server, self.path.partition("?")[0]
        wanted = self.headers.get("Range")
        shelf.asked.append((path, wanted))
        content = PAGE if path in shelf.types else shelf.files.get(path)
        if content is None:
            return self.send_error(404)
        if content == b"416":
            return self.send_error(416)
        if path in shelf.packed:
            content = gzip.compress(content, 0)
        tag, start = f'"{hashlib.sha256(content).hexdigest()}"', 0
        if wanted and shelf.ranges and self.headers.get("If-Range", tag) == tag:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(content):
                return self.send_error(416)
        end = min(len(content), start + shelf.piece) if start and shelf.piece else len(content)
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", shelf.types.get(path, "application/octet-stream"))
        if path not in shelf.endless:
            self.send_header("Content-Length", str(end - start))
        if path in shelf.packed:
            self.send_header("Content-Encoding", "gzip")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        if shelf.tags:
            self.send_header("ETag", tag)
        self.end_headers()
        some = content[start:end][: shelf.most]
        shelf.sent += len(some)
        self.wfile.write(some)
        return None

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def shelf(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setenv("VOICECLONE_CACHE", str(tmp_path / "cache"))
    with Shelf() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def dead() -> str:
    """A URL at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/model.pt"


def get(url, digest=""):
    return fetch(f"{url}#{digest}" if digest else url, bar=False)


def test_a_file_is_fetched_once_and_kept(shelf):
    for _ in range(2):
        found = get(shelf.url("/model.pt"), f"sha256={SHA256}")
        assert found.path.read_bytes() == CONTENT and found.path.name == "model.pt" and not found.notes
    assert shelf.asked == [("/model.pt", None)]
    assert cache_folder() in found.path.parents


def test_a_kept_file_that_was_damaged_is_fetched_again(shelf):
    path = get(shelf.url("/model.pt"), SHA256).path
    path.write_bytes(CONTENT[:-1] + b"?")
    assert get(shelf.url("/model.pt"), SHA256).path.read_bytes() == CONTENT
    assert len(shelf.asked) == 2


def test_a_download_that_breaks_off_goes_on_where_it_was(shelf):
    shelf.most = 3 * CHUNK
    assert get(shelf.url("/model.pt"), SHA256).path.read_bytes() == CONTENT
    assert [wanted for _, wanted in shelf.asked] == [None, *(f"bytes={n * CHUNK}-" for n in (3, 6, 9))]
    assert shelf.sent == len(CONTENT), "no byte came twice"


def test_the_next_session_goes_on_where_this_one_gave_up(shelf, dead):
    whole = dict(shelf.files)
    shelf.most = 4 * CHUNK
    calls = []
    real = module._receive_more

    def gone_after_one(*args):
        calls.append(args)
        if len(calls) > 1:
            shelf.most = 0
        return real(*args)

    module._receive_more = gone_after_one
    try:
        with pytest.raises(UnavailableError, match=f"{4 * CHUNK:,} bytes are kept"):
            get(shelf.url("/model.pt"))
    finally:
        module._receive_more = real
    shelf.most, shelf.sent, shelf.files = None, 0, whole
    assert get(shelf.url("/model.pt")).path.read_bytes() == CONTENT
    assert shelf.sent == len(CONTENT) - 4 * CHUNK


def test_mirrors_are_tried_in_turn(shelf, dead):
    wrong = [shelf.url(path) for path in ("/missing.pt", "/page", "/page.pt", "/other.pt")]
    found = get(" ".join([dead, *wrong, shelf.url("/model.pt")]), SHA256)
    assert found.path.read_bytes() == CONTENT
    assert [path for path, _ in shelf.asked] == ["/missing.pt", "/page", "/page.pt", "/other.pt", "/model.pt"]


def test_what_another_mirror_began_is_gone_on_with_when_the_hash_will_tell(shelf, dead):
    shelf.files["/half.pt"] = CONTENT
    shelf.most = 5 * CHUNK
    real = Answer.do_GET

    def half_only_once(answer):
        if answer.path == "/half.pt" and shelf.asked:
            return answer.send_error(503)
        return real(answer)

    Answer.do_GET = half_only_once
    try:
        found = get(f"{shelf.url('/half.pt')} {shelf.url('/model.pt')}", SHA256)
    finally:
        Answer.do_GET = real
    assert found.path.read_bytes() == CONTENT and shelf.sent == len(CONTENT)
    assert shelf.asked == [("/half.pt", None), ("/model.pt", f"bytes={5 * CHUNK}-")]


def test_a_beginning_of_another_file_is_thrown_away(shelf):
    shelf.files["/half.pt"] = OTHER[:150_000]
    path = get(shelf.url("/model.pt"), SHA256).path
    path.unlink()
    path.with_name("model.pt.part").write_bytes(OTHER[:150_000])
    assert get(shelf.url("/model.pt"), SHA256).path.read_bytes() == CONTENT
    assert [wanted for _, wanted in shelf.asked] == [None, "bytes=150000-", None]


def test_a_file_that_changed_meanwhile_is_begun_anew(shelf):
    path = get(shelf.url("/model.pt")).path
    state = {"url": shelf.url("/model.pt"), "validator": '"of the old file"'}
    path.with_name("model.pt.part").write_bytes(OTHER[:1000])
    path.with_name("model.pt.part.json").write_text(json.dumps(state))
    path.with_name("record.json").unlink()
    path.unlink()
    assert get(shelf.url("/model.pt")).path.read_bytes() == CONTENT
    assert shelf.asked[-1] == ("/model.pt", "bytes=1000-"), "asked to go on, but only with the same file"


def test_without_tag_and_hash_nothing_is_glued_together(shelf):
    shelf.tags = False
    path = get(shelf.url("/model.pt")).path
    path.with_name("model.pt.part").write_bytes(OTHER[:1000])
    path.with_name("record.json").unlink()
    path.unlink()
    assert get(shelf.url("/model.pt")).path.read_bytes() == CONTENT
    assert shelf.asked[-1] == ("/model.pt", None)


def test_a_server_without_ranges_sends_all_again(shelf):
    path = get(shelf.url("/model.pt"), SHA256).path
    path.rename(path.with_name("model.pt.part"))
    path.with_name("model.pt.part").write_bytes(CONTENT[:1000])
    shelf.ranges = False
    assert get(shelf.url("/model.pt"), SHA256).path.read_bytes() == CONTENT


@pytest.mark.parametrize("path", ["/page", "/page.pt"])
def test_a_web_page_is_called_one(shelf, path):
    with pytest.raises(CheckpointError, match="sent a web page instead of the file.*Google Drive"):
        get(shelf.url(path))
    assert not [kept for kept in cache_folder().rglob("*") if kept.is_file() and kept.stat().st_size > 1000]


def test_another_file_is_named_by_its_hash(shelf):
    with pytest.raises(CheckpointError, match=f"{hashlib.sha256(OTHER).hexdigest()}, expected {SHA256}"):
        get(shelf.url("/other.pt"), SHA256)


def test_every_mirror_that_failed_is_named(shelf, dead):
    with pytest.raises(UnavailableError) as raised:
        get(f"{dead} {shelf.url('/missing.pt')}")
    assert "refused" in str(raised.value) and "404" in str(raised.value) and "browser" in str(raised.value)


def test_an_unknown_hash_is_recorded_on_first_use_and_held_to(shelf):
    (note,) = get(shelf.url("/model.pt")).notes
    assert SHA256 in note and "on trust" in note
    found = get(shelf.url("/model.pt"))
    assert found.notes == ()
    found.path.unlink()
    shelf.files["/model.pt"] = OTHER
    with pytest.raises(CheckpointError, match=f"expected {SHA256}"):
        get(shelf.url("/model.pt"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (MESSAGE, "a text in JSON, perhaps a server's message"),
        (b"Quota exceeded", "it is a text that begins with 'Quota exceeded'"),
        (b"", "it is empty"),
        (CONTENT[:-1], "cannot be read as weights: it is torn"),
        (CONTENT[:50], "cannot be read as weights: it is torn"),
        (saved()[:-1], "torn"),
        (saved()[:9000], "torn"),
        (saved().replace(bytes(torch.tensor([7.0, 8.0]).numpy()), bytes(8)), "torn"),
        (saved(_use_new_zipfile_serialization=False)[:-1], r"is torn: [\d,]+ bytes of at least"),
        (saved(_use_new_zipfile_serialization=False)[:300], "cannot be read as weights: it is torn"),
        (b"\x80\x04K\x01.", "cannot be read as weights"),
    ],
)
def test_what_cannot_be_weights_is_never_recorded(shelf, content, said):
    shelf.files["/model.pt"] = content
    shelf.endless = {"/model.pt"}
    with pytest.raises(CheckpointError, match=f"127.0.0.1.*{said}"):
        get(shelf.url("/model.pt"))
    assert not list(cache_folder().rglob("record.json")) and not list(cache_folder().rglob("model.pt*t"))
    shelf.files["/model.pt"] = CONTENT
    assert get(shelf.url("/model.pt")).path.read_bytes() == CONTENT, "asked again once the server is well"


def test_a_mirror_that_sends_a_message_is_followed_by_the_next(shelf):
    shelf.files |= {"/message.pt": MESSAGE, "/short.pt": CONTENT[:5000]}
    found = get(" ".join(shelf.url(path) for path in ("/message.pt", "/short.pt", "/model.pt")))
    assert found.path.read_bytes() == CONTENT and SHA256 in found.notes[0]
    assert [path for path, _ in shelf.asked] == ["/message.pt", "/short.pt", "/model.pt"]


@pytest.mark.parametrize("content", [saved(), saved(_use_new_zipfile_serialization=False), CONTENT])
def test_whole_weights_of_every_kind_are_taken_without_a_hash(shelf, content):
    shelf.files["/model.pt"] = content
    assert get(shelf.url("/model.pt")).path.read_bytes() == content


def test_any_file_is_taken_that_has_the_stated_hash(shelf):
    shelf.files["/model.pt"] = MESSAGE
    assert get(shelf.url("/model.pt"), hashlib.sha256(MESSAGE).hexdigest()).path.read_bytes() == MESSAGE


@pytest.mark.parametrize("digest", ["", SHA256])
def test_ranges_shorter_than_asked_for_are_followed_by_the_rest(shelf, digest):
    shelf.most, shelf.piece = 4 * CHUNK, 2 * CHUNK
    assert get(shelf.url("/model.pt"), digest).path.read_bytes() == CONTENT
    assert [wanted for _, wanted in shelf.asked] == [None, *(f"bytes={n * CHUNK}-" for n in (4, 6, 8))]
    assert shelf.sent == len(CONTENT)


def test_a_mirror_that_refuses_the_range_of_a_first_request_is_followed_by_the_next(shelf):
    shelf.files["/416.pt"] = b"416"
    with pytest.raises(UnavailableError, match="416"):
        get(shelf.url("/416.pt"))
    assert get(f"{shelf.url('/416.pt')} {shelf.url('/model.pt')}").path.read_bytes() == CONTENT


@pytest.mark.parametrize("digest", ["", SHA256])
def test_a_packed_answer_may_be_longer_than_the_file(shelf, digest):
    shelf.packed = {"/model.pt"}
    assert len(gzip.compress(CONTENT, 0)) > len(CONTENT)
    assert get(shelf.url("/model.pt"), digest).path.read_bytes() == CONTENT


@pytest.mark.parametrize("digest", ["", SHA256])
def test_a_packed_answer_is_never_gone_on_with(shelf, digest):
    shelf.packed, shelf.most = {"/model.pt"}, 4 * CHUNK
    with pytest.raises(UnavailableError):
        get(shelf.url("/model.pt"), digest)
    shelf.most = None
    assert get(shelf.url("/model.pt"), digest).path.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["a" * 300 + ".pt", "%E6%84%9B" * 300 + ".pt"])
def test_a_long_name_is_cut_before_its_ending(shelf, name):
    shelf.files[f"/{name}"] = CONTENT
    path = get(shelf.url(f"/{name}")).path
    assert path.read_bytes() == CONTENT and path.suffix == ".pt" and len(os.fsencode(path.name)) < 255


@pytest.mark.parametrize("name", ["record.json", "lock", "Record.JSON"])
def test_a_name_of_our_own_files_is_changed(shelf, name):
    shelf.files[f"/{name}"] = CONTENT
    for _ in range(2):
        path = get(shelf.url(f"/{name}")).path
        assert path.name == f"_{name}" and path.read_bytes() == CONTENT
    assert len(shelf.asked) == 1


def test_a_url_that_is_none_is_refused():
    with pytest.raises(VoiceCloneError, match=r"http://\[bad/m.pt is no URL.*Expected: https://"):
        get("http://[bad/m.pt")


def test_progress_is_shown(shelf, capsys):
    download([shelf.url("/model.pt")], bar=True)
    assert re.search(r"model\.pt.*100%.*300k/300k", capsys.readouterr().err)


# What to fetch ----------------------------------------------------------------------------------------------------


def test_what_is_here_is_used_as_it_is(tmp_path, shelf):
    (tmp_path / "waveglow").write_bytes(b"mine")
    assert fetch(tmp_path / "waveglow").path == tmp_path / "waveglow" and fetch(tmp_path).path == tmp_path
    assert shelf.asked == []


@pytest.mark.parametrize("wrong", ["nvidia", "no/such/file.pt", "ftp://example.org/x.pt"])
def test_what_is_nowhere_is_said_with_all_that_could_be(wrong):
    with pytest.raises(VoiceCloneError, match="no file here, no URL.*nvidia-ljspeech"):
        fetch(wrong)


def test_a_hash_that_is_none_is_refused(shelf):
    with pytest.raises(VoiceCloneError, match="no SHA-256"):
        get(shelf.url("/model.pt"), "sha256=abc")
    assert shelf.asked == []


def test_a_vocoder_is_fetched_by_its_address(shelf):
    with pytest.raises(CheckpointError, match="cannot be read as weights"):  # the bytes of this shelf are no vocoder's
        load_vocoder(f"waveglow:{shelf.url('/model.pt')}")
    assert shelf.asked == [("/model.pt", None)]


def test_a_known_name_comes_from_its_mirrors_under_its_name(shelf, monkeypatch):
    known = KNOWN["nvidia-ljspeech"]
    monkeypatch.setitem(KNOWN, "nvidia-ljspeech", module.Source(known.file, (shelf.url("/model.pt"),), known.what))
    found = fetch("nvidia-ljspeech", bar=False)
    assert found.path.name == "tacotron2_statedict.pt" and found.path.read_bytes() == CONTENT


def test_known_places_are_whole():
    for source in KNOWN.values():
        assert source.what and source.file and all(url.startswith("https://") for url in source.urls)
        assert re.fullmatch("([0-9a-f]{64})?", source.sha256)


@pytest.mark.parametrize(
    ("page", "file"),
    [
        ("https://drive.google.com/file/d/1abc_-X/view?usp=sharing", r"usercontent.*id=1abc_-X&.*confirm=t"),
        ("https://drive.google.com/open?id=1abc_-X", r"usercontent.*id=1abc_-X&"),
        ("https://huggingface.co/a/b/blob/main/c.pt", "/a/b/resolve/main/c.pt"),
    ],
)
def test_the_address_of_a_page_becomes_the_files(page, file):
    assert re.search(file, module._direct(page))


# The hub ----------------------------------------------------------------------------------------------------------


class Hub(Answer):
    """As much of the hub's interface as its library asks for."""

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path))
        found = re.fullmatch(r"/(\w+/\w+)/resolve/main/(.+)", path)
        if found and found[2] in self.server.files:
            content, kind = self.server.files[found[2]], "application/octet-stream"
        elif path.startswith("/api/models/voices/"):
            names = list(self.server.files)
            listed = [{"type": "file", "path": name, "size": len(CONTENT), "oid": "0"} for name in names]
            about = {"id": "voices/one", "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
            content, kind = json.dumps(listed if "/tree/" in path else about).encode(), "application/json"
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{self.server.tag or hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if body:
            self.wfile.write(content)
        return None


@pytest.fixture
def hub(tmp_path):
    """A stand-in of the hub, and a way to fetch from it: its library reads its address once, when it is imported."""
    server = Shelf()
    server.RequestHandlerClass, server.files, server.tag = Hub, {"model.pt": CONTENT, "README.md": b"hello"}, ""
    code = (
        "import sys; from voiceclone.download import fetch; from voiceclone.errors import VoiceCloneError\n"
        "try: print(fetch(sys.argv[1]).path)\n"
        "except VoiceCloneError as error: print(type(error).__name__, error)"
    )

    def ask(place: str) -> str:
        environment = os.environ | {
            "HF_ENDPOINT": server.url(""), "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        }  # fmt: skip
        command = [sys.executable, "-c", code, place]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server, ask
        server.shutdown()


def test_a_place_on_the_hub_is_fetched_by_the_hubs_library(hub, tmp_path):
    _, ask = hub
    for place in ("hf://voices/one/model.pt", "voices/one", f"hf://voices/one/model.pt#{SHA256}"):
        path = ask(place)
        assert path.endswith("model.pt") and str(tmp_path / "hub") in path
        assert open(path, "rb").read() == CONTENT


def test_several_files_on_the_hub_ask_which(hub):
    server, ask = hub
    server.files = {"a.pt": CONTENT, "b.pt": CONTENT}
    assert "2 files of weights (a.pt, b.pt)" in ask("voices/one")


def test_what_the_hub_has_not_is_said(hub):
    _, ask = hub
    assert ask("nobody/nothing").startswith("UnavailableError The Hugging Face hub has no nobody/nothing")


def test_a_file_of_the_hub_with_another_hash_is_refused(hub):
    server, ask = hub
    assert "expected " + "0" * 64 in ask("hf://voices/one/model.pt#" + "0" * 64)
    server.tag = "f" * 64
    assert "expected " + "f" * 64 in ask("hf://voices/one/README.md")


def test_a_hub_that_is_away_is_said_within_seconds(hub):
    server, ask = hub
    path = ask("hf://voices/one/model.pt")
    server.shutdown()
    server.server_close()
    assert ask("hf://voices/one/README.md").startswith("UnavailableError voices/one/README.md is not on this machine")
    assert ask("hf://voices/one/model.pt") == path, "what was fetched before is used"


def test_without_a_files_name_what_is_kept_is_found_though_the_hub_says_nothing(hub):
    server, ask = hub
    path = ask("voices/one")
    server.shutdown()
    server.server_close()
    with socket.socket() as mute:  # takes connections and never says a word
        mute.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        mute.bind(("127.0.0.1", server.server_port))
        mute.listen(20)
        begun = time.monotonic()
        assert ask("voices/one") == path
        assert ask("voices/two").startswith("UnavailableError voices/two is not on this machine")
        assert time.monotonic() - begun < 30, "the hub's library alone would try for minutes"


def test_files_kept_of_the_hub_without_weights_do_not_do_when_it_is_away(hub):
    server, ask = hub
    ask("hf://voices/one/README.md")
    server.shutdown()
    server.server_close()
    assert "voices/one is not on this machine" in ask("voices/one")
