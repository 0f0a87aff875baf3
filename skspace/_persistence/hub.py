"""Files of ours at the Hugging Face hub: fetching named ones, and putting a folder there.

Door to huggingface_hub, with _model_files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skspace._runtime.messages import first_line

__all__ = ["download", "upload"]


def download(repo_id: str, names: Sequence[str], revision: str | None = None) -> Path:
    """Folder with some files of a repository at the hub: this machine's copy, else downloaded. Nothing else is fetched.

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
            f"There is neither a folder {repo_id!r}, nor can it be had from the hub ({first_line(error)}). Give a "
            "folder that SpaceClassifier.save_pretrained wrote, or the hub id of one, such as 'me/my-classifier'."
        ) from error


def upload(
    folder: Path, repo_id: str, *, private: bool | None, token: str | None, revision: str | None, message: str
) -> str:
    """Put the files of a folder into a repository at the hub, which is made if it is not there.

    Returns
    -------
    str
        Address of the commit.

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
        said = first_line(error)
        if token:
            said = said.replace(token, "…")
    # Outside of the handler: what the library said, which nobody here has checked for the token, is not chained.
    raise OSError(
        f"The classifier could not be pushed to {repo_id!r} at the hub: {said}. Check the name, the network and that "
        "the token may write there (hf auth login, or token=…)."
    )
