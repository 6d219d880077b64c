import pytest

from train.data.source import Piece
from train.data.split import Split, survey


class Documents:
    name = "documents"
    inputs = ()

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def describe(self):
        return {}

    def pieces(self):
        for text in self.texts:
            yield Piece(text[:3], ends_document=False)
            yield Piece(text[3:], ends_document=True)


def test_a_survey_counts():
    found = survey(Documents("hello", "wörld"), 0.5)
    assert (found.documents, found.characters, found.alphabet) == (2, 10, "dehlorwö")


def test_few_documents_are_split_at_their_tails():
    split = survey(Documents("a" * 10, "b" * 7, "c"), 0.3).split(0.3)
    assert split.rule == "tail"
    assert [split.training_characters(document) for document in range(3)] == [7, 5, 1]


@pytest.mark.parametrize(("documents", "fraction", "rule"), [
    (19, 0.5, "tail"), (20, 0.5, "documents"), (99, 0.1, "tail"), (100, 0.1, "documents"),
    (99, 0.9, "tail"), (1000, 0.001, "tail"),
])  # fmt: skip
def test_the_rule_depends_on_how_many_documents_the_smaller_side_expects(documents, fraction, rule):
    found = survey(Documents(*["text"] * documents), fraction)
    assert found.split(fraction).rule == rule
    assert len(found.lengths) == (documents if rule == "tail" else 0)
    assert found.split(fraction).describe()["rule"] == rule


def test_documents_are_drawn_by_number_alone():
    split = survey(Documents(*["text"] * 200), 0.1).split(0.1)
    held = [number for number in range(10_000) if split.training_characters(number) == 0]
    assert held[:5] == [1, 2, 4, 7, 16]
    assert 900 < len(held) < 1100
    assert all(split.training_characters(number) is None for number in set(range(10_000)) - set(held))
    assert set(held) < {n for n in range(10_000) if Split("documents", 0.2, split.lengths).training_characters(n) == 0}
