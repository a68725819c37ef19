"""Tests of a RocketMQ compatible cluster with the Python client 0.4.4, a wrapper of the C++ client that its wheel brings along.

    interop.py SCENARIO...

The name server is $NAMESRV_ADDR. Each scenario prints one line, PASS name key=value... or FAIL name reason; the exit code is 1 when
any failed. The C++ client makes no topics by itself that are there at once: each is made by a first send, tried until it succeeds.
"""
import os
import sys
import threading
import time
import traceback

from rocketmq.client import Message, Producer, PushConsumer, SendStatus

CLIENT = "python-0.4.4"
NAMESRV = os.environ.get("NAMESRV_ADDR", "127.0.0.1:9876")
RUN = f"py{int(time.time() * 1000):x}"


class Failed(Exception):
    pass


def check(ok, reason):
    if not ok:
        raise Failed(reason)


def until(seconds, condition, what):
    end = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < end, f"not within {seconds} s: {what}")
        time.sleep(0.05)


class Env:
    """Names that no other run uses, and clients that are shut down at the end."""

    def __init__(self, scenario):
        self.scenario = scenario
        self.open = []

    def name(self, purpose):
        return f"interop-{self.scenario}-{purpose}-{RUN}"

    def producer(self):
        p = Producer(self.name("producer"), timeout=10_000)
        p.set_namesrv_addr(NAMESRV)
        p.start()
        self.open.append(p)
        return p

    def topic(self, producer, purpose):
        topic = self.name(purpose)

        def sent():
            try:
                return producer.send_sync(message(topic, "first", tags="first")).status == SendStatus.OK
            except Exception:
                return False

        until(60, sent, "the first send, which makes the topic")
        return topic

    def consumer(self, group, topic, expression, listener, orderly=False):
        c = PushConsumer(group, orderly=orderly)
        c.set_namesrv_addr(NAMESRV)
        c.set_instance_name(f"{group}-{len(self.open)}")
        c.subscribe(topic, listener, expression)
        c.start()
        self.open.append(c)

    def close(self):
        for client in reversed(self.open):
            client.shutdown()


def message(topic, body, tags=None, keys=None, properties=(), level=0):
    m = Message(topic)
    m.set_body(body)
    m.set_tags(tags or "tag")
    m.set_keys(keys or body[:32])
    for name, value in properties:
        m.set_property(name, value)
    if level:
        m.set_delay_time_level(level)
    return m


class Seen:
    """Deliveries by body, with when they came."""

    def __init__(self):
        self.lock = threading.Lock()
        self.by_body = {}

    def listener(self, m):
        body = m.body.decode()
        if m.tags.decode() != "first":
            with self.lock:
                self.by_body.setdefault(body, []).append((time.time(), m.id, m.keys, m["mine"]))

    def once(self, bodies):
        with self.lock:
            check(sorted(self.by_body) == sorted(bodies), f"{len(self.by_body)} of {len(bodies)} came")
            twice = [b for b, came in self.by_body.items() if len(came) != 1]
            check(not twice, f"came more than once: {twice[:5]}")


def sends(env):
    """Sync, oneway and ordered sends; every message compared when it is consumed."""
    p = env.producer()
    topic = env.topic(p, "t")
    seen = Seen()
    env.consumer(env.name("g"), topic, "tag", seen.listener)
    bodies = {"x": None, "größe, 世界": None, "long " * 20_000: None}
    for body in bodies:
        r = p.send_sync(message(topic, body, properties=[("mine", "of " + body[:20])]))
        check(r.status == SendStatus.OK, f"status {r.status}")
        bodies[body] = r.msg_id
    for n in range(20):
        p.send_oneway(message(topic, f"oneway {n}", properties=[("mine", "of oneway")]))
        p.send_orderly(message(topic, f"ordered {n}", properties=[("mine", "of ordered")]), 7)
    every = list(bodies) + [f"{kind} {n}" for kind in ("oneway", "ordered") for n in range(20)]
    until(60, lambda: len(seen.by_body) >= len(every), f"all {len(every)} messages, not {len(seen.by_body)}")
    time.sleep(1)
    seen.once(every)
    for body, (came,) in seen.by_body.items():
        check(came[3] is not None and came[3].decode().startswith("of "), f"property of {body[:20]}: {came[3]}")
        check(bodies.get(body) in (None, came[1]), f"id of {body[:20]}: {came[1]}, sent {bodies.get(body)}")
    return f"messages={len(every)}"


