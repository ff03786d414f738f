from .artifacts import (
    ANOTHER_VICTIM as ANOTHER_VICTIM,
    VICTIM as VICTIM,
    ArtifactStore as ArtifactStore,
    StoredImportance as StoredImportance,
    StoredModel as StoredModel,
)
from .atomic import (
    write_atomically as write_atomically,
)
from .compaction import (
    compact as compact,
)
from .leftovers import (
    remove_stale as remove_stale,
)
from .locations import (
    checked_folder as checked_folder,
    masked as masked,
    masked_word as masked_word,
    shown as shown,
)
from .results import (
    PartsChanged as PartsChanged,
    ResultsStore as ResultsStore,
)
from .row_origin import (
    provenance as provenance,
    row_key as row_key,
)
from .schema_upgrade import (
    upgrade as upgrade,
)
from .schemas import (
    DESCRIBING as DESCRIBING,
    SCHEMAS as SCHEMAS,
    coded_schema as coded_schema,
)
from .small_files import (
    SMALL_BYTES as SMALL_BYTES,
    check_file as check_file,
    read_small as read_small,
)
from .storage import (
    read_probe as read_probe,
    remove_probes as remove_probes,
    write_probe as write_probe,
)
from .streaming import (
    newest_batches as newest_batches,
    repeated as repeated,
)
