"""gRPC channel arguments for both ends of a trunk.

Keepalive finds a peer whose machine or wire is gone; the trunk's own heartbeats find one that is frozen.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

ChannelOptions: TypeAlias = list[tuple[str, int]]

#: The largest part that the rules allow takes 220 KB, in characters of four bytes. A message that is read becomes
#: objects of many times its size, so the bound stands close above.
MAX_MESSAGE_BYTES = 256 * 1024
#: What one message of a trunk carries, about. A message is the smallest sign of life and of progress, so on a slow
#: link it must take far less time than a silence that counts as death; larger ones gain nothing.
BATCH_BYTES = 64 * 1024
#: An end of a trunk sends its next message no sooner, in seconds: a message costs gRPC for Python as much as a dozen
#: orders in it, so under load it is better to wait for some more. After a pause a message goes out at once.
_MESSAGE_GAP_S = 0.02
#: After a message with so many items the next one follows at once: there is most likely a backlog to be worked off.
_LARGE_MESSAGE = 128


#: Limits of a server, for clients that do not behave.
MAX_CALLS_OF_CONNECTION = 128
MAX_CONNECTIONS = 256
HANDSHAKE_MS = 10_000
IDLE_MS = 300_000
METADATA_BYTES = 16_384


class Pulse(NamedTuple):
    """How a trunk shows that it is alive, all from one setting; both ends must have about the same."""

    keepalive_ms: int

    @property
    def heartbeat_s(self) -> float:
        """An end that has had nothing to say for so long sends a sign of life."""
        return self.keepalive_ms / 2500

    @property
    def silence_s(self) -> float:
        """A trunk without a sign of life for so long is dead."""
        return self.keepalive_ms / 500

    @property
    def watch_s(self) -> float:
        """How often an end looks whether its trunk is dead."""
        return min(1.0, self.silence_s / 10)


def gap_after_s(items: int) -> float:
    """How long an end of a trunk waits after a message with so many items, in seconds."""
    return 0.0 if items >= _LARGE_MESSAGE else _MESSAGE_GAP_S


def client_options(keepalive_ms: int) -> ChannelOptions:
    """Arguments for a channel to a processor."""
    return [
        *_both_ends(keepalive_ms),
        # A trunk resumes by itself; gRPC's own retry would stop at the first response.
        ("grpc.enable_retries", 0),
        # A channel of its own connection, so that ending it ends the connection.
        ("grpc.use_local_subchannel_pool", 1),
        # The client paces its attempts; gRPC must not sit out a longer pause beneath it.
        ("grpc.initial_reconnect_backoff_ms", 200),
        # Also the time that one attempt may take.
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]


def server_options(keepalive_ms: int) -> ChannelOptions:
    """Arguments for a processor's server."""
    return [
        *_both_ends(keepalive_ms),
        # A second process on the same port must fail to start, not share the port in silence.
        ("grpc.so_reuseport", 0),
        # At most half of the client's period, or the server cuts the client for pinging too often.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", keepalive_ms // 2),
        ("grpc.http2.max_ping_strikes", 0),
        # A trunk is one call of a connection, and single-order calls are capped as a whole.
        ("grpc.max_concurrent_streams", MAX_CALLS_OF_CONNECTION),
        ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
        # Connections that say nothing; by itself gRPC waits for two minutes.
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        ("grpc.http2.settings_timeout", HANDSHAKE_MS),
        # Connections without a call. A trunk lives for as long as it is used: there is no limit to a connection's age.
        ("grpc.max_connection_idle_ms", IDLE_MS),
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    ]


def _both_ends(keepalive_ms: int) -> ChannelOptions:
    return [
        ("grpc.keepalive_time_ms", keepalive_ms),
        ("grpc.keepalive_timeout_ms", keepalive_ms),
        # Without it a frozen peer is noticed only after a minute.
        ("grpc.http2.ping_timeout_ms", keepalive_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # Keeps the transport's buffer for a peer that does not read near 100 KB rather than 4 MB.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ]
