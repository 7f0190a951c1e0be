"""Training of imitation policies: loss, moving average, validation, best weights."""
