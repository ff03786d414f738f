from .class_names import (
    read_class_names as read_class_names,
)
from .decoding import (
    READABLE as READABLE,
    EncodedImages as EncodedImages,
    decode as decode,
    in_memory as in_memory,
    opened as opened,
)
from .folder import (
    load_folder as load_folder,
)
from .image_tree import (
    SUFFIXES as SUFFIXES,
)
from .images import (
    ImageSource as ImageSource,
    check_labels as check_labels,
    on_device as on_device,
)
from .names import (
    DATASETS as DATASETS,
    Availability as Availability,
    DatasetSpec as DatasetSpec,
    ImageDataset as ImageDataset,
    LabelCounts as LabelCounts,
    MissingDataset as MissingDataset,
    available as available,
    data_folder as data_folder,
    labels_of as labels_of,
    load_dataset as load_dataset,
)
from .parquet import (
    load_parquet as load_parquet,
    visible_parquet as visible_parquet,
)
