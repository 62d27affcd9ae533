"""Addresses in manifests become files: once, remembered, and with a reason where they do not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mmrl.cli.main import main
from mmrl.config.load import load_config
from mmrl.data.fetch import Fetcher, FetchLimits
from mmrl.data.fetched import Fetched, MediaCache, fetch_media, with_files
from mmrl.data.images import BrokenMedia
from mmrl.data.manifest import read_manifest
from mmrl.data.quarantine import Quarantine
from mmrl.errors import ConfigError, DataError, RunError
from mmrl.pipeline import train_stage
from mmrl.progress import Progress, SilentProgress
from mmrl.training.metrics import read_metrics
from mmrl.types import Media, Sample
from tests import toy
from tests.data.test_fetch import only_here
from tests.data.web import Web, leads_to, sends, serving
from tests.training.killed_run import Said, write_config


def shows(id_: str, *addresses: str) -> Sample:
    """One picture, or several as frames."""
    if len(addresses) == 1:
        media = Media(type="image", path=addresses[0])
    else:
        media = Media(type="frames", paths=addresses, fps=1.0)
    return replace(toy.choice_sample(id_), media=(media,))


def fetch(
    samples: Sequence[Sample], web: Web, folder: Path, *, record: Path | None = None, said: Progress | None = None
) -> Fetched:
    limits = FetchLimits(hosts=(f"127.0.0.1:{web.port}",), attempts=1, deadline_seconds=10)
    return fetch_media(
        samples,
        fetcher=Fetcher(limits, refuse=only_here),
        cache=MediaCache(folder),
        record=record,
        at_once=3,
        progress=said or SilentProgress(),
    )


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_each_address_is_fetched_once_and_equal_contents_are_one_file(tmp_path: Path) -> None:
    pages = {"/a.png": sends(b"one"), "/b": sends(b"one"), "/c.jpeg": sends(b"two", type_="image/jpeg")}
    with serving(pages) as web:
        a, b, c = (web.at(path) for path in pages)
        samples = [shows("s0", a), shows("s1", a), shows("s2", b), shows("s3", c, a)]
        for _ in range(2):
            fetched = fetch(samples, web, tmp_path / "cache")
            assert sorted(web.asked) == ["/a.png", "/b", "/c.jpeg"]
        assert fetched.new == 0
    assert fetched.files[a] == fetched.files[b] != fetched.files[c]
    digest = hashlib.sha256(b"two").hexdigest()
    assert fetched.files[c] == str(tmp_path / "cache" / "files" / digest[:2] / f"{digest}.jpg")
    assert Path(fetched.files[c]).read_bytes() == b"two"
    found = with_files(samples, fetched, None)
    assert found[0].media[0].path == fetched.files[a]
    assert found[3].media[0].paths == (fetched.files[c], fetched.files[a])
    assert not list((tmp_path / "cache").glob(".*"))


def test_a_cached_file_that_was_damaged_is_fetched_again(tmp_path: Path) -> None:
    with serving({"/a.png": sends(b"one")}) as web:
        samples = [shows("s", web.at("/a.png"))]
        [file] = fetch(samples, web, tmp_path).files.values()
        Path(file).write_bytes(b"on")
        assert fetch(samples, web, tmp_path).new == 1
        assert Path(file).read_bytes() == b"one"


def test_what_cannot_be_had_is_quarantined_with_its_reason_and_not_asked_again(tmp_path: Path) -> None:
    pages = {"/a.png": sends(b"one"), "/inside": leads_to("http://10.0.0.1/a.png"), "/page": sends(type_="text/html")}
    with serving(pages) as web:
        good, inside, page = (web.at(path) for path in pages)
        gone, other = web.at("/gone"), "http://elsewhere.test/a.png"
        samples = [
            shows("s0", good),
            shows("s1", inside),
            shows("s2", good, page),
            shows("s3", gone),
            shows("s4", other),
        ]
        web_record, quarantined = tmp_path / "addresses.jsonl", tmp_path / "quarantine.jsonl"
        fetched = fetch(samples, web, tmp_path / "cache", record=web_record)
        assert {address: error.reason for address, error in fetched.failures.items()} == {
            inside: "address not allowed",
            page: "wrong content type",
            gone: "address refused",
            other: "address not allowed",
        }
        assert "4 not to be had (2 × address not allowed" in fetched.in_words()
        found = with_files(samples, fetched, Quarantine(quarantined))
        assert [entry["sample_id"] for entry in lines(quarantined)] == ["s1", "s2", "s3", "s4"]
        assert lines(quarantined)[2]["path"] == gone
        later = Quarantine(quarantined)
        later.refuse(found[0].media[0])
        for sample in found[1:]:
            with pytest.raises(BrokenMedia):
                later.refuse(sample.media[0])
        asked = len(web.asked)
        again = fetch(samples, web, tmp_path / "cache", record=web_record)
        assert (len(web.asked), again.files, again.new) == (asked, fetched.files, 0)
        assert {a: str(e) for a, e in again.failures.items()} == {a: str(e) for a, e in fetched.failures.items()}
        assert len(lines(web_record)) == 5


def test_a_file_that_is_another_now_is_named_and_not_used(tmp_path: Path) -> None:
    record = tmp_path / "addresses.jsonl"
    with serving({"/a.png": sends(b"one"), "/b.png": sends(b"same")}) as web:
        samples = [shows("s0", web.at("/a.png")), shows("s1", web.at("/b.png"))]
        fetch(samples, web, tmp_path / "cache", record=record)
        web.pages["/a.png"] = sends(b"two")
        assert len(fetch(samples, web, tmp_path / "cache", record=record).files) == 2, "the cache has it"
        assert len(web.asked) == 2
        shutil.rmtree(tmp_path / "cache")
        fetched = fetch(samples, web, tmp_path / "cache", record=record, said=Said(tmp_path / "said.txt"))
        assert list(fetched.files) == [web.at("/b.png")]
        [error] = fetched.failures.values()
        assert error.reason == "changed at its address"
        assert "has changed since the run began" in (tmp_path / "said.txt").read_text()
        assert web.at("/a.png") in (tmp_path / "said.txt").read_text()
        assert list(fetch(samples, web, tmp_path / "cache", record=record).files) == [web.at("/b.png")], "also later"


def test_half_a_line_of_a_killed_run_is_no_line(tmp_path: Path) -> None:
    record = tmp_path / "addresses.jsonl"
    record.write_text('{"address": "http://half')
    with serving({"/a.png": sends(b"one")}) as web:
        samples = [shows("s0", web.at("/a.png"))]
        fetch(samples, web, tmp_path / "cache", record=record)
        assert json.loads(record.read_text().splitlines()[-1])["address"] == web.at("/a.png")


def test_a_network_that_gives_nothing_ends_the_run_and_is_forgotten(tmp_path: Path) -> None:
    record = tmp_path / "addresses.jsonl"
    with serving({}) as web:
        samples = [shows("s0", web.at("/a.png")), shows("s1", web.at("/b.png"))]
        with pytest.raises(DataError, match="none of 2 addresses could be fetched"):
            fetch(samples, web, tmp_path / "cache", record=record)
        web.pages["/a.png"] = sends(b"one")
        assert len(fetch(samples, web, tmp_path / "cache", record=record).files) == 1


def test_a_folder_that_cannot_be_written_is_not_the_addresses_fault(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with serving({"/a.png": sends(b"one")}) as web, pytest.raises(RunError, match=r"data\.urls\.folder"):
        fetch([shows("s0", web.at("/a.png"))], web, tmp_path / "cache")


def manifest_with_addresses(folder: Path, web: Web) -> Path:
    """The tiny run's config, its pictures behind addresses; sample s5's cannot be had."""
    config = write_config(folder, [Path("/unused"), Path("/unused")])
    rows = lines(folder / "train.jsonl")
    for row in rows:
        for item in row.get("media", []):
            item["path"] = web.at("/gone.png" if row["id"] == "s5" else f"/{row['id']}.png")
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return config


@pytest.mark.slow
def test_a_run_fetches_what_it_shows_and_goes_on_without_what_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = toy.noise_pictures(tmp_path, [(56, 56)] * 5)
    pages = {f"/s{i}.png": sends(pictures[n].read_bytes()) for n, i in enumerate((1, 2, 4))}
    with serving(pages) as web:
        config = manifest_with_addresses(tmp_path, web)
        settings = [f"run.folder={tmp_path}", "train.steps=2"]
        with pytest.raises(DataError, match=r"is an address.*data\.urls"):
            train_stage(load_config(config, settings), resume=False, overwrite=False, progress=SilentProgress())
        assert web.asked == []
        allowed = [
            *settings,
            "data.urls.allow=true",
            f"data.urls.hosts=['127.0.0.1:{web.port}']",
            f"data.urls.folder={tmp_path / 'cache'}",
            "data.urls.attempts=1",
        ]
        loaded = load_config(config, allowed)
        with pytest.raises(DataError, match=r"none of 4 addresses could be fetched.*127\.0\.0\.1.*loopback"):
            train_stage(loaded, resume=False, overwrite=True, progress=SilentProgress())
        assert web.asked == [], "no setting lets a run reach the own machine"
        monkeypatch.setattr("mmrl.data.fetch.Fetcher", partial(Fetcher, refuse=only_here))
        train_stage(loaded, resume=False, overwrite=True, progress=Said(tmp_path / "said.txt"))
        asked = sorted(web.asked)
    assert asked == ["/gone.png", "/s1.png", "/s2.png", "/s4.png"]
    run = tmp_path / "tiny"
    assert (
        "addresses: 3 files (3 fetched now), 1 not to be had (1 × address refused)"
        in (tmp_path / "said.txt").read_text()
    )
    assert {entry["sample_id"] for entry in lines(run / "quarantine.jsonl")} == {"s5"}
    assert [s.id for s in read_manifest(run / "fetched" / "train.jsonl")] == ["s0", "s1", "s2", "s3", "s4", "s6"]
    assert len(read_metrics(run / "metrics.jsonl")) == 2
    longer = load_config(config, [*allowed, "train.steps=7"])
    train_stage(longer, resume=True, overwrite=False, progress=SilentProgress())  # the server is gone
    rows = read_metrics(run / "metrics.jsonl")
    assert len(rows) == 7
    assert sum(row.get("media/dropped_address_refused", 0.0) for row in rows) >= 1


def test_the_verb_writes_a_manifest_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = toy.noise_pictures(tmp_path, [(56, 56)])[0].read_bytes()
    with serving({f"/s{i}.png": sends(picture) for i in (1, 2, 4)}) as web:
        manifest_with_addresses(tmp_path, web)
        monkeypatch.setattr("mmrl.data.fetch.Fetcher", partial(Fetcher, refuse=only_here))
        monkeypatch.chdir(tmp_path)
        arguments = ["data", "fetch", "train.jsonl", "--out", "local.jsonl", "--host"]
        assert main([*arguments, "http://nonsense"]) == 2
        assert "names no host" in capsys.readouterr().err
        assert main([*arguments, f"127.0.0.1:{web.port}", "-q"]) == 0
    assert "address refused" in capsys.readouterr().out
    samples = read_manifest("local.jsonl")
    assert [s.id for s in samples] == ["s0", "s1", "s2", "s3", "s4", "s6"]
    assert Path(samples[1].media[0].path or "").read_bytes() == picture
    [left] = lines(tmp_path / "local.dropped.jsonl")
    assert (left["id"], left["reason"]) == ("s5", "address refused")


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (["data.urls.allow=true"], "needs data.urls.hosts"),
        (["data.urls.allow=true", "data.urls.hosts=['http://a.org']"], "data.urls.hosts"),
        (
            ["data.urls.allow=true", "data.urls.hosts=[a.org]", "data.train=null", "data.recipe=digits"],
            "serves manifests",
        ),
    ],
)
def test_a_config_that_allows_too_little_or_too_much_is_refused(
    overrides: list[str], what: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, [Path("/unused"), Path("/unused")])
    assert not load_config(config, []).data.urls.allow
    with pytest.raises(ConfigError, match=what):
        load_config(config, overrides)
