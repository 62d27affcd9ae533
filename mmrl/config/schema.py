"""Every setting of a run, with its default, its range and its meaning: the config file *is* this page.

    run → model → data → prompt → rewards → scoring → sft → screening → algorithm → rollout → train → watch → tracking
    → evaluation → backend

Reading, `extends`, overrides and error messages live in `load.py`. Only `config/`, `build/`, `cli/` and the apps know
these classes; everything below receives plain values.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmrl.data.address import HOST

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A part of the config: immutable, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class RunConfig(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(
        description="folder name of the run under `folder`"
    )
    folder: str = Field("runs", description="where run folders live")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="everything random in the run derives from it")


class TinyModelConfig(Section):
    """A real model with random weights, small enough for two cores (see `policy/tiny.py`)."""

    family: Literal["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "lfm2_vl"] = Field(
        "qwen2_5_vl", description="its architecture: see `mmrl list families`"
    )
    hidden_size: Positive = Field(128, description="width of the language model; a multiple of heads")
    layers: Positive = Field(3, description="of the language model")
    heads: Positive = Field(4, description="of its attention; a multiple of key_value_heads")
    key_value_heads: Positive = Field(2, description="that its heads share")
    vision_depth: Positive = Field(2, description="layers of the vision tower")
    vision_hidden_size: Positive = Field(128, description="width of the vision tower")
    seed: int = Field(0, description="of the random weights")


class ModelConfig(Section):
    path: str | None = Field(None, description="a folder in Hugging Face layout, or a hub name")
    tiny: TinyModelConfig | None = Field(None, description="instead of path: make a tiny model for this run")
    four_bit: bool = Field(
        False, description="QLoRA: the decoder's weights in 4 bits, to train adapters beside (train.lora; bitsandbytes)"
    )
    min_pixels: Positive | None = Field(None, description="lower bound on a picture's area after resizing, pixels")
    max_pixels: Positive | None = Field(None, description="upper bound on a picture's area after resizing, pixels")
    trust_remote_code: bool = Field(
        False, description="run Python code that the model folder or hub repository brings; only for makers you trust"
    )

    @model_validator(mode="after")
    def _one_source(self) -> ModelConfig:
        if (self.path is None) == (self.tiny is None):
            raise ValueError("give either model.path (an existing model) or model.tiny (make one), not both")
        return self


class VideoConfig(Section):
    """Clips: how many frames are shown at which size, and what decoding may take. Samples may ask for other rates."""

    fps: Annotated[float, Field(gt=0)] = Field(2.0, description="frames sampled per second")
    min_frames: Annotated[int, Field(ge=2, multiple_of=2)] = Field(4, description="at least so many, where there are")
    max_frames: Annotated[int, Field(ge=2, multiple_of=2)] = Field(768, description="at most so many")
    min_pixels: Positive | None = Field(
        None, description="lower bound on a frame's area after resizing, pixels; default: 128 visual tokens' worth"
    )
    max_pixels: Positive | None = Field(None, description="upper bound on it; default: 768 visual tokens' worth")
    total_pixels: Positive | None = Field(
        None, description="upper bound on a clip's area over all pairs of frames; default: 115,200 visual tokens' worth"
    )
    deadline_seconds: Annotated[float, Field(gt=0)] = Field(60.0, description="decoding a clip is killed after that")
    memory_gib: Annotated[float, Field(gt=0)] = Field(4.0, description="and when its process holds more memory")

    @model_validator(mode="after")
    def _bounds_in_order(self) -> VideoConfig:
        if self.min_frames > self.max_frames:
            raise ValueError("video.min_frames is above video.max_frames; correct one of them")
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError("video.min_pixels is above video.max_pixels; correct one of them")
        return self


class UrlsConfig(Section):
    """Pictures and clips that manifests name by http or https address (docs/media.md). Off unless allowed."""

    allow: bool = Field(False, description="fetch them before the run; false: a manifest that names one is refused")
    hosts: tuple[Annotated[str, Field(pattern=HOST.pattern)], ...] = Field(
        (), description="that may be asked, also where redirects lead: images.org, *.images.org, images.org:8080, *"
    )
    folder: str = Field("fetched", description="what was fetched, by content; runs share it")
    max_mib: Annotated[float, Field(gt=0)] = Field(64.0, description="largest file")
    deadline_seconds: Annotated[float, Field(gt=0)] = Field(
        60.0, description="most for one file, from looking up the name to the last byte"
    )
    max_redirects: Annotated[int, Field(ge=0, le=20)] = Field(5, description="that one address may lead through")
    attempts: Annotated[int, Field(ge=1, le=10)] = Field(3, description="where the trouble may be a passing one")
    at_once: Annotated[int, Field(ge=1, le=64)] = Field(8, description="files fetched at a time")

    @model_validator(mode="after")
    def _hosts_are_named(self) -> UrlsConfig:
        if self.allow and not self.hosts:
            raise ValueError("data.urls.allow needs data.urls.hosts: whose files may be fetched, [images.org]")
        return self


class DataConfig(Section):
    recipe: str | None = Field(None, description="a data recipe (YAML) that `mmrl run` builds into the run folder")
    train: str | None = Field(None, description="instead of recipe: manifest to train on")
    validation: str | None = Field(None, description="manifest to evaluate on during training")
    test: str | None = Field(None, description="manifest to evaluate on before and after")
    urls: UrlsConfig = UrlsConfig()

    @model_validator(mode="after")
    def _some_source(self) -> DataConfig:
        if self.recipe is None and self.train is None:
            raise ValueError("give either data.recipe (built by the run) or data.train (a manifest)")
        if self.recipe is not None and (self.train or self.validation or self.test):
            raise ValueError("data.recipe makes the manifests; remove data.train, data.validation and data.test")
        if self.recipe is not None and self.urls.allow:
            raise ValueError("data.urls serves manifests; a recipe reads files: fetch them first, or remove data.urls")
        return self


class PromptConfig(Section):
    mode: Literal["think_answer", "answer", "think", "observe", "vanilla"] = Field(
        "think_answer",
        description="which form is asked for: reasoning and answer in tags, the answer alone in its tag; "
        "or vsGRPO's three: step by step, observations first, no tags at all",
    )
    system: str | None = Field(None, description="system message; default: none")


class RewardConfig(Section):
    """One reward of a task's set: a name of the catalogue, or `path: my_pkg.rewards:area`."""

    name: str | None = Field(None, description="of the catalogue: `mmrl list rewards`, docs/rewards.md")
    path: str | None = Field(None, description="instead of name: an importable `module:function`")
    weight: float = Field(1.0, description="the total is the sum of weight times value")
    options: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the reward")
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(5.0, description="for one completion; then on_failure")
    on_failure: Literal["zero", "leave_out"] = Field(
        "zero", description="when it raises or runs out of time: value 0, or the rollout leaves its group"
    )
    normalize: bool = Field(False, description="map the value from the reward's range to [0, 1] before weighting")

    @model_validator(mode="after")
    def _one_source(self) -> RewardConfig:
        if (self.name is None) == (self.path is None):
            raise ValueError("a reward needs either name (from `mmrl list rewards`) or path (module:function)")
        return self


