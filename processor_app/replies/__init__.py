"""How sellers answer in a browser: signed links, and the page behind them."""
