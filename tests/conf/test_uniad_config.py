"""The list of parts in a file, the published recipe, and the importer of UniAD's own configuration files."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from vla.conf import cli
from vla.conf.datasets import MVTecADConfig
from vla.conf.errors import ConfigError, UserError
from vla.conf.import_uniad import UniADConfigImport
from vla.conf.models.anomaly_parts import CriterionConfig
from vla.conf.models.uniad import UniADEfficientNetB4Config, UniADTinyConfig
from vla.conf.pretrain import PretrainConfig
from vla.conf.published_uniad import import_config, write_config
from vla.conf.stage import Stage

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "experiments/mvtec_uniad.yaml"
PUBLISHED = ROOT / "tests/golden/uniad/config.yaml"


def test_the_recipe_is_the_registered_model_as_published():
    config = cli.parse(PretrainConfig, ["--config_path", str(RECIPE), "--dataset.root", "data"])
    assert config.model == UniADEfficientNetB4Config() and config.stage is Stage.ALIGN and config.seed == 133
    assert (config.evaluation.metric, config.evaluation.mode, config.evaluation.every_epochs) == (
        "eval/pixel_auroc", "max", 10,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["defects_uniad", "watcher_uniad"])
def test_the_small_recipes_choose_nothing_by_what_is_held_out(name):
    """Baselines on the test pictures, and a threshold from held-out episodes, are compared with the last checkpoint."""
    config = cli.load(PretrainConfig, ROOT / f"experiments/{name}.yaml")
    assert not config.checkpoint.keep_best and config.checkpoint.keep_last == 1
    assert config.feature_cache.dir is not None and config.stage_config.cache_frozen_features
    assert [config.stage_config.grad_accumulation_steps(processes) for processes in (1, 2)] == [2, 1]


def test_a_net_of_a_file_is_read_dumped_and_read_again(tmp_path):
    (tmp_path / "run.yaml").write_text(
        "model:\n  type: uniad-tiny\n  net:\n"
        "    - {name: eyes, type: efficientnet-b4, outlayers: [2, 3], weights: null}\n"
        "    - {name: middle, type: mfcn, prev: eyes, outstrides: [8]}\n"
        "    - {type: uniad, prev: middle, hidden_dim: 32, nhead: 2, feature_jitter: null, neighbor_mask: {mask:"
        " [true, false, true]}}\n  criterion: [{type: l1, weight: 0.5}, {type: cosine}]\n"
    )
    config = cli.load(PretrainConfig, tmp_path / "run.yaml")
    net = config.model.net
    assert [part.name for part in net] == ["eyes", "middle", "reconstruction"] and net[0].width == 1.4
    assert net[2].feature_jitter is None and net[2].neighbor_mask.neighbor_size == (7, 7)
    assert config.model.criterion == (CriterionConfig("l1", 0.5), CriterionConfig("cosine"))
    cli.save(config, tmp_path / "again.yaml")
    assert cli.load(PretrainConfig, tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nhead: 8", "nhead: 7", r"model.net\[2\].nhead: must divide hidden_dim \(256\), got 7 .*:{line}"),
        ("nhead: 8", "nheads: 8", r"model.net\[2\].nheads: no such field of 'uniad', .*did you mean 'nhead'"),
        ("type: mfcn", "type: mfc", r"model.net\[1\].type: must be one of mfcn, .*did you mean 'mfcn'"),
        ("type: mfcn", "type: os.system", r"model.net\[1\].type: must be one of "),
        ("scale: 20.0", "scale: -1", r"model.net\[2\].feature_jitter.scale: must be >= 0, got -1.0"),
        ("prev: neck", "prev: nck", r"model.net\[2\].prev: must name the part before, neck, got 'nck'"),
        ("type: feature_mse", "type: mse", r"model.criterion\[0\].type: must be one of feature_mse, l1, cosine"),
    ],
)
def test_errors_name_the_part_and_the_line(tmp_path, old, new, message):
    before, _, after = RECIPE.read_text().partition(old)
    (tmp_path / "bad.yaml").write_text(f"{before}{new}{after}")
    line = str(before.count("\n") + 1)
    with pytest.raises(ConfigError, match=message.replace("{line}", line)) as raised:
        cli.load(PretrainConfig, tmp_path / "bad.yaml")
    assert "\n" not in str(raised.value)


def test_the_published_file_is_accepted_as_it_is_and_means_the_recipe(tmp_path, capsys):
    assert write_config(UniADConfigImport(PUBLISHED, tmp_path / "mvtec.yaml")) == 0
    found = cli.load(PretrainConfig, tmp_path / "mvtec.yaml")
    recipe = cli.load(PretrainConfig, RECIPE)
    data = ROOT / "tests/data/MVTec-AD"
    dataset = MVTecADConfig(root=data)
    named = (CriterionConfig(name="FeatureMSELoss"),)
    changes = {"run_id": None, "log_every_steps": 1, "dataset": dataset}
    assert found == replace(recipe, model=replace(recipe.model, criterion=named), **changes)
    notes = capsys.readouterr().out
    assert "falls after epochs [801]" in notes and "--model.backbone_weights FILE" in notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["net"][1].update(type="models.necks.FPN"), r"net\[1\].type: must be one of .*models.necks.MFCN"),
        (lambda c: c["net"][1].update(type="os.system"), r"net\[1\].type: must be one of "),
        (lambda c: c["dataset"].update(type="cifar10"), "dataset.type: must be custom"),
        (lambda c: c["dataset"]["train"].update(rebalance=True), "dataset.train.rebalance: must be false"),
        (lambda c: c["dataset"]["train"].update(colorjitter={}), "dataset.train.colorjitter: has no counterpart"),
        (lambda c: c["trainer"]["lr_scheduler"].update(type="ExponentialLR"), "trainer.lr_scheduler.type: must be "),
        (
            lambda c: c["trainer"]["optimizer"].update(type="RMSprop"),
            "trainer.optimizer.type: must be one of AdamW, SGD",
        ),
        (lambda c: c["trainer"].pop("max_epoch"), "has no max_epoch"),
        (lambda c: c["criterion"][0].update(type="SSIM"), "criterion FeatureMSELoss.type: must be one of"),
        (lambda c: c.update(frozen_layers=["neck"]), r"frozen_layers: must be \[backbone\] or \[\]"),
        (lambda c: c.update(tricks=1), "tricks: has no counterpart here"),
        (lambda c: c.pop("net"), "is no configuration of UniAD"),
        (lambda c: c["net"][2]["kwargs"].update(hidden_dimm=3), r"model.net\[2\].hidden_dimm: no such field"),
    ],
)
def test_what_has_no_counterpart_is_an_error_of_one_line(tmp_path, change, message):
    content = yaml.safe_load(PUBLISHED.read_text())
    change(content)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=message) as raised:
        write_config(UniADConfigImport(tmp_path / "config.yaml", tmp_path / "out.yaml"))
    assert "\n" not in str(raised.value) and [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_other_choices_are_taken_over(tmp_path):
    content = yaml.safe_load(PUBLISHED.read_text())
    content["frozen_layers"] = []
    content["trainer"]["lr_scheduler"] = {"type": "MultiStepLR", "kwargs": {"milestones": [4, 8], "gamma": 0.5}}
    content["criterion"].append({"name": "L1Loss", "type": "L1Loss", "kwargs": {"weight": 0.5}})
    content["net"][0]["kwargs"]["pretrained"] = False
    content["dataset"]["image_reader"]["kwargs"]["image_dir"] = "pictures"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    values = import_config(tmp_path / "config.yaml").values
    assert values["stage"] == "full-finetune" and values["model"]["net"][0]["weights"] is None
    schedule = values["model"]["full_finetune"]["schedule"]
    assert (schedule["milestones"], schedule["gamma"]) == ([5, 9], 0.5)
    assert values["dataset"]["image_dir"] == (tmp_path / "pictures").as_posix()
    assert values["model"]["criterion"][1] == {"type": "l1", "weight": 0.5, "name": "L1Loss"}


def test_tiny_is_a_size_of_its_own():
    assert UniADTinyConfig().net[2].hidden_dim < UniADEfficientNetB4Config().net[2].hidden_dim
