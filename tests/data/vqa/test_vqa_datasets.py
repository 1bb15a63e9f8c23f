"""Data in the layout of Hugging Face's `datasets`, on disk and streamed, and LLaVA's rows, as packed datasets."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from vqa_streams import make_items, open_stream

from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.nanovlm import NanoVLMTinyConfig
from vla.conf.vqa_datasets import LlavaVQAConfig, PackingConfig, RatingsConfig, VQAConfig
from vla.data.errors import BadExample
from vla.data.materialize import get_datasets
from vla.errors import UserError

datasets = pytest.importorskip("datasets")
TINY = NanoVLMTinyConfig()
PACKING = PackingConfig(buffer_size=8, streams=2)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    rows = make_items(40, tmp_path_factory.mktemp("pictures"))
    return [{**row, "relevance_ratings": [1 + number % 5]} for number, row in enumerate(rows)]


@pytest.fixture
def saved(items: list[dict[str, Any]], tmp_path: Path) -> Path:
    """`a` and `b` saved to disk, `c` as Parquet files, `d` damaged, and a folder of nothing."""
    root = tmp_path / "data"
    datasets.Dataset.from_list(items[:10]).save_to_disk(str(root / "a"))
    with_splits = datasets.DatasetDict({"train": datasets.Dataset.from_list(items[10:20])})
    with_splits.save_to_disk(str(root / "b"))
    (root / "c").mkdir()
    for number in range(4):
        part = datasets.Dataset.from_list(items[20 + 5 * number : 25 + 5 * number])
        part.to_parquet(str(root / "c" / f"part-{number}.parquet"))
    (root / "d").mkdir()
    (root / "d" / "broken.parquet").write_bytes(b"no parquet")
    (root / "e").mkdir()
    return root


def build(**values: Any) -> Any:
    config = VQAConfig(**({"packing": PACKING, "validation_samples": 6} | values))
    return get_datasets(config, TINY)


def texts(batch: Any, processor: Any) -> list[str]:
    """The questions of a batch's samples."""
    rows = [batch.input_ids[row, first:end] for row, first, end in batch.segments]
    decoded = [processor.tokenizer.decode(row[row < 259]) for row in rows]
    return [text.split("?")[0].rpartition("What is ")[2] for text in decoded]


def test_configurations_are_concatenated_and_a_bad_one_left_out(saved: Path, capsys: pytest.CaptureFixture) -> None:
    found = build(root=saved)
    assert len(found.train.source) == 40 - 6 and found.validation is not None
    text = capsys.readouterr().err
    assert "configuration 'd' is left out" in text and "1 of 4 configurations are left out" in text
    held_out = {question for pack in range(len(found.validation)) for question in _questions(found, pack)}
    stream = open_stream(found.train, batch_size=1)
    seen = [question for batch in islice(iter(stream), 40) for question in texts(batch, found.processor)]
    assert len(held_out) == 6 and not held_out & set(seen) and len(set(seen)) > 25


def _questions(found: Any, pack: int) -> list[str]:
    return texts(found.collator([found.validation[pack]]), found.processor)


def test_chosen_configurations_with_weights(saved: Path) -> None:
    found = build(root=saved, configs=("c", "a"), weights=(2.0, 0.5), validation_samples=0)
    assert len(found.train.source) == 2 * 20 + 5 and found.validation is None
    labels = {found.train.source.label(number).partition("[")[0] for number in range(45)}
    assert labels == {"a", "c"}


def test_configurations_of_the_same_name_in_other_folders(saved: Path) -> None:
    for folder, other in (("x", "a"), ("y", "b")):
        (saved / folder).mkdir()
        (saved / other).rename(saved / folder / "same")
    found = build(root=saved, configs=("x/same", "y/same"), weights=(2.0, 3.0), validation_samples=0)
    labels = [found.train.source.label(number).partition("[")[0] for number in range(50)]
    assert len(found.train.source) == 50 and labels.count("x/same") == 20
    with pytest.raises(ValueError, match="configs: must name each once; weights say how often"):
        VQAConfig(configs=("a", "a"))


@pytest.mark.parametrize("weights", [(2.0, 0.4), (0.3, 1.7)])
def test_held_out_rows_are_in_no_repetition_and_no_epoch(saved: Path, weights: tuple[float, ...]) -> None:
    found = build(root=saved, configs=("a", "c"), weights=weights, validation_samples=9)

    def question(item: dict[str, Any]) -> str:
        return item["texts"][0]["user"]

    held_out = {question(found.validation.source.item(index, 0)) for index in range(9)}
    train = found.train.source
    seen = {(train.label(index).partition("[")[0], question(train.item(index, epoch)))
            for index in range(len(train)) for epoch in range(10)}  # fmt: skip
    assert len(held_out) == 9 and not held_out & {text for _, text in seen} and len(seen) == 21
    for index in range(len(train)):  # labels are of the first epoch
        name, _, row = train.label(index).rstrip("]").partition("[")
        table = next(table for table in train.tables if table.name == name)
        assert question(train.item(index, 0)) == table.rows[int(row)]["texts"][0]["user"]


