"""Co-Pilot: jobs wait in a queue, pilots inside instances ask for them over the bus, run them and deliver the outputs.

`job` and `lease` say what a job is and how it moves (pure); `commands` are the messages as values; `dialogue` is the
pilot's side of the conversation, a state machine without sockets. `port` is `Queue`, `memory` its twin, `queue` the
database. `jobs_agent` gives jobs out; `pilot_agent` works, with `payload` holding the job's processes.
Nothing of the pilot's side imports the database or a web server: it runs in instances.
Reading order: job, lease, commands, dialogue, port, memory, queue, depot, jobs_agent; payload, execution, outputs,
pilot_agent.
"""
