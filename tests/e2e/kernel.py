"""A kernel as JupyterLab uses it: over a websocket, in the subprotocol that Jupyter Server prefers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jupyter_client.session import Session
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1

from tests.e2e import websocket_to

if TYPE_CHECKING:
    from collections.abc import Mapping

_SUBPROTOCOL: Final = "v1.kernel.websocket.jupyter.org"


def compute(base_url: str, kernel_id: str, code: str, headers: Mapping[str, str] | None = None) -> str:
    """Return what a kernel shows as the value of `code`.

    Args:
        base_url: of the workspace, such as `ws://127.0.0.1:8000/ws/demo/`.
        kernel_id: which kernel.
        code: an expression, after statements.
        headers: of the handshake.
    """
    session = Session()
    request = session.msg("execute_request", {"code": code, "silent": False})
    url = f"{base_url}api/kernels/{kernel_id}/channels?session_id={session.session}"
    with websocket_to(url, subprotocols=[_SUBPROTOCOL], headers=headers) as channels:
        assert channels.getsubprotocol() == _SUBPROTOCOL
        channels.send_binary(serialize_msg_to_ws_v1(request, "shell", session.pack))  # type: ignore[no-untyped-call]
        while True:
            channel, parts = deserialize_msg_from_ws_v1(channels.recv())  # type: ignore[no-untyped-call]
            header, parent, _, content = (session.unpack(part) for part in parts[:4])
            assert header["msg_type"] != "error", content
            if header["msg_type"] == "execute_result" and parent["msg_id"] == request["header"]["msg_id"]:
                assert channel == "iopub"
                return _text(content)


def _text(content: dict[str, Any]) -> str:
    return str(content["data"]["text/plain"])
