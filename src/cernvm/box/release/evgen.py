"""Generate proton-proton minimum-bias events with Pythia 8 and write them as a ROOT tree.

Part of the software release: it runs with the release's own interpreter, from `/cvmfs`, and imports nothing of this
package. One line of JSON on stdout says what was made.

Shape: the tree `events` has one entry per event: `n_charged` and the final-state particles as the jagged
branches `particle_px`, `_py`, `_pz`, `_e` (GeV), `particle_id` (PDG code) and `particle_q` (units of e).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import awkward as ak
import numpy as np
import pythia8mc
import uproot

BATCH_EVENTS = 500  # bounds memory: some 40 MB of particle records at a time
FRUITLESS_BATCHES = 10  # this many batches without one good event mean that the generator is broken
MAX_EVENTS = 10_000_000
MAX_SEED = 900_000_000  # Pythia's own limit
MIN_PT_GEV = 0.1
MAX_ETA = 2.5


def main(arguments: list[str] | None = None) -> int:
    """Generate, write, report; returns the exit code."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, _interrupted)  # so that an unfinished file is removed
    try:
        if options.prepare:
            prepare(options.prepare, energy_tev=options.energy_tev)
            return 0
        print(json.dumps(run(options)))  # noqa: T201
    except (OSError, RuntimeError) as error:
        print(f"evgen: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def run(options: argparse.Namespace) -> dict[str, object]:
    """Write the events that were asked for; the output appears whole or not at all."""
    started = time.monotonic()
    pythia = generator(seed=options.seed, energy_tev=options.energy_tev)
    initialised = time.monotonic()
    output: Path = options.output
    if not output.parent.is_dir():  # uproot would make it
        raise FileNotFoundError(f"there is no folder {output.parent}")
    unfinished = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        particles = write(unfinished, events(pythia, options.events))
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)
    return {
        "output": str(output),
        "events": options.events,
        "particles": particles,
        "seed": options.seed,
        "size_bytes": output.stat().st_size,
        "init_s": round(initialised - started, 3),
        "total_s": round(time.monotonic() - started, 3),
    }


def generator(*, seed: int, energy_tev: float, extra: tuple[str, ...] = ()) -> Any:
    """An initialised Pythia for inelastic proton-proton collisions.

    Errors: `RuntimeError` when Pythia refuses its settings or data.
    """
    pythia = pythia8mc.Pythia("", False)
    settings = [
        "Print:quiet = on",
        f"Beams:eCM = {1000 * energy_tev:g}",
        "SoftQCD:inelastic = on",
        "Random:setSeed = on",
        f"Random:seed = {seed}",
    ]
    grid = grid_path(energy_tev)
    if not extra and grid.is_file():
        # saves the five seconds that Pythia needs to integrate multiparton interactions
        extra = (
            f"MultipartonInteractions:initFile = {grid}",
            "MultipartonInteractions:reuseInit = 2",
        )
    for setting in (*settings, *extra):
        if not pythia.readString(setting):
            raise RuntimeError(f"Pythia does not know the setting {setting!r}")
    if not pythia.init():
        raise RuntimeError("Pythia could not be initialised; see PYTHIA8DATA")
    return pythia


def grid_path(energy_tev: float) -> Path:
    """Where the release keeps the integrated multiparton interactions for one beam energy."""
    folder = os.environ.get("EVGEN_GRIDS") or Path(__file__).parent / "grids"
    return Path(folder) / f"pp-{energy_tev:g}TeV.grid"


def prepare(folder: Path, *, energy_tev: float) -> None:
    """Integrate multiparton interactions once and keep the result in `folder`; done when the release is built."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"pp-{energy_tev:g}TeV.grid"
    generator(
        seed=1,
        energy_tev=energy_tev,
        extra=(
            f"MultipartonInteractions:initFile = {target}",
            "MultipartonInteractions:reuseInit = 1",
        ),
    )
    if not target.is_file():
        raise RuntimeError(f"Pythia did not write {target}")


def events(pythia: Any, wanted: int) -> Iterator[dict[str, ak.Array]]:
    """Batches of events as the tree's columns, `wanted` events in all.

    Errors: `RuntimeError` when the generator fails again and again; single failed events are generated anew.
    """
    fruitless = 0
    while wanted:
        batch = pythia.nextBatch(min(wanted, BATCH_EVENTS))
        wanted -= len(batch)
        fruitless = 0 if len(batch) else fruitless + 1
        if fruitless == FRUITLESS_BATCHES:
            raise RuntimeError("Pythia generates no more events")
        if len(batch):
            yield columns(batch, pythia.particleData)


def columns(batch: ak.Array, particle_data: Any) -> dict[str, ak.Array]:
    """One batch as the columns of the tree: only particles that are left at the end (status above 0)."""
    final = batch.prt[batch.prt.status > 0]
    momentum = final.p
    charge = charges(final.id, particle_data)
    return {
        "n_charged": charged_multiplicity(momentum.px, momentum.py, momentum.pz, charge),
        "particle": ak.zip(
            {
                **{
                    axis: ak.values_astype(momentum[axis], np.float32)
                    for axis in ("px", "py", "pz", "e")
                },
                "id": ak.values_astype(final.id, np.int32),
                "q": ak.values_astype(charge, np.int8),
            }
        ),
    }


def charges(ids: ak.Array, particle_data: Any) -> ak.Array:
    """The charge of every particle; each kind is looked up once."""
    flat = ak.to_numpy(ak.flatten(ids))
    kinds, which = np.unique(flat, return_inverse=True)
    of_kind = np.array([round(particle_data.charge(int(kind))) for kind in kinds], dtype=np.int8)
    return ak.unflatten(of_kind[which], ak.num(ids))


def charged_multiplicity(px: ak.Array, py: ak.Array, pz: ak.Array, charge: ak.Array) -> ak.Array:
    """Charged particles per event that a tracker would see: transverse momentum above 0.1 GeV, |η| below 2.5."""
    pt = np.hypot(px, py)
    # |η| = arsinh(|pz| / pt); compared as |pz| < pt sinh(2.5), which needs no division by zero
    seen = (charge != 0) & (pt > MIN_PT_GEV) & (abs(pz) < pt * np.sinh(MAX_ETA))
    return ak.values_astype(ak.sum(seen, axis=1), np.int32)


def write(path: Path, batches: Iterator[dict[str, ak.Array]]) -> int:
    """Write the batches as the tree `events`; returns the number of particles."""
    particles = 0
    with uproot.recreate(path) as file:
        tree: Any = None
        for batch in batches:
            if tree is None:
                types = {name: ak.type(values).content for name, values in batch.items()}
                tree = file.mktree("events", types, title="minimum-bias proton-proton collisions")
            tree.extend(batch)
            particles += int(ak.count(batch["particle"].id))
    with path.open("rb") as written:
        os.fsync(written.fileno())
    return particles


def _interrupted(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="evgen",
        description="Generate proton-proton minimum-bias events with Pythia 8.",
        epilog="Example: evgen --events 1000 --seed 7 --output events.root",
    )
    parser.add_argument("--events", type=_between(1, MAX_EVENTS), default=1000, metavar="N")
    parser.add_argument("--seed", type=_between(1, MAX_SEED), default=1, metavar="N")
    parser.add_argument("--output", type=Path, default=Path("evgen.root"), metavar="FILE")
    parser.add_argument(
        "--energy-tev", type=float, default=13.0, metavar="E", help="of both beams together"
    )
    parser.add_argument("--prepare", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _between(low: int, high: int) -> Any:
    def number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be between {low} and {high}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
