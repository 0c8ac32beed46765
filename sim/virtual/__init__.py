"""The pattern in virtual time: reference engine, fleet engine, queues, closed forms."""
