"""Joining a Ray cluster: what is said without one, and when it refuses the token. `test_two_nodes` has real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from training.ray_cluster import join_cluster

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


class _Refusal(grpc.GenericRpcHandler):
    """Answers every call as Ray's control service answers one without its token."""

    def service(self, _call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def refuse(_request: bytes, context: grpc.ServicerContext) -> bytes:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            raise AssertionError

        handler: Callable[..., grpc.RpcMethodHandler] = grpc.unary_unary_rpc_method_handler
        return handler(refuse)


@pytest.fixture
def refusing() -> Iterator[str]:
    """host:port of a cluster that refuses everybody."""
    server = grpc.server(ThreadPoolExecutor(1), handlers=(_Refusal(),))
    port = server.add_insecure_port("0.0.0.0:0")  # Ray replaces a loopback address by the machine's own
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_a_cluster_that_takes_a_token_refuses_at_once_and_the_line_says_what_to_do(refusing: str) -> None:
    with pytest.raises(OSError, match=f"^--ray-address {refusing}: it takes a token, and none is sent: ") as refused:
        join_cluster(refusing)
    assert str(refused.value).endswith(
        "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` prints on a machine of the cluster"
    )


def test_the_variable_is_named_that_gave_the_address(refusing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", refusing)
    with pytest.raises(OSError, match=f"^RAY_ADDRESS {refusing}: it takes a token"):
        join_cluster(None)


@pytest.mark.parametrize(
    ("address", "reason"),
    [("127.0.0.1:1", "Connection refused"), ("nonsense", "Invalid address format: nonsense")],
)
def test_an_address_without_a_cluster(address: str, reason: str) -> None:
    with pytest.raises(OSError, match=f"^--ray-address {address}: {reason}$"):
        join_cluster(address)


def test_a_run_reserves_machines_under_one_id_at_every_start(tmp_path: Any) -> None:
    """Ray keeps those of a killed start for three minutes, and a start with another id would wait for them."""
    from ray.train import RunConfig
    from ray.train.torch import TorchTrainer

    from training.meta_training.ray_train import _identify

    def start(run: str) -> str:
        trainer = TorchTrainer(print, run_config=RunConfig(name="meta-train", storage_path=str(tmp_path)))
        _identify(trainer, run)
        return str(trainer.train_run_context.run_id)

    assert start("gs://b/one") == start("gs://b/one") != start("gs://b/two")
