"""Looking for weights: what is found where, and the one line that says what is missing."""

import json
import socket
from pathlib import Path

import pytest

from vla.models import weights_source
from vla.models.weights_source import WeightsNotFound, WeightsRequest, find_weights

LLAMA = WeightsRequest("llm_backbone", "model.llm.weights", "meta-llama/Llama-2-7b-hf")
VGGT = WeightsRequest("vision_backbone", "model.vggt.weights", "facebook/VGGT-1B", ("model.safetensors", "model.pt"))


def _request(name: object) -> WeightsRequest:
    return WeightsRequest("llm_backbone", "model.llm.weights", str(name))


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return cache


@pytest.fixture
def closed_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(weights_source, "getproxies", dict)


@pytest.mark.usefixtures("closed_endpoint")
def test_message_without_a_network() -> None:
    with pytest.raises(WeightsNotFound) as caught:
        find_weights([LLAMA])
    assert str(caught.value) == (
        "model.llm.weights: 'meta-llama/Llama-2-7b-hf' is neither a local folder nor in the Hugging Face cache, and "
        "the hub can't be reached; pass --model.llm.weights DIR, or --model.pretrained false for random weights"
    )
    assert isinstance(caught.value, ValueError)


def test_offline_asks_nobody_and_names_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(weights_source, "hub_answers", lambda: pytest.fail("the hub was asked"))
    with pytest.raises(WeightsNotFound) as caught:
        find_weights([VGGT, LLAMA])
    message = str(caught.value)
    assert "\n" not in message and "HF_HUB_OFFLINE" in message
    assert "facebook/VGGT-1B" in message and "meta-llama/Llama-2-7b-hf" in message
    assert message.endswith(
        "pass --model.vggt.weights DIR --model.llm.weights DIR, or --model.pretrained false for random weights"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [("GatedRepoError", "licence form"), ("RepositoryNotFoundError", "no such model"), ("EntryNotFoundError", None)],
)
def test_answers_of_the_hub(error: str, expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    kind = getattr(errors, error)
    answer = kind.__new__(kind)

    def refuse(*args: object, **kwargs: object) -> None:
        raise answer

    monkeypatch.setattr(weights_source, "hub_answers", lambda: True)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    if expected is None:
        assert find_weights([LLAMA]) == {"llm_backbone": LLAMA.name}
    else:
        with pytest.raises(WeightsNotFound, match=expected):
            find_weights([LLAMA])


@pytest.mark.parametrize("name", ["./nothing", "/nothing/here", "~/nothing", "a/b/c", "model.gguf", "owner/model.gguf"])
def test_paths_are_not_looked_up(name: str) -> None:
    with pytest.raises(WeightsNotFound, match="does not exist; pass --model.llm.weights DIR"):
        find_weights([_request(name)])


def test_local_folders_and_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound, match="folder without weights"):
        find_weights([_request(tmp_path)])
    (tmp_path / "model.safetensors").touch()
    assert find_weights([_request(tmp_path)]) == {"llm_backbone": str(tmp_path)}
    file = tmp_path / "model.gguf"
    file.touch()
    assert find_weights([_request(file)]) == {"llm_backbone": str(file)}


def test_the_cache_is_used_when_it_is_complete(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repository = empty_cache / "models--meta-llama--Llama-2-7b-hf"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    (snapshot / "model-1.safetensors").touch()
    with pytest.raises(WeightsNotFound):
        find_weights([LLAMA])
    (snapshot / "model-2.safetensors").touch()
    assert find_weights([LLAMA]) == {"llm_backbone": str(snapshot)}
