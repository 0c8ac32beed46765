"""The application of the pattern: a server-management product whose models broadcast by themselves.

`statuses` what may follow what; `models`, `database`, `fleet` the domain and its sample data; `observers` model events;
`events`, `dispatcher` what is broadcast and how; `channels` who may listen; `queries`, `resources`, `inertia` what a page
shows; `routes`, `application` the HTTP side, as one function from a request to a response; `jobs` long work.

Nothing here opens a socket or starts a thread: `sim.live` does, and hands in a broadcaster, a queue and a clock.
"""
