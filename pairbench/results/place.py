"""Where results are, a folder or a url: everything that depends on which of them is chosen here."""

from __future__ import annotations

from pathlib import Path

from pairbench.errors import PairBenchError
from pairbench.results.folder import RunFiles, Store
from pairbench.secrets import shown


def is_url(place: Path | str) -> bool:
    """Whether results are named by a url, and not by a folder."""
    return isinstance(place, str) and "://" in place


def is_place(name: str) -> bool:
    """Whether a name is that of a folder there is, or of a url."""
    return is_url(name) or Path(name).is_dir()


def only_folder(place: str, who: str) -> Path:
    """Returns the folder that results are in, for what writes more than records there.

    Raises:
        PairBenchError: it is a url; the sentence begins with `who`.
    """
    if is_url(place):
        raise PairBenchError(f"{who} works in a folder, not at {shown(place)}: give one")
    return Path(place)


def open_store(place: Path | str) -> Store:
    """Returns the store of a folder, or of a url, to write to.

    Raises:
        PairBenchError: the url cannot be used.
    """
    if not is_url(place):
        return Store(Path(place))
    from pairbench.results.url.store import UrlStore

    return UrlStore(str(place))


def at_hand(place: Path | str) -> tuple[Path, list[str]]:
    """Returns a folder to read results from, and one sentence for each object left out of it.

    Raises:
        PairBenchError: it is a url that is out of reach, or that holds no results.
    """
    if not is_url(place):
        return Path(place), []
    from pairbench.results.url.objects import download

    return download(str(place))


def run_files(checkpoint: Path, log: Path | None, url: str | None) -> RunFiles:
    """Returns the files that a run's own process keeps, with `url` those of the same names there.

    Raises:
        PairBenchError: the url cannot be used here.
    """
    if url is None or log is None:
        return RunFiles(checkpoint, log)
    from pairbench.results.url.run_files import UrlRunFiles

    return UrlRunFiles(url, checkpoint.name, log.name)
