"""Data: text or generated stories, prepared once into token shards and read in an order that is a pure function."""

from train.data.order import DataOrder
from train.data.preparation import prepare
from train.data.prepared import PreparedData, open_prepared
from train.data.spans import Span
from train.data.stories import story
from train.data.tokenizer import Tokenizer

__all__ = ["DataOrder", "PreparedData", "Span", "Tokenizer", "open_prepared", "prepare", "story"]
