"""Ports that a gateway comes back to."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from atoll.gateway.link_port import FILE, LinkPorts, choose_ports, last_ports, remember_ports

pytestmark = pytest.mark.network

HOST = "127.0.0.1"


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as trial:
        trial.bind((HOST, 0))
        return int(trial.getsockname()[1])


def test_they_are_had_again(tmp_path: Path) -> None:
    assert last_ports(tmp_path, HOST) == LinkPorts()
    ports = LinkPorts(free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM))
    remember_ports(tmp_path, ports)
    assert last_ports(tmp_path, HOST) == ports
    remember_ports(tmp_path, LinkPorts(ports.tcp, 0))
    assert choose_ports(tmp_path, HOST, 0) == LinkPorts(ports.tcp, 0)
    # The operator's word goes before.
    assert choose_ports(tmp_path, HOST, 8643) == LinkPorts(8643, 8643)


def test_taken_ones_are_left_alone(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        ports = LinkPorts(taken.getsockname()[1], free_port(socket.SOCK_DGRAM))
        remember_ports(tmp_path, ports)
        assert last_ports(tmp_path, HOST) == LinkPorts(0, ports.udp)


def test_connections_that_are_still_closing_do_not_matter(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection((HOST, port))
        # Who closes first keeps the connection in TIME_WAIT, as a killed gateway's side does.
        accepted, _ = server.accept()
        accepted.close()
        client.close()
    remember_ports(tmp_path, LinkPorts(port))
    assert last_ports(tmp_path, HOST) == LinkPorts(port)


@pytest.mark.parametrize("content", [b"", b"x y\n", b"99999 0\n", b"1\n", b"\xff"])
def test_nonsense_is_passed_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE
    path.write_bytes(content)
    path.chmod(0o600)
    assert last_ports(tmp_path, HOST) == LinkPorts()


def test_an_open_file_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(b"%d 0\n" % free_port(socket.SOCK_STREAM))
    path.chmod(0o644)
    assert last_ports(tmp_path, HOST) == LinkPorts()
