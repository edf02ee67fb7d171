"""The buyer side: takes orders over REST and keeps one live stream per order with the processor."""

import os

# gRPC reads it when it is imported. Else it writes a line of its own for each connection that fails, and whoever
# reaches the port could fill the log.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
