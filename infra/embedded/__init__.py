"""
Services for a machine that has none: PostgreSQL, Valkey and RabbitMQ as children of our own processes.

Whatever is started here ends with its parent, also when the parent is killed, and works for root as well:
servers that refuse root run as `nobody`, from folders that `nobody` can reach.
"""
