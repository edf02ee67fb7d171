"""The requestor's REST interface: schemas and blueprints."""
