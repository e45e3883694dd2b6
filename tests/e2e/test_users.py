"""Users and their rights: the same on every node, through deaths and restarts, and nowhere a password."""

import socket
import time

import pytest
import redis

from cluster import Cluster, wait_until
from load import tag_for
from resp import Connection

CALL_LIMIT_S = 15.0
PASSWORD = "correct-horse-battery-staple"


def client(node, user=None, password=PASSWORD, **options):
    credentials = {"username": user, "password": password} if user else {}
    return redis.Redis(port=node.port, socket_timeout=CALL_LIMIT_S, decode_responses=True, **credentials, **options)


def rules(node):
    return client(node).execute_command("ACL", "LIST")


def knows(node, user):
    """Whether the node lets the user in."""
    try:
        return client(node, user).ping()
    except redis.exceptions.AuthenticationError:
        return False


def denied(call, *arguments):
    with pytest.raises(redis.exceptions.NoPermissionError):
        call(*arguments)


def test_a_user_of_one_node_is_one_of_all_and_outlives_leaders_and_restarts(cluster):
    first = cluster.nodes[0]
    assert client(first).execute_command("ACL", "SETUSER", "ann", "on", f">{PASSWORD}", "~a:*", "+@all", "-@dangerous") == "OK"
    # Whoever made it may count on it at once where it was made; elsewhere it comes with the log.
    assert knows(first, "ann")
    for node in cluster.nodes:
        wait_until(f"{node} knows the user", lambda: knows(node, "ann"))
    told = rules(first)
    assert len(told) == 2 and all(rules(node) == told for node in cluster.nodes)

    dead = cluster.wait_led(0)
    dead.kill()
    left = cluster.answering()
    leader = wait_until("another leader", lambda: (led := cluster.wait_led(0)) is not dead and led)
    for node in left:
        ann = client(node, "ann")
        ann.set("a:1", "x")
        denied(ann.get, "b:1")
    assert client(leader).execute_command("ACL", "SETUSER", "ann", "+acl|whoami", "~b:*") == "OK"
    dead.start()
    cluster.wait_ready()
    for node in cluster.nodes:
        wait_until(f"{node} knows of the change", lambda: rules(node) == rules(leader))
        assert client(node, "ann").get("b:1") is None

    before = rules(leader)
    for node in cluster.nodes:
        node.kill()
    cluster.start()
    cluster.wait_ready()
    for node in cluster.nodes:
        assert rules(node) == before
        wait_until(f"{node} knows the user", lambda: knows(node, "ann"))
        denied(client(node, "ann").get, "c:1")


def test_no_file_holds_a_password(cluster):
    client(cluster.nodes[1]).execute_command("ACL", "SETUSER", "ann", "on", f">{PASSWORD}", "+ping")
    client(cluster.nodes[2]).execute_command("ACL", "SETUSER", "ann", f"<{PASSWORD}", ">" + PASSWORD)
    for node in cluster.nodes:
        wait_until(f"{node} knows the user", lambda: knows(node, "ann"))
        client(node).bgsave()
    for node in cluster.nodes:
        node.stop()
    hashed = 0
    for node in cluster.nodes:
        for file in node.dir.rglob("*"):
            if file.is_file():
                content = file.read_bytes()
                assert PASSWORD.encode() not in content, file
                hashed += b"ann" in content
    assert hashed, "nothing was kept at all"


def test_forwarded_calls_have_their_client_s_rights(cluster):
    """A plain client's calls go to other nodes over relays, which may do everything."""
    keys = [f"a:{{{tag_for(slot)}}}" for slot in cluster.slotted_groups().values()]
    writes = "return redis.call('set', ARGV[1], 'by a script')"
    admin = client(cluster.nodes[0])
    sha = admin.script_load(writes)
    admin.execute_command("ACL", "SETUSER", "ann", "on", f">{PASSWORD}", "~a:*", "+@all", "-@admin")
    for node in cluster.nodes:
        wait_until(f"{node} knows the user", lambda: knows(node, "ann"))
    for node in cluster.nodes:
        ann = client(node, "ann")
        for key in keys:
            other = "b" + key[1:]
            ann.set(key, "x")
            denied(ann.set, other, "x")
            # The key is in the script's arguments: only who runs it sees that it is used.
            assert ann.evalsha(sha, 1, key, key) == "OK"
            for run in (lambda: ann.evalsha(sha, 1, key, other), lambda: ann.eval(writes, 1, key, other)):
                with pytest.raises(redis.exceptions.ResponseError, match="can't access at least one of the keys"):
                    run()
            with ann.pipeline() as pipe:
                pipe.set(key, "y")
                pipe.evalsha(sha, 1, key, other)
                with pytest.raises(redis.exceptions.ResponseError, match="can't access at least one of the keys"):
                    pipe.execute()
            assert admin.get(other) is None, "a script has written what its user may not"


