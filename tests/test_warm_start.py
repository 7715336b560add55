"""Beginning with other checkpoints, and taking them into a voice: what is kept, what is said, what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from voiceclone import Voice, VoiceCloneError
from voiceclone.errors import CheckpointError
from voiceclone.export import import_checkpoint
from voiceclone.synthesize import Synthesizer
from voiceclone.tacotron2 import FULL, SMALL, Tacotron2, save_nvidia, warm_start
from voiceclone.tacotron2.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_base,
    save_checkpoint,
    to_nvidia_names,
)
from voiceclone.tacotron2.decoder import HalfWeights
from voiceclone.tacotron2.warm_start import trained_on_letters
from voiceclone.text import ARPABET, FAKEYOU, IDS, LETTERS, SYMBOLS, to_text
from voiceclone.weights import newest_whole, read_weights

TINY = replace(
    FULL, symbols_embedding_dim=16, attention_rnn_dim=16, attention_dim=8, attention_location_n_filters=4,
    attention_location_kernel_size=7, prenet_dim=8, decoder_rnn_dim=16, postnet_embedding_dim=8,
)  # fmt: skip


@pytest.fixture
def model():
    torch.manual_seed(3)
    return Tacotron2(TINY)


def nvidia_file(model, path, prefix="", **more):
    """A checkpoint as NVIDIA's training writes it."""
    state = {f"{prefix}{name}": tensor for name, tensor in to_nvidia_names(model.state_dict()).items()}
    content = {"iteration": 1500, "state_dict": state, "optimizer": {}, "learning_rate": 1e-3} | more
    torch.save(content, path)
    return path


def same(one, other, but=()):
    ours, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in theirs if name not in but)


# Starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module."])
def test_nvidias_checkpoint_is_begun_with(model, tmp_path, prefix):
    started = warm_start(nvidia_file(model, tmp_path / "tacotron2_statedict.pt", prefix), TINY)
    assert same(started.model, model) and started.step == 1500 and started.notes == ()


def test_half_precision_is_begun_with(model, tmp_path):
    started = warm_start(nvidia_file(model.half(), tmp_path / "x.pt"), TINY)
    assert started.model.embedding.weight.dtype == torch.float32 and same(started.model, model.float())


def test_our_own_forms_are_begun_with(model, tmp_path):
    save_checkpoint(tmp_path / "step-000007.pt", Checkpoint(model, 7))
    assert same(warm_start(tmp_path / "step-000007.pt", TINY).model, model)
    save_base(tmp_path / "base", model)
    assert same(warm_start(tmp_path / "base", TINY).model, model.half().float())


def test_safetensors_with_nvidias_names_are_begun_with(model, tmp_path):
    from safetensors.torch import save_file

    save_file(to_nvidia_names(model.state_dict()), tmp_path / "x.safetensors")
    assert same(warm_start(tmp_path / "x.safetensors", TINY).model, model)


