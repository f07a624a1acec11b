"""Addresses of queues: which adapter serves them, with what options, and what is said of those that are none."""

from __future__ import annotations

from typing import Any

import pytest

from chatkit import ConfigurationError, open_queue
from chatkit.queue.base import Connects
from chatkit.queue.jetstream import JetStreamQueue
from chatkit.queue.kafka import KafkaQueue
from chatkit.queue.local import LocalQueue


def test_each_scheme_has_its_adapter() -> None:
    assert isinstance(open_queue("memory://"), LocalQueue)
    assert isinstance(open_queue("jetstream://a:4222,b:4222"), JetStreamQueue)
    assert isinstance(open_queue("jetstream+tls://u:p@a:4222"), JetStreamQueue)
    assert isinstance(open_queue("kafka://a:9092,b:9092"), KafkaQueue)


def test_those_on_a_server_can_be_connected_first() -> None:
    assert isinstance(open_queue("jetstream://a"), Connects)
    assert isinstance(open_queue("kafka://a"), Connects)
    assert not isinstance(open_queue("memory://"), Connects)


def test_options_are_taken_from_the_address() -> None:
    jetstream: Any = open_queue("jetstream://a?prefix=shop&replicas=3&items_max=7&visibility_s=2.5")
    kafka: Any = open_queue("kafka://a,b:9092?topic=t&group=g&partitions=5&replicas=2")
    local: Any = open_queue("memory://?items_max=3")

    config = jetstream._config
    assert (config.prefix, config.replicas, config.items_max, config.visibility_s) == ("shop", 3, 7, 2.5)
    config = kafka._config
    assert (config.topic, config.group, config.partitions, config.replicas) == ("t", "g", 5, 2)
    assert kafka._where == "a,b:9092"
    assert local._items_max == 3


@pytest.mark.parametrize(
    "address",
    [
        "",
        "memory",
        "memory:///path",
        "memory://?replicas=3",
        "local://",
        "nats://u:secret@a",
        "redis://:secret@a",
        "jetstream://u:secret@a?topic=t",
        "jetstream://u:secret@a?replicas=three",
        "jetstream://u:se?cret@a",
        "jetstream://u:se/cret@a",
        "jetstream://u:secret@a?replicas=0",
        "jetstream://u:secret@a?visibility_s=nan",
        "jetstream://u:secret@a?prefix=a.b",
        "kafka://u:secret@a",
        "kafka://a?partitions=secret",
        "kafka://a?secret=1",
        "KAFKA ://a",
    ],
)
def test_addresses_that_are_none_are_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_queue(address)
    assert "secret" not in str(refused.value)
    assert "cret@" not in str(refused.value)


@pytest.mark.parametrize("address", [None, 1, b"memory://"])
def test_an_address_is_a_text(address: Any) -> None:
    with pytest.raises(ConfigurationError, match="address must be a str"):
        open_queue(address)