class ScoringConfig(Section):
    """How rewards run. Those whose time is bounded run in the trainer; the others in processes that can be killed."""

    workers: Positive = Field(2, description="most reward processes at a time")
    memory_gib: Annotated[float, Field(ge=0)] = Field(
        8.0, description="a reward process's limit on memory; 0: none (needed by rewards that use a GPU)"
    )
    stop_after_failures: Positive = Field(64, description="failures of one reward in a row that end the run")


class PreferenceConfig(Section):
    """DPO: the right target preferred to one with an altered answer (`training/preference.py`)."""

    beta: Annotated[float, Field(gt=0)] = Field(0.1, description="how far log-odds may move from where they began")


class ColdStartConfig(Section):
    """Supervised cold start: teaches the form, and as much of the task as its samples and steps give."""

    steps: Positive = Field(150, description="optimiser updates")
    samples: Positive | None = Field(None, description="use only the first n samples of the shuffled train split")
    samples_per_step: Positive = Field(64, description="samples in each")
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-3, description="at its highest; it falls along a line")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(10, description="in which it rises from 0")
    thoughts: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("Let me look at the picture.",),
        description="reasoning written into the targets, one drawn per sample; `{answer}` stands for the right "
        "option's text (or the number), `{other}` for a wrong one's: reasoning that the answer does not follow from",
    )
    preference: PreferenceConfig | None = Field(None, description="absent: the targets are imitated")


