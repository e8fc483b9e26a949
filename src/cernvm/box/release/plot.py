"""Check generated events and draw charged multiplicity, transverse momentum and pseudorapidity.

Part of the software release, like `evgen`. Reads the ROOT files, compares each event's stored multiplicity with its
particles, writes one PNG, and prints one JSON document: `files` (path, events, particles) and `plots`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from hist import Hist, axis

MIN_PT_GEV = 0.1
MAX_ETA = 2.5
STEP_EVENTS = 2000  # read at a time, which bounds memory
BLUE, INK, GREY = "#1f5fa8", "#1d2430", "#8a93a3"


@dataclass(slots=True)
class Histograms:
    """What the picture shows, filled file by file."""

    multiplicity: Any = field(
        default_factory=lambda: Hist.new.Reg(60, -0.5, 239.5, name="n").Int64()
    )
    pt: Any = field(
        default_factory=lambda: Hist.new.Reg(
            48, MIN_PT_GEV, 25, transform=axis.transform.log, name="pt"
        ).Int64()
    )
    eta: Any = field(default_factory=lambda: Hist.new.Reg(50, -5, 5, name="eta").Int64())
    events: int = 0


def main(arguments: list[str] | None = None) -> int:
    """Check, draw, report; returns the exit code."""
    options = _parse(arguments)
    histograms = Histograms()
    try:
        files = [check(path, histograms) for path in options.files]
        picture = draw(histograms, options.output)
    except (OSError, ValueError, KeyError) as error:
        print(f"plot: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(json.dumps({"files": files, "plots": [str(picture)]}))  # noqa: T201
    return 0


def check(path: Path, histograms: Histograms) -> dict[str, object]:
    """Read one file whole, adding it to the histograms.

    Errors: `ValueError` where an event's stored multiplicity is not that of its particles, or a number is not finite.
    """
    events = particles = 0
    for chunk in read(path):
        px, py, pz = chunk.particle_px, chunk.particle_py, chunk.particle_pz
        if not np.all(np.isfinite(ak.to_numpy(ak.flatten(px + py + pz)))):
            raise ValueError(f"{path}: a momentum is not a number")
        pt = np.hypot(px, py)
        charged = chunk.particle_q != 0
        seen = charged & (pt > MIN_PT_GEV) & (abs(pz) < pt * np.sinh(MAX_ETA))
        counted = ak.sum(seen, axis=1)
        # momenta are stored in single precision: a particle on the edge may fall on its other side
        if ak.any(abs(counted - chunk.n_charged) > 1):
            raise ValueError(
                f"{path}: an event's charged multiplicity is not that of its particles"
            )
        events += len(chunk)
        particles += int(ak.count(px))
        fill(histograms, chunk.n_charged, pt, pz, charged=charged, seen=seen)
    histograms.events += events
    return {"path": str(path), "events": events, "particles": particles}


def read(path: Path) -> Iterator[Any]:
    """The tree's entries, some thousands at a time."""
    with uproot.open(path) as file:
        tree = file["events"]
        yield from tree.iterate(
            ["n_charged", "particle_px", "particle_py", "particle_pz", "particle_q"],
            step_size=STEP_EVENTS,
        )


def fill(
    histograms: Histograms, n_charged: Any, pt: Any, pz: Any, *, charged: Any, seen: Any
) -> None:
    """Add one chunk of events."""
    histograms.multiplicity.fill(ak.to_numpy(n_charged))
    histograms.pt.fill(ak.to_numpy(ak.flatten(pt[seen])))
    moving = charged & (pt > MIN_PT_GEV)
    eta = np.arcsinh(ak.to_numpy(ak.flatten(pz[moving])) / ak.to_numpy(ak.flatten(pt[moving])))
    histograms.eta.fill(eta)


