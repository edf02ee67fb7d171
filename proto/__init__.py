"""The wire between requestor and processor: `order_service.proto` and the modules generated from it (never edited)."""
