"""A soak: a real proxy under hours of what users, networks and notebooks do, at any seed; see `__main__`.

`notebook` stands in for JupyterLab, `serve` is the proxy's own command with a census, `watching` looks at its process
from outside, `load` plays users and checks every answer, `idle` holds idle websockets beside live traffic, `verdict`
says what is wrong.
"""
