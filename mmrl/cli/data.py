"""`mmrl data`: build a data set, find what is wrong with one, look at it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmrl.cli.options import Quiet

if TYPE_CHECKING:
    from mmrl.types import Dropped, Sample

app = typer.Typer(no_args_is_help=True, help="Build data sets from recipes, check them and look at them.")

Manifest = Annotated[Path, typer.Argument(metavar="MANIFEST", help="A JSON-lines file.", show_default=False)]
NearBits = Annotated[
    int | None,
    typer.Option(
        "--near",
        metavar="BITS",
        min=0,
        max=16,
        help="Pictures that look alike count as the same: hashes may differ in so many of 63 bits. 4 is cautious.",
        show_default=False,
    ),
]


@app.command()
def build(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A name (digits) or a YAML file.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to make.", show_default=False)],
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the recipe's own.", show_default=False)] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="n_train=500, or an option: size=84. May be repeated.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Build the data set of a recipe: a manifest per split, media, and a lock that says what it was built from.

    The same recipe and seed give the same files. A folder that holds something else is never overwritten.

    \b
    Examples:
      mmrl data build digits --out data/digits
      mmrl data build scenes --out data/scenes --set n_train=500 --set size=224
      mmrl data build my_recipe.yaml --out data/mine --seed 1
    """
    from mmrl.cli.console import print_table, progress
    from mmrl.data.recipe import build_recipe
    from mmrl.data.recipe_file import load_recipe
    from mmrl.rewards.build import reward_uses

    rewards = load_recipe(recipe, seed=seed, settings=settings or ())[0].rewards
    if rewards:
        reward_uses(rewards)  # a misspelt reward is named before anything is built
    report = build_recipe(recipe, out, seed=seed, settings=settings or (), progress=progress(quiet=quiet))
    print_table(
        ("split", "samples", "manifest"),
        [(split, report.counts[split], _near(path)) for split, path in report.manifests.items()],
    )
    if report.dropped:
        print()
        print_table(("left out because", "rows"), list(report.dropped.items()))
        print(f"Which ones: {_near(report.folder / 'dropped.jsonl')}")
    if report.already_there:
        print("It was already there, unchanged; nothing was written.")


@app.command()
def validate(
    manifest: Manifest,
    media: Annotated[bool, typer.Option("--media/--no-media", help="Also decode every picture.")] = True,
    quiet: Quiet = False,
) -> None:
    """List every defect of a manifest, by line, with what to do about it.

    Exit code 2 if a run would refuse the manifest. Pictures that cannot be decoded do not count as that: a run drops
    their samples and goes on; they are listed all the same.

    \b
    Examples:
      mmrl data validate data/digits/train.jsonl
      mmrl data validate huge.jsonl --no-media
    """
    from mmrl.cli.console import print_table, progress
    from mmrl.data.manifest import validate_manifest
    from mmrl.errors import DataError

    report = validate_manifest(manifest, check_media=media, progress=progress(quiet=quiet))
    for problem in (*report.problems, *report.broken_media):
        print(problem)
    if report.broken_media:
        print()
        print_table(("broken media: a run would drop these", "files named"), list(report.broken_reasons.items()))
    if not report.sound:
        raise DataError(f"{manifest} has {len(report.problems)} problem(s), listed above; a run would refuse it.")
    checked = "every picture was decoded" if media else "media were not looked at"
    print(f"{manifest} is sound: {len(report.samples)} samples; {checked}.")


@app.command()
def stats(manifest: Manifest) -> None:
    """Count samples by task, answer type, split, media and right option.

    A policy can learn to guess a letter that is right too often: look at the shares.

    \b
    Example:
      mmrl data stats data/digits/train.jsonl
    """
    from mmrl.cli.console import print_table
    from mmrl.curation.stats import sample_stats
    from mmrl.data.manifest import read_manifest

    found = sample_stats(read_manifest(manifest))
    print(f"{found.samples} samples, {found.files} different media files")
    counted: dict[str, dict[str, int]] = {
        "task": dict(found.tasks),
        "answer type": dict(found.answer_types),
        "split": dict(found.splits),
        "media": dict(found.media),
        "options": {str(number): count for number, count in found.options.items()},
        "right option": dict(found.letters),
    }
    for head, counts in counted.items():
        if counts:
            print()
            whole = sum(counts.values())
            print_table((head, "samples", "share"), [(n, c, f"{c / max(whole, 1):.1%}") for n, c in counts.items()])


