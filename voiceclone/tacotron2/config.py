"""The sizes of a Tacotron 2, and the two presets."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import VoiceCloneError


@dataclass(frozen=True)
class Tacotron2Config:
    """Sizes and dropouts of a Tacotron 2. The defaults are the paper's and NVIDIA's: 28,193,153 parameters.

    Shen et al. 2018, "Natural TTS synthesis by conditioning WaveNet on mel spectrogram predictions", section 2.2;
    field names as in NVIDIA/tacotron2, ``hparams.py``.
    """

    n_symbols: int = 148
    n_mels: int = 80
    n_frames_per_step: int = 1  # mel frames made by one decoder step
    symbols_embedding_dim: int = 512  # equals the encoder's width
    encoder_n_convolutions: int = 3
    encoder_kernel_size: int = 5
    attention_rnn_dim: int = 1024
    attention_dim: int = 128
    attention_location_n_filters: int = 32
    attention_location_kernel_size: int = 31
    prenet_dim: int = 256
    decoder_rnn_dim: int = 1024
    postnet_embedding_dim: int = 512
    postnet_kernel_size: int = 5
    postnet_n_convolutions: int = 5
    speaker_dim: int = 0  # size of the speaker embedding added to the encoder's output; 0 = one voice only
    encoder_dropout: float = 0.5
    prenet_dropout: float = 0.5
    speaking_dropout: float = 0.5  # of the prenet when speaking: it stays on (paper, section 2.2), but may be lower
    attention_dropout: float = 0.1
    decoder_dropout: float = 0.1
    postnet_dropout: float = 0.5
    postnet_final_dropout: bool = True  # NVIDIA drops out the last layer too; a small model's postnet then only harms
    mask_encoder: bool = False  # keep padding out of the encoder's convolutions; NVIDIA lets it in
    normalise_mels: bool = False  # work on mels of mean 0 and deviation 1 in each band
    # Cepstral coefficients of a frame. With them the decoder says envelope and pitch, and the postnet draws the
    # harmonics; 0 = plain log-mel frames, the paper's.
    envelope_order: int = 0

    def __post_init__(self) -> None:
        for name in ("encoder_kernel_size", "attention_location_kernel_size", "postnet_kernel_size"):
            if getattr(self, name) % 2 == 0:
                raise VoiceCloneError(f"{name}={getattr(self, name)} must be odd, so that frames keep their places.")
        if self.symbols_embedding_dim % 2:
            raise VoiceCloneError(
                f"symbols_embedding_dim={self.symbols_embedding_dim} must be even: half of it is each LSTM direction's."
            )
        if self.n_frames_per_step < 1 or self.postnet_n_convolutions < 2:
            raise VoiceCloneError("n_frames_per_step must be at least 1 and postnet_n_convolutions at least 2.")
        if not 0 <= self.envelope_order <= self.n_mels:
            raise VoiceCloneError(f"envelope_order={self.envelope_order} must be from 0 to n_mels={self.n_mels}.")

    @property
    def frame_size(self) -> int:
        """Numbers in which the decoder reads and says a frame."""
        return self.envelope_order or self.n_mels


# What changes how a model learns or speaks, and none of its weights.
DROPOUTS = (
    "encoder_dropout",
    "prenet_dropout",
    "speaking_dropout",
    "attention_dropout",
    "decoder_dropout",
    "postnet_dropout",
    "postnet_final_dropout",
)

FULL = Tacotron2Config()

# 35 ms a step: short enough for the shortest phones, and a third of the steps to take.
SMALL = Tacotron2Config(
    n_frames_per_step=3,
    symbols_embedding_dim=256,
    attention_rnn_dim=384,
    attention_dim=128,
    attention_location_n_filters=16,
    attention_location_kernel_size=15,
    prenet_dim=128,
    decoder_rnn_dim=384,
    postnet_embedding_dim=192,
    postnet_n_convolutions=4,
    speaker_dim=256,
    speaking_dropout=0.1,
    encoder_dropout=0.2,
    postnet_dropout=0.0,
    postnet_final_dropout=False,
    mask_encoder=True,
    normalise_mels=True,
    envelope_order=20,
)

PRESETS = {"full": FULL, "small": SMALL}
