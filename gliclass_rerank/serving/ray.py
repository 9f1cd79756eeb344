"""The HTTP application as a Ray Serve deployment: as many replicas as are needed, on as many machines."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig

from gliclass_rerank.options import RerankerOptions
from gliclass_rerank.serving.app import make_app
from gliclass_rerank.serving.loading import load_reranker


def app(args: dict[str, Any]) -> Application:
    """A Ray Serve application with the routes of ``gliclass-rerank serve``.

    Callers have to show what the environment variable GLICLASS_API_KEY holds where the replicas run, if anything.

    Args:
        args: What each replica loads, by the names of ``RerankerOptions``: ``args`` in a config file.

    Returns:
        An application with one deployment, "reranker". A config file may change its number of replicas
        and what each of them takes, a part of a GPU for instance.

    Raises:
        TypeError: One of these names is unknown.

    Example:
        >>> from ray import serve
        >>> serve.run(app({"max_length": 256}))  # doctest: +SKIP
    """
    options = RerankerOptions(**args)

    def build() -> FastAPI:  # called in each replica
        return make_app(load_reranker(options), api_key=os.environ.get("GLICLASS_API_KEY"))

    configure = serve.deployment(
        name="reranker",
        # A replica batches what it has taken, so it needs several requests at a time, and another
        # replica helps as soon as they have to wait.
        autoscaling_config=AutoscalingConfig(min_replicas=1, max_replicas=4, target_ongoing_requests=8),
        max_ongoing_requests=32,
        max_queued_requests=512,  # beyond these, 503: a finite queue keeps the router from collapsing
        health_check_period_s=5,
        health_check_timeout_s=10,
        graceful_shutdown_timeout_s=60,
    )
    deployment: Any = configure(serve.ingress(build)())  # typed by Ray as a function
    bound: Application = deployment.bind()
    return bound
