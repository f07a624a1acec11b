"""Pictures of a sitting: how much each side takes, where it goes, and how it grows; as SVG and as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .report import LAYERS, Results
from .table import CHATKIT

_GROWTH = ("connections", "all-talk", "stored")
_COLOURS = {
    "loop_user": "#2b6cb0",
    "loop_kernel": "#90cdf4",
    "threads_user": "#2f855a",
    "threads_kernel": "#9ae6b4",
    "database": "#b7791f",
}


def draw(results: Results, out: Path) -> list[Path]:
    """Write what there are figures for; the paths of the PNGs."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "chatkit"  # the same figures make the same file
    drawn = [
        _ratios(results, out / "ratios"),
        _layers(results, out / "layers"),
        _growth(results, out / "growth"),
    ]
    return [path for path in drawn if path is not None]


def _ratios(results: Results, to: Path) -> Path | None:
    """chatkit's part of what each rival takes, and how small it should be."""
    found = [
        (f"{name}: {it.aim.to}", it.found, it.aim.at_most)
        for name in results.lines
        for it in results.judged(name)
        if it.aim.of == CHATKIT and it.aim.to is not None
    ][::-1]
    if not found:
        return None
    figure, axis = _figure(1 + 0.45 * len(found))
    names, ratios, aims = zip(*found, strict=True)
    colours = ["#2f855a" if ratio <= aim else "#c05621" for _, ratio, aim in found]
    axis.barh(names, ratios, color=colours, height=0.6)
    axis.plot(aims, names, "|", color="black", markersize=16, markeredgewidth=2, label="aim")
    for at, ratio in enumerate(ratios):
        axis.text(ratio, at, f" {ratio:.2f}", va="center", fontsize=8)
    axis.margins(x=0.08)
    axis.axvline(1, color="grey", linewidth=0.8, linestyle=":")
    axis.set_xlabel("chatkit takes so much of it (less is better)")
    axis.legend(loc="lower right", fontsize=8)
    return _save(figure, to)


def _layers(results: Results, to: Path) -> Path | None:
    """CPU by who uses it."""
    found = {name: results.layers(name) for name in results.lines}
    found = {name: sides for name, sides in found.items() if sides and name not in _GROWTH}
    if not found:
        return None
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    heights = [len(sides) for sides in found.values()]
    figure, axes = pyplot.subplots(
        len(found),
        1,
        figsize=(9, 1.3 + 0.9 * len(found) + 0.4 * sum(heights)),
        squeeze=False,
        height_ratios=heights,
    )
    for axis, (name, sides) in zip(axes[:, 0], found.items(), strict=True):
        who = list(sides)[::-1]
        left = [0.0] * len(who)
        for layer in LAYERS:
            widths = [max(0.0, sides[side][layer]) for side in who]
            if any(widths):
                axis.barh(who, widths, left=left, color=_COLOURS[layer], height=0.6)
            left = [at + width for at, width in zip(left, widths, strict=True)]
        axis.set_title(f"{name}, {results.lines[name].unit}", fontsize=9, loc="left")
    patches = [Patch(color=_COLOURS[layer], label=words) for layer, words in LAYERS.items()]
    figure.legend(handles=patches, fontsize=7, loc="lower center", ncols=len(patches))
    return _save(figure, to)


def _growth(results: Results, to: Path) -> Path | None:
    """CPU a message as there are more connections, and as the log grows."""
    names = [name for name in _GROWTH if name in results.lines and results.samples]
    names = [name for name in names if any(results.values(name, side) for side in results.lines[name].sides)]
    if not names:
        return None
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(names), figsize=(4.5 * len(names), 3.5), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        sides = [side for side in results.lines[name].sides if results.values(name, side)]
        values = [results.values(name, side) for side in sides]
        middles = [results.median(name, side) for side in sides]
        for at, each in enumerate(values):
            axis.plot([at] * len(each), each, ".", color="#90cdf4")
        axis.plot(range(len(sides)), middles, "-o", color="#2b6cb0")
        axis.set_xticks(range(len(sides)), sides)
        axis.set_ylim(bottom=0)
        axis.set_ylabel(results.lines[name].unit)
        axis.set_title(name, fontsize=9)
    return _save(figure, to)


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(9, height))


def _save(figure: Any, to: Path) -> Path:
    from matplotlib import pyplot

    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(to.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(to.with_suffix(".png"), dpi=110)
    pyplot.close(figure)
    return to.with_suffix(".png")
