"""Every tool of scikit-learn that takes a classifier takes this one: one test each, on real messages."""

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - what it is imported for
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    LearningCurveDisplay,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    ValidationCurveDisplay,
    cross_val_predict,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from skspace import SpaceClassifier, TokenEncoder
from skspace.datasets import load_support_messages

CHANCE = 0.4  # of the commonest label among those kept, with a margin


@pytest.fixture(scope="module")
def messages(minilm):
    """150 messages of three labels, in an order that mixes them."""
    texts, labels = load_support_messages(return_X_y=True)
    kept = [i for i, label in enumerate(labels) if label in ("billing", "delivery", "fault")]
    kept = np.random.default_rng(0).permutation(kept)[:150]
    return np.array([texts[i] for i in kept], dtype=object), np.array([labels[i] for i in kept])


@pytest.fixture(scope="module")
def two(messages):
    """The same in two classes."""
    X, y = messages
    return X, np.where(y == "billing", "billing", "other")


def make(**params):
    return SpaceClassifier(**{"n_members": 1, "n_latent": 4, "max_epochs": 20, "random_state": 0} | params)


# ---------------------------------------------------------------- model selection


def test_grid_search_over_parameters_of_the_encoder_too(messages):
    grid = {"n_latent": [2, 4], "encoder__layer": [2, 4]}
    search = GridSearchCV(make(encoder=TokenEncoder()), grid, cv=2, error_score="raise").fit(*messages)
    assert search.best_score_ > CHANCE
    assert search.best_estimator_.encoder_.layer == search.best_params_["encoder__layer"]


def test_halving_search(messages):
    search = HalvingGridSearchCV(make(), {"n_latent": [1, 2, 4]}, cv=2, random_state=0, error_score="raise")
    assert search.fit(*messages).best_score_ > CHANCE


def test_halving_search_with_epochs_as_the_resource(messages):
    search = HalvingGridSearchCV(
        make(), {"n_latent": [1, 2, 4]}, resource="max_epochs", max_resources=9, cv=2, error_score="raise"
    )
    assert search.fit(*messages).best_estimator_.max_epochs == 9


def test_randomised_search(messages):
    distributions = {"n_latent": range(1, 8), "weight_decay": [0.05, 0.5]}
    search = RandomizedSearchCV(make(), distributions, n_iter=2, cv=2, random_state=0, error_score="raise")
    assert search.fit(*messages).best_score_ > CHANCE


def test_cross_validation_with_several_scorers(messages):
    scoring = ["accuracy", "f1_macro", "neg_log_loss", "roc_auc_ovr"]
    scores = cross_validate(make(), *messages, cv=2, scoring=scoring, error_score="raise", return_train_score=True)
    assert all(np.isfinite(scores[f"test_{name}"]).all() for name in scoring)
    assert scores["test_accuracy"].mean() > CHANCE


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_cross_validated_predictions(messages, method):
    X, y = messages
    predicted = cross_val_predict(make(), X, y, cv=2, method=method)
    assert predicted.shape == ((len(X),) if method == "predict" else (len(X), 3))


def test_learning_curve(messages):
    _, train, test = learning_curve(make(), *messages, train_sizes=[0.3, 1.0], cv=2, error_score="raise")
    assert train.mean() > CHANCE
    assert test[1].mean() > test[0].mean() - 0.1


def test_validation_curve(messages):
    _, test = validation_curve(make(), *messages, param_name="n_latent", param_range=[1, 4], cv=2, error_score="raise")
    assert test.mean() > CHANCE


def test_displays_of_curves(messages):
    pytest.importorskip("matplotlib").use("Agg")
    LearningCurveDisplay.from_estimator(make(max_epochs=2), *messages, train_sizes=[0.5, 1.0], cv=2)
    ValidationCurveDisplay.from_estimator(
        make(max_epochs=2), *messages, param_name="n_latent", param_range=[1, 4], cv=2
    )


# loky by default: test_classifier.py::test_same_model_for_any_n_jobs
@pytest.mark.parametrize("backend", [pytest.param("loky", marks=pytest.mark.slow), "threading"])
def test_same_scores_in_processes_and_threads(messages, backend):
    search = GridSearchCV(make(), {"n_latent": [2, 4]}, cv=2, error_score="raise")
    alone = clone(search).fit(*messages).cv_results_["mean_test_score"]
    with joblib.parallel_config(backend, n_jobs=2):
        together = clone(search).fit(*messages).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(together, alone)


# ---------------------------------------------------------------- around the classifier