def test_a_url_is_begun_with(model, tmp_path, monkeypatch):
    content = nvidia_file(model, tmp_path / "x.pt").read_bytes()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    monkeypatch.setenv("VOICECLONE_CACHE", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.pt"
        assert same(warm_start(f"{url}#sha256={hashlib.sha256(content).hexdigest()}", TINY).model, model)
        (note,) = warm_start(url, TINY).notes
        assert "on trust" in note, "the user is told where no hash is known"
        server.shutdown()


def test_a_checkpoint_of_an_old_torch_lacks_the_batches_counters_and_is_begun_with(model, tmp_path):
    path = nvidia_file(model, tmp_path / "x.pt")
    content = torch.load(path, weights_only=True)
    state = {name: t for name, t in content["state_dict"].items() if not name.endswith("num_batches_tracked")}
    assert len(state) == len(content["state_dict"]) - 8
    torch.save(content | {"state_dict": state}, path)
    assert same(warm_start(path, TINY).model, model)
    del state["postnet.convolutions.0.1.running_var"]
    torch.save(content | {"state_dict": state}, path)
    with pytest.raises(CheckpointError, match=r"x\.pt .*: postnet.convolutions.0.1.running_var is missing\."):
        warm_start(path, TINY)


# Symbols ----------------------------------------------------------------------------------------------------------


def test_symbols_in_another_order_go_with_their_names(model, tmp_path):
    order = [*reversed(SYMBOLS)]
    other = Tacotron2(TINY)
    other.load_state_dict(model.state_dict() | {"embedding.weight": model.embedding.weight.flip(0)})
    started = warm_start(nvidia_file(other, tmp_path / "x", symbols=order), TINY)
    assert same(started.model, model)
    assert "148 of its 148 symbols are kept. All its other weights are kept." in started.notes[0]


def test_symbols_that_differ_are_mapped_and_the_rest_is_kept_and_said(tmp_path):
    torch.manual_seed(4)
    theirs = (*(symbol for symbol in SYMBOLS if symbol not in ("@ZH", "Q")), "ä", "ß", "~")
    other = Tacotron2(replace(TINY, n_symbols=len(theirs)))
    started = warm_start(nvidia_file(other, tmp_path / "x", symbols=list(theirs)), TINY)
    rows = started.model.embedding.weight
    for symbol in set(theirs) & set(SYMBOLS):
        assert torch.equal(rows[IDS[symbol]], other.embedding.weight[theirs.index(symbol)]), symbol
    assert same(started.model, other, but=("embedding.weight",))
    assert "146 of its 149 symbols are kept; begin anew: 'Q' '@ZH'; left out: 'ä' 'ß' '~'." in started.notes[0]


def test_symbols_without_names_begin_anew_and_it_is_said(tmp_path):
    other = Tacotron2(replace(TINY, n_symbols=70))
    started = warm_start(nvidia_file(other, tmp_path / "x"), TINY)
    assert started.model.embedding.weight.shape == (148, 16)
    assert same(started.model, other, but=("embedding.weight",))
    assert "its 70 symbols have no names" in started.notes[0]


def test_symbols_that_cannot_be_its_own_are_refused(model, tmp_path):
    with pytest.raises(CheckpointError, match="names 3 symbols but has 148"):
        warm_start(nvidia_file(model, tmp_path / "x", symbols=["a", "b", "c"]), TINY)


def learned(ids, steps=600):
    """A model whose embedding NVIDIA's optimiser has trained on some symbols alone."""
    torch.manual_seed(5)
    model = Tacotron2(TINY)
    optimiser = torch.optim.Adam(model.embedding.parameters(), lr=1e-3, weight_decay=1e-6)
    wanted = torch.randn(len(ids), TINY.symbols_embedding_dim)
    for _ in range(steps):
        optimiser.zero_grad()
        (model.embedding(torch.tensor(ids)) - wanted).square().mean().backward()
        optimiser.step()
    return model


def test_a_model_of_letters_is_told_from_one_of_phonemes():
    letters = [IDS[letter] for letter in "abcdefghijklmnopqrstuvwxyz"]
    phonemes = [IDS[f"@{phone}"] for phone in ARPABET]
    assert trained_on_letters(learned(letters))
    assert not trained_on_letters(learned(phonemes)) and not trained_on_letters(Tacotron2(TINY))


def wither(model):
    """What weight decay does to the phonemes of a model that reads letters."""
    with torch.no_grad():
        model.embedding.weight[[IDS[f"@{phone}"] for phone in ARPABET]] *= 1e-3
    return model


def test_starting_from_letters_is_said(model, tmp_path):
    started = warm_start(nvidia_file(wither(model), tmp_path / "x"), TINY)
    assert started.front_end == LETTERS and "was trained on letters" in started.notes[0]


# Wrong files ------------------------------------------------------------------------------------------------------


def a_zip(name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "{}")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n <!doctype html><title>Quota exceeded</title>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"\xef\xbb\xbf\r\n<!doctype html><title>Quota exceeded</title>", "a web page"),
        (b'{"error": "not found"}', "a text in JSON"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "a wave file"),
        (b"\x1f\x8b\x08\x00", "a gzip archive"),
        (a_zip("voice.json"), "a zip without weights"),
    ],
)
def test_a_file_that_holds_no_weights_is_named(tmp_path, content, said):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        warm_start(tmp_path / "x.pt", TINY)


def small_file(**options):
    file = io.BytesIO()
    torch.save({"numbers": torch.arange(6.0), "step": 7}, file, **options)
    return file.getvalue()


