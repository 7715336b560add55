"""What the notebooks show: panels, tables, players, the training view. Nothing but notebooks imports it."""

from __future__ import annotations

from .cleaning import CleanPreview
from .comparing import BlindTest
from .consent import ConsentForm
from .coverage import coverage_map
from .evaluation import evaluated, measures_table, sentences_table
from .machine import machine
from .panel import Markup, Panel, Progress, bullets, facts, headless, plain_warnings, table
from .players import picture, play, player, side_by_side
from .speaking import SpeakingBox, compare_checkpoints, compare_vocoders, comparison, read_aloud, said
from .takes import TakePanel, take_picture
from .training import TrainingView, heard_learning
from .transcripts import TranscriptTable, differences
from .tuning import before_and_after, tune_vocoder

__all__ = [
    "BlindTest",
    "CleanPreview",
    "ConsentForm",
    "Markup",
    "Panel",
    "Progress",
    "SpeakingBox",
    "TakePanel",
    "TrainingView",
    "TranscriptTable",
    "before_and_after",
    "bullets",
    "compare_checkpoints",
    "compare_vocoders",
    "comparison",
    "coverage_map",
    "differences",
    "evaluated",
    "facts",
    "headless",
    "heard_learning",
    "machine",
    "measures_table",
    "picture",
    "plain_warnings",
    "play",
    "player",
    "read_aloud",
    "said",
    "sentences_table",
    "side_by_side",
    "table",
    "take_picture",
    "tune_vocoder",
]
