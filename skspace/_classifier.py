"""SpaceClassifier: parameters, labels out, scikit-learn's conventions.

The way of X through `fit`: check, encode, training set, train, fitted state. More than half of this file is parameters
and their documentation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, _fit_context, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skspace._encoding.token_encoder import TokenEncoder
from skspace._input.labelled import Labelled, check_labelled
from skspace._input.ragged import RaggedArray
from skspace._input.texts import check_texts
from skspace._input.vectors import check_vectors
from skspace._model.concept_operators import ConceptOperators, Spaces
from skspace._model.fitted_state import FittedState
from skspace._model.forward import each_batch, log_probabilities, probabilities
from skspace._persistence.save_load import Persistence
from skspace._runtime.devices import check_can_train, pick_device, pick_dtype
from skspace._training.sklearn_callbacks import CallbackSupportMixin, FitTask, with_callbacks
from skspace._training.train import train
from skspace._training.training_config import TrainingConfig
from skspace._training.training_set import make_training_set

__all__ = ["SpaceClassifier"]

# partial_fit's constant rate as a share of a cycle's peak, chosen on TREC and SMA: docs/growing_data.md.
_STREAM_RATE = 0.25
_COLUMNS = ("n_features_in_", "feature_names_in_")
_SAME_OPERATORS = ("n_latent", "n_members", "pooling", "head")


class SpaceClassifier(CallbackSupportMixin, Persistence, ClassifierMixin, TransformerMixin, BaseEstimator):
    """Space Model text classifier: a frozen encoder, one concept space per class, exact explanations.

    The encoder reads every text once; its token embeddings are cached. For each class a small operator projects a
    text's token embeddings through tanh into a latent space, and the class wins whose space fits the text best. Only
    the operators are trained. Logits are sums over tokens, so that every prediction can be explained exactly: see
    `skspace.inspection.token_contributions`.

    Parameters
    ----------
    encoder : None, str, Path, TokenEncoder or "precomputed", default=None
        None is ``TokenEncoder()``; a str or Path is its model folder or hub id. To search parameters of the encoder, as
        ``encoder__layer``, pass a ``TokenEncoder()``. With "precomputed", X holds vectors instead of texts: a
        `RaggedArray`, or a 2-D array in which each row is a text of one token. Vectors are divided by one number and
        not centred: put a StandardScaler before features of different scales.
    n_latent : int or "auto", default="auto"
        Latent axes of a class's space (the paper's m). "auto" is 8 for up to twelve classes and fewer for more, at
        least 2: with many classes each needs few axes, and cost grows with their product.
    n_members : int, default=4
        Models that differ in their random start only, trained side by side on the same batches. Their logits are
        averaged.
    pooling : {"attention", "mean"}, default="attention"
        How a text's tokens are averaged in a space: "attention" weights them by a softmax with one learned vector per
        latent axis, "mean" is the plain mean of the paper.
    head : {"linear", "alignment"}, default="linear"
        "linear" maps all spaces to logits, as in the paper. "alignment" takes each class's logit from the mean of its
        own space; it is most meaningful with ``inter_space_weight > 0``.
    inter_space_weight : float, default=0.0
        Weight of the inter-space loss, which pulls a text's own space to +1 and the others to -1.
    inter_space_on : {"tokens", "centroids"}, default="tokens"
        What the inter-space loss pulls. With "tokens", as in the paper, it opposes the intra-space loss, which spreads
        a text's tokens. "centroids" leaves the tokens free.
    intra_space_weight : float, default=0.0
        Weight of the intra-space loss, which spreads a text's tokens in every space.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes in all losses. "balanced" gives every class the same total weight. With several labels
        per text, keys are columns of y, and a weight multiplies the cross-entropy of its class where a text has the
        class; "balanced" then gives the texts with a class the same total weight as those without.
    lr : float, default=0.02
        Learning rate; the peak with "one_cycle".
    lr_schedule : {"one_cycle", "constant"}, default="one_cycle"
        Course of the learning rate over the training.
    max_epochs : int or "auto", default="auto"
        Passes over the texts. "auto" is 10, or as many as give 100 steps.
    batch_size : int, default=256
        Texts per step.
    weight_decay : float, default=0.5
        Decoupled weight decay (AdamW), not applied to the intercept.
    early_stopping : bool, default=False
        Hold out some texts, stop after `n_iter_no_change` epochs without a lower cross-entropy on them, and keep the
        best epoch. Equal texts stay on one side of the split.
    validation_fraction : float, default=0.1
        Share of the distinct texts to hold out for early stopping.
    n_iter_no_change : int, default=10
        Epochs without improvement before early stopping.
    warm_start : bool, default=False
        If True, a further `fit` on texts with the same classes continues from the last one, or from its best epoch with
        `early_stopping`. The learning rate's schedule starts anew; `history_` and `n_iter_` continue.
    callbacks : list of skorch callbacks, default=None
        Copied for each call. They see the loss and its terms. A callback ends the training by raising
        KeyboardInterrupt in a method of its own. scikit-learn's scorers in skorch's EpochScoring do not work, since the
        net knows no labels. For scikit-learn's own callbacks (version 1.9 or newer) use `set_callbacks`: a progress bar
        over searches, folds and epochs, or scores of every epoch.
    device : str, default="auto"
        Where the operators are trained: "auto" (CUDA if available, else the processor) or a torch device. The encoder
        has its own parameter.
    verbose : int, default=0
        1 prints a table of the epochs.
    random_state : int, RandomState instance or None, default=None
        Seeds the start, the order of batches and the validation split. On the same embeddings an int gives the same
        model, for any ``n_jobs``, and no global random state changes. None draws from NumPy's global one, as in
        scikit-learn.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted labels; ``arange(n_classes)`` with several labels per text.
    encoder_ : TokenEncoder or None
        The encoder of the fit, without its weights; None with ``encoder="precomputed"``.
    operators_ : ConceptOperators
        The trained torch module, in eval mode and on the processor.
    concept_operators_ : ndarray of shape (n_members, n_classes, n_features, n_latent)
        W.
    attention_queries_ : ndarray of shape (n_members, n_classes, n_features, n_latent)
        The attention vectors a; only with ``pooling="attention"``.
    coef_ : ndarray of shape (n_members, n_classes, n_classes * n_latent)
        A, divided by the number of members: logits are the sum of `coef_` times centroids, plus `intercept_`.
    intercept_ : ndarray of shape (n_classes,)
        b, averaged over members.
    history_ : list of dict
        One per epoch: losses and their terms.
    n_iter_ : int
        Number of epochs.
    callbacks_ : list of (str, skorch callback)
        The copies of `callbacks` after the last training, with their names. Saved folders do not hold them.
    n_features_in_ : int
        Only if X was an array.
    feature_names_in_ : ndarray of str
        Only if X was a data frame of vectors.

    References
    ----------
    S. Tytarenko and M. R. Amin, "Breaking Free Transformer Models: Task-specific Context Attribution Promises Improved
    Generalizability Without Fine-tuning Pre-trained LLMs", arXiv 2401.16638, 2024. The paper's setting:
    ``SpaceClassifier(pooling="mean", n_latent=3, n_members=1, lr=2e-4, lr_schedule="constant", max_epochs=5,
    weight_decay=0.01)``.

    Examples
    --------
    >>> from skspace import SpaceClassifier
    >>> from skspace.datasets import load_support_messages
    >>> texts, labels = load_support_messages(return_X_y=True)
    >>> clf = SpaceClassifier(random_state=0).fit(texts[:300], labels[:300])
    >>> print(clf.predict(["where is my parcel"])[0])
    delivery
    """

    __module__ = "skspace"  # what pickles, skops and error messages name

    classes_: NDArray[Any]
    encoder_: TokenEncoder | None
    history_: list[dict[str, Any]]
    n_iter_: int
    callbacks_: list[tuple[str, Any]]
    _state: FittedState
    _n_features: int
    _multilabel: bool

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "encoder": [str, os.PathLike, TokenEncoder, None],
        "n_latent": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "pooling": [StrOptions({"attention", "mean"})],
        "head": [StrOptions({"linear", "alignment"})],
        "inter_space_weight": [Interval(Real, 0, None, closed="left")],
        "inter_space_on": [StrOptions({"tokens", "centroids"})],
        "intra_space_weight": [Interval(Real, 0, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions({"one_cycle", "constant"})],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "callbacks": [list, tuple, None],
        "device": [str],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        encoder: str | os.PathLike[str] | TokenEncoder | None = None,
        *,
        n_latent: int | str = "auto",
        n_members: int = 4,
        pooling: str = "attention",
        head: str = "linear",
        inter_space_weight: float = 0.0,
        inter_space_on: str = "tokens",
        intra_space_weight: float = 0.0,
        class_weight: dict[Any, float] | str | None = None,
        lr: float = 0.02,
        lr_schedule: str = "one_cycle",
        max_epochs: int | str = "auto",
        batch_size: int = 256,
        weight_decay: float = 0.5,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        callbacks: Sequence[Any] | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.encoder = encoder
        self.n_latent = n_latent
        self.n_members = n_members
        self.pooling = pooling
        self.head = head
        self.inter_space_weight = inter_space_weight
        self.inter_space_on = inter_space_on
        self.intra_space_weight = intra_space_weight
        self.class_weight = class_weight
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def set_params(self, **params: Any) -> SpaceClassifier:
        """Set parameters, those of the encoder as ``encoder__layer`` and the like.

        Raises
        ------
        ValueError
            If parameters of the encoder are set while `encoder` is not a TokenEncoder.
        """
        nested = [name for name in params if name.startswith("encoder__")]
        if nested and not isinstance(params.get("encoder", self.encoder), TokenEncoder):
            raise ValueError(
                f"{nested[0]} can be set only where the 'encoder' parameter of SpaceClassifier is a TokenEncoder. Got "
                f"{params.get('encoder', self.encoder)!r} instead; write SpaceClassifier(TokenEncoder())."
            )
        return super().set_params(**params)

    # ---------------------------------------------------------------- learning

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SpaceClassifier:
        """Encode new texts and train the operators.

        Parameters
        ----------
        X : sequence of str of length n_texts, or vectors with ``encoder="precomputed"``
            List, tuple, array, Series or one-column frame of texts. A text may be empty.
        y : array-like of shape (n_texts,) or (n_texts, n_classes)
            Labels: str, int or bool. A matrix of zeros and ones means several labels per text.
        sample_weight : array-like of shape (n_texts,), default=None
            Weight 0 ignores a text; weight 2 counts it twice.

        Returns
        -------
        SpaceClassifier
            Itself.

        Raises
        ------
        TypeError, ValueError
            If X is not texts, y not labels, lengths differ, or there is only one class.
        OSError
            If the encoder's model is not found.
        KeyboardInterrupt
            After Ctrl-C. The estimator is as before the call; texts encoded so far stay in the cache.
        """
        return self._learn(X, y, sample_weight, continued=self.warm_start and "_state" in vars(self))

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> SpaceClassifier:
        """Continue training with one pass over some more texts.

        Parameters
        ----------
        X : sequence of str of length n_texts, or vectors with ``encoder="precomputed"``
            As for `fit`; a single text suffices.
        y : array-like of shape (n_texts,) or (n_texts, n_classes)
            As for `fit`; classes may be absent.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever occur. Needed in the first call only, and never with several labels per text,
            where the columns of y are the classes.
        sample_weight : array-like of shape (n_texts,), default=None
            Weights among the texts of this call. Weight 0 ignores a text; weight 2 counts it twice.

        Returns
        -------
        SpaceClassifier
            Itself.

        Raises
        ------
        TypeError, ValueError
            As for `fit`. Also if `classes` are missing or have changed, y has a label that is not among them, X has
            vectors of another width, `encoder`, `n_latent`, `n_members`, `pooling` or `head` have changed,
            ``early_stopping=True``, or ``class_weight="balanced"``.
        OSError
            If the encoder's model is not found.
        KeyboardInterrupt
            After Ctrl-C, or if a callback stops. The estimator is as before the call.

        Notes
        -----
        The learning rate is constant, since a cycle has an end: `lr`, or a quarter of it with
        ``lr_schedule="one_cycle"``. `max_epochs` and the parameters of early stopping have no effect. The scale of the
        tokens is that of the first call. Adam's moments are kept from call to call, also in pickles. After `fit`,
        `partial_fit` continues from the fitted model; `fit` starts afresh unless ``warm_start=True``. The same seed and
        calls give the same model.
        """
        if self.early_stopping:
            raise ValueError(
                "partial_fit does not support early_stopping=True, since a stream has no texts to hold out from the "
                "start. Set early_stopping=False, or use fit with warm_start=True."
            )
        if self.class_weight == "balanced":
            raise ValueError(
                "The 'class_weight' parameter of SpaceClassifier must be a dict or None for partial_fit, which does "
                "not know how often a class will come. Got 'balanced' instead; give the weights, or sample_weight."
            )
        continued = "_state" in vars(self)
        return self._learn(X, y, sample_weight, continued=continued, stream=True, classes=classes)

    def _learn(
        self, X: Any, y: Any, sample_weight: Any, *, continued: bool, stream: bool = False, classes: Any = None
    ) -> SpaceClassifier:
        """Check, encode, train; the estimator changes only at the end, so an error or interrupt leaves it as it was."""
        device = pick_device(self.device, estimator=type(self).__name__)
        check_can_train()
        encoder, start = self._new_encoder(), self._state if continued else None
        if start is not None:
            self._check_unchanged(start.operators, encoder)
        random_state = check_random_state(self.random_state)
        labelled, columns = self._check(X, y, sample_weight, classes, random_state, continued=continued, stream=stream)
        config = self._training_config(len(labelled.classes), device, random_state, stream=stream)
        rows = _encode(encoder, labelled.X)
        if start is not None:
            self._check_width(rows)
        dtype = None if start is None else start.operators.weight.dtype
        training_set = make_training_set(labelled, rows, dtype=dtype, product_dtype=_product_dtype(encoder, device))
        learned = {
            "classes_": labelled.classes,
            "encoder_": encoder,
            "_n_features": rows.n_features,
            "_multilabel": labelled.multilabel,
        }
        n_epochs, history = config.n_epochs(len(training_set.train.rows)), self.history_ if continued else []
        task = FitTask(self, labelled.X, labelled.y, n_epochs, lambda state: learned | {"_state": state})
        watcher = task if task.watched else None
        trained = train(training_set, config, start, n_epochs_before=len(history), watcher=watcher)
        history = history + [row | {"epoch": len(history) + row["epoch"]} for row in trained.history]
        for name in () if continued else _COLUMNS:
            self.__dict__.pop(name, None)
        learned |= {"_state": trained.state, "callbacks_": trained.callbacks, "history_": history}
        self.__dict__.update(learned | columns | {"n_iter_": len(history)})
        task.end()
        return self

    def _check(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        classes: Any,
        random_state: np.random.RandomState,
        *,
        continued: bool,
        stream: bool,
    ) -> tuple[Labelled, dict[str, Any]]:
        """The checked training data, and the attributes in which `validate_data` notes the columns of arrays."""
        columns: dict[str, Any] = {}
        if self._is_precomputed():
            # validate_data writes to the estimator: to a new one until training has succeeded.
            noted = self if continued else type(self)(**self.get_params(deep=False))
            X = check_vectors(X, noted, reset=not continued)
            columns = {name: vars(noted)[name] for name in _COLUMNS if name in vars(noted)}
        else:
            X = check_texts(X)
        labelled = check_labelled(
            X,
            y,
            sample_weight,
            class_weight=self.class_weight,
            known=(self.classes_, self._multilabel) if continued else None,
            given=classes,
            stream=stream,
            validation_fraction=self.validation_fraction if self.early_stopping else None,
            random_state=random_state,
            estimator=type(self).__name__,
        )
        return labelled, columns

    def _training_config(
        self, n_classes: int, device: torch.device, random_state: np.random.RandomState, *, stream: bool
    ) -> TrainingConfig:
        if self.lr * self.weight_decay >= 1:
            raise ValueError(
                "The parameters 'lr' and 'weight_decay' of SpaceClassifier must have a product below 1, since every "
                f"step shrinks the parameters by it. Got lr={self.lr} and weight_decay={self.weight_decay} instead."
            )
        settings = {part.name: getattr(self, part.name) for part in fields(TrainingConfig) if hasattr(self, part.name)}
        settings |= {
            "n_latent": self._n_latent(n_classes),
            "lr": self.lr * (_STREAM_RATE if stream and self.lr_schedule == "one_cycle" else 1.0),
            "lr_schedule": "constant" if stream else self.lr_schedule,
            "max_epochs": None if self.max_epochs == "auto" else self.max_epochs,
            "device": device,
            "seed": int(random_state.randint(np.iinfo(np.int32).max)),
            "stream": stream,
        }
        return TrainingConfig(**settings)

    def _n_latent(self, n_classes: int) -> int:
        return int(np.clip(96 // n_classes, 2, 8)) if self.n_latent == "auto" else int(self.n_latent)

    def _check_unchanged(self, operators: ConceptOperators, encoder: TokenEncoder | None) -> None:
        """Refuse to continue with operators of another shape or on other vectors."""
        before = {name: getattr(operators, name) for name in _SAME_OPERATORS}
        now = {name: getattr(self, name) for name in _SAME_OPERATORS}
        now["n_latent"] = self._n_latent(len(self.classes_))
        before["encoder"], now["encoder"] = _different_vectors(self.encoder_, encoder)
        for name, value in before.items():
            if now[name] != value:
                raise ValueError(
                    f"The {name!r} parameter of SpaceClassifier must be what it was in the call that is continued, "
                    f"{value!r}. Got {now[name]!r} instead; set it back, or start afresh with fit and warm_start=False."
                )

    # ---------------------------------------------------------------- predicting

    def predict(self, X: Any) -> NDArray[Any]:
        """Label of every text, (n_texts,); an indicator matrix (n_texts, n_classes) with several labels a text."""
        logits = self._logits(X)
        if self._multilabel:
            return (logits > 0).astype(np.int64)
        return self.classes_[logits.argmax(1)]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probability of every class, (n_texts, n_classes); columns in the order of `classes_`."""
        return probabilities(self._logits(X), multilabel=self._multilabel)

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Logarithm of `predict_proba`, (n_texts, n_classes); finite where a probability rounds to 0."""
        return log_probabilities(self._logits(X), multilabel=self._multilabel)

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Logits, (n_texts, n_classes); with two classes z₁ − z₀, (n_texts,)."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 and not self._multilabel else logits

    def transform(self, X: Any) -> NDArray[Any]:
        """Centroids of the texts in all spaces, (n_texts, n_members * n_classes * n_latent), each in [-1, 1]."""
        parts = [spaces.centroids.flatten(1).numpy() for _, spaces in self._batches(X)]
        return np.concatenate(parts)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns of `transform`: label, member and latent axis, as in ``billing_0_7``."""
        check_is_fitted(self)
        operators = self.operators_
        return np.array(
            [
                f"{label}_{member}_{axis}"
                for member in range(operators.n_members)
                for label in self.classes_
                for axis in range(operators.n_latent)
            ],
            dtype=object,
        )

    def _logits(self, X: Any) -> NDArray[np.float64]:
        parts = [spaces.logits.mean(1).numpy() for _, spaces in self._batches(X)]
        return np.concatenate(parts).astype(np.float64)

    def _batches(self, X: Any) -> Iterator[tuple[NDArray[np.int64], Spaces]]:
        check_is_fitted(self)
        encoder = self.encoder_
        rows = check_vectors(X, self, reset=False) if encoder is None else encoder._embed(check_texts(X))
        self._check_width(rows)
        return each_batch(self.operators_, rows)

    # ---------------------------------------------------------------- what was learned

    @property
    def operators_(self) -> ConceptOperators:
        if "_state" not in vars(self):
            raise AttributeError(f"This {type(self).__name__} is not fitted yet. Call fit first.")
        return self._state.operators

    @property
    def concept_operators_(self) -> NDArray[Any]:
        return _array(self.operators_.operators)

    @property
    def attention_queries_(self) -> NDArray[Any]:
        return _array(self.operators_.queries)

    @property
    def coef_(self) -> NDArray[Any]:
        return _array(self.operators_.as_linear()[0])

    @property
    def intercept_(self) -> NDArray[Any]:
        return _array(self.operators_.as_linear()[1])

    # ---------------------------------------------------------------- input

    def _check_width(self, rows: RaggedArray) -> None:
        if rows.n_features != self._n_features:
            raise ValueError(
                f"X has token vectors of {rows.n_features} features, but {type(self).__name__} was fitted on "
                f"{self._n_features}. Use the encoder and layer of the fit."
            )

    def _is_precomputed(self) -> bool:
        return isinstance(self.encoder, str) and self.encoder == "precomputed"

    def _new_encoder(self) -> TokenEncoder | None:
        if self._is_precomputed():
            return None
        if self.encoder is None:
            return TokenEncoder()
        if isinstance(self.encoder, (str, os.PathLike)):
            return TokenEncoder(self.encoder)
        if self.encoder.pooling is not None:
            raise ValueError(
                "The 'encoder' parameter of SpaceClassifier must give token embeddings, TokenEncoder(pooling=None). "
                f"Got pooling={self.encoder.pooling!r} instead."
            )
        encoder = clone(self.encoder)
        encoder._validate_params()
        return encoder

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # The official check suite runs on what a two-dimensional array can show, which texts cannot.
        tags.input_tags.two_d_array = self._is_precomputed()
        tags.input_tags.one_d_array = tags.input_tags.string = not self._is_precomputed()
        tags.classifier_tags.multi_label = True
        return tags


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    """A copy, so that users cannot change the model by accident."""
    return tensor.detach().numpy().copy()


def _encode(encoder: TokenEncoder | None, X: Any) -> RaggedArray:
    """Vectors of the texts; X itself if it holds vectors. The encoder remembers which model it used."""
    if encoder is None:
        return X
    rows = encoder._embed(X)
    encoder._remember_model()
    return rows


def _product_dtype(encoder: TokenEncoder | None, device: torch.device) -> torch.dtype | None:
    """The dtype of products with vectors in training: bfloat16 if they were computed in it and it is faster here."""
    if encoder is None or encoder._computed() != torch.bfloat16:
        return None
    return pick_dtype("auto", device)


def _different_vectors(before: TokenEncoder | None, now: TokenEncoder | None) -> tuple[Any, Any]:
    """For each of two encoders, the values in which their vectors differ; equal if the vectors mean the same."""
    if before is None or now is None:
        return before or "precomputed", now or "precomputed"
    differences = before._vector_spec().differences(now._vector_spec())
    return {name: pair[0] for name, pair in differences.items()}, {name: pair[1] for name, pair in differences.items()}
