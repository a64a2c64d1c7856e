"""The token of a notebook server: made anew for each start from the proxy's secret, so that it need not be kept.

Pure. A token says nothing of the secret or of another start's token (HMAC, RFC 2104).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

_KEY_ID_LENGTH: Final = 8


def derive_token(secret: str, workspace_id: str, nonce: str) -> str:
    """Return the token of one start: HMAC-SHA-256 of the workspace's id and the start's nonce, in hexadecimal.

    Args:
        secret: the setting `notebook_secret`.
        workspace_id: a DNS label; so the line feed below ends it beyond doubt.
        nonce: random text, in an annotation of the Deployment.
    """
    return _hmac(secret, f"token\n{workspace_id}\n{nonce}")


def key_id(secret: str) -> str:
    """Return the name of a secret, which tells whether a token was derived from it, and nothing else of it."""
    return _hmac(secret, "key-id")[:_KEY_ID_LENGTH]


def _hmac(secret: str, message: str) -> str:
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()
