"""Tacotron 2: text in, mel spectrogram out.

Shen et al. 2018, "Natural TTS synthesis by conditioning WaveNet on mel spectrogram predictions".
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import sqrt

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import VoiceCloneError
from .config import Tacotron2Config
from .decoder import Decoder, StepOutput
from .encoder import Encoder
from .harmonics import Envelope, Harmonics, to_hertz
from .layers import mask_from_lengths
from .postnet import Postnet

OUTSIDE_GATE = 1e3  # gate logit on padded frames: certainly over (NVIDIA's value)
LOOK_EVERY = {"cpu": 4, "cuda": 16}  # decoder steps of speaking between two looks at whether it is over


@dataclass(frozen=True)
class TacotronOutput:
    """What the network gives for a batch of texts."""

    mel: torch.Tensor  # (batch, n_mels, frames), before the postnet; without harmonics where pitch is said apart
    mel_postnet: torch.Tensor  # (batch, n_mels, frames), the result
    gate: torch.Tensor  # (batch, steps), logit of "this is the last step"
    alignment: torch.Tensor  # (batch, steps, symbols), attention weights
    mel_lengths: torch.Tensor  # (batch,), frames that belong to each text
    stopped: torch.Tensor  # (batch,), False where the gate never fired
    pitch: torch.Tensor | None = None  # (batch, 2, frames), pitch in the model's units and voicing's logit


@dataclass(frozen=True)
class AttentionWindow:
    """How far from the symbol being spoken the attention may go in the next step of free-running speech.

    Keeps words from being skipped or repeated; `back` and `ahead` count symbols.
    """

    back: int = 1
    ahead: int = 4


class Tacotron2(nn.Module):
    """Encoder, attention, decoder and postnet; with ``speaker_dim`` a speaker embedding joins the encoder's output."""

    def __init__(self, config: Tacotron2Config = Tacotron2Config()) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.n_symbols, config.symbols_embedding_dim)
        bound = sqrt(6.0 / (config.n_symbols + config.symbols_embedding_dim))
        nn.init.uniform_(self.embedding.weight, -bound, bound)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.postnet = Postnet(config)
        self.envelope = Envelope(config.envelope_order, config.n_mels) if config.envelope_order else None
        self.harmonics = Harmonics(self.envelope) if config.envelope_order else None
        if config.speaker_dim:
            self.speaker_projection = nn.Linear(config.speaker_dim, config.symbols_embedding_dim)
        # Identity, and absent from the state dict, where checkpoints interchange with NVIDIA's.
        self.register_buffer("mel_mean", torch.zeros(config.n_mels, 1), persistent=config.normalise_mels)
        self.register_buffer("mel_deviation", torch.ones(config.n_mels, 1), persistent=config.normalise_mels)

    @property
    def n_parameters(self) -> int:
        """Numbers that training changes."""
        return sum(parameter.numel() for parameter in self.parameters())

    def set_mel_statistics(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Store mean and deviation of each band's log-mel, both (n_mels,), of the speech to be learned."""
        if not self.config.normalise_mels:
            raise VoiceCloneError("This preset works on plain log-mels: normalise_mels is False in its config.")
        self.mel_mean.copy_(mean.unsqueeze(1))
        self.mel_deviation.copy_(deviation.unsqueeze(1))

    def copy(self) -> Tacotron2:
        """Another model of the same weights, to speak with: nothing will train it."""
        other = deepcopy(self).requires_grad_(False).eval()
        other.encoder.lstm.flatten_parameters()  # copied weights lie apart, which slows a GPU down
        return other

    def encode(
        self, text: torch.Tensor, text_lengths: torch.Tensor, speaker: torch.Tensor | None, *, apart: bool = False
    ) -> torch.Tensor:
        """(batch, symbols) ids to (batch, symbols, width), the speaker's projection added where there is one."""
        encoded = self.encoder(self.embedding(text), text_lengths, apart=apart)
        if not self.config.speaker_dim:
            return encoded
        if speaker is None:
            raise VoiceCloneError(
                f"This model speaks with many voices: give `speaker`, (batch, {self.config.speaker_dim})."
            )
        return encoded + F.softsign(self.speaker_projection(speaker)).unsqueeze(1)

    def forward(
        self,
        text: torch.Tensor,
        text_lengths: torch.Tensor,
        mels: torch.Tensor,
        mel_lengths: torch.Tensor,
        speaker: torch.Tensor | None = None,
        pitch: torch.Tensor | None = None,
    ) -> TacotronOutput:
        """Predict each frame from the true frames before it (teacher forcing).

        Parameters
        ----------
        text : torch.Tensor, shape (batch, symbols)
            Symbol ids, padded with 0.
        text_lengths : torch.Tensor, shape (batch,)
        mels : torch.Tensor, shape (batch, n_mels, frames)
            True log-mels, padded with anything.
        mel_lengths : torch.Tensor, shape (batch,)
        speaker : torch.Tensor or None, shape (batch, speaker_dim)
        pitch : torch.Tensor or None, shape (batch, frames)
            True pitch in Hz, 0 where unvoiced, for the postnet's harmonics; None leaves them to the model's own.

        Returns
        -------
        TacotronOutput
            On padded frames mels are 0 and gates 1000.
        """
        frames = mels.shape[2]
        encoded = self.encode(text, text_lengths, speaker)
        outside = ~mask_from_lengths(text_lengths, text.shape[1])
        known = (mels - self.mel_mean) / self.mel_deviation
        if self.envelope is not None:
            known = self.envelope.analyse(known)
        known = F.pad(known, (0, -frames % self.config.n_frames_per_step))
        said, said_pitch, gate, alignment = self.decoder(encoded, outside, known)
        said, said_pitch = said[:, :, :frames], None if said_pitch is None else said_pitch[:, :, :frames]
        mel, corrected = self._draw(said, said_pitch, pitch)
        inside = mask_from_lengths(mel_lengths, frames).unsqueeze(1)  # (batch, 1, frames)
        steps_inside = inside[:, 0, :: self.config.n_frames_per_step]  # (batch, steps)
        return TacotronOutput(
            self._to_log_mel(mel) * inside,
            self._to_log_mel(corrected) * inside,
            gate.masked_fill(~steps_inside, OUTSIDE_GATE),
            alignment,
            mel_lengths,
            torch.ones_like(mel_lengths, dtype=torch.bool),
            said_pitch,
        )

    def _draw(
        self,
        said: torch.Tensor,
        said_pitch: torch.Tensor | None,
        pitch: torch.Tensor | None,
        inside: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the decoder said, as normalised mels before and after the postnet."""
        if said_pitch is None:
            return said, said + self.postnet(said, None, inside)
        mel = self.envelope.draw(said)
        harmonics = self.harmonics(to_hertz(said_pitch.detach()) if pitch is None else pitch)
        return mel, mel + self.postnet(mel, harmonics, inside)

    def smooth(self, mels: torch.Tensor) -> torch.Tensor:
        """True log-mels (batch, n_mels, frames) as they would be before the postnet: without their harmonics."""
        if self.envelope is None:
            return mels
        known = (mels - self.mel_mean) / self.mel_deviation
        return self._to_log_mel(self.envelope.draw(self.envelope.analyse(known)))

    def _to_log_mel(self, mel: torch.Tensor) -> torch.Tensor:
        return mel * self.mel_deviation + self.mel_mean

    @torch.inference_mode()
    def infer(
        self,
        text: torch.Tensor,
        text_lengths: torch.Tensor,
        max_steps: int = 1000,
        *,
        speaker: torch.Tensor | None = None,
        gate_threshold: float = 0.5,
        window: AttentionWindow | None = None,
        patience: int | None = None,
    ) -> TacotronOutput:
        """Speak: each frame is predicted from those the model has made itself, each text as if it were alone.

        Parameters
        ----------
        text : torch.Tensor, shape (batch, symbols)
            Symbol ids, padded with 0.
        text_lengths : torch.Tensor, shape (batch,)
        max_steps : int
            Decoder steps after which a sentence is cut whose gate has not fired.
        speaker : torch.Tensor or None, shape (batch, speaker_dim)
        gate_threshold : float
            Probability of the gate that ends a sentence.
        window : AttentionWindow or None
            Keeps the attention near the symbol being spoken; None lets it go anywhere.
        patience : int or None
            Steps on a text's last symbol after which it is over though the gate is silent; None waits for the gate.

        Returns
        -------
        TacotronOutput
            ``mel_lengths`` says where each sentence ended, ``stopped`` whether its gate ended it.
        """
        encoded = self.encode(text, text_lengths, speaker, apart=True)
        outputs, over, stopped = self._steps(encoded, text_lengths, max_steps, gate_threshold, window, patience)
        said, decided, weights = map(torch.stack, zip(*outputs, strict=True))  # (steps, batch, ...) each
        said = self.decoder.ungroup(said)
        mel_lengths = over * self.config.n_frames_per_step
        inside = mask_from_lengths(mel_lengths, said.shape[2]).unsqueeze(1)
        said, pitch = said * inside, None
        if self.envelope is not None:
            said = self.envelope.enliven(said, inside)
            pitch = self.decoder.ungroup(self.decoder.pitch_layer(decided)) * inside  # unvoiced after the end
        mel, corrected = self._draw(said, pitch, None, inside)
        return TacotronOutput(
            self._to_log_mel(mel),
            self._to_log_mel(corrected),
            self.decoder.gate_layer(decided).squeeze(2).t(),
            weights.transpose(0, 1),
            mel_lengths,
            stopped,
            pitch,
        )

    def _steps(
        self,
        encoded: torch.Tensor,
        text_lengths: torch.Tensor,
        max_steps: int,
        gate_threshold: float,
        window: AttentionWindow | None,
        patience: int | None,
        look_every: int | None = None,
    ) -> tuple[list[StepOutput], torch.Tensor, torch.Tensor]:
        """Take steps until all sentences are over, parameters as for `infer`.

        Whether they are is looked at every `look_every` steps. On a CPU a look is another few products; a GPU must have
        done all that it was told before it can answer, and then has nothing to do until it is told the next step.

        Returns
        -------
        outputs : list of StepOutput
            As many as the longest sentence has.
        over : torch.Tensor, shape (batch,)
            The step that is each sentence's last, counted from 1.
        stopped : torch.Tensor, shape (batch,)
            Whether that was the gate's doing.
        """
        look_every = look_every or LOOK_EVERY["cpu" if encoded.device.type == "cpu" else "cuda"]
        memory = self.decoder.read(encoded, ~mask_from_lengths(text_lengths, encoded.shape[1]))
        weights = self.decoder.step_weights(encoded)
        places = torch.arange(encoded.shape[1], device=encoded.device)
        state = self.decoder.initial_state(encoded)
        frames = encoded.new_zeros(len(encoded), self.config.frame_size * self.config.n_frames_per_step)
        over = torch.full_like(text_lengths, max_steps)
        stopped = torch.zeros_like(text_lengths, dtype=torch.bool)
        waited = torch.zeros_like(text_lengths).unsqueeze(1)
        outputs = []
        while (looked := len(outputs)) < max_steps and (over == max_steps).any():
            for _ in range(min(look_every, max_steps - looked)):
                outside = None
                if window is not None:
                    from_spoken = places - state.attention.weights.argmax(1, keepdim=True)  # at first all 0: symbol 0
                    outside = memory.outside | (from_spoken < -window.back) | (from_spoken > window.ahead)
                state, output = self.decoder.step(state, frames, memory, weights, outside)
                frames = output.frames
                outputs.append(output)
            since = outputs[looked:]
            spoken = torch.stack([o.weights for o in since], 1).argmax(2)  # (batch, steps since the last look)
            gates = self.decoder.gate_layer(torch.stack([o.decided for o in since], 1)).squeeze(2)
            fires = torch.sigmoid(gates) > gate_threshold
            waited = waited[:, -1:] + (spoken == text_lengths.unsqueeze(1) - 1).cumsum(1)
            ends = fires if patience is None else fires | (waited >= patience)
            first = ends.int().argmax(1, keepdim=True)
            now = ends.any(1) & (over == max_steps)
            stopped = stopped | (now & fires.gather(1, first).squeeze(1))
            over = torch.where(now, looked + 1 + first.squeeze(1), over)
        return outputs[: int(over.max())], over, stopped
