"""Keep the one port on loopback that Serve opens on all interfaces whatever Ray's address is."""

from __future__ import annotations


def keep_serve_on_loopback() -> None:
    """Let this replica's server for calls between deployments, which opens after the constructor, listen on loopback.

    Serve has no setting for its address (`ray.serve._private.replica`, `"[::]:0"`); a test looks at the open ports.
    """
    from ray.serve._private import replica

    original = replica.add_port_to_grpc_server

    def on_loopback(server: object, address: str) -> object:
        return original(server, address.replace("[::]", "127.0.0.1"))

    replica.add_port_to_grpc_server = on_loopback