def test_files_of_other_splits_are_not_trained_on(saved: Path, items: list[dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    for name, part in (("train-00000-of-00002", items[:5]), ("train-00001-of-00002", items[5:9]),
                       ("test-00000-of-00001", items[9:12])):  # fmt: skip
        datasets.Dataset.from_list(part).to_parquet(str(folder / f"{name}.parquet"))
    for streaming in (False, True):
        options = {"root": folder.parent, "validation_samples": 0, "streaming": streaming}
        count = 2 if streaming else 9
        source = build(**options).train.source
        assert (source.num_shards if streaming else len(source)) == count
        assert _first(build(**options, split="test").train.source) == items[9]["texts"][0]["user"]
        with pytest.raises(UserError, match="has no files of the split 'validation', but of test, train"):
            build(**options, split="validation")
        with pytest.raises(UserError, match="b has no split 'test', but train"):
            build(**{**options, "root": saved / "b"}, split="test")


def _first(source: Any) -> str:
    item = source.item(0, 0) if hasattr(source, "item") else next(source.open(0, 0))
    return str(item["texts"][0]["user"])


def test_data_of_another_form_is_an_error_that_says_why(tmp_path: Path) -> None:
    rows = [{"id": number, "conversations": [{"from": "human", "value": "?"}]} for number in range(9)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for streaming in (False, True):
        with pytest.raises(BadExample, match="none of 3 held-out samples .* has no 'texts', but id, conversations"):
            build(root=tmp_path, validation_samples=3, streaming=streaming)
    with pytest.raises(BadExample, match=r"none of 9 samples .* the first, .*\[\d\]: has no 'texts', but id, conv"):
        len(build(root=tmp_path, validation_samples=0).train)
    with pytest.raises(UserError, match="dataset.validation_samples: must be less than the 9 samples there are"):
        build(root=tmp_path, streaming=True, validation_samples=10)


def test_single_folders_and_files(saved: Path, items: list[dict[str, Any]], tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        assert len(build(root=saved / folder).train.source) == {"c": 20}.get(folder, 10) - 6
    lines = [{"texts": item["texts"], "images": None} for item in items]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(build(root=tmp_path, configs=()).train.source) == 34


def test_nothing_to_open_is_an_error(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"dataset.root: no configuration can be opened: 'd' \("):
        build(root=saved, configs=("d",))
    with pytest.raises(UserError, match="'absent' .FileNotFoundError"):
        build(root=saved, configs=("absent",))
    with pytest.raises(UserError, match="holds neither a saved dataset nor files of .arrow, .json"):
        build(root=saved / "e")
    with pytest.raises(UserError, match="dataset.root: no such folder"):
        build(root=tmp_path / "nowhere")
    with pytest.raises(UserError, match="dataset.root: must name the folder"):
        build()
    with pytest.raises(UserError, match="must be less than the 10 samples"):
        build(root=saved / "a", validation_samples=10)
    monkeypatch.setattr("vla.data.vqa.hugging_face.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package datasets: pip install \.\[vqa\]"):
        build(root=saved / "a")


def test_streamed_shards(saved: Path) -> None:
    """The same resumption as at random, though files can only be read from front to back."""
    found = build(root=saved, configs=("c", "a"), streaming=True)
    assert found.train.source.num_shards == 5
    with pytest.raises(UserError, match="dataset.streaming"):
        len(found.train)
    options: dict[str, Any] = {"max_steps": 20, "batch_size": 2}
    stream = open_stream(found.train, **options)
    batches = list(islice(iter(stream), 16))
    seen = [question for batch in batches for question in texts(batch, found.processor)]
    held_out = {question for pack in range(len(found.validation)) for question in _questions(found, pack)}
    assert len(held_out) == 6 and len(set(seen)) > 20 and not held_out & set(seen)
    first = open_stream(found.train, **options)
    list(islice(iter(first), 8))
    again = open_stream(found.train, **options)
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    expected = [texts(batch, found.processor) for batch in batches[8:]]
    assert [texts(batch, found.processor) for batch in islice(iter(again), 8)] == expected
    workers = open_stream(found.train, **options, num_workers=2)
    workers.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [texts(batch, found.processor) for batch in islice(iter(workers), 8)] == expected
    workers.close()


def test_streamed_configurations_with_weights(saved: Path) -> None:
    """Held-out rows are in none of the repetitions; a share is read on from any of its rows."""
    found = build(root=saved, configs=("a", "c"), weights=(2.5, 1.0), streaming=True, validation_samples=4)
    source = found.train.source
    assert source.num_shards == 3 + 4
    rows = [[(source.label(shard, row), item["texts"][0]["user"]) for row, item in enumerate(source.open(shard, 0))]
            for shard in range(3)]  # fmt: skip
    assert rows[0] == rows[1] and len(rows[0]) == 6
    assert rows[2] == rows[0][1::2] and [label for label, _ in rows[2]] == [f"a, shard 0 [{n}]" for n in (5, 7, 9)]
    for row in range(3):
        assert [item["texts"][0]["user"] for item in source.open(2, row)] == [text for _, text in rows[2][row:]]


def test_ratings(saved: Path) -> None:
    found = build(root=saved / "a", validation_samples=0, min_ratings=RatingsConfig(relevance=4))
    stream = open_stream(found.train)
    seen = {question for batch in islice(iter(stream), 12) for question in texts(batch, found.processor)}
    assert seen == {"3", "4", "8", "9"}


def test_held_out_packs(saved: Path, items: list[dict[str, Any]], tmp_path: Path) -> None:
    found = build(root=saved / "a", validation_samples=9)
    packs = found.validation
    assert sorted(key for pack in packs.packs for key in pack) == list(range(9))
    assert packs.sample_label(0).startswith("a[") and found.train.sample_label(3) == "pack 3"
    bad = [dict(item, images=[{"bytes": item["images"][0]["bytes"][:60], "path": None}]) for item in items[1:4]]
    datasets.Dataset.from_list([*bad, *items[5:8]]).save_to_disk(str(tmp_path / "bad"))
    found = build(root=tmp_path / "bad", validation_samples=5)
    rows = [sample for pack in range(len(found.validation)) for sample in found.validation[pack]["samples"]]
    assert sum(len(sample) == 1 for sample in rows) in (2, 3) and len(rows) == 5
    found = build(root=tmp_path / "bad", validation_samples=5, on_bad_sample="error")
    with pytest.raises(BadExample, match=r"bad\[\d\]: a picture can't be read"):
        [found.validation[pack] for pack in range(len(found.validation))]


def test_rows_in_the_format_of_llava(tmp_path: Path) -> None:
    items = make_items(12, tmp_path)
    rows = []
    for number, item in enumerate(items):
        text = item["texts"][0]
        question = f"<image>\n{text['user']}" if item["images"] else text["user"]
        row = {"id": str(number), "conversations": [{"from": "human", "value": question},
                                                    {"from": "gpt", "value": text["assistant"]}]}  # fmt: skip
        rows.append({**row, "image": f"{number}.png"} if item["images"] else row)
    (tmp_path / "finetune.json").write_text(json.dumps(rows))
    (tmp_path / "validation.json").write_text(json.dumps(rows[:3]))
    found = get_datasets(LlavaVQAConfig(root=tmp_path, packing=PACKING), TINY)
    assert len(found.train.source) == 12 and len(found.validation.source) == 3
    source = found.train.source
    for number, item in enumerate(items):
        assert source.item(number, 0)["texts"] == item["texts"]
        assert source.item(number, 0)["images"] == ([str(tmp_path / f"{number}.png")] if number % 4 else [])
    assert source.label(5) == "finetune.json[5]"
    batch = next(iter(open_stream(found.train)))
    assert batch.image_mask.any()


def test_other_models_are_refused(saved: Path) -> None:
    with pytest.raises(UserError, match="packed sequences are for models of nanoVLM's kind, got model 'vggt-tiny'"):
        get_datasets(VQAConfig(root=saved / "a", validation_samples=0), VGGTTinyConfig())


def test_settings_that_do_not_fit_together() -> None:
    for values, message in (
        ({"hub": "a/b", "root": Path(".")}, "hub: can't be given together with root"),
        ({"weights": (1.0,)}, "weights: must have one number for each of configs"),
        ({"configs": ("a",), "weights": (0.0,)}, "weights: must be > 0"),
        ({"on_bad_sample": "ignore"}, "on_bad_sample: must be one of skip, error"),
    ):
        with pytest.raises(ValueError, match=message):
            VQAConfig(**values)
    with pytest.raises(ValueError, match="algorithm: must be one of best-fit, published, none"):
        PackingConfig(algorithm="fast")
    assert replace(PackingConfig(), streams=3).streams == 3
