"""Ways in which a run ends early that are nobody's bug."""


class Interrupted(Exception):
    """Somebody asked the run to stop; it has saved itself and can be resumed."""


class LearnerLost(RuntimeError):
    """One of several learners is gone, and the run cannot go on; resumed, it begins where the last
    checkpoint was written."""


class NonFiniteLoss(ArithmeticError):
    """A loss became NaN or infinite. The weights are still those before this update."""
