"""What goes wrong on demand: faults that wait for a request which fits them."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock


@dataclass
class Fault:
    """Something that happens to the next `times` requests of a method whose path matches a pattern.

    status: answered in place of what was asked for, with `headers`, `body` and the Hub's error `code`. landed: what was
    asked for is done first. drop: the connection ends without an answer. cut: it ends after so many bytes of the body,
    coming in for a PUT, going out for a GET. delay: seconds before the answer. whole: a range is not heeded. flip: one
    byte of the body is wrong. skip: requests that fit and pass first. meanwhile: is called before anything is answered.
    """

    method: str
    pattern: str
    times: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    code: str = ""
    landed: bool = False
    drop: bool = False
    cut: int | None = None
    delay: float = 0.0
    whole: bool = False
    flip: bool = False
    skip: int = 0
    meanwhile: Callable[[], object] | None = None
    met: int = 0


class Faults:
    """Faults that are planned."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []
        self._lock = Lock()

    def plan(self, fault: Fault) -> Fault:
        """Adds one; its `met` counts how often it happened."""
        self._planned.append(fault)
        return fault

    def clear(self) -> None:
        """From now on all goes well."""
        self._planned.clear()

    def meet(self, method: str, path: str) -> Fault:
        """The fault of a request; one that does nothing where none is planned."""
        with self._lock:
            for fault in self._planned:
                if fault.method != method or not re.search(fault.pattern, path) or fault.met >= fault.times:
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.met += 1
                return fault
        return Fault(method, "")
