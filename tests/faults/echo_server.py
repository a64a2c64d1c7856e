"""A notebook server of one file for a pod: `<base_url>api` answers 200, any upgrade is taken and its bytes come back.

Everything else below `<base_url>` answers with this process's id. Only modules that import fast.
"""

import os
import socket
import sys
import threading

BASE_URL = sys.argv[1]


def serve(connection: socket.socket) -> None:
    """Answer the requests of one connection."""
    with connection, connection.makefile("rb", buffering=0) as stream:
        while line := stream.readline():
            lines = []
            while (header := stream.readline().strip()) != b"":
                lines.append(header)
            if b"upgrade: websocket" in (text.lower() for text in lines):
                connection.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept_of(lines)
                )
                echo(connection)
                return
            found = line.split()[1].startswith(BASE_URL.encode())
            body = str(os.getpid()).encode()
            status = b"200 OK" if found else b"404 Not Found"
            connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


def accept_of(lines: list[bytes]) -> bytes:
    """Return what proves that the handshake was read (RFC 6455, section 4.2.2)."""
    import base64
    import hashlib

    (key,) = (line.partition(b":")[2].strip() for line in lines if line.lower().startswith(b"sec-websocket-key:"))
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def echo(connection: socket.socket) -> None:
    """Send back the payload of each short frame."""
    while head := connection.recv(6, socket.MSG_WAITALL):
        size, mask = head[1] & 0x7F, head[2:6]
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(connection.recv(size, socket.MSG_WAITALL)))
        connection.sendall(bytes((head[0], size)) + payload)


def main() -> None:
    """Listen on the pod's address for ever."""
    listener = socket.create_server((os.environ.get("POD_ADDRESS", "127.0.0.1"), 8888), backlog=128)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
