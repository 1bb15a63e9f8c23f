"""Hugging Face folders of OpenVLA and OFT: built from the published key listings, read, written, and refused."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla.batches import ActionBatch
from vla.conf.models.openvla import OpenVLATinyConfig
from vla.conf.models.openvla_oft import DiffusionHeadConfig, DiscreteHeadConfig, L1HeadConfig, OpenVLAOFTTinyConfig
from vla.conf.models.vision_backbones import SigLIPViTTinyConfig
from vla.errors import UserError
from vla.models.materialize import get_model
from vla.models.vlas.openvla import OpenVLA
from vla.models.vlas.openvla_oft import OpenVLAOFT
from vla.models.weights.openvla import is_openvla_folder, native_name, open_openvla, published_name
from vla.models.weights.openvla_export import write_openvla
from vla.models.weights.openvla_oft import oft_config

TOKENIZER = Path(__file__).resolve().parents[2] / "golden" / "prismatic" / "tokenizer"
TOWERS = ["dino", "siglip"]
DEPTHS = {"dino_featurizer.blocks": 3, "siglip_featurizer.blocks": 4, "llm.model.layers": 3}  # of the tiny model


@pytest.fixture(scope="module")
def listing(golden: Callable[[str], Any]) -> dict[str, str]:
    """Native name of every tensor by its name in the Hugging Face folder, as both were published, in their order."""
    stored = golden("openvla_state_dict")
    published = list(stored["hf_openvla-7b"])
    native = stored["native_checkpoint_prism-dinosiglip-224px+7b"]
    prefixes = {"vision_backbone": "vision_backbone.", "llm_backbone": "language_model.", "projector": "projector."}
    pairs = {}
    for group, prefix in prefixes.items():
        theirs = [name for name in published if name.startswith(prefix)]
        for name, (ours, shape) in zip(theirs, native[group].items(), strict=True):
            assert stored["hf_openvla-7b"][name] == shape
            pairs[name] = f"{group}.{ours}"
    assert len(pairs) == len(published) == stored["counts"]["hf_tensors"]
    return pairs


def tiny_names(listing: dict[str, str]) -> dict[str, str]:
    """The listing without the blocks that the tiny model doesn't have."""

    def is_there(native: str) -> bool:
        return all(
            (match := re.search(f"{re.escape(stem)}\\.(\\d+)\\.", native)) is None or int(match[1]) < depth
            for stem, depth in DEPTHS.items()
        )

    return {published: native for published, native in listing.items() if is_there(native)}


TEXT = {
    "model_type": "llama", "vocab_size": 576, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "pad_token_id": 512,
}  # fmt: skip
VALUES = {
    "model_type": "openvla", "arch_specifier": "no-align+fused-gelu-mlp", "vision_backbone_id": "dinosiglip-vit-tiny",
    "llm_backbone_id": "llama-tiny", "n_action_bins": 256, "pad_to_multiple_of": 64, "use_fused_vision_backbone": True,
    "image_resize_strategy": "resize-naive", "text_config": TEXT,
}  # fmt: skip


def native_model(**values: Any) -> OpenVLA:
    """A tiny model with the stored tokenizer; large weights, so that logits differ."""
    config = OpenVLATinyConfig()
    llm = replace(config.llm_backbone, tokenizer=str(TOKENIZER), max_position=2048, **values)
    model = get_model(replace(config, llm_backbone=llm)).eval()
    assert isinstance(model, OpenVLA)
    return model


def write_folder(folder: Path, tensors: dict[str, Tensor], **values: Any) -> Path:
    """A folder as it is published, made without the toolkit's own writer."""
    shutil.copytree(TOKENIZER, folder)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(VALUES | values))
    return folder


@pytest.fixture
def folder(listing: dict[str, str], tmp_path: Path) -> Path:
    state = native_model(rms_norm_eps=1e-6).state_dict()
    names = tiny_names(listing)
    assert set(names.values()) == set(state)
    return write_folder(tmp_path / "openvla", {theirs: state[ours] for theirs, ours in names.items()})


def read(folder: Path, config: Any = None) -> Any:
    return get_model(reading(folder, config or OpenVLATinyConfig())).eval()


