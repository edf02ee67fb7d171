"""The buyer side: takes orders over REST and keeps one live stream per order with the processor."""
