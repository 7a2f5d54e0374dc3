"""What every process needs: settings, connections, auth, problem details, telemetry, the command line."""
