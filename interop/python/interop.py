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

from rocketmq.client import Message, Producer, PullConsumer, PushConsumer, RecvMessage, SendStatus
from rocketmq.ffi import MessageModel

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

    def consumer(self, group, topic, expression, listener, orderly=False, model=MessageModel.CLUSTERING, answers=None):
        """With answers, what it returns for a message is what the client is told: 0, done; 1, again later."""
        c = PushConsumer(group, orderly=orderly, message_model=model)
        c.set_namesrv_addr(NAMESRV)
        c.set_instance_name(f"{group}-{len(self.open)}")
        c.subscribe(topic, listener, expression)
        if answers:
            # the wrapper's own way, an exception, loses the answer: ctypes makes 0 of it
            c._register_callback(lambda _, m: answers(RecvMessage(m)))
            # one answer is for all messages of a batch
            c.set_message_batch_max_size(1)
        c.start()
        self.open.append(c)
        return c

    def stop(self, client):
        client.shutdown()
        self.open.remove(client)

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


def more_sends(env):
    """Asynchronous and oneway ordered sends."""
    p = env.producer()
    topic = env.topic(p, "t")
    seen = Seen()
    env.consumer(env.name("g"), topic, "tag", seen.listener)
    bodies = [f"{kind} {n}" for kind in ("async", "oneway") for n in range(20)]
    results, failures = [], []
    for body in bodies:
        if body.startswith("async"):
            p.send_async(message(topic, body), results.append, failures.append)
        elif body.startswith("oneway"):
            p.send_oneway_orderly(message(topic, body), 3)
    until(30, lambda: len(results) + len(failures) == 20, "20 callbacks")
    check(not failures and all(r.status == SendStatus.OK for r in results), f"callbacks: {failures[:3]}")
    check(len({r.msg_id for r in results}) == 20, "ids of asynchronous sends")
    until(60, lambda: len(seen.by_body) >= len(bodies), f"all {len(bodies)} messages, not {len(seen.by_body)}")
    time.sleep(1)
    seen.once(bodies)
    return f"messages={len(bodies)}"


def broadcasting(env):
    """Two consumers of a group, each gets everything."""
    p = env.producer()
    topic = env.topic(p, "t")
    readers = [Seen(), Seen()]
    for reader in readers:
        env.consumer(env.name("g"), topic, "tag", reader.listener, model=MessageModel.BROADCASTING)
    # such a consumer may begin at the end of the topic: it says when it is there
    for n, reader in enumerate(readers):
        attempt = 0
        while not reader.by_body:
            attempt += 1
            check(attempt < 120, f"consumer {n} reads nothing")
            p.send_sync(message(topic, f"probe {n} {attempt}"))
            time.sleep(0.5)
    bodies = [f"everybody {n}" for n in range(60)]
    for body in bodies:
        p.send_sync(message(topic, body))
    for n, reader in enumerate(readers):
        until(60, lambda: all(body in reader.by_body for body in bodies), f"consumer {n} gets all {len(bodies)}")
    time.sleep(1)
    for n, reader in enumerate(readers):
        twice = [body for body in bodies if len(reader.by_body[body]) != 1]
        check(not twice, f"consumer {n} got more than once: {twice[:5]}")
    return f"consumers={len(readers)} messages={len(bodies)}"


def retry(env):
    """What is given back comes again after 10 s (delay level 3), as itself; what is not, once."""
    p = env.producer()
    topic = env.topic(p, "t")
    group = env.name("g")
    came = {}

    def answers(m):
        body = m.body.decode()
        came.setdefault(body, []).append((time.time(), m.reconsume_times, m.topic, m.keys.decode()))
        return 1 if body.startswith("later") and len(came[body]) == 1 else 0

    # the first consumer's heartbeat makes the retry topic, the second one has it in its first route
    first = env.consumer(group, topic, "tag", lambda m: None)
    time.sleep(2)
    env.stop(first)
    env.consumer(group, topic, "tag", None, answers=answers)
    bodies = [f"{kind} {n}" for kind in ("later", "fine") for n in range(5)]
    for body in bodies:
        p.send_sync(message(topic, body))
    until(90, lambda: sum(map(len, came.values())) >= 15, f"15 deliveries, not {sum(map(len, came.values()))}")
    time.sleep(2)
    check(sorted(came) == sorted(bodies), f"came: {sorted(came)}")
    for body, times in came.items():
        check(len(times) == (2 if body.startswith("later") else 1), f"<{body}> came {len(times)} times")
        for n, (_, again, of, keys) in enumerate(times):
            check((again, of, keys) == (n, topic, body), f"delivery {n} of <{body}>: reconsumeTimes {again}, {of}, {keys}")
    waits = [times[1][0] - times[0][0] for times in came.values() if len(times) == 2]
    check(all(9.5 < wait < 30 for wait in waits), f"delay level 3 (10 s) took {waits}")
    return f"messages={len(bodies)} retried={len(waits)} waited_s={max(waits):.1f}"


def restart(env):
    """A group goes on where it stopped."""
    p = env.producer()
    topic = env.topic(p, "t")
    group = env.name("g")
    before, after = [f"before {n}" for n in range(30)], [f"after {n}" for n in range(30)]
    first, second = Seen(), Seen()
    c = env.consumer(group, topic, "tag", first.listener)
    for body in before:
        p.send_sync(message(topic, body))
    until(60, lambda: len(first.by_body) >= len(before), "what was sent before")
    # it stores its offsets every 5 s, and not when it is shut down
    time.sleep(7)
    env.stop(c)
    for body in after:
        p.send_sync(message(topic, body))
    env.consumer(group, topic, "tag", second.listener)
    until(60, lambda: len(second.by_body) >= len(after), "what was sent after")
    time.sleep(1)
    first.once(before)
    second.once(after)
    return f"before={len(before)} after={len(after)}"


def pull(env):
    """Reads all queues of a topic by offset, and once more what came since."""
    p = env.producer()
    topic = env.topic(p, "t")
    c = PullConsumer(env.name("g"))
    c.set_namesrv_addr(NAMESRV)
    c.start()
    env.open.append(c)
    for turn in ("first turn", "second turn"):
        bodies = [f"{turn} {n}" for n in range(50)]
        for body in bodies:
            p.send_sync(message(topic, body))
        got = []

        def all_there():
            got.extend((m.body.decode(), m.queue_id, m.queue_offset) for m in c.pull(topic, "tag") if m.tags.decode() == "tag")
            return len(got) >= len(bodies)

        until(60, all_there, f"{len(bodies)} messages of the {turn}")
        check(sorted(body for body, _, _ in got) == sorted(bodies), f"{turn}: {len(got)} messages")
        for queue in {q for _, q, _ in got}:
            offsets = [offset for _, q, offset in got if q == queue]
            check(offsets == sorted(offsets), f"{turn}: offsets of queue {queue}: {offsets}")
    return f"messages={2 * len(bodies)}"


SCENARIOS = {f.__name__: f for f in (sends, tags, delay, orderly, more_sends, broadcasting, retry, restart, pull)}


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
