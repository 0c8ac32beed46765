"""Queue, locks and tokens in Redis, where all processes of an application share them.

Jobs are in two places, as Laravel's driver keeps them: a sorted set of those that wait for their time, and a list of those that
a worker may take now. (Apart from `queue`, so that Redis's client is loaded only where there is a Redis.)
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import redis

from sim.brokeforge.broadcasting.dispatcher import BroadcastEvent
from sim.brokeforge.outages import OutageLog
from sim.live.application.queue import Work, start_workers

log = logging.getLogger("queue")

_MOVE_DUE = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 100)
for _, job in ipairs(due) do
  redis.call('ZREM', KEYS[1], job)
  redis.call('RPUSH', KEYS[2], job)
end
return #due
"""


class RedisQueue:
    """The same over Redis: a sorted set of waiting jobs, a list of ready ones. All processes of an application share it."""

    def __init__(self, url: str, workers: int = 1, name: str = "workbench", outage: OutageLog | None = None) -> None:
        self._redis: Any = redis.Redis.from_url(url, socket_timeout=5.0, socket_connect_timeout=5.0)
        self._outage = outage or OutageLog("redis", log)
        self._waiting, self._ready = f"{name}:queue:delayed", f"{name}:queue"
        self._move = self._redis.register_script(_MOVE_DUE)
        self._workers = workers
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, work: Work) -> None:
        self._threads = start_workers(self._workers, self._run, work)

    def push(self, job: BroadcastEvent, delay: float) -> None:
        try:
            if delay > 0:
                self._redis.zadd(self._waiting, {job.to_json(): time.time() + delay})
            else:
                self._redis.rpush(self._ready, job.to_json())
        except redis.RedisError as error:
            raise OSError(str(error)) from error

    def __len__(self) -> int:
        try:
            return int(self._redis.llen(self._ready)) + int(self._redis.zcard(self._waiting))
        except redis.RedisError:
            return 0

    def close(self) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join(timeout=2.0)
        self._redis.close()

    def _run(self, work: Work) -> None:
        while not self._closed.is_set():
            try:
                self._move(keys=[self._waiting, self._ready], args=[time.time()])
                # A short wait: it bounds how late a delayed job is noticed.
                taken = self._redis.blpop([self._ready], timeout=0.02)
                self._outage.worked()
            except redis.RedisError as error:
                self._outage.failed(f"redis: {error}")
                self._closed.wait(1.0)
                continue
            if taken is None:
                continue
            try:
                work(BroadcastEvent.from_json(taken[1]))
            except Exception:
                log.exception("job")


class RedisCache:
    """Locks and tokens in Redis. When Redis is gone every lock is granted: an event twice costs less than none."""

    def __init__(self, url: str, name: str = "workbench", outage: OutageLog | None = None) -> None:
        self._redis: Any = redis.Redis.from_url(url, socket_timeout=5.0, socket_connect_timeout=5.0, decode_responses=True)
        self._outage = outage or OutageLog("redis", log)
        self._prefix = f"{name}:cache:"

    def add(self, key: str, value: str, ttl: float) -> bool:
        try:
            return bool(self._redis.set(self._prefix + key, value, nx=True, px=max(1, round(ttl * 1000))))
        except redis.RedisError:
            return True

    def put(self, key: str, value: str, ttl: float) -> None:
        try:
            self._redis.set(self._prefix + key, value, px=max(1, round(ttl * 1000)))
        except redis.RedisError as error:
            self._outage.failed(f"redis: {error}")

    def get(self, key: str) -> str | None:
        try:
            value: str | None = self._redis.get(self._prefix + key)
        except redis.RedisError:
            return None
        return value

    def forget(self, key: str) -> None:
        try:
            self._redis.delete(self._prefix + key)
        except redis.RedisError as error:
            self._outage.failed(f"redis: {error}")
