"""Models by their Hugging Face id: where there is no network a loader asks for a minute before it says so."""

from pathlib import Path

_TIMEOUT_S = 5.0


def cached_folder(model: str, revision: str | None = None) -> Path | None:
    """The folder of this machine's cache that holds a model, where the hub cannot be asked for it; its name is the
    model's commit. None where the hub can be asked, and for a model that is a folder itself.

    One short question to the hub decides it. A cached model is not taken unasked where there is a
    network: what another program has left there may lack files, the pooling of an encoder for example.

    Raises:
        ValueError: the hub cannot be reached, and the cache has no such model.
    """
    if Path(model).expanduser().is_dir():
        return None
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(model, revision=revision, timeout=_TIMEOUT_S)
    except HfHubHTTPError:
        return None  # it answers, so the loader will say what is wrong, if anything is
    except Exception as error:  # the hub's HTTP library differs by version, and each has errors of its own
        cached = try_to_load_from_cache(model, "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached).parent
        raise ValueError(
            f"the model {model} is not on this machine, and the Hugging Face hub cannot be reached "
            f"({(str(error).strip() or type(error).__name__).splitlines()[0]}); download it where there is a network "
            f"(`hf download {model} --local-dir FOLDER`) and give that folder as the model"
        ) from error
    return None
