"""Any file of preference pairs: offline methods, ranked by held-out preference accuracy."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from pairbench.errors import PairBenchError
from pairbench.language.task import LanguageConfig, LanguageTask
from pairbench.places import PLACE, find
from pairbench.registry import register_task


@register_task("preference-file")
class PreferenceFile(LanguageTask):
    """A file of prompt, chosen and rejected; `--set preference-file.path=...` names it.

    Nothing scores completions here, so methods that need scores of their own samples are skipped.
    The file is known by its content: a record holds its hash.
    """

    source = "a file of the user's"
    dataset = "preference-file"

    class Config(LanguageConfig):
        """A language task's settings, and the file."""

        path: str = Field(
            "",
            description="a .jsonl, .json, .csv (or .gz of these) or .parquet file",
            json_schema_extra=PLACE,
        )

    config: Config

    @property
    def source_of_pairs(self) -> str:
        path = find(self.config.path)
        if not Path(path).is_file():
            raise PairBenchError(
                f"preference-file has no file {self.config.path!r}: "
                "name one with --set preference-file.path=FILE"
            )
        return path
