"""Accuracy of answers to questions about pictures, per kind of question, beside what guessing would reach."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from vla.evaluation.success_rates import wilson_interval

OTHER_KIND = "question"  # of data that doesn't tell kinds apart
_ARTICLES = ("a ", "an ", "the ")


@dataclass(frozen=True)
class Answered:
    """A question with its true and its predicted answer."""

    kind: str
    question: str
    answer: str
    predicted: str

    @property
    def correct(self) -> bool:
        """Whether the answers are the same but for case, a leading article, and marks and spaces around them."""
        return normalize_answer(self.predicted) == normalize_answer(self.answer)


@dataclass(frozen=True)
class KindAccuracy:
    """Accuracy over the questions of a kind, with its 95 % interval (Wilson)."""

    kind: str
    questions: int
    correct: int
    accuracy: float
    low: float
    high: float
    majority_answer: str  # the most frequent one in training; "" without training data
    majority_accuracy: float  # of always giving it


def normalize_answer(text: str) -> str:
    """The answer as it is compared: its first line in lower case, without leading article and final marks."""
    words = text.strip().split("\n")[0].strip().lower().rstrip(".!?,; ")
    for article in _ARTICLES:
        words = words.removeprefix(article)
    return words


def majority_answers(answers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """By kind, the most frequent answer of (kind, answer) pairs; the first in the alphabet among equals."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for kind, answer in answers:
        counts[kind][normalize_answer(answer)] += 1
    return {kind: min(counter, key=lambda answer: (-counter[answer], answer)) for kind, counter in counts.items()}


def accuracies(answered: Iterable[Answered], majority: dict[str, str]) -> list[KindAccuracy]:
    """A row per kind, in the order in which kinds come first, then "all".

    Args:
        majority: see `majority_answers`, of the training data.
    """
    by_kind: dict[str, list[Answered]] = defaultdict(list)
    for item in answered:
        by_kind[item.kind].append(item)
    rows = [_row(kind, items, majority) for kind, items in by_kind.items()]
    everything = [item for items in by_kind.values() for item in items]
    guessed = sum(round(row.majority_accuracy * row.questions) for row in rows)
    correct = sum(row.correct for row in rows)
    low, high = wilson_interval(correct, len(everything))
    total = max(len(everything), 1)
    return [*rows, KindAccuracy("all", len(everything), correct, correct / total, low, high, "", guessed / total)]


def _row(kind: str, items: list[Answered], majority: dict[str, str]) -> KindAccuracy:
    correct = sum(item.correct for item in items)
    guess = majority.get(kind, "")
    guessed = sum(normalize_answer(item.answer) == guess for item in items)
    low, high = wilson_interval(correct, len(items))
    return KindAccuracy(kind, len(items), correct, correct / len(items), low, high, guess, guessed / len(items))


def table(rows: Iterable[KindAccuracy]) -> str:
    """The rows as a Markdown table."""
    lines = ["| kind | questions | accuracy | 95 % interval | majority answer |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        guess = f"{row.majority_accuracy:.1%}" + (f" ({row.majority_answer})" if row.majority_answer else "")
        interval = f"{row.low:.1%} - {row.high:.1%}"
        lines.append(f"| {row.kind} | {row.questions} | {row.accuracy:.1%} | {interval} | {guess} |")
    return "\n".join(lines)


def to_dict(rows: Iterable[KindAccuracy]) -> list[dict[str, Any]]:
    """The rows for JSON."""
    return [asdict(row) for row in rows]
