"""A JSON Schema (draft-07) for every kind of JSON file in a bundle."""
