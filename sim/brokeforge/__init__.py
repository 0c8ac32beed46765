"""The application of the pattern: a server-management product whose models broadcast by themselves.

`statuses` what may follow what; `models`, `database`, `fleet` the domain and its sample data; `observers` model events;
`events`, `dispatcher` what is broadcast and how; `channels` who may listen; `queries`, `resources`, `inertia` what a page
shows; `routes` with `pages`, `changes`, `work`, and `application` the HTTP side, as one function from a request to a response;
`jobs` long work; `live_board` and `board/` the page for eyes.

Nothing here opens a socket or starts a thread: `sim.live` does, and hands in a broadcaster, a queue and a clock.

The document of the pattern, read closely
-----------------------------------------
What its example code does that its text does not say, and where it can be seen here (scenario key: value):

    the dashboard's query asks for nobody's servers in particular:      api.dashboard_of: everyone
        everyone's five latest are shown to everyone
    `servers` is said to carry "all user's servers", but any user is    broadcast.channels: per_user (the cure)
        let in and every event goes there: each dashboard refetches
        for each change of anybody, and shows who is busy
    `listen('.ServerUpdated')` hears the bare name only; the event      broadcast.broadcast_as: true (what the dot
        class, without broadcastAs, is `App\\Events\\ServerUpdated`        needs; without it the dashboard is deaf)
    a server or site that is new or deleted, and a firewall that is     broadcast.listeners: documented
        deleted, raise no event: listeners are for `updated` (and
        `created` of firewalls) only
    `wasChanged([...])` is empty on a created model, so the list of     (here only updates are asked)
        fields would silence a `created` listener
    `ShouldBroadcastNow` in a model's event goes out before the         broadcast.moment: on_save, commit_delay;
        transaction commits: a quick page reads the old row             benchmarks/application_race.py
    it also holds up the request for as long as the broadcaster takes,  broadcast.dispatch: queued; timeout, tries,
        and fails it after the change is committed                      backoff (here it never fails a change)
    a save that the model broadcasts and a manual                       broadcast.provision_event: false (one event)
        `ServerProvisionUpdated::dispatch` is two events
    `provision->put(5, ...)` reads, changes and writes a whole JSON     (here the row is locked first)
        column: of two jobs that do so at once one loses its step
    `$firewall->rules()->latest()->get()` asks again for what            (here one statement, counted by a test)
        `load('firewall.rules')` had fetched
    `findOrNew($id)->user_id` is null for a server that is not there:   (here a missing model is refused as such)
        safe as long as no user's id is null
    a 500 ms trailing debounce, advised for log streaming, never        the board: Stream a log
        refetches while lines come faster than that
"""
