"""Replies on disk by the hash of the whole request: what was paid for once is never paid for again. (ours)

An entry is written aside and renamed, and holds its request and a digest of its reply. One that is cut off, damaged or
another request's is as good as none: it is asked for again and replaced.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gr2.record import digest_json


@dataclass(frozen=True, kw_only=True)
class ReplyCache:
    """A folder of replies."""

    folder: Path

    def path(self, request: dict[str, Any]) -> Path:
        key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.json"

    def get(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The reply to `request`, or None when there is no whole one."""
        try:
            entry = json.loads(self.path(request).read_bytes())
            whole = entry["request"] == request and entry["digest"] == digest_json(entry["reply"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
        return entry["reply"] if whole else None

    def put(self, request: dict[str, Any], reply: dict[str, Any]) -> None:
        path = self.path(request)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
        aside.write_text(json.dumps({"request": request, "reply": reply, "digest": digest_json(reply)}))
        os.replace(aside, path)
