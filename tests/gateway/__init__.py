"""The gateway and the relay behind it, over real sockets."""
