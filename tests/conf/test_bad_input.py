"""Bad input: one line that names the field, what must hold and the value; exit code 2; never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.conf import cli
from vla.conf.errors import ConfigError
from vla.conf.pretrain import PretrainConfig

ROOT = Path(__file__).resolve().parents[2]
NUMBER = "must be a finite number"

# Command line -> the line on stderr after "error: ".
FLAGS = {
    "--model.type vggt-tinny": "model.type: must be one of vggt-tiny, ",
    "--model.type": "model.type: needs a value: must be text",
    "--model vggt-tiny": "model: must be a group of fields, got 'vggt-tiny'; did you mean model.type?",
    "--dataset.type libero-11": "dataset.type: must be one of libero-10, ",
    "--stage foo": "stage: must be one of finetune, full-finetune, align, got 'foo'",
    "--stage full-finetun": (
        "stage: must be one of full-finetune, finetune, align, got 'full-finetun'; did you mean 'full-finetune'?"
    ),
    "--model.align.strategy.type fsdp": "model.align.strategy.type: must be one of fsdp-",
    "--model.align.learning_rat 2": "model.align.learning_rat: no such field, got '2'; did you mean 'learning_rate'?",
    "--learning_rate 2": (
        "learning_rate: no such field, got '2'; did you mean 'model.align.learning_rate' or "
        "'model.finetune.learning_rate' or 'model.full_finetune.learning_rate'?"
    ),
    "--model.action_head.solver euler": (
        "model.action_head.solver: no such field of 'pose-gripper', got 'euler'; it is a field of 'flow'"
    ),
    "--model.target os:system": "model.target: no such field of 'vggt-tiny', got 'os:system'; the fields are ",
    "--model.model_id x": "model.model_id: no such field of 'vggt-tiny', got 'x'; the fields are ",
    "--x.y.z 3": "x.y.z: no such field, got '3'; the fields are model, dataset, stage, ",
    "--model.finetune.learning_rate -1.0": "model.finetune.learning_rate: must be > 0, got -1.0",
    "--model.align.schedule.name cosin": "model.align.schedule.name: must be one of cosine, linear, ",
    "--model.align.global_batch_size 30": (
        "model.align.global_batch_size: must be a multiple of per_device_batch_size (16), got 30"
    ),
    "--model.align.trainable fusio": "model.align.trainable: must be of vision_backbone, llm_backbone, ",
    "--model.align.trainable []": "model.align.trainable: must name module groups to train, got ()",
    "--model.align.lr_multipliers.fusio 1": "model.align.lr_multipliers: must be of vision_backbone, ",
    "--model.align.lr_multipliers.fusion -1": "model.align.lr_multipliers.fusion: must be >= 0, got -1.0",
    "--model.align.lr_multipliers 3": "model.align.lr_multipliers: must be {name: value, ...}, got '3'",
    "--model.align.optimizer.betas 0.9": "model.align.optimizer.betas: must be 2 values, got '0.9'",
    "--model.align.optimizer.betas 0.9 x": f"model.align.optimizer.betas[1]: {NUMBER}, got 'x'",
    "--model.processor.image_size 100": (
        "model.processor.image_size: must be a multiple of vggt.patch_size (14), got 100"
    ),
    "--model.geometry_encoder.layers 0 7": "model.geometry_encoder.layers: must be in [0, 2), got (0, 7)",
    "--model.geometry_encoder.dim 66": "model.geometry_encoder.dim: must be a multiple of 4 (position code), got 66",
    "--model.action_head.type flow --model.action_head.num_heads 7": (
        "model.action_head.num_heads: must divide hidden_dim (256), got 7"
    ),
    "--model.processor.augmentation true --feature_cache.dir kept": (
        "feature_cache.dir: must be none with model.processor.augmentation: what is seen differs in every epoch, got "
        "'kept'"
    ),
    "--seed abc": "seed: must be an integer, got 'abc'",
    "--seed 1.5": "seed: must be an integer, got '1.5'",
    "--seed 1e3": "seed: must be an integer, got '1e3'",
    "--seed": "seed: needs a value: must be an integer",
    "--seed 1 2": "seed: takes one value: must be an integer, got '1 2'",
    "--seed=": "seed: must be an integer, got ''",
    "--seed none": "seed: must be an integer, got 'none'",
    "--seed.x 3": "seed: must be an integer, got a group of fields",
    "--model.align.learning_rate fast": f"model.align.learning_rate: {NUMBER}, got 'fast'",
    "--model.align.learning_rate nan": f"model.align.learning_rate: {NUMBER}, got 'nan'",
    "--model.align.weight_decay -inf": f"model.align.weight_decay: {NUMBER}, got '-inf'",
    "--model.align.learning_rate 1e999": f"model.align.learning_rate: {NUMBER}, got '1e999'",
    "--dry_run maybe": "dry_run: must be true or false, got 'maybe'",
    "--dry_run true false": "dry_run: takes one value: must be true or false, got 'true false'",
    "--run_root_dir=": "run_root_dir: must be a path, got ''",
    "--trackers": "trackers: needs a value: must be a list like [a, b]; [] is the empty one",
    "--trackers jsonl,wand": "trackers: must be of jsonl, tensorboard, wandb, prismatic, got 'wand'",
    "--trackers [jsonl": "trackers: must be valid YAML: ",
    "--config_path": "config_path: takes one file, got ''",
    "--config_path a.yaml --config_path b.yaml": "config_path: must be given once, got 'a.yaml' and 'b.yaml'",
    "--config_path nowhere/a.yaml": "config_path: no such file, got 'nowhere/a.yaml'",
    "--config_path .": "config_path: must be a readable file, got '.' (Is a directory)",
    "experiments/libero.yaml": (
        "command line: must be --field value, got 'experiments/libero.yaml'; "
        "did you mean --config_path experiments/libero.yaml?"
    ),
    "-seed 3": "command line: must be --field value, got '-seed'",
    "--": "command line: must be --field value, got '--'",
    "--=3": "command line: must be --field value, got '--=3'",
    "--model..x 3": "command line: must be --field value, got '--model..x'",
}

# Text of a file -> the line, with FILE for its path.
FILES = {
    "model: [1": "config_path: must be valid YAML: ",
    "model:\n  align:\n\tepochs: 2": "config_path: must be valid YAML: ",
    "seed: 1\nstage: align\nseed: 2": "config_path: key given twice, got 'seed' (FILE:3)",
    "model:\n  align: {epochs: 2}\n  align: {epochs: 3}": "config_path: key given twice, got 'align' (FILE:3)",
    "- seed": "config_path: must hold fields and values, got a list (FILE)",
    "seed": "config_path: must hold fields and values, got 'seed' (FILE)",
    "[a]: 1": "config_path: keys must be names (FILE:1)",
    "a: 1\n---\nb: 2": "config_path: must hold one document (FILE:2)",
    "model: !!python/object/apply:os.system [ls]": (
        "config_path: tags are not allowed, got tag:yaml.org,2002:python/object/apply:os.system (FILE:1)"
    ),
    "model: !include other.yaml": "config_path: tags are not allowed, got !include (FILE:1)",
    "a: &x {b: *x}": "config_path: no such anchor, got '*x' (FILE:1)",
    "seed: *x": "config_path: no such anchor, got '*x' (FILE:1)",
    "model: " + "[" * 1000 + "]" * 1000: "config_path: must not be nested deeper than 50 levels (FILE:1)",
    "model:\n  target: os:system": "model.target: no such field of 'vggt-tiny', got 'os:system'; the fields are ",
    "seed: 1\nmodel:\n  finetune:\n    learning_rate: -1": (
        "model.finetune.learning_rate: must be > 0, got -1.0 (FILE:4)"
    ),
    "seed: 1\nmodel:\n  typ: vggt-tiny": (
        "model.typ: no such field of 'vggt-tiny', got 'vggt-tiny'; the fields are pretrained, processor, "
    ),
    "model: vggt-tiny": "model: must be a group of fields, got 'vggt-tiny'; did you mean model.type? (FILE:1)",
    "model:\n  type: gpt": "model.type: must be one of ",
    "model:\n  align: 3": "model.align: must be a group of fields, got '3' (FILE:2)",
    "seed: [1]": "seed: must be an integer, got a list (FILE:1)",
    "seed: {a: 1}": "seed: must be an integer, got a group of fields (FILE:1)",
    "seed:": "seed: must be an integer, got '' (FILE:1)",
    "run_root_dir: null": "run_root_dir: must be a path, got 'null' (FILE:1)",
    "wandb_project: ~": "wandb_project: must be text, got '~' (FILE:1)",
    "run_root_dir:\nseed: 1": "run_root_dir: must be a path, got '' (FILE:1)",
    "report: no": "report: must be true or false, got 'no' (FILE:1)",
    "model:\n  align:\n    learning_rate: .nan": f"model.align.learning_rate: {NUMBER}, got '.nan' (FILE:3)",
    "trackers: {a: 1}": "trackers: must be a list like [a, b]; [] is the empty one, got a group of fields (FILE:1)",
    "stage: [align]": "stage: must be one of align, finetune, full-finetune, got ",
}


def line_of(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that `cli.run` writes, without "error: "."""
    called: list[PretrainConfig] = []
    assert cli.run(PretrainConfig, called.append, argv) == 2  # type: ignore[arg-type]
    assert not called
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ") and output.err.endswith("\n") and output.err.count("\n") == 1
    return output.err[len("error: ") : -1]


