"""The load test: pages of real subscribers as Locust users.

    locustfile  which pages, which shape
    users       EchoUser, the base class of a page; the pages of the pattern
    echo        what Laravel Echo and pusher-js do: connect, authorise, subscribe, ping, come back
    link        one WebSocket connection        frames  where a frame begins and ends
    http        refetches over keep-alive       streams TCP and TLS without waiting
    mux         one readiness loop and one list of timers for all of them, inside gevent's hub
    plant       what a worker process has once: mux, recorder, connections
    recorder    samples: to parts, to Locust's statistics, to histograms
    screen      what is shown meanwhile: a tab of Locust's web interface, Prometheus
    shapes      how many subscribers when

`import locust` patches the whole process, so nothing that a notebook or `sim` imports may import this package.
"""
