from .layout import (
    FIGURES as FIGURES,
    Cell as Cell,
    Column as Column,
    Line as Line,
    PublishedTable as PublishedTable,
    cell_of as cell_of,
)
from .numbers import (
    Number as Number,
    numbers_of as numbers_of,
)
from .tables import (
    published_number as published_number,
    published_table as published_table,
    published_tables as published_tables,
)
