"""Rendered scenes: the questions' answers are true of the picture, and the files depend on the settings only."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vla.conf.render_vqa import RenderVQAConfig
from vla.data.blocks.questions import KINDS, NUMBERS, ask, caption
from vla.data.blocks.ray_tracer import render
from vla.data.blocks.scene import COLORS, SHAPES, Block, Scene, sample_scene
from vla.data.blocks.writing import LEAST_VISIBLE, SPLITS, visible_scene, write_dataset
from vla.errors import UserError

LIGHT = (0.3, -0.4, 0.866)
SEEDS = st.integers(0, 10**9)


def scene_of(*blocks: Block) -> Scene:
    return Scene(0, blocks, LIGHT, (0.5, 0.5, 0.5))


def matches(block: Block, words: list[str]) -> bool:
    """Whether every word is one of the block's properties."""
    return all(word in (block.size, block.color, block.shape) for word in words if word != "block")


def true_answer(kind: str, text: str, scene: Scene, columns: np.ndarray) -> str:
    """The answer, found from the words of the question alone."""
    blocks = scene.blocks
    if kind == "count":
        shape = re.fullmatch(r"How many (\w+)s are there\?", text)[1]
        return NUMBERS[sum(block.shape == shape for block in blocks)]
    if kind == "existence":
        words = re.fullmatch(r"Is there an? (.+)\?", text)[1].split()
        return "yes" if any(matches(block, words) for block in blocks) else "no"
    if kind == "side":
        one, other = re.fullmatch(r"Is the (.+) to the left or the right of the (.+)\?", text).groups()
        places = [[columns[i] for i, block in enumerate(blocks) if matches(block, n.split())] for n in (one, other)]
        assert [len(place) for place in places] == [1, 1]
        return "left" if places[0] < places[1] else "right"
    if kind == "extreme":
        side = re.fullmatch(r"What color is the block farthest to the (left|right)\?", text)[1]
        return blocks[int(columns.argmin() if side == "left" else columns.argmax())].color
    words = re.fullmatch(rf"What {kind} is the (.+)\?", text)[1].split()
    meant = [block for block in blocks if matches(block, words)]
    assert len(meant) == 1, "the question must mean one block"
    return getattr(meant[0], kind)


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_answers_are_true(seed: int) -> None:
    scene = sample_scene(seed)
    columns = render(scene, 8, 1).column
    questions = ask(scene, columns, np.random.default_rng(seed))
    assert len({question.kind for question in questions}) == len(questions)
    for question in questions:
        assert question.answer == true_answer(question.kind, question.text, scene, columns), question


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_blocks_stand_apart_and_inside_the_picture(seed: int) -> None:
    scene = sample_scene(seed)
    for index, block in enumerate(scene.blocks):
        for other in scene.blocks[:index]:
            assert np.hypot(block.x - other.x, block.y - other.y) > block.footprint + other.footprint
            assert (block.shape, block.color, block.size) != (other.shape, other.color, other.size)
    assert ((render(scene, 8, 1).column > 0.05) & (render(scene, 8, 1).column < 0.95)).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("x", [-1.5, 0.0, 1.5])
def test_a_block_is_where_its_column_says_and_has_its_color(shape: str, x: float) -> None:
    above = Scene(0, (Block(shape, "blue", "large", x, 0.0, 0.3),), (0.0, 0.0, 1.0), (0.5, 0.5, 0.5))
    rendering = render(above, 96, 1)
    image = rendering.image.astype(int)
    blue = image[..., 2] > image[..., 0] + 60
    assert blue.sum() > 100
    assert np.nonzero(blue)[1].mean() / 96 == pytest.approx(rendering.column[0], abs=0.02)
    assert rendering.visible[0] == 1.0


