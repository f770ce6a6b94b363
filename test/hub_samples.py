"""A hub on this machine: an HTTP server that answers as much of a hub's API as `huggingface_hub` asks for."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT, NEWER = "c0ffee" + "0" * 34, "decade" + "0" * 34
REPO = "someone/small"
LARGE = ".safetensors"  # such files are stored apart, and known by their SHA-256


class Hub:
    """files: content by name. commit: what `main` stands for.

    broken:  bytes of a file's content after which the connection is cut, once for each number.
    refusing: requests to go on within a file that are answered with 503.
    altered: names of files of which other content is sent than what is announced.
    """

    def __init__(self, files: dict[str, bytes]):
        self.files, self.commit, self.broken, self.altered, self.refusing = files, COMMIT, [], set(), 0
        self.asked: list[tuple[str, str, str]] = []  # method, path, range

    def content(self, name: str) -> bytes:
        return self.files[name][::-1] if name in self.altered else self.files[name]

    def described(self, name: str, oid: str, digest: str) -> dict:
        content = self.files[name]
        said = {"size": len(content), oid: hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()}
        if name.endswith(LARGE):
            said["lfs"] = {digest: hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return said

    def etag(self, name: str) -> str:
        said = self.described(name, "oid", "oid")
        return said["lfs"]["oid"] if "lfs" in said else said["oid"]

    def api(self, path: str):
        """What is JSON; None for what there is not."""
        if path in (f"/api/models/{REPO}/revision/{rev}" for rev in ("main", COMMIT, NEWER)):
            siblings = [{"rfilename": name} | self.described(name, "blobId", "sha256") for name in self.files]
            return {"id": REPO, "sha": self.commit, "siblings": siblings}
        if path.startswith(f"/api/models/{REPO}/tree/"):
            return [{"type": "file", "path": name} | self.described(name, "oid", "oid") for name in self.files]
        return None


@contextmanager
def serving(hub: Hub):
    """Its address."""
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            """Nothing is printed."""

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path, wanted = unquote(urlsplit(self.path).path), self.headers.get("Range", "")
            hub.asked.append((self.command, path, wanted))
            said = hub.api(path)
            name = path.removeprefix(f"/{REPO}/resolve/{hub.commit}/").lstrip("/")
            if wanted and hub.refusing:
                hub.refusing -= 1
                self.send(503, b"", {}, body)
            elif said is not None:
                self.send(200, json.dumps(said).encode(), {"Content-Type": "application/json"}, body)
            elif name in hub.files:
                self.file(name, wanted, body)
            else:
                self.send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)

        def file(self, name: str, wanted: str, body: bool) -> None:
            content, headers = hub.content(name), {"ETag": f'"{hub.etag(name)}"', "X-Repo-Commit": hub.commit}
            start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send(206 if start else 200, content[start:], headers, body, hub.broken if body else [])

        def send(self, status: int, content: bytes, headers: dict, body: bool, broken: list = ()) -> None:
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(key, value)
            self.end_headers()
            if body and broken and len(content) > broken[0]:
                self.wfile.write(content[:broken.pop(0)])
                self.close_connection = True
            elif body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
