"""Makes the services known to every test; what each one gives is said in services.py."""

from tests.services import (
    database,
    postgres_url,
    redis_server_url,
    redis_url,
    services_folder,
)

__all__ = ["database", "postgres_url", "redis_server_url", "redis_url", "services_folder"]
