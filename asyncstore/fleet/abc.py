"""What a backend does for a fleet of triggerers.

A *member* is a triggerer that has joined. It holds a lease, which it renews for all of its watchers at once, and it
claims watchers under that lease. Every claim has a fencing number. A commit for a watcher stands on both: the number
must be the latest, and the lease must not have run out by the backend's clock.

Cancellation, for every coroutine here: the operation has happened wholly or not at all, and the caller does not know
which; each may be repeated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import timedelta

from ..records import Lease, WatcherOrder, WatcherRecord, WatcherState
from ..scopes import AssetScope
from .records import Claim, Declared, Load, Member, Standing, Survey, TriggererRecord

__all__ = ["Fleet"]


class Fleet(ABC):
    """Keep who runs which watcher. A backend with `Capability.COMMIT` has one."""

    # What a member does.

    @abstractmethod
    async def adeclare(self, watchers: Sequence[tuple[AssetScope, str]]) -> list[Declared]:
        """Make known watchers by their assets and names, those that are not known yet.

        :param watchers: canonical scopes, and names.
        :return: one for each, in any order; assets that are not registered (any more) are left out.
        """

    @abstractmethod
    async def ajoin(
        self,
        owner: str,
        *,
        token: str,
        capacity: int,
        watchers: Collection[int],
        lease: timedelta,
        process: str | None = None,
    ) -> Member:
        """Become a member.

        :param owner: who joins, for people.
        :param token: of this attempt alone; who joins again with it is the same member.
        :param capacity: how many watchers it runs at most.
        :param watchers: those that it can run.
        :param lease: how long it may go without a renewal.
        :param process: names the process, so that others on the same machine can tell when it is gone.
        """

    @abstractmethod
    async def aextend(self, member: Member, watchers: Collection[int]) -> None:
        """Say that the member, and those that declare the same, can run more watchers than it said."""

    @abstractmethod
    async def abeat(self, member: Member, lease: timedelta, within: float) -> bool:
        """Renew the lease; nothing else that is under way holds this up.

        :param within: seconds after which it is given up.
        :return: whether it still held; else the member is none any more, and must join anew.
        """

    @abstractmethod
    async def asurvey(self, member: Member) -> Survey:
        """Look around: who else is there, which of the declared watchers are free, and what people ask."""

    @abstractmethod
    async def aload(self, declares: Collection[str]) -> Load:
        """Count what there is to divide.

        :param declares: the sets of watchers of the members that are there.
        """

    @abstractmethod
    async def astanding(self, member: Member) -> Standing:
        """Count the declared watchers, and those of them that are not done."""

    @abstractmethod
    async def abegin_anew(self, watchers: Collection[int]) -> None:
        """Have watchers run again that are done; nothing happens to the others."""

    @abstractmethod
    async def aclaim(self, member: Member, owner: str, watchers: Collection[int]) -> list[Claim] | None:
        """Claim watchers that are free; of two members that want the same one, one gets it.

        :param member: who claims.
        :param owner: the same, for people.
        :param watchers: those that it would have.
        :return: those that the member has now; None where its lease has run out.
        """

    @abstractmethod
    async def arelease(self, member: Member, watchers: Mapping[int, WatcherState]) -> None:
        """Give watchers back, each with the state that it is left in; nothing happens to those it has not.

        What people asked for meanwhile becomes of those that are left waiting: they are paused, or killed.
        """

    @abstractmethod
    async def aheld(self, member: Member) -> list[Claim]:
        """Read which watchers the member has: a claim or a release may have been made whose answer was lost."""

    @abstractmethod
    async def aholders(self, watchers: Collection[int]) -> dict[int, int]:
        """Read which of the watchers a member has, and which member that is."""

    @abstractmethod
    async def arestarted(self, lease: Lease) -> None:
        """Say that a watcher was restarted, as somebody asked."""

    @abstractmethod
    async def adrain(self, member: Member) -> None:
        """Say that the member takes no more watchers."""

    @abstractmethod
    async def aleave(self, member: Member) -> None:
        """Give everything back, and be a member no more."""

    @abstractmethod
    async def abury(self, gone: Collection[int] = ()) -> int:
        """Set free what members held whose lease has run out.

        :param gone: members that are known to be gone before that.
        :return: how many watchers went free.
        """

    def changes(self) -> AsyncIterator[None]:
        """Yield when something about the fleet may have changed, where the backend is told; it may never be.

        Nobody may rely on it: whoever waits also looks from time to time.
        """
        return _never()

    # What people do.

    @abstractmethod
    async def aorder(self, asset: AssetScope, name: str, order: WatcherOrder) -> WatcherRecord:
        """Ask something of a watcher.

        Where a member has it, that member does it, soon; else it is done at once.

        :return: what is known of the watcher after that.
        :raises AssetNotFoundError: the asset is unknown.
        :raises WatcherNotFoundError: the watcher is.
        :raises StoreError: it cannot be done to a watcher in this state; says what can.
        """

    @abstractmethod
    async def alist_members(self) -> list[TriggererRecord]:
        """List the triggerers by the time that they joined."""


async def _never() -> AsyncIterator[None]:
    return
    yield
