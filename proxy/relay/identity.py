"""Headers in which proxies say who asks. To a notebook server only ours does.

Pure. Every product in front of a server has names of its own for the user, and for the token that it took from them.
Whatever a client or an ingress sent under such a name stops here: a stranger's would make somebody else of them, and
an ingress's token is none of the notebook's business.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from proxy.naming import USER_HEADER

_SEPARATORS: Final = re.compile(rb"[^0-9a-z]")
_VISIBLE: Final = "!#$&'()*+,/:;=?@[]\"<>\\^`{|}"  # with letters, digits and `-._~` all visible ASCII but `%`
# In canonical form. X-Forwarded-*, X-Real-Ip, X-Scheme: Tornado believes the latter two before the former.
_NAMES: Final = frozenset(
    {
        b"authorization", b"forwarded", b"gap-auth", b"remote-email", b"remote-groups", b"remote-name",
        b"remote-user", b"x-access-token", b"x-id-token", b"x-real-ip", b"x-scheme", b"x-user", b"x-userinfo",
        b"x-username",
    }
)  # fmt: skip
_BEGINNINGS: Final = (
    b"cf-access-",  # Cloudflare Access
    b"oidc-access-", b"oidc-claim-", b"oidc-id-", b"oidc-refresh-",  # mod_auth_openidc
    b"ssl-client-", b"x-ssl-client-",  # ingress-nginx, Traefik, Apache: a client's certificate
    b"tailscale-user-",
    b"x-amzn-oidc-",  # Amazon's load balancer
    b"x-auth-request-",  # oauth2-proxy, ingress-nginx
    b"x-authenticated-", b"x-consumer-", b"x-credential-",  # Kong
    b"x-authentik-",
    b"x-forwarded-",  # all that is forwarded is ours to say
    b"x-goog-authenticated-user-", b"x-goog-iap-",  # Google's Identity-Aware Proxy
    b"x-ms-client-principal", b"x-ms-token-",  # Azure App Service
    b"x-pomerium-",
    b"x-remote-",  # Kubernetes' request header authentication
    b"x-token-",  # Caddy Security
    b"x-vouch-",
    b"x-webauth-",  # Grafana, Gitea
)  # fmt: skip


def canonical(name: bytes) -> bytes:
    """Return a header's name as a lenient reader knows it: in lower case, every separator a `-`.

    Many servers read `X_Forwarded_For` as `X-Forwarded-For`; CGI knows no other character at all.
    """
    return _SEPARATORS.sub(b"-", name.lower())


def is_told_by_proxies(name: bytes) -> bool:
    """Tell whether a header in canonical form says who asks, or from where."""
    return name in _NAMES or name.startswith(_BEGINNINGS)


def user_line(name: str) -> bytes:
    """Return the line that tells the notebook server who asks; none for nobody.

    Args:
        name: any text; what is not visible ASCII, and `%`, is sent as %XX of its UTF-8.
    """
    return f"{USER_HEADER}: {quote(name, safe=_VISIBLE, errors='surrogatepass')}\r\n".encode("ascii") if name else b""
