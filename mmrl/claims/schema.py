"""What a claim's file says, with types: the question, whose claim it is, the arms, what is measured, and the rule.

    name → question → source → miniature → seeds → data → base → cold_start → arms → evaluations → measures → rule
    → verdict → quick

`base` and every `set` are sections of a run's config (`config/schema.py`); a `set` is laid over what comes before it,
as a file is over the one it extends.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmrl.errors import unknown_name

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Positive = Annotated[int, Field(gt=0)]
Settings = dict[str, Any]  # sections of a run's config
Learner = Literal["rl", "sft"]
START = "start"  # the run folder of the cold start, and of its evaluations


class Section(BaseModel):
    """A part of the file: immutable, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceEntry(Section):
    """Whose claim it is."""

    title: str
    paper: Annotated[str, Field(pattern=r"^\d{4}\.\d{4,5}$")] = Field(description="its number on arXiv")
    says: str = Field(description="what it claims, in our words, with its numbers where it gives some")


class DataEntry(Section):
    """A data set, built once for all arms and seeds: from a recipe, or mixed of data sets named before it."""

    recipe: str | None = Field(None, description="a recipe's name, or a YAML file relative to the claim's file")
    settings: tuple[str, ...] = Field((), description="as `mmrl data build --set` takes them: n_train=300, size=56")
    seed: Annotated[int, Field(ge=0)] | None = Field(None, description="default: the recipe's")
    mix: tuple[Name, ...] = Field((), description="instead of recipe: as many rows of each, in every split they share")

    @model_validator(mode="after")
    def _one_source(self) -> DataEntry:
        if (self.recipe is None) == (not self.mix):
            raise ValueError("give either recipe, or mix: the names of data sets that stand before it")
        return self


class StageEntry(Section):
    """One training stage. Each begins with the model that the one before it left."""

    learner: Learner = Field("rl", description="rl: `mmrl train`; sft: `mmrl sft`, by targets or by preferences")
    data: Name | None = Field(None, description="the data set trained on; default: the first one")
    set: Settings = Field(default_factory=dict, description="over the arm's settings")


class ArmEntry(Section):
    """What is done to a copy of the cold start. Without stages: nothing, it is only evaluated."""

    says: str = Field(description="what it is, for the table")
    set: Settings = Field(default_factory=dict, description="over `base`, for all its stages and evaluations")
    stages: tuple[StageEntry, ...] = (StageEntry(),)


class EvaluationEntry(Section):
    """Samples that every arm is asked, greedily, with its own prompt and rewards unless `set` says otherwise."""

    data: Name
    split: str = "test"
    limit: Positive | None = Field(None, description="only the first n samples")
    set: Settings = Field(default_factory=dict, description="over the arm's settings")


Evaluated = Literal["accuracy", "format", "length", "truncated", "consistency"]
Reduced = Literal["mean", "std", "sum", "last", "lowest", "highest"]
Counted = Literal["steps", "updates", "rollouts", "tokens", "seconds"]


class MeasureEntry(Section):
    """A number of every arm and seed; exactly one of evaluated, forgotten, logged, reached, spent."""

    says: str = Field(description="what it is and its unit, for the table")
    better: Literal["higher", "lower"] | None = Field(None, description="for the reader; no rule looks at it")
    percent: bool = Field(False, description="show it times 100")

    evaluated: Evaluated | None = Field(None, description="of the final model's greedy answers")
    on: tuple[Name, ...] = Field((), description="evaluated: the evaluations it is the mean of")
    task: str | None = Field(None, description="evaluated: of this task's samples alone")

    forgotten: Evaluated | None = Field(
        None,
        description="its mean fall on a stage's data, from right after it to the end; of all stages but the last",
    )

    logged: str | None = Field(None, description="a metric of the last stage (docs/metrics.md)")
    minus: str | None = Field(None, description="logged: this metric taken off it, step by step")
    over: tuple[float, float] = Field((0.75, 1.0), description="logged: from which to which share of the steps")
    reduce: Reduced = Field("mean", description="logged: how steps become one number; std divides by n − 1")

    reached: str | None = Field(None, description="what was spent until this metric first reached `value`; else all")
    value: float | None = None
    counts: Counted = Field("steps", description="reached: what is counted")

    spent: Counted | None = Field(None, description="by all training stages, without cold start and evaluation")

    @model_validator(mode="after")
    def _one_kind(self) -> MeasureEntry:
        kinds = ("evaluated", "forgotten", "logged", "reached", "spent")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(kinds)}; here: {', '.join(given) or 'none'}")
        if self.evaluated and not self.on:
            raise ValueError("evaluated needs `on`: the names of evaluations")
        if self.reached and self.value is None:
            raise ValueError("reached needs `value`")
        if not 0 <= self.over[0] < self.over[1] <= 1:
            raise ValueError("over must be two shares of the steps, the smaller one first: [0.75, 1.0]")
        return self