def tags(env):
    """One tag, two tags, all."""
    p = env.producer()
    topic = env.topic(p, "t")
    want = {"a": 10, "a || b": 20, "*": 30}
    groups = {}
    for expression in want:
        groups[expression] = Seen()
        env.consumer(env.name(f"g{len(groups)}"), topic, expression, groups[expression].listener)
    for n in range(10):
        for tag in "abc":
            p.send_sync(message(topic, f"{tag} {n}", tags=tag))
    for expression, n in want.items():
        until(60, lambda: len(groups[expression].by_body) >= n, f"<{expression}> gets {n}")
    time.sleep(1)
    for expression, n in want.items():
        check(len(groups[expression].by_body) == n, f"<{expression}> got {len(groups[expression].by_body)}, want {n}")
    return f"expressions={len(want)}"


def delay(env):
    """Delay levels, and times of their own: not early, not late, once."""
    p = env.producer()
    topic = env.topic(p, "t")
    seen = Seen()
    env.consumer(env.name("g"), topic, "tag", seen.listener)
    sent = {}
    for n in range(5):
        for wait, level, properties in [(0, 0, ()), (1, 1, ()), (5, 2, ()), (1, 0, [("TIMER_DELAY_MS", "2000")])]:
            body = f"{wait} s, {n}, level {level}, {properties}"
            sent[body] = (time.time(), wait)
            p.send_sync(message(topic, body, properties=properties, level=level))
    until(40, lambda: len(seen.by_body) >= len(sent), f"all {len(sent)} delayed messages")
    time.sleep(1)
    seen.once(sent)
    for body, (at, wait) in sent.items():
        took = seen.by_body[body][0][0] - at
        check(wait - 0.1 <= took < wait + 7, f"<{body}> came after {took:.1f} s")
    return f"messages={len(sent)}"


def orderly(env):
    """An orderly consumer: the order of each key."""
    keys, each = 6, 30
    p = env.producer()
    topic = env.topic(p, "t")
    for step in range(each):
        for key in range(keys):
            p.send_orderly(message(topic, f"{key} {step}"), key, queue_selector=lambda size, m, arg: arg % size)
    steps = {}

    def listener(m):
        if m.tags.decode() != "first":
            key, step = m.body.decode().split()
            steps.setdefault(key, []).append(int(step))

    env.consumer(env.name("g"), topic, "*", listener, orderly=True)
    until(90, lambda: sum(map(len, steps.values())) >= keys * each, f"all {keys * each} messages, not {sum(map(len, steps.values()))}")
    time.sleep(1)
    for key, came in steps.items():
        check(came == list(range(each)), f"key {key} came as {came}")
    return f"messages={keys * each} keys={keys}"


SCENARIOS = {f.__name__: f for f in (sends, tags, delay, orderly)}


def main():
    good = True
    for name in sys.argv[1:]:
        env, start = Env(name), time.monotonic()
        try:
            line = f"PASS {name} client={CLIENT} {SCENARIOS[name](env)}"
        except Exception as e:
            good = False
            if not isinstance(e, Failed):
                traceback.print_exc()
            line = f"FAIL {name} client={CLIENT} {e}"
        print(f"{line} seconds={time.monotonic() - start:.1f}", flush=True)
        env.close()
    # the native client leaves threads behind
    os._exit(0 if good else 1)


if __name__ == "__main__":
    main()
