"""What /openapi.json describes is there: every example of a body is sent, and its answer is one that is described."""
import json
import os
import pathlib

import pytest
import requests

from daemon import PATIENCE

DOCUMENT = json.loads((pathlib.Path(os.environ["ELS_SOURCE_DIR"]) / "web" / "openapi.json").read_text())


def operations():
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if method in ("get", "post", "put", "delete"):
                yield method, path, operation


def examples():
    for method, path, operation in operations():
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        if "example" in content:
            yield method, path, operation, content["example"]
        for example in content.get("examples", {}).values():
            yield method, path, operation, example["value"]


EXAMPLES = list(examples())
PLAIN = [(path, operation) for method, path, operation in operations() if method == "get" and "{" not in path]


def test_every_post_and_put_has_an_example():
    shown = {(method, path) for method, path, _, _ in EXAMPLES}
    assert shown == {(method, path) for method, path, _ in operations() if method in ("post", "put")}


@pytest.mark.parametrize("method, path, operation, body", EXAMPLES, ids=[f"{m} {p}" for m, p, _, _ in EXAMPLES])
def test_an_example_is_answered_as_described(start, tmp_path, method, path, operation, body):
    elsd = start("--bank-dir", tmp_path)
    answer = requests.request(method, elsd.url + path.replace("{name}", "my-network"), json=body, timeout=PATIENCE)
    assert answer.status_code in (200, 201, 202), answer.text
    assert str(answer.status_code) in operation["responses"]


def test_every_plain_address_answers(start):
    elsd = start()
    for path, operation in PLAIN:
        answer = requests.get(elsd.url + path, timeout=PATIENCE)
        assert answer.status_code == 200 and "200" in operation["responses"], (path, answer.text)
    assert requests.get(elsd.url + "/openapi.json", timeout=PATIENCE).json() == DOCUMENT
