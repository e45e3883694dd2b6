"""What the examples' clients share: a connection, a script, and asking until there is an answer.

Copy it together with a script that keeps its answers under the request's number.
"""

import random
import time
from hashlib import sha1
from pathlib import Path

from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError
from redis.retry import Retry

SOCKET_LIMIT_S = 2.0
# For how long the script keeps a request's answer: longer than any client asks again.
KEEP_S = 600
# Error replies after which a request may be made again. UNKNOWN: it may have been done, or be done yet. The others: it
# certainly has not been. With a script that knows its requests the difference does not matter.
ASK_AGAIN = ("UNKNOWN", "TRYAGAIN", "CLUSTERDOWN", "MOVED")
PAGE = 1000


def connect(addrs):
    """A cluster client. It keeps the addresses it was given, for it may have learnt the cluster when few nodes led."""
    return RedisCluster(
        startup_nodes=[ClusterNode(*addr.split(":")) for addr in addrs],
        dynamic_startup_nodes=False,
        socket_timeout=SOCKET_LIMIT_S,
        socket_connect_timeout=SOCKET_LIMIT_S,
        retry=Retry(ConstantBackoff(0.02), 3),
        decode_responses=True,
    )


def until_answered(attempt, limit_s=60.0, on_doubt=lambda error: None):
    """The result of `attempt`, made again as long as nobody can say what became of it.

    Only for what may be done twice with the effect of once: reads, and scripts that know their requests. The client
    library, too, sends again what it lost a connection over.
    """
    deadline = time.monotonic() + limit_s
    while True:
        try:
            return attempt()
        # The second is no RedisError: a client that finds no node to ask raises it.
        except (RedisError, RedisClusterException) as error:
            is_answer = isinstance(error, ResponseError) and not says_again(error)
            if is_answer or time.monotonic() > deadline:
                raise
            on_doubt(error)
            time.sleep(random.uniform(0.01, 0.05))


def says_again(error):
    # redis-py takes the code off some errors and makes a class of it.
    kind = type(error).__name__.removesuffix("Error").upper()
    return kind in ASK_AGAIN or str(error).split(" ")[0] in ASK_AGAIN


class Script:
    """A script that is sent once and then called by its SHA-1, which also holds after a failover."""

    def __init__(self, redis, text):
        self.redis, self.text, self.sha = redis, text, sha1(text.encode()).hexdigest()

    def __call__(self, keys, args):
        try:
            return self.redis.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return self.redis.eval(self.text, len(keys), *keys, *args)


def read_script(module_file, name):
    return Path(module_file).with_name(name).read_text()


def entries(redis, stream):
    """All entries of a stream: (id, fields)."""
    found, after = [], "-"
    while page := until_answered(lambda: redis.xrange(stream, min=after, count=PAGE)):
        found += page
        after = f"({page[-1][0]}"
    return found
