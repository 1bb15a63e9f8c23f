"""The documented interface, and requests that nobody thought of."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from served_policies import EchoPolicy

from vla.conf.serving import ServeConfig
from vla.serving.policy_server.app import make_app
from vla.serving.policy_server.openapi import describe
from vla.serving.policy_server.service import PolicyService

schemathesis: Any = pytest.importorskip("schemathesis")
checks: Any = pytest.importorskip("schemathesis.specs.openapi.checks")

SERVICE = PolicyService(EchoPolicy(), ServeConfig(policy="zero"))
APP = make_app(SERVICE, None)
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)


def test_every_route_is_documented() -> None:
    documented = {(path, method) for path, item in describe(SERVICE.served, False)["paths"].items() for method in item}
    routes = {
        (route.path, method.lower())
        for route in APP.routes
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD" and route.path not in ("/live.js", "/live.css")  # the page's own files
    }
    assert documented == routes


@SCHEMA.parametrize()
@settings(max_examples=8, suppress_health_check=list(HealthCheck), deadline=None)
def test_any_request_gets_a_documented_answer(case: Any) -> None:
    case.call_and_validate(checks=CHECKS)