class ScreeningConfig(Section):
    """Before RL: how often the policy it starts from is right on each training sample (docs/curation.md, difficulty).

    Written into the samples' metadata: `pass_rate` for filters and samplers, `base_completion` for DPH-RL.
    """

    rollouts: Positive = Field(8, description="completions of each sample")


class VllmConfig(Section):
    """How much of its machine vLLM takes (engines vllm and vllm_server). See docs/rollouts.md."""

    dtype: Literal["float32", "bfloat16"] | None = Field(None, description="of its weights; default: backend.dtype")
    max_model_len: Positive | None = Field(
        None, description="longest prompt and completion together, tokens; default: what the model's config allows"
    )
    max_sequences: Positive = Field(256, description="completions written at a time")
    memory_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.4, description="of its GPU's memory: weights, keys and values; 0.9 suits a server with a GPU of its own"
    )
    cache_gib: Annotated[float, Field(gt=0)] | None = Field(
        None, description="for keys and values; default: 1 on a CPU, on a GPU what memory_share leaves"
    )
    eager: bool = Field(False, description="no CUDA graphs: starts sooner, decodes more slowly")


class ServersConfig(Section):
    """Servers behind engine vllm_server: `start` so many here, or use those at `urls` (`mmrl serve`)."""

    start: Positive | None = Field(None, description="processes started on this machine (by each rank), ended with it")
    urls: tuple[str, ...] = Field(
        (), description="instead of start: http://host:port of servers that run already; ranks take them in turn"
    )
    gpus: tuple[int, ...] = Field(
        (),
        description="numbers of the servers' GPUs, in order; with start those of each of a machine's ranks, one after "
        "the other; empty: those the run sees",
    )
    sync: Literal["group", "file"] = Field("group", description="weights over process groups, or through a file")
    folder: str | None = Field(None, description="for that file, readable by every server; default: a temporary one")
    address: str = Field("127.0.0.1", description="of this machine, as the servers see it")
    start_seconds: Annotated[float, Field(gt=0)] = Field(600.0, description="most until vLLM is ready")
    generate_seconds: Annotated[float, Field(gt=0)] = Field(600.0, description="most for a server's share of a step")
    sync_seconds: Annotated[float, Field(gt=0)] = Field(
        300.0, description="most that one server may keep the others waiting for weights"
    )
    retry_seconds: Annotated[float, Field(ge=0)] = Field(
        60.0, description="until a server that failed is tried again; then twice that, up to 16 times; 0: never"
    )

    @model_validator(mode="after")
    def _one_source(self) -> ServersConfig:
        if (self.start is None) == (not self.urls):
            raise ValueError("give either rollout.servers.start (how many) or rollout.servers.urls, not both")
        return self


