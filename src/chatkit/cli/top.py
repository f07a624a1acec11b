"""`chatkit top`: how a server does, in a terminal: rates, waits, queues and refusals, from its figures."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio
import click
import msgspec

from ._scrape import Between, NoAnswerError, address_of, fetch
from .common import exit_codes

if TYPE_CHECKING:
    from rich.table import Table

_PARTS: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Quantiles(msgspec.Struct, frozen=True):
    """Seconds below which half, 95 % and 99 % were; None if there was nothing."""

    p50: float | None
    p95: float | None
    p99: float | None


class Look(msgspec.Struct, frozen=True):
    """What `--json` prints. Rates are per second, times in seconds, sizes in bytes; None is what is not shown there."""

    sent: float
    repeated: float
    offered: float
    confirmed: float
    send_to_ack: Quantiles
    delivery: Quantiles
    commit: Quantiles
    sessions: float | None
    waiting_for_commit: float | None
    waiting_for_push: float | None
    push_lag_s: float | None
    dead_letters: float | None
    refused: dict[str, float]
    storage_refused: dict[str, float]
    pushes: dict[str, float]
    broken_numbers: float | None
    gaps: float
    behind: float
    loop_lag: Quantiles
    cpu: float
    memory_bytes: float | None
    log_bytes: float | None


@click.command(short_help="How a server does, live.")
@click.argument("url", default="127.0.0.1:9464")
@click.option(
    "--every",
    default=2.0,
    show_default=True,
    type=click.FloatRange(1, 60),
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Look twice, print what happened between, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --once: a JSON object.")
def top(url: str, every: float, once: bool, as_json: bool) -> None:
    """Show how a server or a worker does: rates, waits, queues and refusals, from the figures at URL.

    URL is what `chatkit serve --metrics HOST:PORT` says; HOST:PORT is enough. Ctrl-C ends it.
    """
    if as_json and not once:
        raise click.UsageError("--json goes with --once")
    with exit_codes():
        address = address_of(url)
        if once:
            look = anyio.run(_look, address, every)
            _print(look, address, as_json=as_json)
        else:
            with suppress(KeyboardInterrupt):
                anyio.run(_live, address, every)


def look_at(between: Between) -> Look:
    """What is worth a look of what happened between two looks."""
    return Look(
        sent=between.rate("chatkit_sends_total", result="stored"),
        repeated=between.rate("chatkit_sends_total", result="repeat"),
        offered=between.rate("chatkit_deliveries_total"),
        confirmed=between.rate("chatkit_acks_total"),
        send_to_ack=_quantiles(between, "chatkit_send_to_ack_seconds"),
        delivery=_quantiles(between, "chatkit_delivery_latency_seconds"),
        commit=_quantiles(between, "chatkit_commit_seconds"),
        sessions=between.value("chatkit_sessions"),
        waiting_for_commit=between.value("chatkit_commit_queue_commands"),
        waiting_for_push=between.value("chatkit_offline_queue_depth"),
        push_lag_s=between.value("chatkit_queue_lag_seconds"),
        dead_letters=between.value("chatkit_dead_letters"),
        refused=between.rates("chatkit_refusals_total", "code"),
        storage_refused=between.rates("chatkit_storage_refusals_total", "kind"),
        pushes=between.rates("chatkit_pushes_total", "result"),
        broken_numbers=between.value("chatkit_seq_invariant_violations_total"),
        gaps=between.rate("chatkit_gap_detected_total"),
        behind=between.rate("chatkit_behind_total"),
        loop_lag=_quantiles(between, "chatkit_loop_lag_seconds"),
        cpu=between.rate("process_cpu_seconds_total"),
        memory_bytes=between.value("process_resident_memory_bytes"),
        log_bytes=between.value("chatkit_wal_bytes"),
    )


def _quantiles(between: Between, name: str) -> Quantiles:
    return Quantiles(**{it: between.quantile(name, part) for it, part in _PARTS.items()})


async def _look(url: str, every_s: float) -> Look:
    before, began_s = fetch(url), anyio.current_time()
    await anyio.sleep(every_s)
    return look_at(Between(before, fetch(url), anyio.current_time() - began_s))


def _print(look: Look, url: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(look))
        return
    from rich.console import Console  # here: no other command waits for it to load

    Console().print(_table(look, url))


async def _live(url: str, every_s: float) -> None:
    from rich.live import Live

    before, began_s = fetch(url), anyio.current_time()  # a wrong address ends it at once
    with Live(f"{url}: the first figures come in {every_s:g} s", auto_refresh=False) as live:
        while True:
            await anyio.sleep(every_s)
            try:
                now, now_s = fetch(url), anyio.current_time()
            except NoAnswerError as error:
                live.update(f"[red]{error}[/red]", refresh=True)
                continue
            look = look_at(Between(before, now, now_s - began_s))
            live.update(_table(look, url), refresh=True)
            before, began_s = now, now_s


def _table(look: Look, url: str) -> Table:
    from rich.table import Table

    table = Table(title=url, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row(
        "messages",
        f"{look.sent:,.1f}/s sent",
        f"{look.offered:,.1f}/s offered",
        f"{look.confirmed:,.1f}/s confirmed",
        f"{look.repeated:,.1f}/s repeated",
    )
    for name, found in (
        ("send to ack", look.send_to_ack),
        ("delivery", look.delivery),
        ("commit", look.commit),
        ("loop lag", look.loop_lag),
    ):
        table.add_row(name, f"P50 {_ms(found.p50)}", f"P95 {_ms(found.p95)}", f"P99 {_ms(found.p99)}")
    table.add_row("sessions", _count(look.sessions))
    table.add_row("waiting", f"{_count(look.waiting_for_commit)} for a commit", *_pushes_of(look))
    table.add_row("pushes", *_each(look.pushes))
    table.add_row(
        "refused", *_each(look.refused | {f"storage: {k}": v for k, v in look.storage_refused.items()})
    )
    table.add_row(
        "correct",
        _alarm(f"{_count(look.broken_numbers)} broken numbers", alarming=bool(look.broken_numbers)),
        f"{look.gaps:,.1f}/s gaps",
        f"{look.behind:,.1f}/s behind",
    )
    table.add_row(
        "process", f"{look.cpu:.0%} CPU", f"{_mib(look.memory_bytes)} memory", f"{_mib(look.log_bytes)} WAL"
    )
    return table


def _pushes_of(look: Look) -> tuple[str, str, str]:
    lag = "-" if look.push_lag_s is None else f"{look.push_lag_s:,.0f} s"
    return (
        f"{_count(look.waiting_for_push)} for a push",
        _alarm(f"{lag} late", alarming=(look.push_lag_s or 0) > 60),
        f"{_count(look.dead_letters)} dead letters",
    )


def _each(rates: Mapping[str, float]) -> list[str]:
    return [f"{rate:,.1f}/s {name}" for name, rate in list(rates.items())[:4]] or ["none"]


def _alarm(text: str, *, alarming: bool) -> str:
    return f"[red]{text}[/red]" if alarming else text


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.1f} ms"


def _count(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"


def _mib(size: float | None) -> str:
    return "-" if size is None else f"{size / 2**20:,.0f} MiB"
