"""From an experiment's values to the objects it speaks of: data sets, transforms, networks."""
