"""What runs inside an instance: from the cloud's answer to a machine that plays its role.

Values: `Found` (user-data and what the cloud says about the instance), `Plan` (steps and the program to start),
`Report` (what became of each step). Ports: `sources.port.Source` (where a context comes from) and `machine.Machine`
(the system it is applied to).
Flow: `boot` (process 1) → `sources.search` → `context.read_context` → `plan` (pure) → `apply` → `status`; then `init`
runs the program, reaps, and ends everything when told to. Needs the standard library only.
"""
