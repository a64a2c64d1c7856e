"""Carry one request or one websocket between a client and a notebook server, untouched.

`headers`, `frames`, `plain` and `response_head` are pure; `listener`, `server` and `client` are the client's side, with
limits on what it may take, and `express` a short way for requests that repeat themselves; `response` reads what the
notebook server answers, as hostile input; `upstream` keeps connections; `http` and `websocket` each carry one thing,
and an `exchange` is its request and response. Knows nothing of workspaces but their `Handle`.
"""