class RuleEntry(Section):
    """How sure a statement must be. Intervals are of the mean over seeds of paired differences."""

    interval: Literal["t", "bootstrap"] = Field("t", description="Student's, or the percentile bootstrap")
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    least_seeds: Annotated[int, Field(ge=2)] = Field(5, description="with fewer, no statement is decided")


class StatementEntry(Section):
    """One comparison of the claim: a measure of one arm against another's, seed by seed."""

    says: str = Field(description="the statement in words")
    measure: Name
    arm: Name
    against: Name
    expect: Literal["higher", "lower", "no_lower", "no_higher"]
    least: Annotated[float, Field(ge=0)] = Field(
        0.0, description="higher, lower: the smallest mean difference that counts as one, in the measure's unit"
    )
    margin: Annotated[float, Field(ge=0)] = Field(
        0.0, description="no_lower, no_higher: the largest loss that counts as none, in the measure's unit"
    )
    decides: bool = Field(True, description="false: an ablation that is looked at beside, without a say in the verdict")

    @model_validator(mode="after")
    def _least_or_margin(self) -> StatementEntry:
        directed = self.expect in ("higher", "lower")
        if directed and self.margin:
            raise ValueError("margin belongs to no_lower and no_higher; give `least`")
        if not directed and self.least:
            raise ValueError("least belongs to higher and lower; give `margin`")
        if not directed and not self.margin:
            raise ValueError("no_lower and no_higher need a margin above 0: no number of seeds shows a loss of 0")
        if self.arm == self.against:
            raise ValueError("an arm cannot be compared with itself")
        return self


class QuickEntry(Section):
    """What `--quick` changes: minutes instead of a quarter of an hour; too little for a verdict."""

    seeds: Positive = 1
    arms: tuple[Name, ...] = Field((), description="only these; default: all")
    set: Settings = Field(default_factory=dict, description="over the configs of all stages and evaluations of arms")
    cold_start: Settings = Field(default_factory=dict, description="over the configs of the cold start")


class Claim(Section):
    """A claim and how it is tried."""

    name: Name
    question: str
    source: SourceEntry
    miniature: str = Field(description="what stands for what here, and what this can and cannot show")
    seeds: Positive = 5
    data: dict[Name, DataEntry] = Field(min_length=1)
    base: Settings = Field(description="the run config that arms change; data, model.path and run are filled in")
    cold_start: tuple[StageEntry, ...] = Field(description="stages from random weights; once per seed, for all arms")
    arms: dict[Name, ArmEntry] = Field(min_length=2)
    evaluations: dict[Name, EvaluationEntry] = Field(min_length=1)
    measures: dict[Name, MeasureEntry] = Field(min_length=1)
    rule: RuleEntry = RuleEntry()
    verdict: tuple[StatementEntry, ...] = Field(min_length=1)
    quick: QuickEntry = QuickEntry()

    @model_validator(mode="after")
    def _names_are_known(self) -> Claim:
        first = next(iter(self.data))
        stages = [("cold_start", self.cold_start), *((f"arms.{name}", arm.stages) for name, arm in self.arms.items())]
        wanted: list[tuple[str, str, str, Any]] = [
            (f"{where}: data", "data set", stage.data or first, self.data) for where, of in stages for stage in of
        ]
        wanted += [(f"evaluations.{name}", "data set", e.data, self.data) for name, e in self.evaluations.items()]
        for name, measure in self.measures.items():
            wanted += [(f"measures.{name}.on", "evaluation", on, self.evaluations) for on in measure.on]
        for number, statement in enumerate(self.verdict):
            at = f"verdict.{number}"
            wanted += [(f"{at}.measure", "measure", statement.measure, self.measures)]
            wanted += [(f"{at}.{k}", "arm", getattr(statement, k), self.arms) for k in ("arm", "against")]
        wanted += [("quick.arms", "arm", name, self.arms) for name in self.quick.arms]
        before: list[str] = []
        for name, entry in self.data.items():
            wanted += [(f"data.{name}.mix", "data set before it", part, tuple(before)) for part in entry.mix]
            before += [name] if entry.recipe else []
        wrong = [f"{at}: {unknown_name(kind, name, known)}" for at, kind, name, known in wanted if name not in known]
        if START in self.arms:
            wrong.append(f"arms: {START!r} is the cold start's own folder; choose another name")
        if wrong:
            raise ValueError("\n  ".join(wrong))
        if not any(statement.decides for statement in self.verdict):
            raise ValueError("verdict: at least one statement must decide")
        return self

    def data_of(self, stage: StageEntry) -> str:
        """The name of the data set a stage trains on."""
        return stage.data or next(iter(self.data))
