"""Options that belong together: where a sweep runs, what is healed. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ..errors import BadInput
from ..search.report import FORMATS, STATISTICS, TableChoice
from ..search.searches import SEARCH_ENTRIES
from ..search.settings import (
    ALL_FOREIGN,
    METHODS,
    HealSettings,
    Method,
    refuse_foreign,
)
from ..search.store import checked_folder
from ..search.training import (
    NEEDS_CLEAN,
    TRAINED_METHODS,
    TUNE_SEARCHES,
    Parameters,
    TrainedMethod,
    TuneSettings,
)
from ..search.used_arguments import refuse_unused

Device = Literal["auto", "cpu", "cuda"]
Topic = Literal["datasets", "models", "attacks", "methods", "searches", "presets", "sweeps"]
Picture = Literal["png", "svg", "pdf"]
# a type checker sees texts, whoever reads the annotation while theriac runs sees the choices
if TYPE_CHECKING:
    AnySearch = str
    Format = str
    Statistic = str
else:
    Format = Literal[("terminal", *(name for name in FORMATS if name != "text"))]
    Statistic = Literal[STATISTICS]
    AnySearch = Literal[tuple(dict.fromkeys(("auto", *SEARCH_ENTRIES, *TUNE_SEARCHES)))]


def in_use(type_: Any, paths: Sequence[Path]) -> None:
    """Import the user's own modules."""
    from ..datasets.own_code import use_code  # few have any, and `--help` is instant

    for path in paths:
        use_code(path)


Code = Annotated[
    tuple[Path, ...],
    Parameter(
        name="--code",
        consume_multiple=False,
        validator=in_use,
        help="A module of your own (my_parts.py, or a package's folder) whose models, datasets and triggers "
        "are named as my_parts:Name; it goes to every node. May be given again.",
    ),
]


def folder(type_: Any, tokens: Sequence[Any]) -> Path:
    """Take a folder from the command line, where "" would otherwise be the current one."""
    return checked_folder(tokens[0].value, "folder")


Some = Annotated[int, Parameter(validator=Number(gte=1))]
Folder = Annotated[Path, Parameter(converter=folder)]
Results = Annotated[Folder, Parameter(help="Folder of results.")]
Other = Annotated[Path | None, Parameter(converter=folder)]
Data = Annotated[Other, Parameter(help="Datasets; by default the variable THERIAC_DATA, else ./data.")]
Set = Annotated[list[str], Parameter(name="--set", consume_multiple=False)]
AsJson = Annotated[bool, Parameter(name="--json", help="As JSON.")]
Seed = Annotated[int, Parameter(validator=Number(gte=0, lt=2**63))]
Seconds = Annotated[float, Parameter(validator=Number(gt=0))]
Verbose = Annotated[bool, Parameter(name=["--verbose", "-v"], help="Let Ray and the workers log to stderr.")]


