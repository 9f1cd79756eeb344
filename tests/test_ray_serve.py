"""The Ray Serve application under a fault, in a network of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from gliclass_rerank.options import RerankerOptions
from tests.own_network import is_possible, popen


@pytest.mark.slow
@pytest.mark.skipif(not is_possible(), reason="this system gives no network of one's own (unshare)")
def test_when_its_replica_is_killed_whoever_tries_again_is_answered(tmp_path: Path, short_home: Path) -> None:
    result = tmp_path / "faults.json"
    command = [sys.executable, "-m", "benchmarks.faults", "--only", "ray", "--requests", "40", "--json", str(result)]
    process = popen(command, short_home)
    out, log = process.communicate(timeout=300)
    assert process.returncode == 0, out + log
    report = json.loads(result.read_text())["ray"]
    assert report["requests"] == 40 and sum(report["failures, tried again"].values()) > 0  # it did die


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")  # Ray's own
def test_the_example_of_a_config_file_is_one() -> None:
    from ray.serve.schema import ServeDeploySchema

    config = yaml.safe_load(Path("examples/ray_serve.yaml").read_text())
    [application] = ServeDeploySchema.model_validate(config).applications
    assert application.import_path == "gliclass_rerank.serving.ray:app" and RerankerOptions(**application.args)
    [deployment] = application.deployments
    assert deployment.name == "reranker"
