"""The Pusher protocol, sans-I/O: what both ends say, without a socket or a clock."""
