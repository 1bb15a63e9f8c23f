"""Folders uploaded to the Hugging Face hub, and the head of their model cards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vla.errors import UserError
from vla.models.weights_source import hub_answers, is_offline

CARD = "README.md"
_FIELD = "repo"
_REFUSED = (401, 403)


def front_matter(values: Mapping[str, Any]) -> str:
    """What the hub reads at the beginning of a card; empty values are left out."""
    given = {name: value for name, value in values.items() if value}
    return f"---\n{yaml.safe_dump(given, sort_keys=False, allow_unicode=True)}---\n"


def check_hub() -> None:
    """Whether something can be uploaded from here, before anything large is made.

    Raises:
        UserError: There is no network, or no token; one line.
    """
    from huggingface_hub import get_token

    if is_offline():
        raise UserError(f"{_FIELD}: HF_HUB_OFFLINE forbids asking the hub; unset it to upload")
    if not get_token():
        raise UserError(f"{_FIELD}: uploading needs a token: log in with `hf auth login`, or set HF_TOKEN")
    if not hub_answers():
        raise UserError(f"{_FIELD}: the hub can't be reached; check the network, or HF_ENDPOINT")


def upload_folder(folder: Path, repository: str, *, private: bool = False, message: str = "Upload a model") -> str:
    """
    Upload all of a folder as one commit.

    Args:
        folder: What to upload.
        repository: "owner/name"; is made if need be.
        private: Whether a new repository is private; one that is there stays as it is.
        message: Of the commit.

    Returns:
        The commit's page.

    Raises:
        UserError: The hub can't be reached, or refuses; one line.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    check_hub()
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message))
    except HFValidationError as error:
        raise UserError(f'{_FIELD}: must be a name on the hub, "owner/name", got {repository!r}') from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in _REFUSED:
            advice = "check that the token may write, and that you may write there"
            raise UserError(f"{_FIELD}: the hub refuses {repository!r} (HTTP {status}): {advice}") from error
        raise UserError(f"{_FIELD}: the hub answers with an error (HTTP {status}) for {repository!r}") from error
    except Exception as error:  # the client's own network errors, whose classes differ between its versions
        raise UserError(f"{_FIELD}: the upload to {repository!r} broke off ({type(error).__name__})") from error
