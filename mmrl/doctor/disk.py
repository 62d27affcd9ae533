"""The disk that run folders will be on: room, and how fast what is written is safe."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from mmrl.doctor.finding import Asked, Finding, Verdict
from mmrl.training.disk import free_bytes

MIB, GIB = 2**20, 2**30
LEAST_ROOM = 200 * MIB  # a run of the tiny model
GOOD_ROOM = 10 * GIB
GOOD_SPEED = 50.0  # MiB per second: a checkpoint of three billion parameters in minutes, not hours
GOOD_SYNC = 0.2  # seconds: metrics and manifests are made safe so often
PIECE = 4 * MIB
MOST_BYTES = 128 * MIB
MOST_SECONDS = 3.0
SYNCS = 8


def look(part: str, asked: Asked) -> Finding:
    """Writes up to 128 MiB for up to three seconds into a file without a name, which leaves nothing behind."""
    place = Path(asked.folder).absolute()
    while not place.is_dir():
        place = place.parent
    room = free_bytes(place)
    if room < LEAST_ROOM:
        return Finding(
            check=part,
            verdict=Verdict.FAILED,
            detail=f"{place}: {room / MIB:.0f} MiB free",
            advice="free space, or choose another place with run.folder",
            figures={"free_gib": room / GIB},
        )
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            speed, sync = written(file.fileno())
    except OSError as error:
        return Finding(
            check=part,
            verdict=Verdict.FAILED,
            detail=f"{place}: nothing can be written there ({error.strerror or error})",
            advice="choose another place with run.folder, or make it writable",
        )
    told = []
    if room < GOOD_ROOM:
        told.append("little room: checkpoints of a 3B model take 6 GiB and 36 more for its optimiser (checkpoints.md)")
    if speed < GOOD_SPEED or sync > GOOD_SYNC:
        told.append("slow, a network disk? put run.folder on a local one, or checkpoint more rarely")
    return Finding(
        check=part,
        verdict=Verdict.WARNING if told else Verdict.OK,
        detail=f"{place}: {room / GIB:.1f} GiB free, {speed:.0f} MiB/s written and synced, a small sync takes "
        f"{1000 * sync:.1f} ms",
        advice="; ".join(told),
        figures={"free_gib": room / GIB, "write_mib_per_second": speed, "sync_seconds": sync},
    )


def written(descriptor: int) -> tuple[float, float]:
    """(MiB per second, fsync included; seconds of an fsync after four KiB)."""
    piece = os.urandom(PIECE)  # nothing that a file system could compress away
    began = time.perf_counter()
    size = 0
    while size < MOST_BYTES and time.perf_counter() - began < MOST_SECONDS:
        size += os.write(descriptor, piece)
    os.fsync(descriptor)
    speed = size / MIB / (time.perf_counter() - began)
    began = time.perf_counter()
    for _ in range(SYNCS):
        os.write(descriptor, piece[:4096])
        os.fsync(descriptor)
    return speed, (time.perf_counter() - began) / SYNCS
