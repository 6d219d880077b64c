import re

from blake3 import blake3

from train.data.plots import PLOTS
from train.data.stories import STORY_PROMPT, StoriesSource, story


def test_the_stories_are_the_same_for_ever():
    assert blake3("\0".join(story(1, index) for index in range(500)).encode()).hexdigest() == (
        "a40185e32a0f92f92ba60d4ae83686a1f6d8c5820d819f9a8cfaf399a750e98e"
    )
    assert (
        story(7, 3).splitlines()[0]
        == "Once upon a time there was a young girl named Ida. Everyone said that Ida was cheerful and kind."
    )


def test_every_story_reads_as_short_english():
    for index in range(3000):
        text = story(5, index)
        assert 300 <= len(text) <= 900
        assert re.fullmatch(r"[A-Za-z .,!?\"'\n]+", text), text
        assert 2 <= len(text.splitlines()) <= 4
        assert not re.search(r"\ba [aeiou]|  | \n|\n ", text), text
        assert all(re.search(r'[.!?]"?$', line) for line in text.splitlines()), text
        assert text.count('"') % 2 == 0


def test_stories_are_many_and_most_begin_like_the_prompt():
    stories = [story(1, index) for index in range(20_000)]
    assert len(set(stories)) == 20_000
    assert sum(text.startswith(STORY_PROMPT) for text in stories) > 10_000


def test_another_seed_tells_other_stories():
    assert {story(1, index) for index in range(200)}.isdisjoint(story(2, index) for index in range(200))
    assert story(-1, 0) != story(1, 0)


def test_the_source_gives_story_after_story_until_it_is_large_enough():
    small = [piece.text for piece in StoriesSource(seed=3, megabytes=0.01).pieces()]
    large = [piece.text for piece in StoriesSource(seed=3, megabytes=0.02).pieces()]
    assert large[: len(small)] == small == [story(3, index) for index in range(len(small))]
    assert 0 <= sum(map(len, small)) - 10_000 < 900


def test_every_sentence_of_every_plot_is_told():
    stories = "\n".join(story(9, index) for index in range(4000))
    for plot in PLOTS:
        for paragraph in plot:
            for beat in paragraph:
                for sentence in beat:
                    pattern = re.sub(r"\\{\w+\\}", r"[\\w', -]+", re.escape(sentence))
                    assert re.search(pattern, stories), sentence
