"""Questions about a scene, with answers that are true of it. In each kind no answer can be guessed from the question.

| kind      | example                                                | answers                  |
|-----------|--------------------------------------------------------|--------------------------|
| color     | What color is the large ball?                          | eight colors             |
| shape     | What shape is the red block?                           | cube, ball, cylinder     |
| count     | How many cubes are there?                              | zero to six              |
| existence | Is there a green cylinder?                             | yes, no (as often)       |
| side      | Is the red cube to the left or the right of the ball?  | left, right (as often)   |
| extreme   | What color is the block farthest to the left?          | eight colors             |
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla.data.blocks.scene import COLORS, SHAPES, Block, Scene

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
MARGIN = 0.06  # of the picture's width: blocks closer to each other sideways are not asked about
Columns = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """A question, its one right answer, and what it is about."""

    kind: str
    text: str
    answer: str


def describe(block: Block) -> str:
    """The block in words: "large red cube"."""
    return f"{block.size} {block.color} {block.shape}"


def caption(scene: Scene, columns: Columns) -> str:
    """One sentence that names every block, from left to right."""
    names = [f"a {describe(scene.blocks[number])}" for number in np.argsort(columns, kind="stable")]
    return f"From left to right: {', '.join(names[:-1])} and {names[-1]}."


def ask(scene: Scene, columns: Columns, generator: np.random.Generator) -> list[Question]:
    """One question of every kind that the scene allows, in random order.

    Args:
        columns: horizontal position of every block in the picture.
        generator: draws what is asked about.
    """
    found = [make(scene, columns, generator) for make in _KINDS]
    questions = [question for question in found if question is not None]
    return [questions[index] for index in generator.permutation(len(questions))]


def _color(scene: Scene, columns: Columns, generator: np.random.Generator) -> Question | None:
    names = [f"{block.size} {block.shape}" for block in scene.blocks]
    unique = [number for number, name in enumerate(names) if names.count(name) == 1]
    if not unique:
        return None
    number = int(generator.choice(unique))
    return Question("color", f"What color is the {names[number]}?", scene.blocks[number].color)


def _shape(scene: Scene, columns: Columns, generator: np.random.Generator) -> Question | None:
    colors = [block.color for block in scene.blocks]
    unique = [number for number, color in enumerate(colors) if colors.count(color) == 1]
    if not unique:
        return None
    number = int(generator.choice(unique))
    return Question("shape", f"What shape is the {colors[number]} block?", scene.blocks[number].shape)


def _count(scene: Scene, columns: Columns, generator: np.random.Generator) -> Question:
    counts = {shape: sum(block.shape == shape for block in scene.blocks) for shape in SHAPES}
    wanted = int(generator.choice(sorted(set(counts.values()))))  # by number first, else most answers would be small
    shape = str(generator.choice([name for name, count in counts.items() if count == wanted]))
    return Question("count", f"How many {shape}s are there?", NUMBERS[wanted])


def _existence(scene: Scene, columns: Columns, generator: np.random.Generator) -> Question:
    there = sorted({(block.color, block.shape) for block in scene.blocks})
    colors, shapes = sorted({color for color, _ in there}), sorted({shape for _, shape in there})
    # a color and a shape that are both there, but not on one block: only looking at both tells
    hard = [(color, shape) for color in colors for shape in shapes if (color, shape) not in there]
    easy = [(color, shape) for color in COLORS for shape in SHAPES if (color, shape) not in there]
    is_there = bool(generator.integers(2))
    among = there if is_there else (hard or easy)
    color, shape = among[int(generator.integers(len(among)))]
    article = "an" if color[0] in "aeiou" else "a"
    return Question("existence", f"Is there {article} {color} {shape}?", "yes" if is_there else "no")


def _side(scene: Scene, columns: Columns, generator: np.random.Generator) -> Question | None:
    names = [f"{block.color} {block.shape}" for block in scene.blocks]
    unique = [number for number, name in enumerate(names) if names.count(name) == 1]
    pairs = [
        (one, other) for one in unique for other in unique if one != other and columns[other] - columns[one] >= MARGIN
    ]
    if not pairs:
        return None
    left, right = pairs[int(generator.integers(len(pairs)))]
    subject, other, answer = (left, right, "left") if generator.integers(2) else (right, left, "right")
    text = f"Is the {names[subject]} to the left or the right of the {names[other]}?"
    return Question("side", text, answer)


def _extreme(scene: Scene, columns: Columns, generator: np.random.Generator) -> Question | None:
    order = np.argsort(columns, kind="stable")
    to_left = bool(generator.integers(2))
    end, next_to_it = (order[0], order[1]) if to_left else (order[-1], order[-2])
    if abs(columns[end] - columns[next_to_it]) < MARGIN:
        return None
    text = f"What color is the block farthest to the {'left' if to_left else 'right'}?"
    return Question("extreme", text, scene.blocks[end].color)


_KINDS: tuple[Callable[[Scene, Columns, np.random.Generator], Question | None], ...] = (
    _color, _shape, _count, _existence, _side, _extreme,
)  # fmt: skip
KINDS = ("color", "shape", "count", "existence", "side", "extreme")
