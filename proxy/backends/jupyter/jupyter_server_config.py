"""Read by the notebook server itself, before the user's own configuration wins: the token is the proxy's to choose.

`JUPYTER_TOKEN` alone is a default, which a token in the user's configuration would override: the proxy could not enter,
or everybody could.
"""

import os

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - traitlets runs this file with it
c.IdentityProvider.token = os.environ["JUPYTER_TOKEN"]
