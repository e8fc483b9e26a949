"""What runs a site's instances: a port, its in-memory twin, and containers.

Read `port` (`MachineSpec`, `MachineState`, `Hypervisor`), then `container` (the site's side of one instance) and what
runs on the other side, in the order of an instance's life: `order`, `launch`, `root`, `confine`.
Nothing is re-exported here: `launch` starts once per instance and must stay light.
"""
