import http.server
import io
import stat
import threading
import zipfile

import pytest

from fastkd.core import ConfigError, DataError
from fastkd.data import SOURCES, DataConfig, Source, fetch, fetch_source, load_dataset
from fastkd.data.fetch import safe_unzip
from fastkd.data.store import checksum


def archive(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return buffer.getvalue()


RATINGS = "".join(f"{u}::{i}::5::{u + i}\n" for u in range(1, 4) for i in range(u, u + 5))
FILES = {"/toy.zip": archive({"toy/ratings.dat": RATINGS}), "/plain.csv": b"user,item\n1,2\n1,3\n2,2\n"}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.content.get(self.path)
        if content is None:
            self.send_error(404)
            return
        short = self.path == "/short.csv"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) * (2 if short else 1)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.content, made.asked, made.daemon_threads = dict(FILES), [], True
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join(5)


def source_of(server, *files, checksums=None, data=".", **config):
    base = f"http://127.0.0.1:{server.server_port}"
    urls = {name: f"{base}/{name}" for name in files}
    return Source("toy", "Toy", "none", urls, data, checksums or {}, DataConfig(**config))


def test_zip_with_known_checksum_is_fetched_unpacked_and_loads(server, tmp_path):
    reference = tmp_path / "reference"
    reference.write_bytes(FILES["/toy.zip"])
    known = {"toy.zip": f"md5:{checksum(reference, 'md5')}"}
    source = source_of(server, "toy.zip", checksums=known, data="toy/ratings.dat", format="movielens")
    seen = []
    got = fetch_source(source, tmp_path / "data", progress=lambda *a: seen.append(a), timeout=5)
    assert got.recorded == ()
    assert (got.folder / "toy/ratings.dat").read_text() == RATINGS
    assert seen[-1] == ("toy.zip", len(FILES["/toy.zip"]), len(FILES["/toy.zip"]))
    assert load_dataset(got.config).num_users == 3
    assert load_dataset(got.config).name == "toy"
    fetch_source(source, tmp_path / "data", timeout=5)
    assert server.asked == ["/toy.zip"]  # what is there is kept


def test_wrong_checksum_keeps_nothing(server, tmp_path):
    source = source_of(server, "plain.csv", checksums={"plain.csv": "md5:" + "0" * 32}, data="plain.csv")
    with pytest.raises(DataError, match=rf"plain\.csv: checksum is md5:[0-9a-f]{{32}}, expected md5:{'0' * 32}"):
        fetch_source(source, tmp_path, timeout=5)
    assert list((tmp_path / "toy").iterdir()) == []


def test_unknown_checksum_is_recorded_and_later_enforced(server, tmp_path):
    source = source_of(server, "plain.csv", data="plain.csv")
    assert fetch_source(source, tmp_path, timeout=5).recorded == ("plain.csv",)
    (tmp_path / "toy" / "plain.csv").unlink()
    fetch_source(source, tmp_path, timeout=5)
    (tmp_path / "toy" / "plain.csv").unlink()
    server.content["/plain.csv"] = b"user,item\n9,9\n"
    with pytest.raises(DataError, match="expected sha256:"):
        fetch_source(source, tmp_path, timeout=5)


def test_a_file_damaged_on_disk_is_fetched_again(server, tmp_path):
    source = source_of(server, "plain.csv", data="plain.csv")
    path = fetch_source(source, tmp_path, timeout=5).folder / "plain.csv"
    path.write_bytes(b"user,i")
    fetch_source(source, tmp_path, timeout=5)
    assert path.read_bytes() == FILES["/plain.csv"]


def test_failures_name_the_url_and_leave_no_file(server, tmp_path):
    with pytest.raises(DataError, match=r"/nothing\.csv: download failed.*404"):
        fetch_source(source_of(server, "nothing.csv"), tmp_path, timeout=5)
    server.content["/short.csv"] = FILES["/plain.csv"]
    with pytest.raises(DataError, match=r"/short\.csv"):
        fetch_source(source_of(server, "short.csv"), tmp_path, timeout=5)
    refused = Source("toy", "", "", {"x.csv": "http://127.0.0.1:9/x.csv"}, "x.csv")
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9/x\.csv: download failed"):
        fetch_source(refused, tmp_path, timeout=2)
    with pytest.raises(DataError, match=r"'other\.csv' is not among the fetched files"):
        fetch_source(source_of(server, "plain.csv", data="other.csv"), tmp_path, timeout=5)
    assert sorted(p.name for p in (tmp_path / "toy").iterdir()) == ["checksums.json", "plain.csv"]


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "..\\evil.txt"])
def test_archives_cannot_leave_their_folder(tmp_path, name):
    path = tmp_path / "bad.zip"
    path.write_bytes(archive({"good.txt": "x", name: "evil"}))
    folder = tmp_path / "inside"
    folder.mkdir()
    with pytest.raises(DataError, match=r"bad\.zip: member .*evil.*outside"):
        safe_unzip(path, folder)
    assert list(folder.iterdir()) == []
    assert not (tmp_path / "evil.txt").exists()


def test_links_and_broken_archives_are_refused(tmp_path):
    path = tmp_path / "link.zip"
    with zipfile.ZipFile(path, "w") as opened:
        member = zipfile.ZipInfo("link")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(member, "/etc/passwd")
    with pytest.raises(DataError, match="'link' is a link"):
        safe_unzip(path, tmp_path)
    content = bytearray(archive({"a.txt": "x" * 1000}))
    content[60] ^= 0xFF  # the stored data no longer fits its CRC
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="not a readable zip"):
        safe_unzip(path, tmp_path)
    path.write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="not a readable zip"):
        safe_unzip(path, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["link.zip"]


def test_registry_is_complete_and_https():
    assert {"ml-100k", "ml-1m", "ml-20m", "gowalla"} <= set(SOURCES)
    for name in SOURCES:
        source = SOURCES.get(name)
        assert source.name == name
        assert source.licence
        assert source.title
        assert set(source.checksums) <= set(source.files)
        assert all(url.startswith("https://") for url in source.files.values())
    with pytest.raises(ConfigError, match="unknown data source 'ml-1k'"):
        fetch("ml-1k", "nowhere")