def test_a_block_behind_another_is_hidden() -> None:
    front = Block("cube", "red", "large", 0.0, -1.0, 0.0)
    behind = Block("ball", "green", "small", 0.0, 0.25, 0.0)
    rendering = render(scene_of(front, behind), 96, 1)
    assert rendering.visible[0] == 1.0 and rendering.visible[1] < LEAST_VISIBLE


def test_light_from_the_left_throws_the_shadow_to_the_right() -> None:
    block = Block("ball", "white", "large", 0.0, 0.0, 0.0)
    from_left, from_right = (
        render(Scene(0, (block,), (x, 0.0, 0.714), (0.5, 0.5, 0.5)), 96, 1).image.astype(int) for x in (-0.7, 0.7)
    )
    darker = (from_left - from_right).sum(-1) < -60
    assert darker[:, 60:].sum() > 20 and not darker[:, :36].any()  # the ball itself is between


def test_answers_are_balanced() -> None:
    """No answer of a kind is so frequent that guessing it would do."""
    answers: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for seed in range(600):
        scene = sample_scene(seed)
        for question in ask(scene, render(scene, 4, 1).column, np.random.default_rng(seed)):
            answers[question.kind].append(question.answer)
    limits = {"color": 0.25, "shape": 0.45, "count": 0.45, "existence": 0.57, "side": 0.57, "extreme": 0.25}
    for kind, given_answers in answers.items():
        share = max(given_answers.count(answer) for answer in set(given_answers)) / len(given_answers)
        assert share < limits[kind], (kind, share)
        assert len(given_answers) > 300, kind


def test_caption_names_the_blocks_from_left_to_right() -> None:
    scene = scene_of(Block("cube", "red", "large", 1.0, 0.0, 0.0), Block("ball", "black", "small", -1.0, 0.0, 0.0))
    assert caption(scene, render(scene, 8, 1).column) == "From left to right: a small black ball and a large red cube."


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("blocks")
    write_dataset(RenderVQAConfig(output=root, images=6, validation_images=3, image_size=32))
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


NAMES = ("align", "finetune", "all")


def test_files_are_in_llavas_layout(dataset: Path) -> None:
    for name, count in (("align", 6), ("finetune", 6), ("validation", 3)):
        examples = json.loads((dataset / f"{name}.json").read_text())
        assert len(examples) == count
        for example in examples:
            roles = [turn["from"] for turn in example["conversations"]]
            assert roles == ["human", "gpt"] * (len(roles) // 2)
            assert example["conversations"][0]["value"].startswith("<image>\n")
            assert Image.open(dataset / example["image"]).size == (32, 32)
            assert name == "align" or len(example["kinds"]) == len(roles) // 2
    captions, questions, both = (json.loads((dataset / f"{name}.json").read_text()) for name in NAMES)
    assert captions + questions == both


def test_same_settings_give_the_same_files_whatever_was_there(dataset: Path, tmp_path: Path) -> None:
    config = RenderVQAConfig(output=tmp_path, images=6, validation_images=3, image_size=32, workers=2)
    (tmp_path / "images").mkdir()
    write_dataset(config)
    assert contents(tmp_path) == contents(dataset)
    log = tmp_path / ".train.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]) + '{"id": "train-0000')  # cut off mid-line
    (tmp_path / "finetune.json").unlink()
    write_dataset(config)
    assert contents(tmp_path) == contents(dataset)


def test_folder_of_other_settings_is_refused(dataset: Path) -> None:
    with pytest.raises(UserError, match="output: .* was rendered with"):
        write_dataset(RenderVQAConfig(output=dataset, images=6, validation_images=3, image_size=48))


def test_splits_share_no_scene() -> None:
    pictures = {
        split: [visible_scene(7 + 10**9 * SPLITS.index(split) + i, 32)[0] for i in range(5)] for split in SPLITS
    }
    assert not {scene.blocks for scene in pictures["train"]} & {scene.blocks for scene in pictures["validation"]}
    assert set(COLORS) >= {block.color for scene in pictures["train"] for block in scene.blocks}
