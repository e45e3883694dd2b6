"""redis-py's RedisCluster under the contract of clients/README.md."""

import json
import sys
import time

from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisError
from redis.retry import Retry

SOCKET_LIMIT_S = 2.0


def connect(addrs):
    nodes = [ClusterNode(*addr.split(":")) for addr in addrs.split(",")]
    retry = Retry(ConstantBackoff(0.02), 5)
    return RedisCluster(
        startup_nodes=nodes, socket_timeout=SOCKET_LIMIT_S, retry=retry, decode_responses=True
    )


def check(client, count):
    keys = {f"check:{n}" for n in range(count)}
    for key in keys:
        assert client.set(key, key)
    for key in keys:
        assert client.get(key) == key, key
    assert client.mget_nonatomic(sorted(keys)) == sorted(keys)
    with client.pipeline() as pipe:
        for key in sorted(keys)[:50]:
            pipe.get(key)
        assert pipe.execute() == sorted(keys)[:50]
    # redis-py asks one node unless told otherwise; FLUSHALL and scan_iter visit every primary by themselves.
    everywhere = RedisCluster.PRIMARIES
    size = client.dbsize(target_nodes=everywhere)
    assert size == count, f"DBSIZE is {size}"
    listed = client.keys("*", target_nodes=everywhere)
    assert sorted(listed) == sorted(keys), f"KEYS lists {len(listed)}"
    scanned = list(client.scan_iter(count=100))
    assert sorted(set(scanned)) == sorted(keys), f"SCAN lists {len(set(scanned))}"
    assert client.flushall()
    assert client.dbsize(target_nodes=everywhere) == 0


def hammer(client, seconds):
    acknowledged, errors, longest = [], 0, 0.0
    last = time.monotonic()
    until = last + seconds
    record = 0
    while time.monotonic() < until:
        record += 1
        try:
            client.set(f"hammer:{record}", record)
            acknowledged.append(record)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        except RedisError:
            errors += 1
            time.sleep(0.01)
    lost = sum(client.get(f"hammer:{n}") != str(n) for n in acknowledged)
    return {"acknowledged": len(acknowledged), "errors": errors, "lost": lost, "longest_pause_ms": int(longest * 1000)}


if __name__ == "__main__":
    addrs, verb, amount = sys.argv[1:]
    if verb == "check":
        check(connect(addrs), int(amount))
        print("ok")
    else:
        print(json.dumps(hammer(connect(addrs), float(amount))))
