"""What sheily_server/web uses of waitress's inside, which a new version may do in another way."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import waitress
from waitress import channel, parser, receiver, server, task, trigger, utilities, wasyncore
from waitress.adjustments import Adjustments

from sheily_server.web import listener as listener_module

CLASSES: dict[Any, set[str]] = {
    channel.HTTPChannel: {
        "add_channel",
        "close_when_flushed",
        "current_outbuf_count",
        "error_task_class",
        "handle_close",
        "handle_read",
        "handle_write",
        "last_activity",
        "parser_class",
        "readable",
        "received",
        "request",
        "service",
        "task_class",
        "total_outbufs_len",
        "will_close",
        "writable",
        "write_soon",
        "_flush_exception",
        "_flush_outbufs_below_high_watermark",
        "_flush_some",
    },
    parser.HTTPRequestParser: {
        "body_rcv",
        "chunked",
        "close",
        "completed",
        "content_length",
        "error",
        "expect_continue",
        "get_body_stream",
        "parse_header",
        "received",
        "version",
    },
    server.TcpWSGIServer: {
        "accept",
        "accepting",
        "add_task",
        "channel_class",
        "in_connection_overflow",
        "maintenance",
        "next_channel_cleanup",
        "pull_trigger",
        "readable",
    },
    server.MultiSocketServer: {"run"},
    task.WSGITask: {
        "build_response_header",
        "complete",
        "get_environment",
        "write",
        "wrote_header",
    },
    task.ErrorTask: {"execute", "set_close_on_finish", "status", "content_length"},
    receiver.ChunkedReceiver: {"control_line", "trailer"},
    trigger.trigger: {"pull_trigger"},
    utilities.Error: {"to_response"},
    Adjustments: {"cleanup_interval", "connection_limit", "outbuf_high_watermark", "recv_bytes"},
}
SET_IN_INIT: dict[Any, set[str]] = {
    channel.HTTPChannel: {"requests", "requests_lock", "outbuf_lock", "server", "adj", "connected"},
    parser.HTTPRequestParser: {"headers", "adj"},
    server.MultiSocketServer: {"adj", "effective_listen", "map"},
    server.BaseWSGIServer: {"active_channels", "trigger", "application", "adj", "effective_port"},
    wasyncore.dispatcher: {"_map", "socket"},
    task.Task: {"response_headers", "version", "request", "channel"},
    receiver.FixedStreamReceiver: {"buf"},
    receiver.ChunkedReceiver: {"buf"},
}


def assigned(method: Any) -> Iterator[str]:
    """The attributes of self that a method sets."""
    tree = ast.parse("if 1:\n" + inspect.getsource(method))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def lacking(owner: Any, names: set[str]) -> str:
    missing = ", ".join(sorted(names))
    return (
        f"This version of waitress has no {missing} in {owner.__name__}: sheily_server/web has to "
        "be read again before the upper limit in pyproject.toml is raised."
    )


@pytest.mark.parametrize("owner", CLASSES, ids=lambda owner: owner.__name__)
def test_what_classes_have(owner: Any) -> None:
    missing = {name for name in CLASSES[owner] if not hasattr(owner, name)}
    assert not missing, lacking(owner, missing)


@pytest.mark.parametrize("owner", SET_IN_INIT, ids=lambda owner: owner.__name__)
def test_what_objects_have(owner: Any) -> None:
    missing = SET_IN_INIT[owner] - set(assigned(owner.__init__))
    assert not missing, lacking(owner, missing)


def test_how_methods_are_called() -> None:
    """Those that are overridden, and those that are called with arguments."""
    expected = {
        channel.HTTPChannel._flush_exception: ["self", "flush", "do_close"],
        channel.HTTPChannel.received: ["self", "data"],
        parser.HTTPRequestParser.__init__: ["self", "adj"],
        parser.HTTPRequestParser.received: ["self", "data"],
        parser.HTTPRequestParser.parse_header: ["self", "header_plus"],
        server.TcpWSGIServer.maintenance: ["self", "now"],
        server.TcpWSGIServer.accept: ["self"],
        server.TcpWSGIServer.add_task: ["self", "task"],
        server.TcpWSGIServer.pull_trigger: ["self"],
        channel.HTTPChannel.write_soon: ["self", "data"],
        trigger.trigger.pull_trigger: ["self", "thunk"],
        task.WSGITask.write: ["self", "data"],
    }
    for method, names in expected.items():
        found = list(inspect.signature(method).parameters)
        assert found == names, f"{method.__qualname__} of this waitress takes {found}"


def test_where_classes_are_looked_up() -> None:
    """Each is replaced by one of ours, at the place where waitress makes an object of it."""
    for owner, words in {
        channel.HTTPChannel.service: ["self.task_class(self, ", "self.error_task_class(self, "],
        channel.HTTPChannel.received: ["self.parser_class(self.adj)", "self.server.add_task(self)"],
        server.BaseWSGIServer.handle_accept: ["self.accept()", "self.channel_class(self, "],
        parser.HTTPRequestParser.get_body_stream: [".getfile()"],
        task.WSGITask.execute: ["self.get_environment()"],
        task.WSGITask.write: ["if not self.wrote_header:", "channel.write_soon(towrite)"],
        wasyncore.poll2: [".readable()", ".writable()"],
    }.items():
        source = inspect.getsource(owner)
        for word in words:
            assert word in source, f"{owner.__qualname__} of this waitress has no {word}"


def test_a_listener_can_become_one_of_ours() -> None:
    found = waitress.create_server(lambda *_: [], host="127.0.0.1", port=0, threads=1)
    try:
        assert isinstance(found, server.TcpWSGIServer)
        found.__class__ = listener_module.Listener
    finally:
        found.task_dispatcher.shutdown()
        found.close()
