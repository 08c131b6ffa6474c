"""Join a Ray cluster that runs already."""

import logging
import os
import socket
from typing import Any

_SECONDS_TO_CONNECT = 10.0
_REMEDY = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` prints on a machine of the cluster"


def join_cluster(address: str | None, **more: Any) -> None:
    """Join the cluster at an address, or at that of RAY_ADDRESS.

    Ray itself tries for minutes to reach an address where nothing answers, and for 20 s a cluster that refuses its
    token, without saying so. So both are tried first.

    Args:
        address: host:port of the cluster's head, or `auto` on a machine of the cluster; None: the variable's.
        more: further arguments of `ray.init`.

    Raises:
        OSError: nothing answers at the address, or the cluster refuses this process's token.
    """
    import ray

    named = "--ray-address" if address else "RAY_ADDRESS"
    address = address or os.environ["RAY_ADDRESS"]
    try:
        _try(address)
        ray.init(address, log_to_driver=False, **{"logging_level": logging.ERROR, **more})
    except ray.exceptions.AuthenticationError as error:  # RAY_AUTH_MODE is token, and there is none
        raise OSError(f"{named} {address}: there is no token here: {_REMEDY}") from error
    except OSError as error:
        reason = error.strerror or str(error) or "no running Ray cluster is found"
        raise OSError(f"{named} {address}: {reason}") from error


def _try(address: str) -> None:
    """Raise OSError if nothing answers at the address, or if it refuses this process's token."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    if "://" in address:  # of a proxy of Ray's, which checks for itself
        return
    try:
        place = canonicalize_bootstrap_address_or_die(address)
    except ValueError as error:  # not host:port
        raise OSError(str(error)) from error
    except ConnectionError as error:
        raise OSError("no running Ray cluster is found") from error
    host, _, port = place.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_CONNECT).close()
    _try_token(place)


def _try_token(place: str) -> None:
    """Ask Ray's control service for the cluster's id, as `ray.init` does first, and once."""
    try:
        import grpc
    except ImportError:  # comes with ray[default] and ray[serve]; without it, Ray finds out
        return
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    with init_grpc_channel(place) as channel:
        service = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        try:
            service.GetClusterId(gcs_service_pb2.GetClusterIdRequest(), timeout=_SECONDS_TO_CONNECT)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                takes = "refuses this process's token" if _sends_token() else "takes a token, and none is sent"
                raise OSError(f"it {takes}: {_REMEDY}") from error
            # Whatever else it is, `ray.init` tries for longer.


def _sends_token() -> bool:
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