class CorrectionConfig(Section):
    """What is done where the engine's log-probabilities are not the trainer's (docs/rollouts.md, mismatch)."""

    kind: Literal["auto", "truncated", "masked", "none"] = Field(
        "auto", description="importance weight per token; auto: truncated, none where the engine is the trained policy"
    )
    cap: Annotated[float, Field(ge=1)] = Field(
        2.0, description="largest weight (truncated); a token of a larger one is left out (masked)"
    )
    floor: Fraction = Field(0.5, description="masked: a token of a smaller weight is left out")


class RolloutConfig(Section):
    engine: Literal["transformers", "vllm", "vllm_server"] = Field(
        "transformers", description="what samples: the trained module itself, vLLM in this process, or vLLM on servers"
    )
    vllm: VllmConfig = VllmConfig()
    servers: ServersConfig = Field(ServersConfig(start=1), description="for engine vllm_server")
    correction: CorrectionConfig = CorrectionConfig()
    parity_threshold: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="nats per token between engine and trainer that stop a run at its start; default: 0.001 in "
        "float32, 0.05 in bfloat16; .inf: not looked at",
    )
    ahead: Literal[0, 1] = Field(
        0, description="versions the sampling weights may be behind: 1 samples a step while the one before is trained"
    )
    prompts_per_step: Positive = Field(16, description="groups that a step learns from")
    max_refills: Annotated[int, Field(ge=0)] = Field(
        3, description="rounds of asking further samples in place of dropped groups (broken media, filters)"
    )
    group_size: Annotated[int, Field(ge=1)] = Field(8, description="rollouts per prompt (G)")
    max_tokens: Positive = Field(256, description="longest completion, end token included")
    temperature: Annotated[float, Field(gt=0)] = Field(
        1.0, description="of training rollouts; below 1 more certain, above 1 more varied"
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="only the likeliest tokens that make up this share; 1: all"
    )
    top_k: Annotated[int, Field(ge=0)] = Field(0, description="0: no limit")
    stop: tuple[str, ...] = Field((), description="strings that end a completion; they stay in its text")


class LoraConfig(Section):
    """Low-rank adapters: only they train, the model itself stays. There is no dropout (see `policy/adapters.py`)."""

    rank: Positive = Field(16, description="of the adapters: how much they can change, and how large they are")
    alpha: Annotated[float, Field(gt=0)] = Field(32.0, description="the adapters' output is scaled by alpha / rank")
    targets: tuple[str, ...] = Field(
        (), description="last names of the linear layers that get one (q_proj, v_proj, …); empty: all but the head"
    )
    parts: Annotated[tuple[Literal["vision", "projector", "language"], ...], Field(min_length=1)] = Field(
        ("language",), description="of the model, in which such layers are looked for"
    )
    magnitude: bool = Field(False, description="DoRA: also learn the length of each row of the weights")


class PartRatesConfig(Section):
    """Learning rates of parts of the model; a part without one learns at train.learning_rate.

    The cold start keeps their proportions to that rate.
    """

    vision: Annotated[float, Field(gt=0)] | None = Field(None, description="of the tower")
    projector: Annotated[float, Field(gt=0)] | None = Field(None, description="of what joins tower and language model")
    language: Annotated[float, Field(gt=0)] | None = Field(None, description="of the language model")


class KeepBestConfig(Section):
    """The checkpoint that stays besides the latest ones: its step logged the best value of `metric`."""

    metric: str = Field(description="as in metrics.jsonl (eval/choice_accuracy); only steps that log it count")
    best: Literal["highest", "lowest"] = Field("highest", description="which values of it are better")


