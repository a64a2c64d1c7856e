"""What `make check` looks for beyond form and types: known vulnerabilities, dangerous calls, secrets in files.

`python -m tests.audit` says in one line each what was found, or that a question could not be asked.
"""
