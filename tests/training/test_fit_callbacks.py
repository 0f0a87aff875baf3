"""scikit-learn's own callbacks: what they are told of a fit, alone and inside a search."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skspace import SpaceClassifier

callback = pytest.importorskip("sklearn.callback")


class Recorder:
    """Remember every task; ask for the end after so many epochs."""

    max_propagation_depth = None

    def __init__(self, last_epoch=None):
        self.last_epoch, self.begun, self.ended, self.fitted, self.closed = last_epoch, [], [], [], 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        self.closed += 1

    def on_fit_task_begin(self, estimator, context):
        self.begun.append((context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.ended.append((context.task_name, context.task_id))
        if context.task_name == "epoch":
            self.fitted.append(fitted_estimator)
        return context.task_name == "epoch" and context.task_id == self.last_epoch


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    return (rng.standard_normal((60, 6)) + y[:, None]).astype(np.float32), y


def make(**params):
    return SpaceClassifier("precomputed", **{"max_epochs": 3, "n_members": 1, "random_state": 0} | params)


def test_a_fit_is_a_task_and_its_epochs_are_subtasks(data):
    recorder = Recorder()
    make().set_callbacks(recorder).fit(*data)
    epochs = [("epoch", i) for i in range(3)]
    assert recorder.begun == [("fit", 0), *epochs]
    assert recorder.ended == [*epochs, ("fit", 0)]
    assert recorder.closed == 1


def test_callbacks_change_no_result(data):
    alone = make().fit(*data)
    watched = make().set_callbacks(Recorder()).fit(*data)
    np.testing.assert_array_equal(watched.predict_proba(data[0]), alone.predict_proba(data[0]))


def test_what_a_callback_is_given_predicts_as_of_that_epoch(data):
    recorder = Recorder()
    clf = make().set_callbacks(recorder).fit(*data)
    losses = [-np.log(fitted.predict_proba(data[0])[range(60), data[1]]).mean() for fitted in recorder.fitted]
    assert losses[0] > losses[1] > losses[2]
    np.testing.assert_allclose(recorder.fitted[-1].predict_proba(data[0]), clf.predict_proba(data[0]), atol=1e-6)


def test_a_callback_may_end_the_training(data):
    recorder = Recorder(last_epoch=1)
    clf = make(max_epochs=10).set_callbacks(recorder).fit(*data)
    assert clf.n_iter_ == 2
    assert recorder.ended[-1] == ("fit", 0)


def test_early_stopping_leaves_no_epoch_open(data):
    recorder = Recorder()
    clf = make(max_epochs=200, early_stopping=True, n_iter_no_change=2).set_callbacks(recorder).fit(*data)
    assert clf.n_iter_ < 200
    assert len(recorder.ended) == len(recorder.begun) == clf.n_iter_ + 1


def test_scoring_monitor(data):
    monitor = callback.ScoringMonitor(scoring="accuracy")
    make().set_callbacks(monitor).fit(*data)
    log = monitor.get_logs()
    assert log


def test_a_failed_fit_tears_down(data):
    recorder = Recorder()
    clf = make(lr=1.7e308, weight_decay=0.0).set_callbacks(recorder)
    with pytest.raises(ValueError, match="diverged"):
        clf.fit(*data)
    assert recorder.closed == 1
    assert not hasattr(clf, "_callback_fit_ctx")


def test_part_by_part(data):
    recorder = Recorder()
    clf = make().set_callbacks(recorder)
    clf.partial_fit(*data, classes=[0, 1]).partial_fit(*data)
    assert recorder.ended == [("epoch", 0), ("fit", 0)] * 2


def test_a_progress_bar_shows_search_fold_and_epoch(data, capsys):
    pytest.importorskip("rich")
    search = GridSearchCV(make(), {"n_latent": [2, 3]}, cv=2, error_score="raise")
    search.set_callbacks(callback.ProgressBar(max_propagation_depth=None)).fit(*data)
    lines = capsys.readouterr().out.splitlines()
    fits = [line for line in lines if "SpaceClassifier - fit" in line]
    assert len(fits) == 2 * 2 + 1
    assert all("100%" in line for line in fits)  # of the epochs


def test_a_search_over_a_pipeline_tells_of_every_epoch(data):
    recorder = Recorder()
    pipeline = make_pipeline(StandardScaler(), make())
    search = GridSearchCV(pipeline, {"spaceclassifier__n_latent": [2, 3]}, cv=2, refit=False, error_score="raise")
    search.set_callbacks(recorder).fit(*data)
    assert recorder.ended.count(("epoch", 2)) == 4


def test_clones_keep_them(data):
    recorder = Recorder()
    clone(make().set_callbacks(recorder)).fit(*data)
    assert recorder.ended