@pytest.mark.parametrize(("flags", "message"), FLAGS.items())
def test_bad_flags(
    flags: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    line = line_of(flags.split(" "), capsys)
    assert line.startswith(message) if message[-1] in " -" else line == message


@pytest.mark.parametrize(("text", "message"), FILES.items())
def test_bad_files(text: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    line = line_of(["--config_path", str(path)], capsys)
    message = message.replace("FILE", str(path))
    assert line.startswith(message) if message[-1] == " " else line == message
    assert str(path) in line


def test_unreadable_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"seed: \xff")
    assert line_of(["--config_path", str(path)], capsys) == f"config_path: must be UTF-8 text, got '{path}'"
    path.write_bytes(b"seed: \x00")
    assert line_of(["--config_path", str(path)], capsys).startswith("config_path: must be valid YAML: ")


def test_missing_file_names_its_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "libero.yaml").write_text("")
    line = line_of(["--config_path", str(tmp_path / "lbero.yaml")], capsys)
    assert line == f"config_path: no such file, got '{tmp_path}/lbero.yaml'; did you mean 'libero.yaml'?"


def test_stale_field_says_which_file_set_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("model:\n  action_head:\n    type: flow\n    solver: euler\n")
    assert line_of(["--config_path", str(path), "--model.action_head.type", "chunk"], capsys) == (
        f"model.action_head.solver: no such field of 'chunk', which the command line chose; it was set in {path}:4"
    )


