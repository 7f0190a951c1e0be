"""Resumable downloads with huggingface_hub against a local server that mimics the hub."""

import re
import sys
from contextlib import suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import sleep

import pytest

from ibrl_torchrl.data.demos import download
from ibrl_torchrl.data.demos.download import DATASETS, Dataset, download_dataset
from ibrl_torchrl.errors import UsageError

huggingface_hub = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")

CONTENT = bytes(range(256)) * 2000
SHA256 = sha256(CONTENT).hexdigest()
PATH = "v1.5/lift/ph/low_dim_v15.hdf5"
RESOLVED = f"/datasets/{download.REPOSITORY}/resolve/{download.REVISION}/{PATH}"


class Hub(ThreadingHTTPServer):
    """Serves ``content`` under ``RESOLVED``, redirected to a second host as by the hub.

    Attributes:
        requests: ``(method, path, range)`` of each request.
        stated_size, stated_etag: metadata of the file, independent of ``content``.
        drops: bytes after which the next responses with content end, one entry per response.
        ranges: range requests are supported.
        delay: seconds before a response with content.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.content, self.stated_size, self.stated_etag = CONTENT, len(CONTENT), SHA256
        self.requests, self.drops, self.ranges, self.delay = [], [], True, 0

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def gets(self):
        """Ranges of the requests for content."""
        return [request[2] for request in self.requests if request[:2] == ("GET", "/storage")]


class HubHandler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.server.requests.append((self.command, self.path, self.headers["Range"]))
        if self.path == RESOLVED:
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/storage")
            self.send_header("X-Repo-Commit", download.REVISION)
            self.send_header("X-Linked-Size", str(self.server.stated_size))
            self.send_header("X-Linked-Etag", f'"{self.server.stated_etag}"')
        elif self.path == "/storage":
            match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            start = int(match[1]) if match and self.server.ranges else 0
            body = self.server.content[start:]
            sleep(self.server.delay)
            self.send_response(206 if start else 200)
            if start:
                size = len(self.server.content)
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            drop = self.server.drops.pop(0) if self.server.drops else len(body)
            with suppress(ConnectionError):  # the client may have disconnected
                self.wfile.write(body[:drop])
            return
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    """A running hub whose only file is the dataset ``lift``."""
    monkeypatch.setenv("HF_ENDPOINT", "")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setitem(DATASETS, "lift", Dataset(PATH, len(CONTENT), SHA256))
    huggingface_hub.close_session()
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address + "/")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    huggingface_hub.close_session()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "new" / "lift.hdf5"


def error_of(out, name="lift"):
    """The one-line message of a failing call."""
    with pytest.raises(UsageError) as caught:
        download_dataset(name, out)
    line = str(caught.value)
    assert "\n" not in line
    return line


def files(out):
    return sorted(path.name for path in out.parent.iterdir())


def test_download_writes_target_only(hub, out):
    assert download_dataset("lift", out) == out
    assert out.read_bytes() == CONTENT
    assert files(out) == ["lift.hdf5"]
    assert hub.requests == [
        ("HEAD", RESOLVED, None),
        ("GET", RESOLVED, None),
        ("GET", "/storage", None),
    ]


def test_second_call_resumes_interrupted_download(hub, out):
    hub.drops = [100_000, 0]
    line = error_of(out)
    assert "check the connection and try again to resume" in line
    assert f"download {hub.address}{RESOLVED} manually and pass demos.path=FILE" in line
    (partial,) = out.parent.iterdir()
    assert partial.name == f".lift.hdf5.{SHA256[:12]}.part"
    assert partial.read_bytes() == CONTENT[:100_000]
    hub.requests.clear()
    assert download_dataset("lift", out).read_bytes() == CONTENT
    assert hub.gets() == ["bytes=100000-"]
    assert files(out) == ["lift.hdf5"]


def test_download_reconnects_while_connections_transfer_data(hub, out):
    hub.drops = [100_000, 200_000]
    assert download_dataset("lift", out).read_bytes() == CONTENT
    assert hub.gets() == [None, "bytes=100000-", "bytes=300000-"]


def test_download_restarts_without_range_support(hub, out):
    hub.ranges, hub.drops = False, [100_000]
    assert download_dataset("lift", out).read_bytes() == CONTENT
    assert hub.gets() == [None, "bytes=100000-"]


def test_complete_partial_file_is_verified_without_request(hub, out):
    out.parent.mkdir()
    out.with_name(f".lift.hdf5.{SHA256[:12]}.part").write_bytes(CONTENT)
    assert download_dataset("lift", out).read_bytes() == CONTENT
    assert hub.gets() == []


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_partial_download_that_is_a_link_is_refused(hub, out, link):
    out.parent.mkdir()
    (victim := out.with_name("victim")).write_bytes(b"mine")
    link(out.with_name(f".lift.hdf5.{SHA256[:12]}.part"), victim)
    assert re.search("is a link, which is not followed|a hard link", error_of(out))
    assert victim.read_bytes() == b"mine" and not out.exists()


def test_partial_download_of_another_file_is_not_resumed(hub, out, monkeypatch):
    hub.drops = [100_000, 0]
    error_of(out)
    hub.content = CONTENT[::-1]
    hub.stated_etag = sha256(hub.content).hexdigest()
    monkeypatch.setitem(DATASETS, "lift", Dataset(PATH, len(CONTENT), hub.stated_etag))
    hub.requests.clear()
    assert download_dataset("lift", out).read_bytes() == hub.content
    assert hub.gets() == [None]


@pytest.mark.parametrize("hash_in_table", [True, False])
def test_file_with_wrong_hash_is_deleted(hub, out, monkeypatch, hash_in_table):
    if not hash_in_table:
        monkeypatch.setitem(DATASETS, "lift", Dataset(PATH))
    hub.content = CONTENT[::-1]
    actual = sha256(hub.content).hexdigest()
    assert f"(SHA-256 {actual[:12]}, not {SHA256[:12]}) and was deleted" in error_of(out)
    assert files(out) == []
    hub.content = CONTENT
    assert download_dataset("lift", out).read_bytes() == CONTENT


def test_file_with_excess_bytes_is_deleted(hub, out):
    hub.content = CONTENT + b"more" * 1_000_000  # of which one byte is taken
    assert f"({len(CONTENT) + 1} bytes, not {len(CONTENT)}) and was deleted" in error_of(out)
    assert files(out) == []


def test_incomplete_file_is_not_renamed_to_target(hub, out):
    hub.content = CONTENT[:-4]
    assert "try again to resume" in error_of(out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("stated", "mismatch"),
    [
        ({"stated_size": 5}, f"5 bytes, not {len(CONTENT)}"),
        ({"stated_etag": "0" * 64}, f"SHA-256 {'0' * 12}, not {SHA256[:12]}"),
    ],
)
def test_metadata_of_another_file_are_refused(hub, out, stated, mismatch):
    vars(hub).update(stated)
    assert f"the server has another file ({mismatch})" in error_of(out)
    assert hub.gets() == []
    assert not out.parent.exists()


def test_hash_missing_in_table_is_that_of_the_hub(hub, out, monkeypatch):
    monkeypatch.setitem(DATASETS, "lift", Dataset(PATH))
    assert download_dataset("lift", out).read_bytes() == CONTENT
    assert download_dataset("lift", out) == out
    assert hub.gets() == [None]
    hub.stated_etag = "0" * 64
    assert "exists and is not the dataset lift" in error_of(out)
    assert out.read_bytes() == CONTENT


def test_missing_hash_is_refused_before_download(hub, out, monkeypatch):
    monkeypatch.setitem(DATASETS, "lift", Dataset(PATH))
    hub.stated_etag = "0" * 40
    assert "does not state its size and SHA-256; try again, or download" in error_of(out)
    assert hub.gets() == []


def test_existing_dataset_is_verified_without_request(hub, out):
    out.parent.mkdir()
    out.write_bytes(CONTENT)
    before = out.stat().st_mtime_ns
    assert download_dataset("lift", out) == out
    assert out.stat().st_mtime_ns == before
    assert hub.requests == []


@pytest.mark.parametrize("content", [b"other", CONTENT[::-1]])
def test_existing_other_file_is_not_overwritten(hub, out, content):
    out.parent.mkdir()
    out.write_bytes(content)
    line = error_of(out)
    assert line.startswith(f"{out}: exists and is not the dataset lift")
    assert line.endswith("move it away or choose another out=FILE")
    assert out.read_bytes() == content
    assert hub.requests == []


def test_folder_as_target_is_refused(hub, tmp_path):
    assert error_of(tmp_path) == f"{tmp_path}: is a folder; choose out=FILE"


def test_target_in_invalid_folder_is_refused(hub, tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "lift.hdf5"
    assert error_of(out) == f"{out}: cannot be written (File exists); choose another out=FILE"


def test_refused_connection_gives_one_line_remedy(hub, out):
    hub.server_close()
    line = error_of(out)
    assert "Connection refused" in line
    assert "check the connection and try again" in line
    assert "manually and pass demos.path=FILE" in line


def test_download_times_out(hub, out, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    hub.delay = 0.3
    assert "(timed out)" in error_of(out)


def test_offline_mode_is_reported(hub, out, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in error_of(out)
    assert hub.requests == []


def test_unsupported_proxy_is_reported(hub, out, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "nonsense://127.0.0.1:1")
    assert "nonsense" in error_of(out)


def test_missing_file_is_reported(hub, out, monkeypatch):
    monkeypatch.setitem(DATASETS, "lift", Dataset("v1.5/elsewhere.hdf5", 1, SHA256))
    assert "the server answers 404 Not Found" in error_of(out)


def test_unknown_dataset_suggests_closest_name(tmp_path):
    assert error_of(tmp_path / "x", "lfit") == "unknown dataset 'lfit'; did you mean lift?"


def test_missing_library_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'ibrl_torchrl[robomimic]'" in error_of(tmp_path / "lift.hdf5")


def test_every_task_has_low_dim_and_raw_dataset():
    tasks = {"lift", "can", "square", "transport", "tool_hang"}
    assert DATASETS.keys() == tasks | {f"{task}-raw" for task in tasks}
    for name, dataset in DATASETS.items():
        task, raw = name.removesuffix("-raw"), name.endswith("-raw")
        assert dataset.path == f"v1.5/{task}/ph/{'demo' if raw else 'low_dim'}_v15.hdf5"
        assert re.fullmatch("[0-9a-f]{64}", dataset.sha256 or "0" * 64)
        assert raw or None not in (dataset.size, dataset.sha256)


# Bounds of bytes and time


def test_a_slow_server_is_given_up_and_the_next_call_resumes(hub, out, monkeypatch):
    monkeypatch.setattr(download, "_GRACE_SECONDS", -(10**9))
    assert "the server sends less than 10 kB/s" in error_of(out)
    monkeypatch.undo()
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setitem(DATASETS, "lift", Dataset(PATH, len(CONTENT), SHA256))
    assert download_dataset("lift", out).read_bytes() == CONTENT


def test_a_hash_that_only_the_server_states_is_said_to_be_so(hub, out, monkeypatch, capsys):
    monkeypatch.setitem(DATASETS, "lift", Dataset(PATH))
    assert download_dataset("lift", out).read_bytes() == CONTENT
    assert "lift: this version pins no SHA-256 of it" in capsys.readouterr().out


def test_absurd_sizes_are_refused(hub, out, monkeypatch):
    monkeypatch.setitem(DATASETS, "lift", Dataset(PATH))
    hub.stated_size = 10**15
    assert "states 1000000000000000 bytes, at most" in error_of(out)
