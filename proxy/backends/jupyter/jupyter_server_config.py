"""Read by the notebook server itself, before the user's own configuration wins: the proxy chooses who is let in.

`JUPYTER_TOKEN` alone is a default, which a token in the user's configuration would override: the proxy could not enter,
or everybody could. With `NOTEBOOK_IDENTITY_HEADER` (the proxy's setting `notebook_identity`) the user is whom the proxy
names in that header, and who comes without it is refused. Jupyter's own cookies count for nothing then.
"""

import hmac
import os
from urllib.parse import unquote

from jupyter_server.auth import IdentityProvider, User

TOKEN = os.environ.get("JUPYTER_TOKEN", "")
HEADER = os.environ.get("NOTEBOOK_IDENTITY_HEADER", "")


class ProxyIdentityProvider(IdentityProvider):
    """Takes a request's user from the proxy that sent it."""

    async def get_user(self, handler):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Return the user that the proxy names; None for who is not the proxy, or for nobody."""
        names = handler.request.headers.get_list(HEADER)
        token = self.get_token(handler) or ""
        if (
            not token
            or not hmac.compare_digest(token.encode(), self.token.encode())
            or len(names) != 1
            or not names[0].strip()
        ):
            return None
        handler._token_authenticated = True  # noqa: SLF001 - as the class above does it: no `_xsrf` is asked for then
        name = unquote(names[0].strip())  # %XX stands for what is not visible ASCII
        return User(username=name, name=name, display_name=name, initials=name[:1].upper())

    @property
    def login_available(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """There is no page to log in at: who is refused is told so."""
        return False

    @property
    def logout_available(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """Nor one to log out at: that is the proxy's."""
        return False


c = get_config()  # type: ignore[name-defined]  # noqa: F821 - traitlets runs this file with it
if TOKEN:
    c.IdentityProvider.token = TOKEN
if HEADER:
    c.ServerApp.identity_provider_class = ProxyIdentityProvider
    c.ProxyIdentityProvider.token = TOKEN
