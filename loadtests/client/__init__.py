"""One page as a browser has it, on gevent. Imported by the Locust users.

page     one open page: first load, connection, policy, refetches       spec    what all pages of a class share
echo     what Laravel Echo and pusher-js do: connect, subscribe, ping, come back
auth     ways to authorise a channel        retries  a request and its further attempts
link     one WebSocket connection           frames   where a frame begins and ends     reader  what a frame says
http     requests over kept connections     inertia  an Inertia page's headers
streams  TCP and TLS without waiting        ring     frames read by io_uring
mux      one readiness loop and one list of timers for all of them, inside gevent's hub
plant    what a process has once: mux, recorder, pools, random streams
"""