class TrainConfig(Section):
    steps: Positive = Field(100, description="RL steps, counted from the beginning of the run")
    sampler: str | dict[str, Any] = Field(
        "shuffled",
        description="which samples come when: shuffled, or another of docs/algorithms.md, or {type: …, setting: …}",
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-6, description="at its highest; adapters take a larger one")
    part_learning_rates: PartRatesConfig = PartRatesConfig()
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        "adamw", description="adamw_8bit: its memory in 8 bits (bitsandbytes)"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="of the learning rate after the warm-up"
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(0, description="in which it rises from 0")
    final_learning_rate_fraction: Fraction = Field(0.0, description="where linear and cosine end, of learning_rate")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0, description="AdamW's, times the learning rate, each update"
    )
    betas: tuple[Fraction, Fraction] = Field(
        (0.9, 0.999), description="AdamW's memory of gradients and of their squares"
    )
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="longer gradients are shortened to this")
    minibatches: Positive = Field(1, description="optimiser updates per step's rollouts; above 1 the clip matters")
    micro_batch_tokens: Positive = Field(16384, description="packed tokens per forward/backward; changes memory only")
    checkpoint_every: Positive = Field(50, description="steps between checkpoints")
    keep_checkpoints: Positive = Field(2, description="how many of the latest stay on disk")
    keep_best: KeepBestConfig | None = Field(None, description="and the best by a metric; absent: no such")
    checkpoints_beside: bool = Field(
        True, description="write them beside the training where one process has memory for a copy; else it waits"
    )
    stop_after_skipped: Positive = Field(
        3, description="steps in a row with an update skipped for a loss or gradient that is not finite: ends the run"
    )
    freeze: tuple[Literal["vision", "projector", "language"], ...] = Field((), description="parts that do not train")
    lora: LoraConfig | None = Field(None, description="train low-rank adapters only; absent: all that is not frozen")


class EvaluationConfig(Section):
    """How models are evaluated (docs/evaluation.md)."""

    samples_per_prompt: Positive = Field(4, description="completions per sample for pass@k; accuracy is greedy")
    ks: Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        (1, 4), description="which pass@k and majority@k; each at most samples_per_prompt · seeds"
    )
    decoding: Literal["greedy", "sampled"] = Field(
        "greedy", description="what accuracy is of: one greedy completion, or all sampled ones"
    )
    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="of sampled completions")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="of sampled completions; 1: all tokens")
    top_k: Annotated[int, Field(ge=0)] = Field(0, description="0: no limit")
    seeds: Positive = Field(1, description="how often samples_per_prompt are drawn, each time with other randomness")
    slice_by: tuple[str, ...] = Field(
        ("question_type", "level"), description="keys of metadata whose values are also reported apart"
    )
    likelihood: bool = Field(
        False, description="also GRPO-CARE's likelihood of the answers, under the model that RL starts from"
    )
    untrained: dict[Annotated[str, Field(pattern=r"^[\w-]+$")], str] = Field(
        default_factory=dict,
        description="name → manifest of tasks that are not trained, evaluated before and after: what was forgotten",
    )
    store: str | None = Field(
        None, description="folder where completions are kept by content, which runs may share; default: in the run's"
    )
    every: Annotated[int, Field(ge=0)] = Field(0, description="steps between evaluations on validation; 0: never")
    limit: Positive | None = Field(None, description="evaluate on the first n samples only")
    batch_prompts: Positive = Field(64, description="prompts generated together")

    @model_validator(mode="after")
    def _enough_samples(self) -> EvaluationConfig:
        if max(self.ks) > self.samples_per_prompt * self.seeds:
            raise ValueError(
                f"pass@{max(self.ks)} needs samples_per_prompt of at least {-(-max(self.ks) // self.seeds)}"
            )
        return self


Trouble = Literal[
    "entropy_collapse",
    "kl_explosion",
    "format_up_accuracy_down",
    "length_drift",
    "no_signal",
    "duplicates",
    "truncation",
    "engine_mismatch",
]


