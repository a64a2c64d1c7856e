"""The supervisor, against a backend that behaves and a clock that goes on by hand."""
