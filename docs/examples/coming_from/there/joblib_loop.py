"""joblib: a loop over calls, in processes of this computer."""

from math import sqrt

from joblib import Parallel, delayed

print(Parallel(n_jobs=4)(delayed(sqrt)(n * n) for n in range(6)))
