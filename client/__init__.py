"""Programs that use Everfold from outside, over HTTP: a client, and each domain's tools built on it."""
