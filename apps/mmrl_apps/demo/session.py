"""What the page remembers of one visitor: the admitted files, the example, the last exchange, the wish to stop."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from mmrl.types import Media, Sample
from mmrl_apps.demo.keeping import Exchange
from mmrl_apps.demo.uploads import Shown

MOST_SESSIONS = 64  # remembered at a time; the one that was idle longest is forgotten first


@dataclass(slots=True)
class Session:
    """One visitor. `lock` guards `shown` and `admitted`: two events of one page may come at the same time."""

    folder: Path  # copies of what was uploaded
    admitted: dict[str, Shown] = field(default_factory=dict)  # path as uploaded → our copy
    shown: list[Shown] = field(default_factory=list)  # of these the next question is asked
    example: Sample | None = None  # asked about while nothing is uploaded
    exchange: Exchange | None = None  # the last one that was answered
    kept: Path | None = None  # where it was kept; None: not kept
    stop: threading.Event = field(default_factory=threading.Event)  # of the answer that is being written
    lock: threading.Lock = field(default_factory=threading.Lock)

    def media(self) -> tuple[Media, ...]:
        """What the next question is asked about."""
        if self.shown:
            return tuple(shown.media for shown in self.shown)
        return self.example.media if self.example is not None else ()

    def names(self) -> dict[str, str]:
        """Our copy's path → the name it was uploaded under."""
        return {shown.media.path or "": shown.name for shown in self.shown}


class Sessions:
    """All visitors, by the id that the page gives each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, id_: str) -> Session:
        """The visitor's session; a new one for a new visitor."""
        with self._lock:
            session = self._sessions.get(id_)
            if session is None:
                while len(self._sessions) >= MOST_SESSIONS:
                    self._forget(next(iter(self._sessions)))
                session = Session(Path(tempfile.mkdtemp(dir=self._folder)))
                self._sessions[id_] = session
            self._sessions.move_to_end(id_)
            return session

    def forget(self, id_: str) -> None:
        """The visitor has gone: what was uploaded is removed, what is being written ends."""
        with self._lock:
            self._forget(id_)

    def close(self) -> None:
        """Forget everybody."""
        with self._lock:
            for id_ in list(self._sessions):
                self._forget(id_)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _forget(self, id_: str) -> None:
        session = self._sessions.pop(id_, None)
        if session is not None:
            session.stop.set()
            shutil.rmtree(session.folder, ignore_errors=True)