class Where(BaseModel):
    """Where a sweep runs.

    Attributes:
        store: Models and importances: a folder that all nodes see, or s3://..., gs://...; by default RESULTS.
        address: Join a Ray cluster: auto, or the address of its head. By default a local Ray on the loopback.
        workers: Most workers; by default one for each GPU, or else for each CPU.
        device: auto takes GPUs if there are any.
        per_gpu: Workers that share a GPU; by default those that fit, where earlier runs have measured it.
        data: Folder of the datasets; by default the variable THERIAC_DATA, else ./data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: str | None = None
    address: str | None = None
    workers: int | None = Field(default=None, ge=1, le=2**31)
    device: Device = "auto"
    per_gpu: int | None = Field(default=None, ge=1, le=2**31)
    data: Path | None = None


class Subject(BaseModel):
    """A model to be healed, and the samples that show what of.

    Attributes:
        weights: The poisoned model: a safetensors file, or a torch.save checkpoint of a state dict.
        forget: The samples known to be poisoned, under the labels they were trained with: class folders
            (FORGET/LABEL/*.png) or Parquet image files.
        retain: The rest of the training set, in either form; it may hold poison not yet found.
        clean: Images known to be clean, in either form; ft, fp, nad, nc and ibau need them, the others
            refuse them.
        model: Architecture: resnet9, or any name timm knows.
        width: Width factor of our own architectures.
        num_classes: Logits of the model; by default the number of classes in CLASSES or RETAIN.
        classes: File of the class names in the order of the model's outputs: one a line, or JSON (a list,
            {"name": number} or {"number": "name"}); by default the names in RETAIN, numbers as numbers.
        device: auto, cpu, cuda, cuda:1, ...
        seed: Of a method that trains; the others draw nothing, and refuse it.
        trust_pickle: Also read checkpoints that run code when loaded. Only for files whose author you trust.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: Path
    forget: Path
    retain: Path
    clean: Path | None = None
    model: str = "resnet9"
    width: FiniteFloat = 1.0
    num_classes: int | None = Field(default=None, ge=1, le=2**31)
    classes: Path | None = None
    device: str = "auto"
    seed: int = Field(default=0, ge=0, lt=2**63)
    trust_pickle: bool = False

    def check_used(self, method: str) -> None:
        """Check that the method uses what only some methods do, and has what it needs.

        Raises:
            BadInput: it does not, or has not.
        """
        if method in NEEDS_CLEAN and self.clean is None:
            raise BadInput(
                f"the method {method} needs images that are known to be clean; give some as --clean, or "
                f"choose a method that needs none (theriac list methods)"
            )
        seed = self.seed if "seed" in self.model_fields_set else None
        refuse_unused(method, named="--{}".format, clean=self.clean, seed=seed)


class HealOptions(HealSettings):
    """What `theriac heal` offers: the settings of methods that dampen, and of those that train.

    Attributes:
        method: ssd, lf and xlf dampen; the others train, see `theriac list methods`.
        search: how settings are found, see `theriac list searches`; methods that train have tpe and fixed
            (one run, with the defaults and --set); auto: ptn, or tpe for those.
        samples: (tpe) how many settings; by default 50 pairs, or 20 settings of a method that trains.
        rho: (ptn, methods that train) the model is healed at this share of its forget accuracy, in [0, 1);
            "auto" (ptn) derives it from how often the model predicts the target class on retain, which tasks
            of few classes need.
        compared: how many samples of retain, drawn at random, the model before and after is compared on; by
            default all, or 5000 for a method that trains.
        together: (methods that train) settings of a round, which know nothing of each other.
        pareto: (methods that train) look for the Pareto front of forgetting and of agreement on retain.
        sampler_seed: (methods that train) of the sampler.
    """

    method: Method | TrainedMethod = "xlf"
    search: AnySearch = "auto"
    together: int = Field(default=1, ge=1, le=2**31)
    pareto: bool = False
    sampler_seed: int = Field(default=0, ge=0, lt=2**32)

    @field_validator(*ALL_FOREIGN, mode="before")
    @classmethod
    def _of_the_search(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what the search does not use, as `HealSettings` does.

        `given` finds what a method that trains does not use.
        """
        if info.data.get("method") in METHODS:
            search = info.data.get("search")
            refuse_foreign("ptn" if search == "auto" else search, info.field_name)
        return value

    def given(self, parameters: Parameters) -> dict[str, Any]:
        """Return what was given, as `theriac.heal` takes it; ``parameters`` are of a method that trains.

        Raises:
            BadInput: an option that the method does not use.
        """
        trains = self.method in TRAINED_METHODS
        fields = TuneSettings.model_fields if trains else HealSettings.model_fields
        values = {name: value for name, value in self if name in self.model_fields_set}
        if self.search == "auto":
            values.pop("search", None)
        foreign = [name for name in values if name not in fields] + ["set"] * bool(parameters and not trains)
        if foreign:
            raise BadInput(
                f"--{foreign[0].replace('_', '-')}: the method {self.method} does not use this; leave it "
                f"out, or choose a method that {'dampens' if trains else 'trains'} (theriac list methods)"
            )
        return {**values, "method": self.method, **({"parameters": dict(parameters)} if parameters else {})}


class TableOptions(BaseModel):
    """What of the results a table shows.

    Attributes:
        filter: Only these rows: 'share > 0.1 and method = xlf', 's_step in (1.01, 1.1)'.
        aggregate: Average over seeds; whatever else differs parts lines. The options below imply it.
        pool: Average over these fields instead, such as: seed share.
        group_by: A line for each value of these fields; it is an error if rows of a line differ in others.
        statistic: mean ± sd (standard deviation), mean [interval] (95 %, bootstrap over victims), or median.
        pivot: Values of this field side by side, such as: share.
        explain: List the rows behind a number: line, counted from 1, and measure, such as 3:healed.
        preset: A table of the papers, such as potion-table1: ours, the printed value, and what is missing.
        loose: (preset) Also count rows of other set-ups; in what they differ is said below.
        best: Mark what is better than all other methods beyond chance (sign-flip test over victims).
        columns: Only these measures, such as: healed damage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    filter: str = ""
    aggregate: bool = False
    pool: tuple[str, ...] = ("seed",)
    group_by: tuple[str, ...] = ()
    statistic: Statistic = "sd"
    pivot: str = ""
    explain: str = ""
    preset: str = ""
    loose: bool = False
    best: bool = False
    columns: tuple[str, ...] = ()

    @field_validator("pool", "group_by", "columns", mode="after")
    @classmethod
    def _apart(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        """Take names parted by commas, too."""
        return tuple(name for value in values for name in value.replace(",", " ").split())

    @model_validator(mode="after")
    def _of_one_sort(self) -> TableOptions:
        own = {"aggregate", "pool", "group_by", "statistic", "best", "pivot", "columns"}
        foreign = sorted(self.model_fields_set & (own if self.preset else {"loose"}))
        if foreign:
            reason = (
                "a published table says itself what it averages" if self.preset else "it goes with --preset"
            )
            raise BadInput(f"--{foreign[0].replace('_', '-')}: {reason}; leave it out")
        return self

    @property
    def choice(self) -> TableChoice:
        """Return what `searches_table` takes."""
        given = self.model_fields_set & {"pool", "group_by", "statistic", "best"}
        return TableChoice(
            aggregate=self.aggregate or bool(given),
            where=self.filter,
            pool=self.pool,
            by=self.group_by,
            columns=self.columns,
            statistic=self.statistic,
            pivot=self.pivot,
            best=self.best,
        )


Table = Annotated[TableOptions, Parameter(name="*")]

FIGURE_SUFFIXES = (".pdf", ".png", ".svg", ".jpg", ".jpeg", ".eps", ".ps")


def check_figure_folder(folder: Path | None) -> None:
    """Refuse the name of a figure where a folder for several is meant.

    Raises:
        BadInput: names the option and a folder.
    """
    if folder is not None and folder.suffix.lower() in FIGURE_SUFFIXES and not folder.is_dir():
        raise BadInput(
            f"--to {folder} is the name of one figure, and several are drawn; give a folder, such as "
            f"--to {folder.with_suffix('')}"
        )


class Preprocessing(BaseModel):
    """How stored images become what the model was trained on.

    Attributes:
        image_size: Resize (shorter side) and centre-crop to this side; by default as stored.
        channels: 1 for grey, 3 for RGB.
        mean: Normalisation as in training: mean of images in [0, 1], one number or one a channel.
        std: Normalisation as in training: standard deviation, one number or one a channel.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int | None = Field(default=None, ge=2, le=65_536)
    channels: int = 3
    mean: tuple[FiniteFloat, ...] = (0.0,)
    std: tuple[FiniteFloat, ...] = (1.0,)

    @field_validator("channels")
    @classmethod
    def _grey_or_colour(cls, value: int) -> int:
        if value not in (1, 3):
            raise ValueError("give 1 (grey) or 3 (RGB)")
        return value

    @field_validator("std")
    @classmethod
    def _above_zero(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if values and min(values) <= 0:
            raise ValueError("give numbers above 0")
        return values

    @model_validator(mode="after")
    def _one_a_channel(self) -> Preprocessing:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise ValueError(f"{name} {values}: give one number, or {self.channels}")
        return self
