"""The system under test: where it listens, who may use it, and how that is written down.

`descriptor` has `Target` (`target.json`); `laravel` reads an application's own `.env` by Laravel's rules, `dotenv` its grammar;
`users` are the accounts, also from a CSV file; `address` is one host as people write it; `keys` number the target's ids for the
tables; `session` logs in as a browser does, without a socket.
"""

from sim.target.address import Address
from sim.target.descriptor import Login, Target
from sim.target.keys import Key, Keys, list_of
from sim.target.laravel import in_names_of, laravel_settings
from sim.target.session import Session
from sim.target.users import Account, read_users

__all__ = [
    "Account",
    "Address",
    "Key",
    "Keys",
    "Login",
    "Session",
    "Target",
    "in_names_of",
    "laravel_settings",
    "list_of",
    "read_users",
]
