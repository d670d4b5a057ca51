"""Reading what people have: every clip found is an utterance or a line that says why it is none.

`open_source` streams the entries of a folder or a table; `measure` decodes one of them; `source_files` names all files
that an import reads. No torch.
"""

from cosytune.data.importers.identities import with_distinct_ids
from cosytune.data.importers.measuring import measure
from cosytune.data.importers.opening import open_source
from cosytune.data.importers.source import AUDIO_SUFFIXES, TRANSCRIPT_SUFFIXES, Entry, Source
from cosytune.data.importers.staleness import source_files

__all__ = [
    "AUDIO_SUFFIXES",
    "TRANSCRIPT_SUFFIXES",
    "Entry",
    "Source",
    "measure",
    "open_source",
    "source_files",
    "with_distinct_ids",
]
