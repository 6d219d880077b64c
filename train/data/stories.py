"""Short English stories made from a grammar: readable, easy to learn, and the same for ever.

Story `index` of `seed` is a pure function of the two. All its choices are 32-bit integers from BLAKE3's extendable
output over "<seed> <index>", so no library's random generator can change it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from blake3 import blake3

from train.data import words
from train.data.plots import PLOTS
from train.data.source import InputFile, Piece

STORIES_VERSION = 1
STORY_PROMPT = "Once upon a time"

_CONTEXT = f"run-recorder stories {STORIES_VERSION}"
_MEGABYTE = 1_000_000
_CHOICES = struct.Struct("<64I")  # no plot needs more

T = TypeVar("T")


class _Choices:
    """The choices of one story, in the order in which they are asked for."""

    def __init__(self, seed: int, index: int) -> None:
        stream = blake3(f"{seed} {index}".encode(), derive_key_context=_CONTEXT).digest(_CHOICES.size)
        self._numbers: Iterator[int] = iter(_CHOICES.unpack(stream))

    def one(self, options: Sequence[T]) -> T:
        """One of the options; the bias is below their number / 2^32."""
        return options[next(self._numbers) * len(options) >> 32]

    def distinct(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different options."""
        rest = list(options)
        return [rest.pop(next(self._numbers) * len(rest) >> 32) for _ in range(count)]


def story(seed: int, index: int) -> str:
    """Story `index` of `seed`: 300 to 900 ASCII characters in two to four paragraphs, each one line."""
    choices = _Choices(seed, index)
    slots = _slots(choices)
    plot = choices.one(PLOTS)
    text = "\n".join([" ".join([choices.one(beat) for beat in paragraph]) for paragraph in plot])
    return text.format_map(slots)


def _slots(choices: _Choices) -> dict[str, str]:
    hero, friend = choices.distinct(words.PEOPLE, 2)
    trait, trait2 = choices.distinct(words.TRAITS, 2)
    home, place = choices.distinct(words.PLACES, 2)
    spot, spot2, spot3 = choices.distinct(words.SPOTS, 3)
    return {
        "hero": hero.name, "he": hero.he, "him": hero.him, "his": hero.his,
        "He": hero.he.capitalize(), "His": hero.his.capitalize(), "kind": choices.one(hero.kinds),
        "friend": friend.name, "fhe": friend.he, "fhim": friend.him, "fHe": friend.he.capitalize(),
        "trait": trait, "trait2": trait2, "home": home, "place": place,
        "spot": spot, "spot2": spot2, "spot3": spot3,
        "elder": choices.one(words.ELDERS), "day": choices.one(words.DAYS),
        "thing": choices.one(words.THINGS), "look": choices.one(words.LOOKS),
        "animal": choices.one(words.ANIMALS), "coat": choices.one(words.COATS),
        "food": choices.one(words.FOODS), "taste": choices.one(words.TASTES),
        "skill": choices.one(words.SKILLS), "fragile": choices.one(words.FRAGILES),
        "build": choices.one(words.BUILDS), "treasure": choices.one(words.TREASURES),
        "plant": choices.one(words.PLANTS), "sound": choices.one(words.SOUNDS), "noise": choices.one(words.NOISES),
    }  # fmt: skip


class StoriesSource:
    """Stories 0, 1, 2, ... of `seed` until they hold `megabytes` (of 10^6 bytes) or a little more."""

    name = "the generated stories"
    inputs: tuple[InputFile, ...] = ()

    def __init__(self, seed: int, megabytes: float) -> None:
        self.seed = seed
        self.megabytes = megabytes

    def describe(self) -> dict[str, Any]:
        """What determines the text, besides this code."""
        return {
            "kind": "stories", "generator": "stories", "version": STORIES_VERSION,
            "seed": self.seed, "megabytes": self.megabytes,
        }  # fmt: skip

    def pieces(self) -> Iterator[Piece]:
        """Every story, whole."""
        left = self.megabytes * _MEGABYTE
        index = 0
        while left > 0:
            text = story(self.seed, index)
            yield Piece(text, ends_document=True)
            left -= len(text)
            index += 1
