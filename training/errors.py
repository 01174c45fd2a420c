"""Ways in which a run ends early that are nobody's bug."""


class Interrupted(Exception):
    """Somebody asked the run to stop; it has saved itself and can be resumed."""


class NonFiniteLoss(ArithmeticError):
    """A loss became NaN or infinite. The weights are still those before this update."""
