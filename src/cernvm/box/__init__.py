"""The computer centre in a box: the rooms composed on one machine, and the main job run in them.

What comes in: a data folder and how large the demo is. What goes out: a `Report`, and nothing left running.
Read `demo` (`run_demo`, the whole flow), `steps` and `story` (what each step does, and by hand), `result`; then
`release/` (the two trees), `commands` (the words of `cvm` as child processes), `preflight`, `sweep` and
`world` (what the machine must have, how nothing is left, root or ordinary user), `report` with `page` and `timeline`.
"""
