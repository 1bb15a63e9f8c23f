"""Where published weights are (a local path, the Hugging Face cache, the hub), found out before anything is built."""

import os
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from vla.errors import UserError

# weights of a repository, in the order in which they are preferred
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "model.pt", "pytorch_model.bin")
_PROBE_TIMEOUT = 2.0  # seconds to wait for the hub
_FILE_SUFFIXES = (".gguf", ".safetensors", ".pt", ".pth", ".bin")


class WeightsNotFound(UserError):  # noqa: N818 - reads as what it says
    """Weights that the configuration names can't be had; the message is one line and says what to pass instead."""


@dataclass(frozen=True)
class WeightsRequest:
    """Weights that a module group starts from."""

    group: str  # the module group
    field: str  # the configuration field that names them, e.g. `model.llm.weights`; errors speak of it
    name: str  # a local file or folder, or a Hugging Face id
    files: tuple[str, ...] = WEIGHT_FILES  # names of which a folder or repository must have one


def find_weights(requests: Iterable[WeightsRequest]) -> dict[str, str]:
    """
    Where weights can be read from, without reading them. Answers within seconds, with or without a network.

    Returns:
        By module group: the local file or folder (from the cache too), or the id where the hub is ready to give it.

    Raises:
        WeightsNotFound: Some are nowhere, or the hub doesn't give them out.
    """
    found: dict[str, str] = {}
    problems: dict[str, str] = {}
    for request in requests:
        try:
            found[request.group] = _locate(request.name, request.files)
        except LookupError as error:
            problems[request.field] = f"{request.field}: '{request.name}' {error.args[0]}"
    if problems:
        advice = " ".join(f"--{field} DIR" for field in problems)
        raise WeightsNotFound(
            f"{'; '.join(problems.values())}; pass {advice}, or --model.pretrained false for random weights"
        )
    return found


def _locate(name: str, files: tuple[str, ...]) -> str:
    """One source; LookupError says what is wrong with it."""
    path = Path(name).expanduser()
    if path.is_file():
        return str(path)
    if path.is_dir():
        if _has_any(path, files):
            return str(path)
        raise LookupError(f"is a folder without weights ({' or '.join(files)})")
    if _looks_like_path(name):
        raise LookupError("does not exist")
    cached = _cached_snapshot(name, files)
    if cached is not None:
        return str(cached)
    problem = _probe_hub(name)
    if problem is not None:
        raise LookupError(f"is neither a local folder nor in the Hugging Face cache, and {problem}")
    return name


def download_file(name: str, files: tuple[str, ...] = WEIGHT_FILES) -> str:
    """
    The local path of the first of `files` that the hub's repository `name` has; a local `name` is returned as it is.

    Raises:
        WeightsNotFound: The repository has none of them.
    """
    if Path(name).exists():
        return name
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    for file in files:
        try:
            return hf_hub_download(name, file)
        except EntryNotFoundError:
            continue
    raise WeightsNotFound(f"'{name}' on the Hugging Face hub holds none of {', '.join(files)}")


def hub_file(repository: str, file: str) -> Path:
    """
    The local path of a file of a repository, from the Hugging Face cache or the hub.

    Raises:
        WeightsNotFound: It can't be had.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    cached = try_to_load_from_cache(repository, file)
    if isinstance(cached, str):
        return Path(cached)
    problem = _probe_hub(repository)
    if problem is not None:
        raise WeightsNotFound(f"{file} of '{repository}' is not in the Hugging Face cache, and {problem}")
    try:
        return Path(hf_hub_download(repository, file))
    except EntryNotFoundError as error:
        raise WeightsNotFound(f"'{repository}' on the Hugging Face hub has no {file}") from error


@contextmanager
def reading_weights(field: str) -> Iterator[None]:
    """Around reading what `find_weights` found: a file that is damaged, or of something else, is a UserError.

    Args:
        field: the configuration field that names the weights; the error's one line begins with it.
    """
    from safetensors import SafetensorError

    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{field}: can't be loaded: {reason}") from error


def _looks_like_path(name: str) -> bool:
    """A Hugging Face id is `name` or `owner/name`; whatever else was meant as a path."""
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1 or name.endswith(_FILE_SUFFIXES) or "\\" in name


def _has_any(folder: Path, files: tuple[str, ...]) -> bool:
    return any((folder / file).is_file() for file in files) or any(folder.glob("*.safetensors"))


def _cached_snapshot(name: str, files: tuple[str, ...]) -> Path | None:
    """The snapshot folder in the Hugging Face cache, if it holds weights with all of their shards."""
    from huggingface_hub import try_to_load_from_cache

    for file in files:
        found = try_to_load_from_cache(name, file)
        if not isinstance(found, str):
            continue
        snapshot = Path(found).parent
        if not file.endswith(".index.json") or _shards_complete(Path(found)):
            return snapshot
    return None


def _shards_complete(index: Path) -> bool:
    from vla.models.weights.files import shard_names

    return all((index.parent / shard).is_file() for shard in shard_names(index))


def _probe_hub(name: str) -> str | None:
    """Ask the hub for one small file of the repository; None if it would be given, else what is in the way."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if is_offline():
        return "HF_HUB_OFFLINE forbids asking the hub"
    if not hub_answers():
        return "the hub can't be reached"
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=_PROBE_TIMEOUT)
    except EntryNotFoundError:
        return None  # the repository answers; it merely has no such file
    except GatedRepoError:
        return "the hub has it behind a licence form: accept it on the model's page and log in with `hf auth login`"
    except RepositoryNotFoundError:
        return "the hub has no such model, or it is private and needs `hf auth login`"
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            return f"the hub refuses it (HTTP {status}): check that you are logged in and may read it"
        return f"the hub answers with an error (HTTP {status})"
    except Exception as error:  # the client's own network errors, whose classes differ between its versions
        return f"the hub can't be reached ({type(error).__name__})"
    return None


def is_offline() -> bool:
    """Whether the environment forbids asking the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def hub_answers() -> bool:
    """Whether the hub's address takes connections; some versions of its client try for a minute before they give up."""
    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)
    if getproxies().get(address.scheme):
        return True  # the proxy knows; a direct connection needn't work
    port = address.port or (443 if address.scheme == "https" else 80)
    answers: list[bool] = []

    def connect() -> None:
        try:
            with socket.create_connection((address.hostname, port), timeout=_PROBE_TIMEOUT):
                answers.append(True)
        except OSError:
            return

    # in a thread, since the look-up of a name takes no timeout
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(2 * _PROBE_TIMEOUT)
    return bool(answers)
