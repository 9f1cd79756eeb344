"""The package's own exception, importable without torch."""


class CheckpointError(ValueError):
    """A checkpoint cannot be found, or cannot be trusted to score as it was trained to.

    Example:
        >>> issubclass(CheckpointError, ValueError)
        True
    """