def deflated():
    """The same file, zipped again as other tools do."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(small_file())) as archive, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in archive.namelist():
            new.writestr(name, archive.read(name))
    return bytearray(file.getvalue())


def with_a_letter_flipped():
    content = bytearray(small_file())
    content[content.rfind(b"data.pkl") + 1] = 0x85
    return content


def with_its_compressed_bytes_flipped():
    content = deflated()
    start = content.find(b"data.pkl") + len(b"data.pkl")
    content[start : start + 20] = b"\xff" * 20
    return content


def locked():
    content = deflated()
    for start, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(start) + flags] |= 1
    return content


def with_another_key():
    """The old format: before the numbers stand their count and, before that, the key of their block."""
    content = bytearray(small_file(_use_new_zipfile_serialization=False))
    content[-6 * 4 - 8 - 6] = ord("x")
    return content


DAMAGED = {  # what Python's and torch's readers complain of, each in its own way
    "cut-in-a-number": lambda: small_file(_use_new_zipfile_serialization=False)[:18],
    "flipped-name": with_a_letter_flipped,
    "flipped-deflated": with_its_compressed_bytes_flipped,
    "password": locked,
    "another-key": with_another_key,
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_named_and_an_older_one_beside_it_is_read(tmp_path, damage):
    torn, whole = tmp_path / "step-000009.pt", tmp_path / "step-000001.pt"
    torn.write_bytes(DAMAGED[damage]())
    whole.write_bytes(small_file())
    with pytest.raises(CheckpointError, match=r"step-000009\.pt .*([Gg]et it again|unpack it first)"):
        read_weights(torn)
    path, content = newest_whole(tmp_path)
    assert path == whole and content["step"] == 7


def test_an_old_file_cut_anywhere_is_named(tmp_path):
    content = small_file(_use_new_zipfile_serialization=False)
    for length in range(len(content)):
        (tmp_path / "x.pt").write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"x\.pt"):
            read_weights(tmp_path / "x.pt")


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["torch", "module", "pickle"])
def test_a_file_with_code_is_refused_without_telling_how_to_run_it(tmp_path, form):
    path, ran = tmp_path / "x.pt", tmp_path / "ran"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Code(ran)))
    else:
        torch.save({"state_dict": Code(ran)} if form == "torch" else torch.nn.Linear(2, 2), path)
    with pytest.raises(CheckpointError, match="would run code when opened.* refused") as raised:
        read_weights(path)
    named = {"torch": f"{os.mkdir.__module__}.mkdir", "module": "torch.nn.modules.linear.Linear", "pickle": "x.pt"}
    assert named[form] in str(raised.value) and not ran.exists()
    assert not [word for word in ("weights_only", "safe_globals", "\x1b", "options") if word in str(raised.value)]
    assert raised.value.__cause__ is None and raised.value.__suppress_context__, "nor does a traceback tell it"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"generator": {"conv_pre.weight_v": 0, "resblocks.0.convs1.0.weight_v": 0}}, "a HiFi-GAN generator"),
        ({"mpd": {}, "msd": {}, "optim_g": {}, "steps": 7}, "HiFi-GAN's discriminators"),
        ({"state_dict": {"upsample.weight": 0, "WN.0.in_layers.0.weight": 0}}, "a WaveGlow"),
        ({"model": {"enc_p.emb.weight": 0, "flow.flows.0.x": 0}}, "a VITS"),
        ({"hello": 1, "world": 2}, r"something unknown \(hello, world\)"),
    ],
)
def test_another_model_is_named(tmp_path, content, said):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=f"holds no Tacotron 2 but {said}"):
        warm_start(tmp_path / "x.pt", TINY)


def test_weights_of_hifigan_are_named_as_they_are():
    from voiceclone.files import package_file
    from voiceclone.vocoders.hifigan import UNIVERSAL

    with pytest.raises(CheckpointError, match="a HiFi-GAN generator"):
        warm_start(package_file(*UNIVERSAL), TINY)


def test_a_torn_tacotron_is_named(model, tmp_path):
    path = nvidia_file(model, tmp_path / "x")
    content = torch.load(path, weights_only=True)
    del content["state_dict"]["decoder.attention_rnn.weight_hh"]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="no whole Tacotron 2.*attention_rnn.weight_hh"):
        warm_start(path, TINY)


def test_weights_of_a_base_are_named_and_its_folder_is_asked_for(tmp_path):
    tiny = replace(SMALL, symbols_embedding_dim=16, attention_rnn_dim=16, decoder_rnn_dim=16, postnet_embedding_dim=8)
    path = save_base(tmp_path / "base", Tacotron2(tiny)) / "model.safetensors"
    with pytest.raises(CheckpointError) as raised:
        warm_start(path)
    assert str(path) in str(raised.value) and "a Tacotron 2 of voiceclone's own" in str(raised.value)
    assert f"give the base's folder, {path.parent}," in str(raised.value)
    assert warm_start(path.parent).model.config == tiny


def test_sizes_that_cannot_be_are_named_with_the_file(model, tmp_path):
    path = nvidia_file(model, tmp_path / "x.pt")
    content = torch.load(path, weights_only=True)
    content["state_dict"]["decoder.linear_projection.linear_layer.weight"] = torch.zeros(60, 32)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"x\.pt seems to be a Tacotron 2, .*n_frames_per_step must be"):
        warm_start(path)


def test_a_dropout_is_no_size(model, tmp_path):
    asked = replace(TINY, attention_dropout=0.3, encoder_dropout=0.0, postnet_final_dropout=False)
    started = warm_start(nvidia_file(model, tmp_path / "x"), asked)
    assert same(started.model, model) and started.model.config == asked
    assert (started.model.decoder.attention_dropout, started.model.encoder.dropout) == (0.3, 0.0)


def test_other_sizes_are_named_with_both_numbers(model, tmp_path):
    path = nvidia_file(model, tmp_path / "x")
    with pytest.raises(CheckpointError, match="preset 'full': symbols_embedding_dim is 16, expected 512.* more"):
        warm_start(path, FULL)


# Taking a checkpoint in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("front_end", [FAKEYOU, LETTERS])
def test_an_imported_run_is_spoken_to_as_it_was_trained(voice, model, tmp_path, front_end):
    model = model if front_end == FAKEYOU else wither(model)
    torch.nn.init.constant_(model.decoder.gate_layer.bias, -20.0)  # else what never learned stops at once
    made = import_checkpoint(voice, nvidia_file(model, tmp_path / "theirs"), run="theirs")
    assert made.front_end == front_end and made.notes == ()
    synthesizer = Synthesizer.open(Voice.open(voice.path), run="theirs", vocoder="griffin_lim", device="cpu")
    assert same(synthesizer.model, model)
    said = synthesizer.say("Hello -- 'Mr.' Jones?!", takes=1)
    letters, phonemes = "hello -- 'mister' jones?!", "{HH AH0 L OW1} , {M IH1 S T ER0} {JH OW1 N Z} ?"
    assert to_text(IDS[name] for name in said.symbols) == (letters if front_end == LETTERS else phonemes)
    assert len(said.wave) > 0


def test_what_weights_seem_can_be_overruled(voice, model, tmp_path):
    path = nvidia_file(model, tmp_path / "theirs")
    assert import_checkpoint(voice, path, front_end=LETTERS).front_end == LETTERS
    kept = load_checkpoint(voice.run_dir("imported") / "checkpoints" / "best.pt")
    assert kept.front_end == LETTERS and kept.step == 1500
    assert json.loads((voice.run_dir("imported") / "config.json").read_text())["front_end"] == LETTERS


def test_a_run_that_is_there_is_not_overwritten(voice, model, tmp_path):
    path = nvidia_file(model, tmp_path / "theirs")
    import_checkpoint(voice, path)
    with pytest.raises(VoiceCloneError, match="has a run 'imported' already"):
        import_checkpoint(voice, path)


def test_without_consent_nothing_is_taken_in(voice, model, tmp_path):
    content = json.loads((voice.path / "voice.json").read_text())
    content["consent"]["who"] = ""
    (voice.path / "voice.json").write_text(json.dumps(content))
    with pytest.raises(VoiceCloneError, match="nobody's consent"):
        import_checkpoint(Voice.open(voice.path), nvidia_file(model, tmp_path / "x"))
    assert not voice.run_dir("imported").exists()


def test_a_model_that_needs_a_speaker_is_not_taken_in(voice, tmp_path):
    tiny = replace(SMALL, symbols_embedding_dim=16, attention_rnn_dim=16, decoder_rnn_dim=16, postnet_embedding_dim=8)
    save_checkpoint(tmp_path / "x.pt", Checkpoint(Tacotron2(tiny), 1, torch.zeros(256)))
    with pytest.raises(VoiceCloneError, match="export it as a zip"):
        import_checkpoint(voice, tmp_path / "x.pt")
    assert not voice.run_dir("imported").exists()


def test_what_is_exported_can_be_trained_on_elsewhere_from_its_optimiser(model, tmp_path):
    content = read_weights(save_nvidia(model, tmp_path / "x", iteration=3, learning_rate=2e-4))
    optimiser = torch.optim.Adam(Tacotron2(TINY).parameters(), lr=1.0, weight_decay=0.5)
    optimiser.load_state_dict(content["optimizer"])  # as NVIDIA's load_checkpoint does
    assert optimiser.param_groups[0]["lr"] == 2e-4 and optimiser.param_groups[0]["weight_decay"] == 1e-6


# Speaking with half the bytes -------------------------------------------------------------------------------------


@pytest.mark.skipif(not HalfWeights.possible(), reason="torch has no FBGEMM here")
@pytest.mark.parametrize("config", [TINY, replace(SMALL, prenet_dim=16)], ids=["full", "small"])
def test_packed_weights_say_the_same(config):
    torch.manual_seed(6)
    model = Tacotron2(config).eval()
    model.decoder.prenet.dropout = 0.0
    text, speaker = torch.randint(1, 148, (2, 9)), torch.randn(2, config.speaker_dim) if config.speaker_dim else None
    asked = (text, torch.tensor([9, 9]), 12)
    before = model.infer(*asked, speaker=speaker, gate_threshold=1.0)
    names = set(model.state_dict())
    assert model.decoder.pack() and set(model.state_dict()) == names
    after = model.infer(*asked, speaker=speaker, gate_threshold=1.0)
    assert not torch.equal(after.mel_postnet, before.mel_postnet), "the packed ones were used"
    torch.testing.assert_close(after.mel_postnet, before.mel_postnet, atol=5e-3, rtol=0)
    torch.testing.assert_close(after.alignment, before.alignment, atol=1e-4, rtol=0)
