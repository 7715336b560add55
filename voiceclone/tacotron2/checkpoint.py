"""Checkpoints: our own, which hold all that training needs, NVIDIA's, which other tools read, and bases.

Every file is written whole or not at all and read without running code that it may carry.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, VoiceCloneError
from ..files import atomic_path
from ..text import FRONT_END, FRONT_ENDS, SYMBOLS
from ..weights import newest_whole, read_weights, what_it_holds, write_weights
from .config import DROPOUTS, Tacotron2Config
from .model import Tacotron2

FORMAT = "voiceclone-checkpoint/1"
# Absent from older files, ours and those of torch before 0.4.1; endings of names. They speak without as they did.
LATER = ("envelope.gain", "num_batches_tracked")
OURS = ("speaker_projection.", "mel_mean", "envelope.", "decoder.pitch_layer.")  # parts unknown to NVIDIA
# NVIDIA wraps its layers: `query_layer.weight` is `query_layer.linear_layer.weight` there, `0.weight` `0.conv.weight`.
_LINEAR = re.compile(
    r"\b(prenet\.layers\.\d+|query_layer|memory_layer|v|location_dense|linear_projection|gate_layer)\.(?=weight|bias)"
)
_CONVOLUTION = re.compile(r"\b(convolutions\.\d+\.0|location_conv)\.(?=weight|bias)")


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to speak, and to go on training as if nothing had happened."""

    model: Tacotron2
    step: int
    speaker: torch.Tensor | None = None  # (speaker_dim,) embedding of the voice
    training: dict[str, Any] = field(default_factory=dict)  # optimiser, schedule, random state, progress
    measures: dict[str, Any] = field(default_factory=dict)  # what was measured at this step
    front_end: str = FRONT_END  # how texts became symbols when it was trained, which is how it must be spoken to


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint with its config, symbols and text front-end."""
    state = {name: tensor.detach().cpu() for name, tensor in checkpoint.model.state_dict().items()}
    content = {
        "format": FORMAT,
        "config": asdict(checkpoint.model.config),
        "symbols": list(SYMBOLS),
        "front_end": checkpoint.front_end,
        "state_dict": state,
        "step": checkpoint.step,
        "speaker": checkpoint.speaker,
        "training": checkpoint.training,
        "measures": checkpoint.measures,
    }
    return write_weights(path, content)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read one of our checkpoints.

    Raises
    ------
    CheckpointError
        If the file is missing, torn, something else, or made with another text front-end.
    """
    content = read_weights(path)
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is no checkpoint of voiceclone (its keys: {', '.join(map(str, list(content)[:6]))}). "
            "NVIDIA's and FakeYou's are read by voiceclone.tacotron2.load_nvidia."
        )
    if content["front_end"] not in FRONT_ENDS or content["symbols"] != list(SYMBOLS):
        raise CheckpointError(
            f"{path} was trained with the text front-end {content['front_end']}; this voiceclone has "
            f"{' and '.join(FRONT_ENDS)}. Speak with the version that trained it, or train again."
        )
    model = Tacotron2(Tacotron2Config(**content["config"]))
    _fill(model, content["state_dict"], path)
    return Checkpoint(
        model,
        content["step"],
        content["speaker"],
        content["training"],
        content["measures"],
        content["front_end"],
    )


def newest_checkpoint(folder: str | Path) -> tuple[Path, Checkpoint] | None:
    """The newest whole checkpoint in a run's folder; torn ones are passed over. None where there is none."""
    return newest_whole(folder, load_checkpoint)


