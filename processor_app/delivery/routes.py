"""How sellers can be reached now: the directory's entries as the channels see them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from processor_app.delivery.channel import Channel, Seller
from processor_app.delivery.directory import SellerDirectory
from processor_app.delivery.plan import Route


class RouteFinder:
    """Finds the routes to sellers."""

    def __init__(self, directory: SellerDirectory, channels: Mapping[str, Channel]) -> None:
        self._directory = directory
        self._channels = channels

    def find(self, tenant: str, seller_ids: Collection[str]) -> dict[str, Route]:
        """The routes to those of the sellers that are known; they may be a few seconds old."""
        return self._routes(self._directory.find(tenant, seller_ids))

    def find_anew(self, tenant: str, seller_ids: Collection[str]) -> dict[str, Route]:
        """The same, as the store has it now."""
        return self._routes(self._directory.find_anew(tenant, seller_ids))

    def _routes(self, sellers: Mapping[str, Seller]) -> dict[str, Route]:
        return {seller_id: self._route(seller) for seller_id, seller in sellers.items()}

    def _route(self, seller: Seller) -> Route:
        reachable = frozenset([name for name, channel in self._channels.items() if channel.has_address(seller)])
        return Route(reachable, seller.channels)
