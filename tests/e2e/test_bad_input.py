"""What bad input gets: one clear line, an honest exit code, and no harm to anybody else."""

import os
import re
import socket
import subprocess
import threading
import time

import pytest

from cluster import Cluster, binary, free_port, wait_until
from load import Load
from resp import Connection, ReplyError

SERVE_LIMIT_S = 15
NEW_PROCESS_LIMIT_S = 15


@pytest.fixture(scope="module")
def shared():
    """One cluster for the tests that only send bytes."""
    with Cluster() as started:
        yield started


# --- on a connection ---------------------------------------------------------------------------------------------

MALFORMED = {
    "a multibulk length that is no number": (b"*x\r\n", "Protocol error: invalid multibulk length"),
    "an oversized array": (b"*2147483648\r\n", "Protocol error: invalid multibulk length"),
    "an array beyond any integer": (b"*99999999999999999999\r\n", "Protocol error: invalid multibulk length"),
    "a bulk length that is no number": (b"*1\r\n$x\r\n", "Protocol error: invalid bulk length"),
    "a negative bulk length": (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
    "an oversized bulk": (b"*1\r\n$536870913\r\n", "Protocol error: invalid bulk length"),
    "something else where a bulk should be": (b"*1\r\n:1\r\n", "Protocol error: expected '$', got ':'"),
    "an inline command without end": (b"a" * 70000, "Protocol error: too big inline request"),
    "unbalanced quotes": (b'SET a "b\r\n', "Protocol error: unbalanced quotes in request"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_frames_close_that_connection_only(shared, name):
    data, message = MALFORMED[name]
    addr = shared.nodes[0].client_addr
    with Connection(addr) as bystander, Connection(addr) as bad:
        assert bystander.call("PING") == "PONG"
        bad.send_raw(data)
        assert bad.read_to_end() == f"-ERR {message}\r\n".encode()
        assert bystander.call("PING") == "PONG"


def test_commands_before_a_malformed_frame_are_answered(shared):
    with Connection(shared.nodes[0].client_addr) as connection:
        connection.send_raw(b"*1\r\n$4\r\nPING\r\n*x\r\n")
        assert connection.read_to_end() == b"+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"


def test_a_half_sent_command_does_nothing(shared):
    group, slot = min(shared.slotted_groups().items())
    tag = Load(shared, per_group=1).by_group[group][0].tag
    leader = shared.wait_led(group)
    with Connection(leader.client_addr) as connection:
        connection.send_raw(f"*3\r\n$3\r\nSET\r\n${len(tag) + 6}\r\n{{{tag}}}half\r\n$5\r\nval".encode())
    with Connection(leader.client_addr) as connection:
        assert connection.call("GET", f"{{{tag}}}half") is None


def test_errors_are_those_of_redis(shared):
    with Connection(shared.nodes[0].client_addr) as connection:
        for words, message in (
            (("NOSUCH", "a"), "ERR unknown command 'NOSUCH', with args beginning with: 'a' "),
            (("GET",), "ERR wrong number of arguments for 'get' command"),
            (("MSET", "a", "1", "b", "2"), "CROSSSLOT Keys in request don't hash to the same slot"),
            (("SELECT", "1"), "ERR SELECT is not allowed in cluster mode"),
        ):
            with pytest.raises(ReplyError) as error:
                connection.call(*words)
            assert str(error.value) == message


def test_random_bytes_on_both_ports_harm_nobody(shared):
    node = shared.nodes[0]
    noise = bytes(range(256)) * 64

    def throw(addr):
        host, port = addr.split(":")
        try:
            with socket.create_connection((host, int(port)), timeout=2) as victim:
                victim.settimeout(0.5)
                victim.sendall(noise)
                victim.recv(4096)
        except OSError:
            pass

    throwers = [threading.Thread(target=throw, args=(a,)) for a in (node.client_addr, node.peer_addr) for _ in range(8)]
    for thrower in throwers:
        thrower.start()
    with Load(shared, per_group=1) as load:
        time.sleep(0.5)
    for thrower in throwers:
        thrower.join()
    assert node.running and "panicked" not in node.log_text()
    load.check()


# --- on the command line and in the configuration ----------------------------------------------------------------


def serve(*flags):
    """Runs a server that is expected to refuse; its exit code and what it said."""
    done = subprocess.run([binary(), "serve", *flags], capture_output=True, text=True, timeout=SERVE_LIMIT_S)
    return done.returncode, done.stderr.strip() or done.stdout.strip()


def flags_for(directory, **changed):
    port = free_port()
    client, peer = f"127.0.0.1:{port}", f"127.0.0.1:{port + 10000}"
    flags = {
        "node-id": "1",
        "cluster-id": "bad-input",
        "listen": client,
        "peer-listen": peer,
        "data-dir": str(directory / "data"),
        "initial-cluster": f"1={client}@{peer}",
        "groups": "1",
        **{key.replace("_", "-"): value for key, value in changed.items()},
    }
    return [word for key, value in flags.items() if value is not None for word in (f"--{key}", value)]


BAD_FLAGS = {
    "node_id": "0",
    "listen": "localhost",
    "peer_listen": "127.0.0.1:99999",
    "initial_cluster": "1=127.0.0.1:7001",
    "groups": "0",
    "log_level": "loud",
}


def assert_one_clear_line(code, said, *named):
    assert code == 2, f"exit code {code}: {said}"
    lines = said.splitlines()
    assert len(lines) == 1, f"{len(lines)} lines: {said}"
    for word in named:
        assert word in lines[0], f"{word!r} is not named in: {said}"
    assert "panicked" not in said


def ctl(*words, **streams):
    """Asks as a person would; its exit code and what it said on standard error."""
    streams = {"stdout": subprocess.PIPE, **streams}
    done = subprocess.run([binary(), "ctl", *words], stderr=subprocess.PIPE, text=True, timeout=SERVE_LIMIT_S, **streams)
    return done.returncode, done.stderr.strip()


def test_ctl_says_what_is_wrong_with_an_address():
    for addr in ("nonsense", "127.0.0.1:99999", ""):
        assert_one_clear_line(*ctl("--addr", addr, "status"), "addr", "host:port")
    nobody = f"127.0.0.1:{free_port()}"
    code, said = ctl("--addr", nobody, "status")
    assert code == 1 and said == f"quoris: {nobody}: Connection refused (os error 111)"


def test_ctl_survives_a_reader_that_has_seen_enough(shared):
    asked = ("--addr", shared.nodes[0].client_addr, "status")
    reader, writer = os.pipe()
    os.close(reader)
    assert ctl(*asked, stdout=writer) == (0, "")
    os.close(writer)
    with open("/dev/full", "w") as full:
        code, said = ctl(*asked, stdout=full)
    assert (code, said) == (1, "quoris: cannot write the answer: No space left on device (os error 28)")


@pytest.mark.parametrize("key", BAD_FLAGS)
def test_a_bad_flag_is_named(tmp_path, key):
    code, said = serve(*flags_for(tmp_path, **{key: BAD_FLAGS[key]}))
    name = re.compile(key.replace("_", "[-_]"))
    assert_one_clear_line(code, said, BAD_FLAGS[key])
    assert name.search(said), f"{key} is not named in: {said}"
    assert not (tmp_path / "data").exists(), "something was started"


def test_a_node_that_is_not_in_the_cluster(tmp_path):
    assert_one_clear_line(*serve(*flags_for(tmp_path, node_id="9")), "9")


@pytest.mark.parametrize(
    ("text", "named"),
    [("groups = \"many\"\n", "groups"), ("no_such_key = 1\n", "no_such_key"), ("listen = \n", "listen")],
    ids=["wrong type", "unknown key", "not TOML"],
)
def test_a_bad_config_file_is_named(tmp_path, text, named):
    config = tmp_path / "quoris.toml"
    config.write_text(text)
    assert_one_clear_line(*serve("--config", str(config), *flags_for(tmp_path)), named)


def test_a_config_file_that_is_not_there(tmp_path):
    assert_one_clear_line(*serve("--config", str(tmp_path / "none.toml")), "none.toml")


# --- what a node refuses to start on -----------------------------------------------------------------------------


def refused_start(node, *named, limit_s=SERVE_LIMIT_S):
    """Starts a node that must refuse; asserts that it says why in its log, by name, without a panic."""
    skip = len(node.log_text())
    node.start()
    code = node.wait_exit(limit_s)
    said = node.log_text()[skip:]
    assert code not in (0, 101) and code > 0, f"exit code {code}: {said}"
    assert "panicked" not in said, said
    for word in named:
        assert re.search(word, said), f"{word!r} is not named in: {said}"
    return said


def test_the_data_of_another_node(cluster):
    one, two = cluster.nodes[:2]
    for node in (one, two):
        node.kill()
    two.data_dir, own = one.data_dir, two.data_dir
    refused_start(two, str(one.data_dir), r"node (id )?1")
    two.data_dir = own


def test_the_data_of_another_cluster(cluster):
    node = cluster.nodes[0]
    node.kill()
    own, cluster.cluster_id = cluster.cluster_id, "another"
    refused_start(node, re.escape(own), "another")
    cluster.cluster_id = own


def test_data_in_use_by_a_running_node(cluster):
    node = cluster.nodes[0]
    port = free_port()
    flags = {"listen": f"127.0.0.1:{port}", "peer-listen": f"127.0.0.1:{port + 10000}"}
    words = [word for key, value in flags.items() for word in (f"--{key}", value)]
    code, said = serve("--config", str(node.config_path), *words)
    assert code > 0 and code != 101, said
    assert str(node.data_dir) in said and re.search("lock|in use|running", said), said
    assert node.running


def test_a_data_directory_that_cannot_be_made(tmp_path):
    # A file where the directory should be: unwritable even for root.
    (tmp_path / "data").write_text("")
    code, said = serve(*flags_for(tmp_path))
    assert code > 0 and code != 101, said
    assert str(tmp_path / "data") in said and "panicked" not in said, said


@pytest.mark.parametrize("which", ["listen", "peer-listen", "metrics-listen"])
def test_a_port_in_use(tmp_path, which):
    flags = [*flags_for(tmp_path), "--metrics-listen", f"127.0.0.1:{free_port()}"]
    addr = flags[flags.index(f"--{which}") + 1]
    host, port = addr.split(":")
    with socket.create_server((host, int(port))):
        code, said = serve(*flags)
    assert code > 0 and code != 101, said
    assert addr in said and "in use" in said, said


def test_a_peer_of_another_cluster_is_refused(cluster):
    """A node with the right addresses and the wrong cluster id gets nothing: no vote, no entries."""
    stranger = cluster.nodes[2]
    stranger.kill()
    stranger.wipe()
    own, cluster.cluster_id = cluster.cluster_id, "stranger"
    stranger.start()
    cluster.cluster_id = own
    with Load(cluster, per_group=1) as load:
        time.sleep(2.0)

    def complained():
        texts = [node.log_text() for node in cluster.nodes if node.running]
        return any("stranger" in text and own in text for text in texts)

    wait_until("a line that names both cluster ids", complained)
    if stranger.running:
        state = stranger.status()
        assert not state or all(group["applied"] <= 1 for group in state["groups"]), state
        stranger.kill()
    load.check()


def test_a_node_at_anothers_address_is_not_taken_for_it(cluster):
    """Node 2 comes back where node 3 was: else its word would count as node 3's, too, and one copy of a write for two."""
    one, two, three = cluster.nodes
    two.kill()
    three.kill()
    two.peer_addr, three.peer_addr = three.peer_addr, two.peer_addr
    two.start()
    wait_until("a line that says who is there", lambda: "this is node 2, not node 3" in one.log_text())
    two.kill()
    two.peer_addr, three.peer_addr = three.peer_addr, two.peer_addr
    two.start()
    three.start()
    cluster.wait_ready()


# --- damaged logs ------------------------------------------------------------------------------------------------


def log_files(node):
    """The files of the node's log, oldest first; the largest set of like-named files that are not snapshots."""
    files = [f for f in (node.data_dir / "log").rglob("*") if f.is_file() and f.stat().st_size > 0]
    assert files, f"no log files under {node.data_dir / 'log'}"
    return sorted(files)


def written_end(data):
    """Where the written part of a preallocated file ends: after its last byte that is not zero."""
    return len(data.rstrip(b"\0"))


def filled_log(cluster):
    with Load(cluster, per_group=2) as load:
        time.sleep(1.0)
    for node in cluster.nodes:
        node.kill()
    return load


def largest_log(node):
    path = max(log_files(node), key=lambda f: written_end(f.read_bytes()))
    return path, path.read_bytes()


def test_a_torn_tail_is_accepted(cluster):
    """Half a record at the end, as a power cut leaves it: what was never fsynced was never acknowledged."""
    load = filled_log(cluster)
    node = cluster.nodes[0]
    path, data = largest_log(node)
    end = written_end(data)
    torn = bytearray(data)
    # A record that began to be written after the last whole one, in a file that may be preallocated.
    garbage = data[max(0, end - 40) : end - 20]
    torn[end : end + len(garbage)] = garbage
    path.write_bytes(torn)
    cluster.start()
    cluster.wait_ready()
    load.check()
    cluster.wait_caught_up()


def test_a_log_damaged_in_the_middle_is_refused_until_the_node_rejoins(cluster):
    load = filled_log(cluster)
    node = cluster.nodes[0]
    path, data = largest_log(node)
    damaged = bytearray(data)
    # Batches are padded to whole sectors with zeros, which carry nothing: the flip must hit what was written.
    middle = next(at for at in range(written_end(data) // 2, len(data)) if data[at])
    damaged[middle] ^= 0xFF
    path.write_bytes(damaged)
    said = refused_start(node, re.escape(path.name), "offset", "quoris rejoin")
    assert re.search(r"\d", said)
    with pytest.raises(subprocess.CalledProcessError) as whole:
        cluster.nodes[1].rejoin()
    assert "are whole" in whole.value.stderr
    assert "set-aside/1" in node.rejoin()
    assert (node.data_dir / "set-aside" / "1" / "log" / path.name).read_bytes() == damaged
    cluster.start()
    cluster.wait_ready()
    load.check()
    cluster.wait_caught_up()
    assert not (node.data_dir / "set-aside" / "2").exists()
