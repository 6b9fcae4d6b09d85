"""An import from its check to its end, with what is said about it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._codes import Code, Failure
from .._output import counted, progress, span
from .._settings import talk
from .._stores import NoStoreError, opened
from .checking import Findings, check
from .writing import Target, Written, write

if TYPE_CHECKING:
    from catalyst_seen import AsyncSeenStore

    from .._settings import Settings
    from .checking import Terms
    from .entries import Source
    from .inputs import Input


@dataclass(frozen=True)
class Job:
    """What is imported, and how.

    Attributes:
        settings: The options of every command.
        read: The input.
        source: What lists its entries.
        terms: How they become items.
        is_dry: Is nothing changed?
    """

    settings: Settings
    read: Input
    source: Source
    terms: Terms
    is_dry: bool

    async def run(self) -> None:
        """Check the input, then write it.

        Raises:
            Failure: Something in it cannot be stored, and nothing was written.
        """
        version = self.read.version
        with progress(self.settings, "checking") as advance:
            findings = await check(self.source, self.terms, advance)
        self._report(findings)
        if not findings.keys:
            self.settings.say("nothing is imported")
            return
        if findings.over == findings.keys:
            self.settings.code = Code.NO
            self.settings.say("nothing is imported")
            return
        if self.read.version != version:
            raise Failure("was changed while it was read: import it again")
        self._conclude(await self._write(findings.keys), findings)

    async def _write(self, count: int) -> Written:
        async with AsyncExitStack() as stack:
            store = await self._store(stack)
            target = Target(store, self.terms, self.is_dry)
            with progress(self.settings, "importing", count) as advance:
                return await write(self.source, target, advance)

    async def _store(self, stack: AsyncExitStack) -> AsyncSeenStore | None:
        """Open the store; a dry run does without one."""
        opening = opened(self.settings, create=not self.is_dry)
        try:
            return await stack.enter_async_context(opening)
        except NoStoreError:
            self.settings.say("there is no store yet: it would be made")
            return None

    def _conclude(self, written: Written, findings: Findings) -> None:
        would = "would be " if self.is_dry else ""
        where = ""
        if self.terms.namespace is None and findings.nameless:
            where = "; in the default namespace, which no feed reads (-n NAME)"
        self.settings.say(
            f"{would}marked: {written.marked:,}; seen already: {written.seen:,}{where}"
        )

    def _report(self, findings: Findings) -> None:
        """Say what was found.

        Raises:
            Failure: There is something that cannot be stored.
        """
        if findings.bad:
            self._refuse(findings)
        if len(findings.namespaces) > 1 and self.terms.namespace is not None:
            raise Failure(
                "has keys of several namespaces, which --namespace would mix: import it"
                " without, or export one of them"
            )
        say = self.settings.say
        say(f"{self.read.name}: {self.source.kind}, {_with_dates(findings)}")
        for state, count in findings.left_out.items():
            say(_left_out(state, count))
        if findings.undatable:
            say(
                f"{findings.undatable:,} have no date that can be used, such as"
                f" {findings.example}: they count from now"
            )
        if findings.over:
            say(self._over(findings))

    def _refuse(self, findings: Findings) -> None:
        for problem in findings.problems:
            talk(f"{self.read.name}: {problem}")
        more = findings.bad - len(findings.problems)
        rest = f", {more:,} more than are shown" if more else ""
        bad = counted(findings.bad, "bad key")
        raise Failure(f"{bad}{rest}: nothing is imported")

    def _over(self, findings: Findings) -> str:
        """Say how many keys would be unseen at once."""
        of = f"{findings.over:,} of {findings.keys:,}"
        if findings.expiring or self.terms.ttl is None:
            what = "have expired"
        else:
            whose = "their" if self.terms.is_own_ttl else "the store's"
            what = f"are older than {whose} TTL of {span(self.terms.ttl)}"
        return (
            f"{of} {what} and would be unseen at once, so they are left out: use"
            " --ttl 90d or --from-now; if their source still lists them, they come"
            " again"
        )


def _with_dates(findings: Findings) -> str:
    count = counted(findings.keys, "key")
    if not findings.dated:
        return count
    if findings.dated == findings.keys:
        return f"{count} with dates"
    return f"{count}, {findings.dated:,} of them with a date"


def _left_out(state: str, count: int) -> str:
    if state == "unreachable":
        return f"{count:,} ids are no text: the old store never found them either"
    return (
        f"{count:,} are {state}, and not seen: they are left out"
        " (`catalyst-seen move` takes a store with everything)"
    )
