from __future__ import annotations

import socket

import pytest


@pytest.mark.parametrize("host", ["example.org", "192.0.2.1"])
def test_other_machines_cannot_be_reached(host):
    with pytest.raises(pytest.fail.Exception, match="must not use the network"):
        socket.create_connection((host, 443), timeout=1)
    with socket.socket() as connection, pytest.raises(pytest.fail.Exception, match="must not use the network"):
        connection.connect((host, 443))


def test_this_machine_can_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
