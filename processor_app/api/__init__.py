"""The processor's REST interface: schemas and blueprints."""
