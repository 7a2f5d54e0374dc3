"""
The log as the simplest program that could be right: one append after another, all state in a few dicts.

It knows nothing of positions in a table, of sets, or of fast paths; the real ones must give the same answers.
"""

from collections.abc import Sequence

from event_store.log import Answer, Append, Expect, QueryItem


class SerialModel:
    """Answers appends one by one; `written` is every event, in order."""

    def __init__(self) -> None:
        self.versions: dict[tuple[str, str], int] = {}
        self.bound: dict[tuple[str, str, str], tuple[bytes, tuple[int, int, int]]] = {}
        self.written: list[tuple[str, str, int, str]] = []
        self.marked: list[tuple[str, str, set[str]]] = []
        """Of every event its tenant, type and tags."""

    def run(self, batch: list[Append]) -> list[tuple[Answer, int, int, int]]:
        """Return what each append is answered: the answer, the position, its number of events, the main version."""
        answered: list[Answer] = []
        replies = []
        base = len(self.written)
        for number, append in enumerate(batch):
            reply = self._one(append, batch[:number], answered, base)
            answered.append(reply[0])
            replies.append(reply)
        return replies

    def _one(
        self, append: Append, earlier: list[Append], answered: list[Answer], base: int
    ) -> tuple[Answer, int, int, int]:
        main = (append.tenant, append.stream)
        if append.key:
            bound = self.bound.get((append.tenant, append.key.subject, append.key.key))
            if bound and bound[0] == append.key.fingerprint:
                return Answer.DUPLICATE, *bound[1]
            if bound:
                return Answer.REUSED, len(self.written), 0, self.versions.get(main, 0)
        if not all(self._holds(append.tenant, *check, earlier, answered) for check in append.checks):
            return Answer.CONFLICT, len(self.written), 0, self.versions.get(main, 0)
        if any(self._happened(append.tenant, *condition, base) for condition in append.conditions):
            return Answer.CONFLICT, len(self.written), 0, self.versions.get(main, 0)
        for event in append.events:
            stream = (append.tenant, event.stream)
            self.marked.append((append.tenant, event.type, set(event.tags)))
            self.versions[stream] = self.versions.get(stream, 0) + 1
            self.written.append((*stream, self.versions[stream], event.id))
        reply = (len(self.written), len(append.events), self.versions.get(main, 0))
        if append.key and append.binds:
            self.bound[append.tenant, append.key.subject, append.key.key] = append.key.fingerprint, reply
        return Answer.APPENDED, *reply

    def _happened(self, tenant: str, items: Sequence[QueryItem], after: int, base: int) -> bool:
        """Positions are those of this model; what the batch itself has added counts wherever it is."""
        for own, type_, tags in self.marked[min(after, base) :]:
            for item in items:
                if own == tenant and tags.issuperset(item.tags) and (not item.types or type_ in item.types):
                    return True
        return False

    def _holds(
        self, tenant: str, stream: str, expected: int, earlier: list[Append], answered: list[Answer]
    ) -> bool:
        writers = [
            answer
            for before, answer in zip(earlier, answered, strict=True)
            if before.tenant == tenant and any(event.stream == stream for event in before.events)
        ]
        if writers and writers[-1] is not Answer.APPENDED:
            return False
        version = self.versions.get((tenant, stream), 0)
        if expected == Expect.EXISTS:
            return version > 0
        return expected in (Expect.ANY, version)
