"""The figures of a server as somebody else reads them: fetched, parsed, and what happened between two looks."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.client import HTTPException
from itertools import pairwise
from typing import Final

from ..errors import ConfigurationError, UnavailableError

TIMEOUT_S: Final = 5.0
BYTES_MAX: Final = 4 * 2**20

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
"""By name and labels."""


class NoAnswerError(UnavailableError):
    """Nobody answers there now."""


class NoMetricsError(ConfigurationError):
    """Somebody answers, and it is no chatkit."""


def address_of(text: str) -> str:
    """Where figures are: `HOST:PORT` is enough. Raises ConfigurationError for another scheme than HTTP."""
    url = text if "://" in text else f"http://{text}"
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https") or not rest:
        raise ConfigurationError("give the address of figures, such as http://127.0.0.1:9464/metrics")
    return url if "/" in rest else f"{url}/metrics"


def fetch(url: str) -> Samples:
    """What is shown there now.

    Raises:
        NoAnswerError: Nobody answers, or not with figures of Prometheus.
        NoMetricsError: Nothing is shown there, or figures of something else.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 -- `address_of` allows HTTP only
            text = answer.read(BYTES_MAX).decode()
    except HTTPException:  # its words are what the other side sent
        raise NoAnswerError(f"no figures at {url}: what answers there is no HTTP, or was cut off") from None
    except (OSError, ValueError) as error:  # URLError, HTTPError and timeouts are OSErrors
        if getattr(error, "code", None) == HTTPStatus.NOT_FOUND:  # the port of messages, most likely
            raise _no_metrics(url) from None
        reason = getattr(error, "reason", None) or error
        raise NoAnswerError(f"no figures at {url}: {reason}") from None
    samples = parsed(text)
    if not any(name == "chatkit_build_info" for name, _ in samples):
        raise _no_metrics(url)
    return samples


def _no_metrics(url: str) -> NoMetricsError:
    return NoMetricsError(f"{url} shows no figures of chatkit; is it the address of --metrics?")


def parsed(text: str) -> Samples:
    """Figures in the text form of Prometheus; nothing of what is none."""
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ModuleNotFoundError:
        raise ConfigurationError(
            'chatkit top needs prometheus-client: pip install "chatkit-engine[metrics]"'
        ) from None
    try:
        families = list(text_string_to_metric_families(text))
    except ValueError:
        return {}
    return {(it.name, frozenset(it.labels.items())): it.value for family in families for it in family.samples}


class Between:
    """What happened between two looks.

    Args:
        before: The earlier one.
        now: The later one.
        seconds: Between them.
    """

    def __init__(self, before: Samples, now: Samples, seconds: float) -> None:
        self._before = before
        self._now = now
        self._seconds = seconds

    def value(self, name: str) -> float | None:
        """A figure as it is now, whatever its labels; None if it is not there."""
        found = [value for (it, _), value in self._now.items() if it == name]
        return sum(found) if found else None

    def rate(self, name: str, **labels: str) -> float:
        """How often a second, of all that has these labels."""
        wanted = set(labels.items())
        return sum(risen for has, risen in self._risen(name) if wanted <= has) / self._seconds

    def rates(self, name: str, label: str) -> dict[str, float]:
        """How often a second, by the values of a label; what did not happen is left out."""
        found: dict[str, float] = defaultdict(float)
        for has, risen in self._risen(name):
            if risen:
                found[dict(has).get(label, "")] += risen / self._seconds
        return dict(sorted(found.items(), key=lambda it: -it[1]))

    def quantile(self, name: str, part: float) -> float | None:
        """Below which value this part of what a histogram saw was; None if it saw nothing.

        Between two bounds evenly, as Prometheus does it.
        """
        buckets = sorted((_bound(has), risen) for has, risen in self._risen(f"{name}_bucket"))
        if not buckets or not buckets[-1][1]:
            return None
        rank = part * buckets[-1][1]
        for (low, below), (high, up_to) in pairwise([(0.0, 0.0), *buckets]):
            if up_to >= rank:
                return low if high == float("inf") else low + (high - low) * (rank - below) / (up_to - below)
        return None

    def _risen(self, name: str) -> Iterator[tuple[frozenset[tuple[str, str]], float]]:
        """How far each has risen; one that has fallen began anew."""
        for (it, labels), value in self._now.items():
            if it == name:
                before = self._before.get((it, labels), 0.0)
                yield labels, value - before if value >= before else value


def _bound(labels: frozenset[tuple[str, str]]) -> float:
    return float(re.sub(r"^\+Inf$", "inf", dict(labels)["le"]))