def reading(folder: Path, config: Any) -> Any:
    """A configuration that takes everything from a folder."""
    llm = replace(config.llm_backbone, tokenizer=None)
    return replace(config, pretrained=True, weights=str(folder), llm_backbone=llm)


def logits(model: OpenVLA, batch: ActionBatch) -> Tensor:
    text = model.prompter(batch.instructions, model.action_tokens.encode(batch.actions).flatten(1))
    sequences = model._fuse(batch, text)
    return model.llm_backbone.logits(model.llm_backbone(sequences.embeds, sequences.attention_mask))


def test_every_published_name(listing: dict[str, str]) -> None:
    for published, native in listing.items():
        assert native_name(published, TOWERS) == native
        assert published_name(native, TOWERS) == published


def test_names_of_a_single_tower() -> None:
    assert native_name("vision_backbone.featurizer.pos_embed", ["siglip"]) == "vision_backbone.featurizer.pos_embed"
    assert published_name("vision_backbone.featurizer.pos_embed", ["siglip"]) == "vision_backbone.featurizer.pos_embed"


class TestReading:
    def test_logits_are_the_native_ones(self, folder: Path, make_batch: Callable[..., ActionBatch]) -> None:
        model, native = read(folder), native_model(rms_norm_eps=1e-6)
        batch = make_batch(model.config)
        torch.testing.assert_close(logits(model, batch), logits(native, batch), rtol=0, atol=5e-6)
        assert torch.equal(model.predict(batch), native.predict(batch))
        assert all(not parameter.is_meta for parameter in model.parameters())

    @pytest.mark.parametrize(("text", "expected"), [({}, 1e-6), ({"rms_norm_eps": 1e-5}, 1e-5)])
    def test_the_epsilon_is_the_files(self, folder: Path, text: dict[str, Any], expected: float) -> None:
        (folder / "config.json").write_text(json.dumps(VALUES | {"text_config": TEXT | text}))
        assert read(folder).llm_backbone.llm.config.rms_norm_eps == expected

    def test_the_vocabulary_is_the_files(self, folder: Path) -> None:
        model = read(folder)
        assert (model.action_tokens.vocab_size, model.llm_backbone.vocab_size) == (512, 576)
        assert model.llm_backbone.tokenizer.pad_token_id == 512

    def test_half_precision_and_shards(self, folder: Path, make_batch: Callable[..., ActionBatch]) -> None:
        tensors = {name: value.bfloat16() for name, value in load_file(folder / "model.safetensors").items()}
        (folder / "model.safetensors").unlink()
        names = list(tensors)
        where = {}
        for number, part in enumerate((names[:100], names[100:])):
            file = f"model-{number}.safetensors"
            save_file({name: tensors[name] for name in part}, folder / file)
            where |= dict.fromkeys(part, file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
        model = read(folder)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        expected = tensors["language_model.lm_head.weight"].float()
        assert torch.equal(model.state_dict()["llm_backbone.llm.lm_head.weight"], expected)
        assert model.predict(make_batch(model.config)).isfinite().all()

    def test_a_checkpoint_of_it_needs_no_folder(
        self, folder: Path, tmp_path: Path, make_batch: Callable[..., ActionBatch]
    ) -> None:
        model = read(folder)
        model.save_assets(tmp_path / "assets")
        shutil.rmtree(folder)
        again = get_model(reading(folder, OpenVLATinyConfig()), assets=tmp_path / "assets").eval()
        again.load_state_dict(model.state_dict())
        batch = make_batch(model.config)
        assert torch.equal(again.predict(batch), model.predict(batch))  # type: ignore[operator]
        assert again.llm_backbone.llm.config.rms_norm_eps == 1e-6  # type: ignore[union-attr]


class TestRefusals:
    def change(self, folder: Path, function: Callable[[dict[str, Tensor]], Any]) -> None:
        tensors = load_file(folder / "model.safetensors")
        function(tensors)
        save_file(tensors, folder / "model.safetensors")

    def check(self, folder: Path, message: str, config: Any = None) -> None:
        with pytest.raises(UserError, match=message) as raised:
            read(folder, config)
        assert "\n" not in str(raised.value)

    def test_tensors_that_do_not_fit(self, folder: Path) -> None:
        self.change(folder, lambda tensors: tensors.pop("projector.fc1.bias"))
        self.check(folder, r"model.weights: .*does not fit the model.*1 missing \(projector.projector.0.bias\)")
        self.change(folder, lambda tensors: tensors.update({"projector.fc1.bias": torch.zeros(3)}))
        self.check(folder, r"projector.projector.0.bias \[256\] != \[3\]")

    def test_other_parts(self, folder: Path) -> None:
        config = replace(OpenVLATinyConfig(), vision_backbone=SigLIPViTTinyConfig())
        self.check(folder, "pass --model.vision_backbone.type dinosiglip-vit-tiny", config)
        config = replace(OpenVLATinyConfig(), arch_specifier="gelu-mlp")
        self.check(folder, "pass --model.arch_specifier fused-gelu-mlp", config)

    @pytest.mark.parametrize(("values", "message"), [
        ({"llm_backbone_id": "llama-3"}, "llm_backbone_id must be one of"),
        ({"model_type": "llava"}, "not the configuration of an OpenVLA model"),
        ({"text_config": TEXT | {"vocab_size": 600}}, "text_config.vocab_size must be 576"),
    ])  # fmt: skip
    def test_other_configurations(self, folder: Path, values: dict[str, Any], message: str) -> None:
        assert is_openvla_folder(folder)
        (folder / "config.json").write_text(json.dumps(VALUES | values))
        self.check(folder, message)

    def test_nothing_there(self, tmp_path: Path) -> None:
        assert not is_openvla_folder(tmp_path)
        self.check(tmp_path, "model.weights: .*folder without weights")
        self.check(tmp_path / "nowhere", "model.weights: .*does not exist")
        self.check(Path("openvla/openvla-7b-nowhere"), "model.weights: .*pass --model.weights DIR")


STATISTICS = {"libero_object": {"action": {"q01": [0.0] * 7, "q99": [1.0] * 7}, "num_transitions": 3}}


class TestWriting:
    def test_layout(self, listing: dict[str, str], tmp_path: Path) -> None:
        write_openvla(native_model(), tmp_path / "out", STATISTICS)
        tensors = load_file(tmp_path / "out" / "model.safetensors")
        assert set(tensors) == set(tiny_names(listing))
        assert {value.dtype for value in tensors.values()} == {torch.bfloat16}
        values = json.loads((tmp_path / "out" / "config.json").read_text())
        for name, value in VALUES.items():
            if name != "text_config":
                assert values[name] == value
        assert values["text_config"]["rms_norm_eps"] == 1e-5 and values["norm_stats"] == STATISTICS
        assert open_openvla(tmp_path / "out").statistics == STATISTICS

    @pytest.mark.parametrize("shard_bytes", [10**9, 200_000])
    def test_round_trip(self, tmp_path: Path, make_batch: Callable[..., ActionBatch], shard_bytes: int) -> None:
        model = native_model()
        write_openvla(model, tmp_path / "out", STATISTICS, dtype=torch.float32)
        write_openvla(model, tmp_path / "out", STATISTICS, dtype=torch.float32, shard_bytes=shard_bytes)
        files = list((tmp_path / "out").glob("*.safetensors"))
        assert (len(files) == 1) == (shard_bytes == 10**9)
        assert all(path.stat().st_size <= shard_bytes + 20_000 for path in files)
        again = read(tmp_path / "out")
        for name, value in model.state_dict().items():
            assert torch.equal(again.state_dict()[name], value), name
        batch = make_batch(model.config)
        assert torch.equal(logits(again, batch), logits(model, batch))


def oft_model(**values: Any) -> OpenVLAOFT:
    config = OpenVLAOFTTinyConfig()
    llm = replace(config.llm_backbone, tokenizer=str(TOKENIZER))
    model = get_model(replace(config, llm_backbone=llm, **values)).eval()
    assert isinstance(model, OpenVLAOFT)
    return model


class TestOFT:
    @pytest.mark.parametrize(
        "head", [L1HeadConfig(64), DiffusionHeadConfig(64, num_inference_steps=3), DiscreteHeadConfig()]
    )
    @pytest.mark.parametrize("film", [False, True])
    def test_round_trip(self, tmp_path: Path, make_batch: Callable[..., ActionBatch], head: Any, film: bool) -> None:
        model = oft_model(action_head=head, film=film)
        write_openvla(model, tmp_path, STATISTICS, dtype=torch.float32, step=150000)
        config = oft_config(tmp_path, OpenVLAOFTTinyConfig())
        if isinstance(head, DiffusionHeadConfig):
            config = replace(config, action_head=replace(config.action_head, num_inference_steps=3))
        assert (config.action_head, config.film, config.proprio_dim) == (head, film, 8)
        again = read(tmp_path, config)
        for name, value in model.state_dict().items():
            assert torch.equal(again.state_dict()[name], value), name
        batch = make_batch(model.config)
        assert torch.equal(again.predict(batch), model.predict(batch))

    def test_published_files(
        self, tmp_path: Path, listing: dict[str, str], make_batch: Callable[..., ActionBatch]
    ) -> None:
        """Made by hand: names as DDP saves them, and the vision backbone with its adapters."""
        model = oft_model(film=True)
        state = model.state_dict()
        plain = {re.sub(r"(blocks\.\d+)\.block\.", r"\1.", name): value for name, value in state.items()}
        folder = write_folder(tmp_path / "oft", {theirs: plain[ours] for theirs, ours in tiny_names(listing).items()},
                              text_config=TEXT | {"rms_norm_eps": 1e-5})  # fmt: skip
        for part in ("action_head", "proprio_projector"):
            prefix = f"action_head.{part}."
            tensors = {f"module.{n.removeprefix(prefix)}": v for n, v in state.items() if n.startswith(prefix)}
            torch.save(tensors, folder / f"{part}--150000_checkpoint.pt")
        torch.save(self.adapted(state), folder / "vision_backbone--150000_checkpoint.pt")
        again = read(folder, oft_config(folder, OpenVLAOFTTinyConfig()))
        batch = make_batch(model.config)
        torch.testing.assert_close(again.predict(batch), model.predict(batch), rtol=0, atol=5e-6)

    def adapted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The vision backbone as published code saves it: base layers beside adapters of rank 32."""
        vision = {published_name(n, TOWERS): v for n, v in state.items() if n.startswith("vision_backbone.")}
        result = {}
        for name, value in vision.items():
            stem = f"module.{name.removesuffix('.weight')}"
            if re.search(r"blocks\.\d+\.block\.(attn|mlp)\.\w+\.weight$", name):
                down, up = torch.randn(32, value.shape[1]), torch.randn(len(value), 32)
                result[f"{stem}.base_layer.weight"] = value - up @ down * 0.5
                result[f"{stem}.lora_A.default.weight"], result[f"{stem}.lora_B.default.weight"] = down, up
            elif re.search(r"blocks\.\d+\.block\.(attn|mlp)\.\w+\.bias$", name):
                result[f"module.{name.removesuffix('.bias')}.base_layer.bias"] = value
            else:
                result[f"module.{name}"] = value
        return result

    def test_new_modules_start_where_there_are_no_files(self, folder: Path) -> None:
        model = read(folder, OpenVLAOFTTinyConfig())
        fresh = oft_model()
        assert torch.equal(model.state_dict()["projector.projector.0.bias"], read(folder).projector.projector[0].bias)
        names = [name for name in fresh.state_dict() if name.startswith("action_head.")]
        assert names and all(model.state_dict()[name].isfinite().all() for name in names)

    def test_other_modules(self, tmp_path: Path) -> None:
        write_openvla(oft_model(), tmp_path, STATISTICS)
        config = OpenVLAOFTTinyConfig()
        without = replace(config, processor=replace(config.processor, proprio=False))
        with pytest.raises(UserError, match="the folder has proprio_projector, the model has none"):
            read(tmp_path, without)
        (tmp_path / "action_head--7_checkpoint.pt").write_bytes(b"")
        with pytest.raises(UserError, match=r"must hold one action_head--\*_checkpoint.pt"):
            read(tmp_path, config)
