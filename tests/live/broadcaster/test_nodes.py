"""More than one node: on one machine by the parent's bus, and through a real Redis that may go away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sim.live.sockets import free_port
from tests.live.broadcasters import Client, Running, broadcaster, eventually, redis, redis_server

pytestmark = pytest.mark.loopback


@pytest.fixture(scope="module")
def pair() -> Iterator[Running]:
    """Two nodes on one port."""
    with broadcaster(nodes=2) as running:
        yield running
        assert "Traceback" not in running.log, running.log


def children(pid: int) -> list[int]:
    return [int(child) for child in open(f"/proc/{pid}/task/{pid}/children").read().split()]


def test_each_subscriber_of_each_node_gets_each_event_once(pair: Running) -> None:
    clients = [Client(pair) for _ in range(12)]
    for client in clients:
        client.subscribe("private-news")
    for number in range(5):
        pair.publish("private-news", f"e{number}", {}, socket_id=clients[0].socket_id)
    for client in clients[1:]:
        # What different nodes have published may change places.
        assert sorted(client.receive()["event"] for _ in range(5)) == [f"e{number}" for number in range(5)]
        assert client.nothing_waits()
    assert clients[0].nothing_waits()
    assert pair.request("GET", "/apps/1001/connections")[1] == {"connections": 12}
    answer = pair.request("GET", "/apps/1001/channels/private-news", params={"info": "subscription_count"})
    assert answer[1] == {"occupied": True, "subscription_count": 12}
    for client in clients:
        client.socket.close()


def test_presence_is_global_over_nodes(pair: Running) -> None:
    clients: list[Client] = []
    for number in range(10):
        client = Client(pair)
        clients.append(client)
        roster = client.subscribe("presence-room", {"user_id": str(number)})
        eventually(lambda n=number: len(users(pair)) == n + 1)
        assert roster["data"]["presence"]["count"] == number + 1
    assert [clients[0].receive()["data"]["user_id"] for _ in range(9)] == [str(n) for n in range(1, 10)]
    clients[9].socket.close()
    left = clients[0].receive()
    assert (left["event"], left["data"]) == ("pusher_internal:member_removed", {"user_id": "9"})
    for client in clients:
        client.socket.close()
    eventually(lambda: users(pair) == [])


def users(server: Running) -> list[Any]:
    status, answer = server.request("GET", "/apps/1001/channels/presence-room/users")
    return answer["users"] if status == 200 else []


def test_a_node_that_dies_is_replaced_and_the_others_go_on() -> None:
    with broadcaster(nodes=2) as server:
        clients = [Client(server) for _ in range(12)]
        for number, client in enumerate(clients):
            client.subscribe("presence-room", {"user_id": str(number)})
        eventually(lambda: len(users(server)) == 12)
        victim = children(server.process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: "died with code -9" in server.log)
        eventually(lambda: len(children(server.process.pid)) == 2)
        survivors = []
        for client in clients:
            client.socket.settimeout(0.2)
            try:
                while True:
                    if not client.socket.recv():
                        break
            except TimeoutError:
                survivors.append(client)
            except Exception as error:
                if "timed out" in str(error):
                    survivors.append(client)
        assert 0 < len(survivors) < 12
        eventually(lambda: len(users(server)) == len(survivors))
        back = Client(server)
        back.subscribe("presence-room", {"user_id": "back"})
        eventually(lambda: len(users(server)) == len(survivors) + 1)
        server.process.terminate()
        assert server.process.wait(20) == 0


def test_no_node_outlives_its_parent() -> None:
    with broadcaster(nodes=2) as server:
        nodes = children(server.process.pid)
        os.kill(server.process.pid, signal.SIGKILL)
        eventually(lambda: not any(os.path.exists(f"/proc/{pid}/stat") and state(pid) != "Z" for pid in nodes))


def state(pid: int) -> str:
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_nodes_do_not_join_a_port_that_another_server_shares(pair: Running) -> None:
    with pytest.raises(AssertionError, match="Address already in use"), broadcaster(nodes=2, port=pair.port):
        pass


@pytest.mark.service
def test_two_machines_through_redis_that_goes_away_and_comes_back() -> None:
    port = free_port()
    process = redis_server(port)
    try:
        url = f"redis://127.0.0.1:{port}/0"
        with broadcaster(redis=url) as first, broadcaster(redis=url) as second:
            here, there = Client(first), Client(second)
            here.subscribe("private-news")
            there.subscribe("private-news")
            eventually(lambda: first.request("GET", "/apps/1001/connections")[1] == {"connections": 2})
            first.publish("private-news", "one", {})
            assert (here.receive()["event"], there.receive()["event"]) == ("one", "one")

            process.terminate()
            process.wait(10)
            eventually(lambda: "is away" in first.log and "is away" in second.log)
            first.publish("private-news", "while away", {})
            assert here.receive()["event"] == "while away"  # this node's subscribers miss nothing
            eventually(lambda: first.metric("node_messages_lost_total") > 0)

            process = redis_server(port)
            eventually(lambda: "is back" in first.log and "is back" in second.log)
            eventually(lambda: first.request("GET", "/apps/1001/connections")[1] == {"connections": 2})
            first.publish("private-news", "again", {})
            assert (here.receive()["event"], there.receive()["event"]) == ("again", "again")
            assert first.process.poll() is None
            assert "Traceback" not in first.log + second.log
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.service
def test_presence_and_terminate_through_redis() -> None:
    with redis() as url, broadcaster(redis=url) as first, broadcaster(redis=url) as second:
        ada = Client(first)
        ada.subscribe("presence-room", {"user_id": "1"})
        eventually(lambda: len(users(second)) == 1)
        bo = Client(second)
        assert bo.subscribe("presence-room", {"user_id": "2"})["data"]["presence"]["ids"] == ["1", "2"]
        assert ada.receive()["event"] == "pusher_internal:member_added"
        assert first.request("POST", "/apps/1001/users/2/terminate_connections", {})[0] == 200
        assert bo.socket.recv_frame().opcode == 8
        assert ada.receive()["event"] == "pusher_internal:member_removed"
        started = time.monotonic()
        second.process.terminate()
        second.process.wait(10)
        eventually(lambda: first.request("GET", "/apps/1001/connections")[1] == {"connections": 1})
        assert time.monotonic() - started < 10