def _fill(model: Tacotron2, state: dict[str, torch.Tensor], path: str | Path) -> None:
    """Load weights, naming whatever is missing, too much or of another size."""
    own = model.state_dict()
    state = {name: tensor for name, tensor in own.items() if name.endswith(LATER)} | state
    complaints = [f"{name} is missing" for name in own if name not in state]
    complaints += [f"{name} is not known" for name in state if name not in own]
    complaints += [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if complaints:
        more = f" and {len(complaints) - 4} more" if len(complaints) > 4 else ""
        raise CheckpointError(f"{path} does not fit this Tacotron 2: {'; '.join(complaints[:4])}{more}.")
    model.load_state_dict(state)


def adopt(model: Tacotron2, other: Tacotron2) -> tuple[str, ...]:
    """Take over the weights of a model of other sizes wherever name and shape agree.

    Returns
    -------
    tuple of str
        The parts of `model` that keep their random weights, such as ``"decoder.prenet"``; none where all sizes agree.
    """
    own, known = model.state_dict(), other.state_dict()
    fitting = {name: t for name, t in known.items() if name in own and own[name].shape == t.shape}
    model.load_state_dict(fitting, strict=False)
    return tuple(sorted({name.rpartition(".")[0] for name in own if name not in fitting and not name.endswith(LATER)}))


def with_dropouts(model: Tacotron2, config: Tacotron2Config) -> Tacotron2:
    """A model of the same weights and sizes with the dropouts of `config`; itself if it has them."""
    wanted = replace(model.config, **{name: getattr(config, name) for name in DROPOUTS})
    if wanted == model.config:
        return model
    other = Tacotron2(wanted)
    other.load_state_dict(model.state_dict())
    return other.eval()


# NVIDIA's form ----------------------------------------------------------------------------------------------------


def to_nvidia_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our names to NVIDIA's."""
    return {_CONVOLUTION.sub(r"\1.conv.", _LINEAR.sub(r"\1.linear_layer.", name)): t for name, t in state.items()}


def from_nvidia_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """NVIDIA's names to ours."""
    return {re.sub(r"\.(linear_layer|conv)\.", ".", name.removeprefix("module.")): t for name, t in state.items()}


def load_nvidia(path: str | Path) -> Tacotron2:
    """Read a checkpoint of NVIDIA/tacotron2 or FakeYou; the sizes are taken from the weights.

    Raises
    ------
    CheckpointError
        If the file is torn, a web page, needs code to be run, or holds another model.
    """
    return model_of(read_weights(path), path)


def model_of(content: dict[str, Any], path: str | Path) -> Tacotron2:
    """The model in what `read_weights` read of NVIDIA's form; `path` is named where it does not fit."""
    state = content.get("state_dict", content)
    known = isinstance(state, dict) and {str(name).removeprefix("module."): t for name, t in state.items()}
    if not known or "embedding.weight" not in known or not any(name.startswith("decoder.") for name in known):
        raise CheckpointError(
            f"{path} holds no Tacotron 2 but {what_it_holds(content)}: expected a dict with 'state_dict' and in it "
            "'embedding.weight' and a 'decoder.', as NVIDIA and FakeYou write it."
        )
    if any(name.startswith("mi.") for name in known):
        raise CheckpointError(f"{path} was trained with mutual-information layers (MMI), unknown to Tacotron 2.")
    ours = [name for name in known if name.startswith(OURS)]
    if ours:
        raise CheckpointError(
            f"{path} seems to be a Tacotron 2 of voiceclone's own, not in NVIDIA's form: it has {', '.join(ours[:3])}. "
            f"If it belongs to a base, give the base's folder, {Path(path).parent}, which tells its sizes."
        )
    state = from_nvidia_names(known)
    try:
        model = Tacotron2(_config_from_shapes(state))
    except (KeyError, IndexError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is no whole Tacotron 2 of NVIDIA's form, but {what_it_holds(content)}: {error} is missing."
        ) from error
    except VoiceCloneError as error:
        raise CheckpointError(
            f"{path} seems to be {what_it_holds(content)}, but its weights have sizes that cannot be: {error} "
            "Get it again, or ask who made it."
        ) from error
    _fill(model, state, path)
    return model.eval()


def _config_from_shapes(state: dict[str, torch.Tensor]) -> Tacotron2Config:
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    n_mels = shapes["postnet.convolutions.0.0.weight"][1]
    return Tacotron2Config(
        n_symbols=shapes["embedding.weight"][0],
        n_mels=n_mels,
        n_frames_per_step=shapes["decoder.linear_projection.weight"][0] // n_mels,
        symbols_embedding_dim=shapes["embedding.weight"][1],
        encoder_n_convolutions=_count_convolutions(state, "encoder"),
        encoder_kernel_size=shapes["encoder.convolutions.0.0.weight"][2],
        attention_rnn_dim=shapes["decoder.attention_rnn.weight_hh"][1],
        attention_dim=shapes["decoder.attention_layer.query_layer.weight"][0],
        attention_location_n_filters=shapes["decoder.attention_layer.location_layer.location_conv.weight"][0],
        attention_location_kernel_size=shapes["decoder.attention_layer.location_layer.location_conv.weight"][2],
        prenet_dim=shapes["decoder.prenet.layers.0.weight"][0],
        decoder_rnn_dim=shapes["decoder.decoder_rnn.weight_hh"][1],
        postnet_embedding_dim=shapes["postnet.convolutions.0.0.weight"][0],
        postnet_kernel_size=shapes["postnet.convolutions.0.0.weight"][2],
        postnet_n_convolutions=_count_convolutions(state, "postnet"),
    )


def _count_convolutions(state: dict[str, torch.Tensor], part: str) -> int:
    return sum(bool(re.fullmatch(rf"{part}\.convolutions\.\d+\.0\.weight", name)) for name in state)


def save_nvidia(
    model: Tacotron2,
    path: str | Path,
    *,
    iteration: int = 0,
    learning_rate: float = 1e-3,
    optimizer: dict | None = None,
    front_end: str = FRONT_END,
) -> Path:
    """Write a checkpoint that NVIDIA/tacotron2 and FakeYou read.

    Raises
    ------
    CheckpointError
        If the model has parts that they do not know (a speaker embedding, normalised mels, envelope and pitch).
    """
    if model.config.speaker_dim or model.config.normalise_mels or model.config.envelope_order:
        raise CheckpointError(
            "Only the `full` preset interchanges with NVIDIA and FakeYou: this model has a speaker embedding, "
            "normalised mels, or envelope and pitch apart. Train with preset='full' for that."
        )
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    # With the state of an optimiser that has taken no step, their training resumes too.
    unused = torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=1e-6).state_dict()
    content = {
        "iteration": iteration,
        "state_dict": to_nvidia_names(state),
        "optimizer": optimizer or unused,
        "learning_rate": learning_rate,
        "front_end": front_end,  # theirs reads past it
    }
    return write_weights(path, content)


