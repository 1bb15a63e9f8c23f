"""Accuracy of answers: what counts as right, and what guessing would reach."""

import pytest

from vla.evaluation.question_answering import Answered, accuracies, majority_answers, normalize_answer, table


@pytest.mark.parametrize(
    ("text", "answer"),
    [("Red.", "red"), (" the red cube!\nUSER: next", "red cube"), ("A ball", "ball"), ("", ""), ("another", "another")],
)
def test_answers_are_compared_without_their_wrapping(text: str, answer: str) -> None:
    assert normalize_answer(text) == answer


def test_rows_per_kind_and_in_all() -> None:
    majority = majority_answers([("side", "left"), ("side", "right"), ("side", "Right."), ("color", "red")])
    assert majority == {"side": "right", "color": "red"}
    answered = [
        Answered("side", "q1", "left", "Left"),
        Answered("side", "q2", "right", "left"),
        Answered("color", "q3", "blue", "blue"),
        Answered("color", "q4", "blue", "a blue"),
    ]
    side, color, everything = accuracies(answered, majority)
    assert (side.kind, side.questions, side.correct, side.accuracy, side.majority_accuracy) == ("side", 2, 1, 0.5, 0.5)
    assert (color.accuracy, color.majority_accuracy, color.majority_answer) == (1.0, 0.0, "red")
    assert (everything.kind, everything.correct, everything.questions) == ("all", 3, 4)
    assert everything.majority_accuracy == 0.25 and everything.low < 0.75 < everything.high
    assert "| side | 2 | 50.0% |" in table([side, color, everything])


def test_equally_frequent_answers_give_the_first_in_the_alphabet() -> None:
    assert majority_answers([("k", "b"), ("k", "a")]) == {"k": "a"}


def test_no_questions_at_all() -> None:
    (row,) = accuracies([], {})
    assert (row.questions, row.accuracy, row.low, row.high) == (0, 0.0, 0.0, 1.0)
