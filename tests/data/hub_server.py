"""A small Hugging Face Hub on loopback: the endpoints that the client libraries call."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

Repositories = dict[str, dict[str, bytes]]  # owner/name -> path inside -> content


@dataclass
class Hub:
    """Where the server listens, and every request that it got."""

    address: str
    requests: list[str] = field(default_factory=list)


@contextmanager
def serve(repositories: Repositories) -> Iterator[Hub]:
    """Serve these dataset repositories from a free loopback port until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    server.repositories, server.hub = repositories, hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal: requests are kept in `Hub.requests`."""

    def _answer(self, body: bytes) -> None:
        self.server.hub.requests.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        match parts:
            case ["api", "datasets", owner, name, *rest] if self._files(owner, name) is not None:
                self._api(f"{owner}/{name}", rest, body)
            case ["datasets", owner, name, "resolve", _, *path] if self._files(owner, name):
                self._file(f"{owner}/{name}", "/".join(path))
            case _:
                self._missing("RepoNotFound")

    def _files(self, owner: str, name: str) -> dict[str, bytes] | None:
        found: dict[str, bytes] | None = self.server.repositories.get(  # type: ignore[attr-defined]
            f"{owner}/{name}"
        )
        return found

    def _api(self, repository: str, rest: list[str], body: bytes) -> None:
        files = self._files(*repository.split("/")) or {}
        match rest:
            case [] | ["revision", _]:
                self._json(
                    {
                        "id": repository,
                        "sha": _commit(files),
                        "siblings": [{"rfilename": path} for path in files],
                        "private": False,
                        "tags": [],
                        "downloads": 0,
                    }
                )
            case ["tree", _, *path]:
                recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0]
                entries = _tree(files, "/".join(path), recursive.lower() in {"true", "1"})
                self._json(entries) if entries else self._missing("EntryNotFound")
            case ["paths-info", _]:
                text = body.decode()
                paths = json.loads(text)["paths"] if text[:1] == "{" else parse_qs(text)["paths"]
                wanted = [paths] if isinstance(paths, str) else paths
                every = _tree(files, "", True)
                self._json([entry for entry in every if entry["path"] in wanted])
            case _:
                self._missing("EntryNotFound")

    def _file(self, repository: str, path: str) -> None:
        files = self._files(*repository.split("/")) or {}
        if path not in files:
            self._missing("EntryNotFound", _commit(files))
            return
        content, status = files[path], 200
        headers = {
            "ETag": f'"{_object(files[path])}"',
            "X-Repo-Commit": _commit(files),
            "Accept-Ranges": "bytes",
        }
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = min(int(last) + 1 if last else len(content), len(content))
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(content)}"
            content, status = content[int(first) : end], 206
        self._send(status, content, headers)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str, commit: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code}
        if commit:
            headers["X-Repo-Commit"] = commit
        self._send(404, b"{}", headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _object(content: bytes) -> str:
    return sha1(content).hexdigest()


def _commit(files: dict[str, bytes]) -> str:
    return _object("".join(path + _object(content) for path, content in files.items()).encode())


def _tree(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict[str, object]]:
    """The files below a folder, and the folders, as the tree endpoint lists them."""
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, object]] = {}
    for path, content in files.items():
        if not path.startswith(prefix):
            continue
        names = path.removeprefix(prefix).split("/")
        for depth in range(1, len(names)):
            inner = prefix + "/".join(names[:depth])
            if recursive or depth == 1:
                entries[inner] = {"type": "directory", "path": inner, "size": 0, "oid": "0" * 40}
        if recursive or len(names) == 1:
            entries[path] = {
                "type": "file",
                "path": path,
                "size": len(content),
                "oid": _object(content),
            }
    return list(entries.values())