class WatchConfig(Section):
    """From where on the watcher calls something trouble. It warns; it ends the run only for kinds in `stop_on`."""

    window: Positive = Field(10, description="steps that are averaged; nothing is said before so many were logged")
    entropy_share: Fraction = Field(0.1, description="of the first window's entropy: less is a collapse")
    kl: Annotated[float, Field(gt=0)] = Field(1.0, description="nats per token from the reference policy")
    change: Fraction = Field(0.05, description="of format upwards and accuracy downwards between two windows")
    length_factor: Annotated[float, Field(gt=1)] = Field(2.0, description="longer or shorter than at first, by this")
    no_signal: Fraction = Field(0.9, description="share of groups whose rewards are all equal")
    duplicates: Fraction = Field(0.8, description="share of completions that repeat another of their group")
    truncated: Fraction = Field(0.3, description="share of completions cut at max_tokens")
    gap: Annotated[float, Field(gt=0)] = Field(0.2, description="mean nats per token between engine and trainer")
    effective: Fraction = Field(0.5, description="effective sample size of the engine's tokens: less is a mismatch")
    stop_on: tuple[Trouble, ...] = Field((), description="kinds of trouble that end the run, at a checkpoint")


Library = Literal["auto", "tensorboard", "wandb", "trackio", "mlflow"]


class TrackingConfig(Section):
    """Where metrics go besides metrics.jsonl, which is always written (see docs/tracking.md)."""

    to: tuple[Library, ...] = Field(
        ("auto",), description="auto: tensorboard where it is installed; or any of the others by name; []: nowhere"
    )
    project: str = Field("mmrl", description="the project (MLflow: experiment) that runs are filed under")


class BackendConfig(Section):
    """Where the policy trains. Several processes that torchrun or deepspeed started train together with either type."""

    type: Literal["torch", "deepspeed"] = Field(
        "torch",
        description="torch: every process holds the whole policy; deepspeed: spread over them (docs/many_gpus.md)",
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(
        2, description="deepspeed spreads: 1 the optimiser's memory; 2 and gradients; 3 and weights; 0 nothing"
    )
    offload_optimizer: Literal["none", "cpu"] = Field(
        "none", description="deepspeed, zero_stage 1 or more: where the optimiser's memory lies instead of the GPU"
    )
    offload_weights: Literal["none", "cpu"] = Field("none", description="deepspeed, zero_stage 3: the same of weights")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="number format of passes; the optimiser keeps float32 copies of bfloat16 weights"
    )
    threads: Positive | None = Field(None, description="CPU threads; default: all cores")
    attention: Literal["auto", "split", "flex", "sdpa"] = Field(
        "auto", description="kernel of packed attention; auto: split on CPU, flex (FlexAttention) on a GPU"
    )
    gradient_checkpointing: bool = Field(
        False, description="keep only what enters each layer and compute the rest again: less memory, a third more time"
    )
    silent_after_seconds: Annotated[float, Field(gt=0)] = Field(
        20.0, description="without a sign of life of another rank that end the run, which names it"
    )
    hung_after_seconds: Annotated[float, Field(gt=0)] = Field(
        1800.0, description="inside one call that waits for other ranks, which end the run; longer than any rollout"
    )


class Config(Section):
    """A run."""

    run: RunConfig
    model: ModelConfig
    data: DataConfig
    video: VideoConfig = VideoConfig()
    prompt: PromptConfig = PromptConfig()
    rewards: dict[str, tuple[RewardConfig, ...]] = Field(
        description="task → its rewards; the set named `default` serves tasks without one of their own, one named "
        "`task/number` one kind of a task's answers; absent beside data.recipe: the recipe's, and so is prompt.mode"
    )
    scoring: ScoringConfig = ScoringConfig()
    sft: ColdStartConfig | None = Field(None, description="absent: no cold start")
    screening: ScreeningConfig | None = Field(None, description="absent: the training samples are not screened")
    algorithm: str | dict[str, Any] = Field(
        "grpo", description="a catalogue name, or {base: name, slot: {type: part, …}, …}"
    )
    rollout: RolloutConfig = RolloutConfig()
    train: TrainConfig = TrainConfig()
    watch: WatchConfig = WatchConfig()
    tracking: TrackingConfig = TrackingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    backend: BackendConfig = BackendConfig()