# Bases ------------------------------------------------------------------------------------------------------------


def save_base(folder: str | Path, model: Tacotron2) -> Path:
    """Write a base: ``model.safetensors`` in half precision and ``config.json`` with symbols and front-end."""
    from safetensors.torch import save_file

    folder = Path(folder)
    state = {
        name: (t.half() if t.is_floating_point() else t).detach().cpu().contiguous()
        for name, t in model.state_dict().items()
    }
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(state, temporary)
    with atomic_path(folder / "config.json") as temporary:
        content = {"config": asdict(model.config), "front_end": FRONT_END, "symbols": list(SYMBOLS)}
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return folder


def load_base(folder: str | Path) -> Tacotron2:
    """Read a base that `save_base` wrote.

    Raises
    ------
    CheckpointError
        If it is missing, torn, or was made with another text front-end.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        state = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"There is no whole base in {folder} ({error}). Expected model.safetensors and config.json; "
            "make one with: python -m voiceclone pretrain CORPUS --out FOLDER"
        ) from error
    if content["front_end"] != FRONT_END or content["symbols"] != list(SYMBOLS):
        raise CheckpointError(
            f"The base in {folder} was made with the text front-end {content['front_end']}, here is {FRONT_END}."
        )
    model = Tacotron2(Tacotron2Config(**content["config"]))
    _fill(model, {name: t.float() if t.is_floating_point() else t for name, t in state.items()}, folder)
    return model