def draw(histograms: Histograms, output: Path) -> Path:
    """One PNG with three panels; returns its absolute path."""
    with tempfile.TemporaryDirectory(prefix="plot-") as folder:
        os.environ["MPLCONFIGDIR"] = (
            folder  # its font list; the home of this user may not be writable
        )
        import matplotlib as mpl  # noqa: PLC0415  # reads the variable when it is imported

        mpl.use("Agg")
        import matplotlib.pyplot as plt  # noqa: PLC0415

        plt.rcParams.update(_STYLE)
        figure, panels = plt.subplots(1, 3, figsize=(14.4, 4.6), layout="constrained")
        _multiplicity(panels[0], histograms)
        _transverse_momentum(panels[1], histograms)
        _pseudorapidity(panels[2], histograms)
        figure.suptitle(
            f"Inelastic proton-proton collisions, √s = 13 TeV · Pythia 8 · {histograms.events:,} events",
            x=0.01,
            ha="left",
            fontsize=13,
            fontweight="bold",
        )
        output.parent.mkdir(parents=True, exist_ok=True)
        unfinished = output.with_name(f".{output.stem}.{os.getpid()}.png")
        figure.savefig(unfinished, dpi=110)
        unfinished.replace(output)
    return output.absolute()


_STYLE = {
    "font.size": 11,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.grid": True,
    "grid.color": "#e6e9ee",
    "axes.axisbelow": True,
}


def _multiplicity(panel: Any, histograms: Histograms) -> None:
    counts, edges = histograms.multiplicity.values(), histograms.multiplicity.axes[0].edges
    mean = float(np.average(histograms.multiplicity.axes[0].centers, weights=counts))
    _steps(panel, counts, edges, 1 / (histograms.events * np.diff(edges)))
    panel.axvline(mean, color=GREY, linestyle="--", linewidth=1)
    panel.text(
        mean,
        0.97,
        f"  mean {mean:.1f}",
        transform=panel.get_xaxis_transform(),
        va="top",
        color=GREY,
    )
    panel.set(
        title=f"Charged multiplicity  ($p_T$ > {MIN_PT_GEV:g} GeV, |η| < {MAX_ETA:g})",
        xlabel="charged particles per event $n$",
        ylabel="P($n$)",
        yscale="log",
        xlim=(0, edges[np.flatnonzero(counts)[-1] + 1]),
    )


def _transverse_momentum(panel: Any, histograms: Histograms) -> None:
    counts, edges = histograms.pt.values(), histograms.pt.axes[0].edges
    _steps(panel, counts, edges, 1 / (histograms.events * np.diff(edges)))
    panel.set(
        title=f"Transverse momentum  (charged, |η| < {MAX_ETA:g})",
        xlabel="$p_T$  [GeV]",
        ylabel="1/$N_{ev}$  d$N$/d$p_T$  [GeV$^{-1}$]",
        xscale="log",
        yscale="log",
    )


def _pseudorapidity(panel: Any, histograms: Histograms) -> None:
    counts, edges = histograms.eta.values(), histograms.eta.axes[0].edges
    _steps(panel, counts, edges, 1 / (histograms.events * np.diff(edges)))
    panel.set(
        title=f"Pseudorapidity  (charged, $p_T$ > {MIN_PT_GEV:g} GeV)",
        xlabel="η",
        ylabel="1/$N_{ev}$  d$N$/dη",
        xlim=(edges[0], edges[-1]),
        ylim=(0, None),
    )


def _steps(panel: Any, counts: Any, edges: Any, scale: Any) -> None:
    """A filled outline with statistical errors; empty bins are left out."""
    values = counts * scale
    panel.stairs(values, edges, fill=True, color=BLUE, alpha=0.15)
    panel.stairs(values, edges, color=BLUE, linewidth=1.4)
    filled = counts > 0
    centers = (edges[1:] + edges[:-1]) / 2
    errors = (np.sqrt(counts) * scale)[filled]
    panel.errorbar(centers[filled], values[filled], errors, fmt="none", ecolor=BLUE, elinewidth=1)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="plot",
        description="Check generated events and draw them.",
        epilog="Example: plot --output events.png *.root",
    )
    parser.add_argument("--output", type=Path, default=Path("events.png"), metavar="FILE.png")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.root")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