@app.command()
def preview(
    manifest: Manifest,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="Write a page.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many samples, from the first.")] = 20,
) -> None:
    """Show the first samples: a table here, or with --out a page with pictures that opens in any browser.

    \b
    Examples:
      mmrl data preview data/digits/train.jsonl
      mmrl data preview data/digits/train.jsonl --out preview.html --limit 100
    """
    from mmrl.cli.console import print_table
    from mmrl.data.manifest import read_manifest
    from mmrl.data.preview import answer_text, preview_html
    from mmrl.errors import ConfigError

    samples = read_manifest(manifest)
    if out is None:
        rows = [
            (s.id, s.task, _short(s.question), len(s.media), _short(answer_text(s.answer), 24)) for s in samples[:limit]
        ]
        print_table(("id", "task", "question", "media", "answer"), rows)
        return
    from mmrl.atomic import write_atomically

    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; name the page to write, such as {out / 'preview.html'}")
    page = preview_html(samples[:limit], title=str(manifest), total=len(samples))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, page.encode("utf-8"))
    print(f"{out}: {min(limit, len(samples))} samples")


@app.command()
def convert(
    format_: Annotated[
        str,
        typer.Argument(metavar="FORMAT", help="video-r1, vlm-r1 or seed-bench-r1.", show_default=False),
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON list or JSON lines.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="Manifest to write.", show_default=False)],
    media: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the rows' paths start. Default: beside FILE.", show_default=False),
    ] = None,
) -> None:
    """Turn another project's data set into a manifest.

    Rows that cannot become a sample are left out, each with the reason. Media are not opened: follow with `validate`.

    \b
    Examples:
      mmrl data convert video-r1 Video-R1-260k.json --out train.jsonl
      mmrl data convert vlm-r1 rec_jsonl/refcoco_train.jsonl --media coco --out refcoco.jsonl
    """
    from mmrl.data.convert import convert_file

    _refuse_existing([out, _dropped_file(out)])
    samples, dropped = convert_file(file, format_, media_root=file.parent if media is None else media)
    _write_kept(out, samples, dropped)


@app.command()
def dedup(
    manifest: Manifest,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="Manifest to write.", show_default=False)],
    near: NearBits = None,
    quiet: Quiet = False,
) -> None:
    """Leave out samples that ask the same of the same media.

    Pictures are compared by their pixels, videos by their bytes. Of samples that agree, the first stays; of samples
    that contradict each other, none does. Samples whose media cannot be decoded are left out too.

    \b
    Examples:
      mmrl data dedup raw.jsonl --out clean.jsonl
      mmrl data dedup raw.jsonl --out clean.jsonl --near 4
    """
    from mmrl.cli.console import progress
    from mmrl.curation.dedup import dedup as without_repetitions
    from mmrl.data.identity import name_media
    from mmrl.data.manifest import read_manifest

    _refuse_existing([out, _dropped_file(out)])
    samples = read_manifest(manifest)
    named = name_media(samples, near=near, progress=progress(quiet=quiet))
    usable, broken = named.usable(samples)
    kept, dropped = without_repetitions(usable, named.same, named.alike)
    _write_kept(out, kept, [*broken, *dropped])


