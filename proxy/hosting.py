"""`routing: host` in the gateway: what has come to the wrong host is sent to the right one, or refused.

Knows nothing of who asks: what it says is the same for everyone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import hdrs

from proxy import answers
from proxy.auth import hosts
from proxy.auth.build import seen_https

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from proxy.config import Config
    from proxy.target import Target

ALL: Final = "workspaces"
"""The query of the link from our pages to the dashboard, which on a workspace's host is at the main one."""


class Hosting:
    """Sorts requests by host. One per gateway.

    Args:
        base_domain: the main host's name; workspaces' hosts lie below it.
        is_https: tells whether the browser speaks https.
        can_frame: pages of other hosts may frame workspaces'.
    """

    def __init__(
        self, base_domain: str, is_https: Callable[[web.BaseRequest], bool], *, can_frame: bool = False
    ) -> None:
        self._hosts = hosts.Hosts(base_domain)
        self._is_https = is_https
        self._can_frame = can_frame
        self.check_host = self._hosts.check_host

    def astray(self, request: web.BaseRequest, target: Target) -> web.Response | None:
        """Return the answer to what a workspace's host does not serve, and sends on; None for all that it does.

        Raises:
            NotFound: a workspace's host has no such path.
            CrossOrigin: a page of another host frames this.
        """
        if not self._can_frame:
            hosts.check_frame(request.headers)
        host = request.headers.get(hdrs.HOST, "")
        to = self._hosts.check_target(host, target)
        if to and target.query == ALL:
            to = self._hosts.url(host, hosts.MAIN, "/", is_https=self._is_https(request))
        return answers.to(to) if to else None

    def elsewhere(self, request: web.BaseRequest, target: Target) -> web.Response | None:
        """Return the answer to what asks the main host for a workspace; None for all else.

        Browsers are sent to the workspace's host. Nobody else is: a program would leave its token behind on the way,
        and a page's script may not go there.

        Raises:
            OtherHost: it is no navigation.
        """
        host = request.headers.get(hdrs.HOST, "")
        if target.workspace_id is None or self._hosts.place(host) != hosts.MAIN:
            return None
        if request.method != "GET" or not answers.is_for_person(request):
            raise self._hosts.other_host(host, target, is_https=self._is_https(request))
        return answers.to(self.url(request, target.workspace_id, target.wire.decode("ascii")))

    def url(self, request: web.BaseRequest, workspace_id: str, path: str) -> str:
        """Return an address on a workspace's host, reached as this request's was."""
        host = request.headers.get(hdrs.HOST, "")
        return self._hosts.url(host, workspace_id, path, is_https=self._is_https(request))


def make_hosting(config: Config) -> Hosting | None:
    """Return what sorts requests by host, or None where all workspaces have one host."""
    if config.routing == "path":
        return None
    return Hosting(config.base_domain, seen_https(config), can_frame=bool(config.frame_ancestors))