def test_calibration(messages):
    calibrated = CalibratedClassifierCV(make(), cv=2).fit(*messages)
    np.testing.assert_allclose(calibrated.predict_proba(messages[0]).sum(1), 1)
    assert calibrated.score(*messages) > CHANCE


def test_calibration_by_temperature(messages):
    calibrated = CalibratedClassifierCV(make(), method="temperature", cv=2, ensemble=False).fit(*messages)
    assert calibrated.score(*messages) > CHANCE


def test_tuned_threshold(two):
    scorer = get_scorer("balanced_accuracy")
    tuned = TunedThresholdClassifierCV(make(), scoring=scorer, cv=2).fit(*two)
    assert scorer(tuned, *two) > 0.6


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_voting(messages, voting):
    by_words = make_pipeline(TokenEncoder(pooling="mean"), LogisticRegression())
    vote = VotingClassifier([("space", make()), ("mean", by_words)], voting=voting).fit(*messages)
    assert vote.score(*messages) > CHANCE


def test_stacking(messages):
    stack = StackingClassifier([("space", make())], LogisticRegression(), cv=2).fit(*messages)
    assert stack.score(*messages) > CHANCE


def test_one_against_the_rest(messages):
    assert OneVsRestClassifier(make()).fit(*messages).score(*messages) > CHANCE


def test_bagging_on_one_column(messages):
    X, y = messages
    column = X.reshape(-1, 1)
    bag = BaggingClassifier(make(), n_estimators=2, max_samples=0.8, random_state=0).fit(column, y)
    assert bag.score(column, y) > CHANCE


def test_permutation_importance_of_the_text(messages):
    X, y = messages
    frame = pd.DataFrame({"text": X, "number": np.arange(len(X), dtype=float)})
    columns = ColumnTransformer(
        [("text", TokenEncoder(pooling="mean"), "text"), ("number", StandardScaler(), ["number"])]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(frame, y)
    importance = permutation_importance(model, frame, y, n_repeats=2, random_state=0).importances_mean
    assert importance[0] > importance[1] + 0.1


# ---------------------------------------------------------------- pipelines


def test_clean_the_text_first(messages):
    X, y = messages
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    model = make_pipeline(lower, make()).fit(X, y)
    np.testing.assert_array_equal(model.predict([X[0].upper()]), model.predict([X[0]]))


def test_spaces_beside_vectors(messages):
    """A text's place in the concept spaces, and its mean vector, as features of another classifier."""
    union = FeatureUnion([("space", make()), ("mean", TokenEncoder(pooling="mean"))])
    model = Pipeline([("features", union), ("classifier", LogisticRegression(max_iter=1000))]).fit(*messages)
    assert model.score(*messages) > CHANCE
    names = model[:-1].get_feature_names_out()
    assert names[0].startswith("space__billing")
    assert len(names) == 1 * 3 * 4 + 384


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_spaces_beside_columns_in_a_frame(messages, library):
    X, y = messages
    frame = {"pandas": pd.DataFrame, "polars": pl.DataFrame}[library]
    data = frame({"text": X.tolist(), "shop": ["a", "b", "c"] * (len(X) // 3)})
    columns = ColumnTransformer(
        [("space", make(), "text"), ("shop", OneHotEncoder(sparse_output=False), ["shop"])]
    ).set_output(transform=library)
    features = columns.fit_transform(data, y)
    assert isinstance(features, frame)
    assert list(features.columns)[-1] == "shop__shop_c"
    assert features.shape == (len(X), 3 * 4 + 3)


# ---------------------------------------------------------------- metadata and parameters


def test_sample_weight_is_routed_through_a_pipeline_and_a_search(two):
    """A class whose texts all weigh next to nothing is not predicted."""
    X, y = two
    weight = np.where(y == "billing", 1e-6, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = make().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(FunctionTransformer(), clf)
        search = GridSearchCV(pipeline, {"spaceclassifier__n_latent": [4]}, cv=2, error_score="raise")
        predicted = search.fit(X, y, sample_weight=weight).predict(X)
    assert (predicted == "other").all()


def test_sample_weight_without_routing(two):
    X, y = two
    pipeline = make_pipeline(FunctionTransformer(), make())
    weight = np.where(y == "billing", 1e-6, 1.0)
    assert (pipeline.fit(X, y, spaceclassifier__sample_weight=weight).predict(X) == "other").all()


def test_parameters_of_a_nested_encoder():
    pipeline = make_pipeline(FunctionTransformer(), make(encoder=TokenEncoder()))
    pipeline.set_params(spaceclassifier__encoder__layer=2, spaceclassifier__n_latent=3)
    assert pipeline[-1].encoder.layer == 2
    assert clone(pipeline).get_params()["spaceclassifier__encoder__layer"] == 2
