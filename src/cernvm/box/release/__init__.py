"""The two releases of the box: the operating system's tree and the experiment's software tree.

Read `inputs` (what a release is made of, and the digest that says whether it must be built again), `tools` (apt, dpkg,
mmdebstrap and pip, with their failures told apart), `operating_system`, `software`. `evgen` and `plot` are programs of
the software release: they run with its interpreter, from `/cvmfs`, and import nothing of this package.
"""