@app.command()
def decontaminate(
    manifest: Manifest,
    against: Annotated[
        list[Path],
        typer.Option(
            "--against", metavar="FILE.jsonl", help="Evaluation manifest; may be repeated.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="Manifest to write.", show_default=False)],
    near: NearBits = None,
    quiet: Quiet = False,
) -> None:
    """Leave out training samples that show a picture or clip of an evaluation set.

    Whatever they ask about it. Text-only samples are compared by their question. Samples whose media cannot be decoded
    are left out too.

    \b
    Example:
      mmrl data decontaminate train.jsonl --against test.jsonl --against other.jsonl --out clean.jsonl --near 4
    """
    from mmrl.cli.console import progress
    from mmrl.curation.decontaminate import decontaminate as without_held_out
    from mmrl.data.identity import name_media
    from mmrl.data.manifest import read_manifest

    _refuse_existing([out, _dropped_file(out)])
    samples = read_manifest(manifest)
    held_out = [sample for path in against for sample in read_manifest(path)]
    named = name_media([*samples, *held_out], near=near, progress=progress(quiet=quiet))
    usable, broken = named.usable(samples)
    kept, dropped = without_held_out(usable, held_out, named.widest)
    _write_kept(out, kept, [*broken, *dropped])


@app.command()
def split(
    manifest: Manifest,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the manifests.", show_default=False)],
    shares: Annotated[
        str, typer.Option(metavar="NAME=SHARE,…", help="Relative sizes; they are divided by their sum.")
    ] = "train=0.8,validation=0.1,test=0.1",
    group: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Samples with equal metadata KEY stay together.", show_default=False),
    ] = None,
    near: NearBits = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which samples go where.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Divide a manifest so that no picture or clip is in two splits, each with its share of tasks and right options.

    Samples whose media cannot be decoded are left out. Media stay where they are.

    \b
    Examples:
      mmrl data split all.jsonl --out data/mine
      mmrl data split all.jsonl --out data/mine --shares train=900,test=100 --group scene --near 4
    """
    from mmrl.cli.console import print_table, progress
    from mmrl.data.identity import name_media
    from mmrl.data.manifest import read_manifest, write_manifest
    from mmrl.data.split import parse_shares, split_samples

    wanted = parse_shares(shares)
    files = {name: out / f"{name}.jsonl" for name in wanted}
    listed = out / "dropped.jsonl"
    _refuse_existing([*files.values(), listed])
    everything = read_manifest(manifest)
    named = name_media(everything, near=near, progress=progress(quiet=quiet))
    usable, broken = named.usable(everything)
    divided = split_samples(usable, wanted, named.widest, group_key=group, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    for name, samples in divided.items():
        write_manifest(files[name], samples)
    whole = max(len(usable), 1)
    rows = [(name, len(its), f"{len(its) / whole:.1%}", _near(files[name])) for name, its in divided.items()]
    print_table(("split", "samples", "share", "manifest"), rows)
    _tell_dropped(broken, listed)


def _refuse_existing(paths: Sequence[Path]) -> None:
    from mmrl.errors import RunError

    there = [str(path) for path in paths if path.exists()]
    if there:
        raise RunError(f"{', '.join(there)} exist(s) and is not overwritten; choose another --out, or delete it first")


def _dropped_file(out: Path) -> Path:
    return out.with_name(f"{out.stem}.dropped.jsonl")


def _write_kept(out: Path, kept: Sequence[Sample], dropped: Sequence[Dropped]) -> None:
    """The manifest of the samples that stay, and beside it the list of the others."""
    from mmrl.data.manifest import write_manifest
    from mmrl.errors import DataError

    out.parent.mkdir(parents=True, exist_ok=True)
    if kept:
        write_manifest(out, kept)
        print(f"{out}: {len(kept)} samples")
    _tell_dropped(dropped, _dropped_file(out))
    if not kept:
        raise DataError(f"no sample is left; {_dropped_file(out)} says why. {out} was not written")


def _tell_dropped(dropped: Sequence[Dropped], path: Path) -> None:
    """A table of the reasons, and a file of the samples; nothing where nothing was left out."""
    if not dropped:
        return
    from collections import Counter

    from mmrl.cli.console import print_table
    from mmrl.data.jsonl import write_json_lines

    write_json_lines(path, [{"id": d.sample_id, "reason": d.reason, "detail": d.detail} for d in dropped])
    print()
    print_table(("left out because", "samples"), Counter(d.reason for d in dropped).most_common())
    print(f"Which ones: {_near(path)}")


def _near(path: Path) -> Path:
    """Relative to where the user stands, where that is shorter."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _short(text: str, longest: int = 48) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
