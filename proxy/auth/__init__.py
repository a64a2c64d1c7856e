"""Who may enter: `door` asks who somebody is (`user`) and what is theirs (`access`); `origins` what pages may do.

`user` and `origins` are pure. Knows nothing of how a workspace is started or what is carried to it.
"""