def test_many_choices_are_cut() -> None:
    from vla.conf.registry import choices_text

    names = [f"prism-{i}" for i in range(49)] + ["vggt-tiny"]
    text = choices_text("vggt-tin", names)
    assert text.startswith("must be one of vggt-tiny, prism-") and len(text) < 200
    assert text.endswith("and 40 more, got 'vggt-tin'; did you mean 'vggt-tiny'?")


def test_only_the_main_process_speaks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert cli.run(PretrainConfig, lambda config: 0, ["--seed", "x"]) == 2
    assert capsys.readouterr().err == ""


def test_user_errors_of_the_program_are_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    class WeightsNotFoundError(cli.UserError):
        pass

    def program(config: PretrainConfig) -> int:
        raise WeightsNotFoundError("model.vggt.weights: not found")

    assert cli.run(PretrainConfig, program, []) == 2
    assert capsys.readouterr().err == "error: model.vggt.weights: not found\n"
    with pytest.raises(ZeroDivisionError):
        cli.run(PretrainConfig, lambda config: 1 // 0, [])
    assert cli.run(PretrainConfig, lambda config: None, []) == 0
    assert cli.run(PretrainConfig, lambda config: 7, []) == 7


def test_as_a_process() -> None:
    program = "import sys; from vla.conf import cli, pretrain; sys.exit(cli.run(pretrain.PretrainConfig, print))"
    command = [sys.executable, "-c", program, "--stage", "foo"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: stage: must be one of finetune, full-finetune, align, got 'foo'\n"


scraps = st.sampled_from(
    ["--model.type", "--stage", "--seed", "--trackers", "--model.align", "--dry_run", "--model.align.lr_multipliers.x"]
    + ["--config_path", "--", "-x", "=", ".", "align", "vggt-tiny", "[", "{a: 1}", "{", "]", "none", "1e-4", "jsonl,"]
)


@settings(max_examples=150)
@given(argv=st.lists(scraps | st.text(max_size=6), max_size=6))
def test_no_command_line_ends_in_a_traceback(argv: list[str]) -> None:
    try:
        cli.parse(PretrainConfig, [word for word in argv if word not in ("-h", "--help")])
    except cli.UserError as error:
        assert "\n" not in str(error) and ": " in str(error)


lines = st.sampled_from(
    [
        "model:",
        "  type: vggt-tiny",
        "  align:",
        "    epochs: 3",
        "- a",
        "seed: 3",
        "stage: [",
        "? a",
        "&x",
        "*x",
        "!!str 3",
    ]
    + ["<<: {}", "trackers: [jsonl]", "{", "}", "'", '"', "|", "\t", "%YAML 1.1", "---", "...", "dataset: {root: }"]
)


@settings(max_examples=150)
@given(text=st.lists(lines | st.text(max_size=8), max_size=8))
def test_no_file_ends_in_a_traceback(text: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "scraps.yaml"
    path.write_text("\n".join(text), encoding="utf-8", errors="replace")
    try:
        cli.load(PretrainConfig, path)
    except cli.UserError as error:
        assert "\n" not in str(error) and ": " in str(error)


def test_yaml_bomb(tmp_path):
    """Nine lines that would unfold to 10^9 values; and a file larger than any configuration."""
    path = tmp_path / "bomb.yaml"
    lines = ["a: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"b{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="must not hold more than 100000 values, aliases included"):
        cli.load(PretrainConfig, path)
    with path.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(ConfigError, match="must be smaller than"):
        cli.load(PretrainConfig, path)
