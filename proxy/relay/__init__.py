"""Carry one request or one websocket between a client and a notebook server, untouched.

`headers` and `frames` are pure; `response` reads what the notebook server answers, as hostile input; `upstream` keeps
connections; `http` and `websocket` each carry one thing. Knows nothing of workspaces but their `Handle`.
"""