def test_who_is_deleted_is_gone_and_who_is_off_stays(cluster):
    admin = client(cluster.nodes[0])
    for name in ("ann", "bob"):
        admin.execute_command("ACL", "SETUSER", name, "on", f">{PASSWORD}", "+@all", "~*", "&news")
    for node in cluster.nodes:
        wait_until(f"{node} knows the users", lambda: knows(node, "ann") and knows(node, "bob"))
    ann, bob = ([Connection(node.client_addr) for node in cluster.nodes] for _ in range(2))
    for name, connections in (("ann", ann), ("bob", bob)):
        for one in connections:
            one.call("AUTH", name, PASSWORD)
    listening = client(cluster.nodes[2], "bob").pubsub()
    listening.subscribe("news")
    assert listening.get_message(timeout=CALL_LIMIT_S)["type"] == "subscribe"

    assert admin.execute_command("ACL", "DELUSER", "ann") == 1
    admin.execute_command("ACL", "SETUSER", "bob", "off")

    def is_closed(connection):
        """Whether the other end has closed it, though nothing has been asked."""
        try:
            connection.socket.settimeout(0.01)
            return connection.socket.recv(1, socket.MSG_PEEK) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    for one in ann:
        wait_until("the deleted user's connection is closed", lambda: is_closed(one))
    for one in bob:
        assert not is_closed(one)
        one.socket.settimeout(CALL_LIMIT_S)
        assert one.call("PING") in (b"PONG", "PONG")
    for node in cluster.nodes:
        wait_until(f"who is off does not come in at {node}", lambda: not knows(node, "bob"))

    def users(node):
        return [connected["user"] for connected in client(node).client_list()]

    assert users(cluster.nodes[2]).count("bob") == 2
    admin.execute_command("ACL", "SETUSER", "bob", "resetchannels", "&old")
    wait_until("the listener is closed", lambda: users(cluster.nodes[2]).count("bob") == 1)


def test_nodes_forward_although_nobody_gets_in_as_default():
    """What nodes log in with at each other is their own: the user `default` may be shut out."""
    with Cluster() as cluster:
        admin = client(cluster.nodes[0])
        keys = [f"k{{{tag_for(slot)}}}" for slot in cluster.slotted_groups().values()]
        for node in cluster.nodes:
            assert all(client(node).set(key, "before") for key in keys)
        admin.execute_command("ACL", "SETUSER", "root", "on", f">{PASSWORD}", "+@all", "~*", "&*")
        for node in cluster.nodes:
            wait_until(f"{node} knows the user", lambda: knows(node, "root"))
        client(cluster.nodes[0], "root").execute_command("ACL", "SETUSER", "default", "off")
        for node in cluster.nodes:
            wait_until(f"{node} is shut", lambda: shut(node))
            root = client(node, "root")
            assert all(root.set(key, str(node.id)) and root.get(key) == str(node.id) for key in keys)
        cluster.nodes[1].kill()
        cluster.nodes[1].start()
        node = cluster.nodes[1]
        wait_until("the node is back", lambda: alive(node))
        wait_until("it takes every key's calls", lambda: serves(node, keys))
        assert shut(node)


def shut(node):
    try:
        client(node).ping()
        return False
    except redis.exceptions.AuthenticationError:
        return True


def alive(node):
    try:
        return knows(node, "root")
    except (redis.exceptions.ConnectionError, redis.exceptions.ResponseError):
        return False


def serves(node, keys):
    try:
        root = client(node, "root")
        return all(root.set(key, "after") for key in keys)
    except (redis.exceptions.ConnectionError, redis.exceptions.ResponseError):
        time.sleep(0.1)
        return False


def test_a_node_s_own_password_guards_the_default_user(cluster):
    keys = [f"k{{{tag_for(slot)}}}" for slot in cluster.slotted_groups().values()]
    for node in cluster.nodes:
        client(node).config_set("requirepass", PASSWORD)
    node = cluster.nodes[0]
    assert shut(node)
    known = client(node, "default")
    known.execute_command("ACL", "SETUSER", "default", "nopass")
    assert shut(node), "the node's password stands"
    assert all(client(other, "default").set(key, "x") for other in cluster.nodes for key in keys)
