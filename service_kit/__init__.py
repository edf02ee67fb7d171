"""What both services share and neither owns: settings, logs, health, lifecycle, errors, web, rpc and storage."""
