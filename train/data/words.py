"""The words that fill the slots of `train.data.plots`. What follows an "a" there begins with a consonant."""

from __future__ import annotations

from typing import NamedTuple


class Person(NamedTuple):
    """A name and its pronouns."""

    name: str
    he: str
    him: str
    his: str
    kinds: tuple[str, ...]


_ANIMAL_KINDS = ("small fox", "little bear", "gray mouse", "brown rabbit", "young duck", "little hedgehog")
_GIRL_KINDS = ("little girl", "young girl", "girl", "small girl", "little princess", *_ANIMAL_KINDS)
_BOY_KINDS = ("little boy", "young boy", "boy", "small boy", "little prince", *_ANIMAL_KINDS)
_GIRLS = (
    "Anna", "Lily", "Mia", "Rosa", "Nora", "Ella", "Sara", "Zoe", "Amy", "Ruby", "Lucy", "Emma", "Jane", "Kate", "Maya",
    "Ida", "Clara", "Hana", "Vera", "Tess",
)  # fmt: skip
_BOYS = (
    "Tom", "Ben", "Max", "Leo", "Sam", "Jack", "Finn", "Noah", "Omar", "Tim", "Luke", "Adam", "Hugo", "Ned", "Paul",
    "Theo", "Karl", "Ravi", "Dan", "Will",
)  # fmt: skip

PEOPLE = (
    *(Person(name, "she", "her", "her", _GIRL_KINDS) for name in _GIRLS),
    *(Person(name, "he", "him", "his", _BOY_KINDS) for name in _BOYS),
)
ELDERS = ("Mom", "Dad", "Grandma", "Grandpa", "Aunt Rose", "Uncle Joe")
TRAITS = ("kind", "brave", "clever", "curious", "gentle", "cheerful", "friendly", "helpful", "quiet", "funny")
DAYS = (
    "One day", "One sunny morning", "One cold morning", "One quiet afternoon", "One warm day", "One spring morning",
    "One windy day", "One summer day", "One fine day", "One Sunday",
)  # fmt: skip
PLACES = (
    "the river", "the park", "the garden", "the forest", "the beach", "the pond", "the hill", "the farm", "the market",
    "the lake", "the old mill", "the meadow",
)  # fmt: skip
SPOTS = (
    "under the bed", "behind the door", "in the tall grass", "under a big tree", "behind the shed", "in a wooden box",
    "next to the well", "under the table", "behind a big rock", "in the basket", "near the fence", "on the stairs",
)  # fmt: skip
THINGS = (
    "ball", "kite", "hat", "drum", "book", "cup", "doll", "toy boat", "bell", "key", "scarf", "lamp", "whistle",
    "flute", "ring", "toy train", "spoon", "coat", "box", "puppet",
)  # fmt: skip
LOOKS = (
    "red", "blue", "green", "yellow", "shiny", "little", "big", "soft", "round", "pretty", "golden", "silver", "wooden",
    "white", "purple", "striped",
)  # fmt: skip
ANIMALS = (
    "cat", "dog", "bird", "rabbit", "duck", "frog", "turtle", "mouse", "squirrel", "goat", "lamb", "kitten", "puppy",
    "hedgehog",
)  # fmt: skip
COATS = ("small", "tiny", "little", "thin", "white", "brown", "gray", "young", "black", "spotted")
FOODS = ("cake", "pie", "pancake", "cookie", "sandwich", "muffin", "bun", "waffle", "tart", "pretzel", "bagel", "roll")
TASTES = ("sweet", "big", "warm", "round", "fresh", "tasty", "soft", "lovely")
SKILLS = (
    "ride a bike", "swim", "climb the big tree", "play the flute", "dance", "skate", "bake bread", "whistle", "paint",
    "sing", "row a boat", "fly a kite", "juggle", "read",
)  # fmt: skip
FRAGILES = ("cup", "bowl", "vase", "lamp", "plate", "clock", "mirror", "teapot")
BUILDS = ("tower", "tree house", "raft", "sand castle", "bridge", "little hut", "cart", "stone wall", "bird house")
TREASURES = (
    "yellow flowers", "smooth stones", "white shells", "red leaves", "long feathers", "pine cones", "blue flowers",
    "wild berries",
)  # fmt: skip
PLANTS = ("sunflower", "rose bush", "pumpkin", "bean plant", "pear tree", "cherry tree", "lemon tree", "tulip")
SOUNDS = ("a bell", "the river", "a dog", "the train", "a flute", "the mill", "a song", "the sea")
NOISES = ("Tap, tap, tap", "Scratch, scratch", "Bump, bump, bump", "Squeak, squeak", "Knock, knock", "Crunch, crunch")
