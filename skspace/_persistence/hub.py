"""A saved classifier's files at the Hugging Face hub: download by name, upload of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skspace._runtime.messages import first_line

__all__ = ["download", "upload"]


def download(repo_id: str, names: Sequence[str], revision: str | None = None) -> Path:
    """Return a folder with the named files of a repository at the hub; download those that this machine lacks.

    Raises
    ------
    OSError
        If the hub has no such repository, or cannot be reached.
    """
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        here = [try_to_load_from_cache(repo_id, name, revision=revision) for name in names]
        if all(isinstance(path, str) for path in here):
            return Path(str(here[0])).parent
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(names)))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise OSError(
            f"{repo_id!r} is neither a folder nor available at the hub ({first_line(error)}). Give a folder that "
            "SpaceClassifier.save_pretrained wrote, or the hub id of one, such as 'me/my-classifier'."
        ) from error


def upload(
    folder: Path, repo_id: str, *, private: bool | None, token: str | None, revision: str | None, message: str
) -> str:
    """Upload the files of a folder to a repository at the hub, which is created if needed.

    Returns
    -------
    str
        URL of the commit.

    Raises
    ------
    OSError
        If the hub refuses or cannot be reached; the token is not part of the message.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    try:
        repo = api.create_repo(repo_id, private=private, repo_type="model", exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repo, branch=revision, repo_type="model", exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo, folder_path=folder, repo_type="model", revision=revision, commit_message=message
        )
        return str(commit.commit_url)
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        reason = first_line(error)
        if token:
            reason = reason.replace(token, "…")
    # Raised outside the handler, so that the library's own message, which may hold the token, is not chained.
    raise OSError(
        f"The classifier could not be pushed to {repo_id!r} at the hub: {reason}. Check the name, the network and that "
        "the token may write there (hf auth login, or token=…)."
    )
