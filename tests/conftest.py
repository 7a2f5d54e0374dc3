"""Makes the services known to every test; what each one gives is said in services.py."""

pytest_plugins = ["tests.services"]
