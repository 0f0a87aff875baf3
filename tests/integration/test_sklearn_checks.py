"""scikit-learn's own check suite over vectors, without an expected failure.

On texts the official suite would run a single check and prove nothing (input tags): test_texts_like_sklearn.py has a
suite of our own for them.
"""

import pytest
import sklearn
from sklearn.utils.estimator_checks import estimator_checks_generator

from skspace import SpaceClassifier


def checks(**params):
    return list(estimator_checks_generator(SpaceClassifier(encoder="precomputed", **params), legacy=True))


ALL_CHECKS = [
    pytest.param(*pair, id=f"{number}-{pair[1].func.__name__}{suffix}", marks=marks)
    for params, suffix, marks in (({"n_members": 1}, "-one member", ()), ({}, "", pytest.mark.slow))
    for number, pair in enumerate(checks(**params))
]


def test_number_of_official_checks():
    """So that the suite cannot pass by being empty."""
    assert len(checks()) >= (72 if sklearn.__version__.startswith("1.8.") else 73)
    names = {check.func.__name__ for _, check in checks()}
    assert "check_estimators_partial_fit_n_features" in names  # and does nothing where there is no partial_fit
    assert hasattr(SpaceClassifier, "partial_fit")


@pytest.mark.filterwarnings("default")  # the checks provoke warnings on purpose
@pytest.mark.parametrize(("estimator", "check"), ALL_CHECKS)
def test_official_check(estimator, check):
    check(estimator)


def test_tags_depend_on_the_encoder():
    vectors = SpaceClassifier(encoder="precomputed").__sklearn_tags__().input_tags
    texts = SpaceClassifier().__sklearn_tags__().input_tags
    assert (vectors.two_d_array, vectors.string, vectors.one_d_array) == (True, False, False)
    assert (texts.two_d_array, texts.string, texts.one_d_array) == (False, True, True)
    assert SpaceClassifier().__sklearn_tags__().classifier_tags.multi_label
