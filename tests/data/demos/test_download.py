"""The real library against a real server, which answers as the hub does."""

import re
import sys
from contextlib import suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
    """Serves ``content`` under ``RESOLVED`` by way of a second host, as the hub's storage is one.

    Attributes:
        asked: ``(method, path, range)`` of each request.
        told_size, told_etag: what it says of the file, whatever the content is.
        drops: bytes after which the next answers with content break off, one entry each.
        ranges: whether it knows of ranges.
        silence: seconds before it answers with content.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.content, self.told_size, self.told_etag = CONTENT, len(CONTENT), SHA256
        self.asked, self.drops, self.ranges, self.silence = [], [], True, 0

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def gets(self):
        """The ranges of the requests for content."""
        return [asked[2] for asked in self.asked if asked[:2] == ("GET", "/storage")]


class Answers(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.server.asked.append((self.command, self.path, self.headers["Range"]))
        if self.path == RESOLVED:
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/storage")
            self.send_header("X-Repo-Commit", download.REVISION)
            self.send_header("X-Linked-Size", str(self.server.told_size))
            self.send_header("X-Linked-Etag", f'"{self.server.told_etag}"')
        elif self.path == "/storage":
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            start = int(asked[1]) if asked and self.server.ranges else 0
            body = self.server.content[start:]
            sleep(self.server.silence)
            self.send_response(206 if start else 200)
            if start:
                whole = len(self.server.content)
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            drop = self.server.drops.pop(0) if self.server.drops else len(body)
            with suppress(ConnectionError):  # the client may have given up
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
    """A hub that runs, with a table that knows its only file as ``lift``."""
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


def refusal(out, name="lift"):
    """The line that a call answers with."""
    with pytest.raises(UsageError) as caught:
        download_dataset(name, out)
    line = str(caught.value)
    assert "\n" not in line
    return line


def files(out):
    return sorted(path.name for path in out.parent.iterdir())


def test_a_file_arrives_whole_and_alone(hub, out):
    assert download_dataset("lift", out) == out
    assert out.read_bytes() == CONTENT
    assert files(out) == ["lift.hdf5"]
    assert hub.asked == [
        ("HEAD", RESOLVED, None),
        ("GET", RESOLVED, None),
        ("GET", "/storage", None),
    ]


def test_an_interrupted_download_goes_on_where_it_stopped(hub, out):
    hub.drops = [100_000, 0]
    line = refusal(out)
    assert "try again, what has arrived is kept" in line
    assert f"fetch {hub.address}{RESOLVED} by hand and pass demos.path=FILE" in line
    (kept,) = out.parent.iterdir()
    assert kept.name == f".lift.hdf5.{SHA256[:12]}.part"
    assert kept.read_bytes() == CONTENT[:100_000]
    hub.asked.clear()
    assert download_dataset("lift", out).read_bytes() == CONTENT
    assert hub.gets() == ["bytes=100000-"]
    assert files(out) == ["lift.hdf5"]


def test_a_broken_connection_is_taken_up_again_while_it_brings_data(hub, out):
    hub.drops = [100_000, 200_000]
    assert download_dataset("lift", out).read_bytes() == CONTENT
    assert hub.gets() == [None, "bytes=100000-", "bytes=300000-"]


def test_a_server_without_ranges_sends_the_file_from_its_start(hub, out):
    hub.ranges, hub.drops = False, [100_000]
    assert download_dataset("lift", out).read_bytes() == CONTENT
    assert hub.gets() == [None, "bytes=100000-"]


def test_what_is_whole_already_is_only_checked(hub, out):
    out.parent.mkdir()
    out.with_name(f".lift.hdf5.{SHA256[:12]}.part").write_bytes(CONTENT)
    assert download_dataset("lift", out).read_bytes() == CONTENT
    assert hub.gets() == []


def test_remains_of_another_file_are_not_continued(hub, out, monkeypatch):
    hub.drops = [100_000, 0]
    refusal(out)
    hub.content = CONTENT[::-1]
    hub.told_etag = sha256(hub.content).hexdigest()
    monkeypatch.setitem(DATASETS, "lift", Dataset(PATH, len(CONTENT), hub.told_etag))
    hub.asked.clear()
    assert download_dataset("lift", out).read_bytes() == hub.content
    assert hub.gets() == [None]


@pytest.mark.parametrize("known", [True, False])
def test_bytes_with_another_hash_are_deleted(hub, out, monkeypatch, known):
    if not known:
        monkeypatch.setitem(DATASETS, "lift", Dataset(PATH))
    hub.content = CONTENT[::-1]
    found = sha256(hub.content).hexdigest()
    assert f"(SHA-256 {found[:12]}, not {SHA256[:12]}) and was deleted" in refusal(out)
    assert files(out) == []
    hub.content = CONTENT
    assert download_dataset("lift", out).read_bytes() == CONTENT


def test_too_many_bytes_are_deleted(hub, out):
    hub.content = CONTENT + b"more"
    assert f"({len(CONTENT) + 4} bytes, not {len(CONTENT)}) and was deleted" in refusal(out)
    assert files(out) == []


def test_too_few_bytes_are_no_file(hub, out):
    hub.content = CONTENT[:-4]
    assert "what has arrived is kept" in refusal(out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("told", "difference"),
    [
        ({"told_size": 5}, f"5 bytes, not {len(CONTENT)}"),
        ({"told_etag": "0" * 64}, f"SHA-256 {'0' * 12}, not {SHA256[:12]}"),
    ],
)
def test_another_file_under_the_same_name_is_not_fetched(hub, out, told, difference):
    vars(hub).update(told)
    assert f"the server offers another file ({difference})" in refusal(out)
    assert hub.gets() == []
    assert not out.parent.exists()


def test_a_hash_outside_the_table_is_the_one_that_the_hub_tells(hub, out, monkeypatch):
    monkeypatch.setitem(DATASETS, "lift", Dataset(PATH))
    assert download_dataset("lift", out).read_bytes() == CONTENT
    assert download_dataset("lift", out) == out
    assert hub.gets() == [None]
    hub.told_etag = "0" * 64
    assert "exists and is not the dataset lift" in refusal(out)
    assert out.read_bytes() == CONTENT


def test_without_any_hash_nothing_is_fetched(hub, out, monkeypatch):
    monkeypatch.setitem(DATASETS, "lift", Dataset(PATH))
    hub.told_etag = "0" * 40
    assert "does not tell its size and SHA-256; or fetch" in refusal(out)
    assert hub.gets() == []


def test_the_right_file_is_left_alone_without_a_request(hub, out):
    out.parent.mkdir()
    out.write_bytes(CONTENT)
    before = out.stat().st_mtime_ns
    assert download_dataset("lift", out) == out
    assert out.stat().st_mtime_ns == before
    assert hub.asked == []


@pytest.mark.parametrize("content", [b"mine", CONTENT[::-1]])
def test_another_file_is_never_overwritten(hub, out, content):
    out.parent.mkdir()
    out.write_bytes(content)
    line = refusal(out)
    assert line.startswith(f"{out}: exists and is not the dataset lift")
    assert line.endswith("move it away or choose another out=FILE")
    assert out.read_bytes() == content
    assert hub.asked == []


def test_a_folder_is_no_target(hub, tmp_path):
    assert refusal(tmp_path) == f"{tmp_path}: is a folder; choose out=FILE"


def test_a_folder_that_cannot_be_made_is_named(hub, tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "lift.hdf5"
    assert refusal(out) == f"{out}: cannot write here (File exists)"


def test_without_a_connection_the_remedy_is_one_line(hub, out):
    hub.server_close()
    line = refusal(out)
    assert "Connection refused" in line
    assert "check the connection and try again" in line
    assert "by hand and pass demos.path=FILE" in line


def test_a_server_that_falls_silent_is_given_up(hub, out, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    hub.silence = 0.3
    assert "(timed out)" in refusal(out)


def test_the_offline_mode_of_the_library_is_a_reason(hub, out, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refusal(out)
    assert hub.asked == []


def test_a_proxy_that_the_client_does_not_know_is_a_reason(hub, out, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "nonsense://127.0.0.1:1")
    assert "nonsense" in refusal(out)


def test_a_file_that_the_hub_does_not_have(hub, out, monkeypatch):
    monkeypatch.setitem(DATASETS, "lift", Dataset("v1.5/elsewhere.hdf5", 1, SHA256))
    assert "the server answers 404 Not Found" in refusal(out)


def test_an_unknown_name_is_answered_with_the_closest(tmp_path):
    assert refusal(tmp_path / "x", "lfit") == "unknown dataset 'lfit'; did you mean lift?"


def test_the_library_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'ibrl_torchrl[robomimic]'" in refusal(tmp_path / "lift.hdf5")


def test_each_task_has_observations_and_raw_states():
    tasks = {"lift", "can", "square", "transport", "tool_hang"}
    assert DATASETS.keys() == tasks | {f"{task}-raw" for task in tasks}
    for name, dataset in DATASETS.items():
        task, raw = name.removesuffix("-raw"), name.endswith("-raw")
        assert dataset.path == f"v1.5/{task}/ph/{'demo' if raw else 'low_dim'}_v15.hdf5"
        assert re.fullmatch("[0-9a-f]{64}", dataset.sha256 or "0" * 64)
        assert raw or None not in (dataset.size, dataset.sha256)
