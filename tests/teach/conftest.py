"""A chat server for all tests of a module."""

import pytest
from chat_server import running


@pytest.fixture(scope="module")
def running_server():
    with running() as chat:
        yield chat


@pytest.fixture
def chat(running_server):
    running_server.asked = []
    return running_server
