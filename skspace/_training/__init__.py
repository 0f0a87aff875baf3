"""How operators are learned: training set, criterion, loop, callbacks; the one door to skorch."""
