"""Which cookies are the proxy's own, and which those of proxies before it: no notebook server gets any. Pure."""

from __future__ import annotations

from typing import Final

COOKIE: Final = "notebook-proxy"
"""What every cookie of ours has in its name, behind a prefix such as `__Host-` and before whatever tells it apart."""
MARK: Final = COOKIE.encode()
_PREFIXES: Final = (b"__host-", b"__secure-")
# How the names begin, in lower case, of what somebody is signed in by at a proxy before this one: whoever has it is
# that user, at every workspace.
_OF_PROXIES: Final = (
    b"_forward_auth",  # traefik-forward-auth
    b"_oauth2_proxy",
    b"_pomerium",
    b"appserviceauthsession",  # Azure
    b"authelia_session", b"authentik_", b"authp_", b"authservice_session",  # two, Caddy Security, Kubeflow
    b"awselbauthsessioncookie",
    b"cf_appsession", b"cf_authorization",  # Cloudflare Access
    b"gcp_iaap", b"gcp_iap",  # Google's Identity-Aware Proxy
    b"kc-access", b"kc-state",  # Gatekeeper, of Keycloak
    b"mod_auth_openidc_",
    b"ory_kratos_session", b"ory_session_",
    b"vouchcookie", b"vouchsession",
)  # fmt: skip


def is_ours(name: bytes) -> bool:
    """Tell whether a cookie of this name is, or could be taken for, one of ours.

    Prefixes are compared without regard to case (RFC 6265bis section 5.7), and so is all of it: readers differ.
    """
    return MARK in name.lower()


def is_withheld(name: bytes, more: tuple[bytes, ...] = ()) -> bool:
    """Tell whether a cookie of this name lets somebody in, here or at a proxy before this one.

    Args:
        name: as it came.
        more: how further names of such cookies begin, in lower case.
    """
    lowered = name.lower()
    if MARK in lowered:
        return True
    for prefix in _PREFIXES:
        lowered = lowered.removeprefix(prefix)
    return lowered.startswith(_OF_PROXIES) or (bool(more) and lowered.startswith(more))
