"""The HTTP application as a Ray Serve deployment, for as many replicas and machines as the load needs."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig

from gliclass_rerank.bulk.loading import load_reranker
from gliclass_rerank.options import RerankerOptions
from gliclass_rerank.serving.app import make_app


def app(args: dict[str, Any]) -> Application:
    """A Ray Serve application with the routes of ``gliclass-rerank serve``.

    If the environment variable GLICLASS_API_KEY is set where the replicas run, callers must show that key.

    Args:
        args: The options of each replica's model, by the names of ``RerankerOptions``: ``args`` in a config file.

    Returns:
        An application with one deployment, "reranker". A config file may change the number of replicas and the
        resources of each, for instance a part of a GPU.

    Raises:
        TypeError: An option is unknown.

    Example:
        >>> from ray import serve
        >>> serve.run(app({"max_length": 256}))  # doctest: +SKIP
    """
    options = RerankerOptions(**args)

    def build() -> FastAPI:  # called in each replica
        return make_app(load_reranker(options), api_key=os.environ.get("GLICLASS_API_KEY"))

    configure = serve.deployment(
        name="reranker",
        # A replica batches across requests, so it needs several at a time. Another replica starts when they wait.
        autoscaling_config=AutoscalingConfig(min_replicas=1, max_replicas=4, target_ongoing_requests=8),
        max_ongoing_requests=32,
        max_queued_requests=512,  # the next one gets 503: the router collapses under an endless queue
        health_check_period_s=5,
        health_check_timeout_s=10,
        graceful_shutdown_timeout_s=60,
    )
    deployment: Any = configure(serve.ingress(build)())  # Ray types it as a function
    bound: Application = deployment.bind()
    return bound
