"""A control: the operators of a Space Model without tanh and without tokens, that is, a linear map of low rank."""

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin

from skspace import SpaceClassifier


class LinearBottleneck(ClassifierMixin, BaseEstimator):
    """Vectors (n_texts, d) to K * m numbers to K logits, both steps linear, trained as SpaceClassifier is."""

    def __init__(self, *, lr=0.02, weight_decay=0.5, epochs=10, min_steps=100, batch_size=256, random_state=0):
        self.lr = lr
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.min_steps = min_steps
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X, y):
        self.classes_, targets = np.unique(y, return_inverse=True)
        n_classes = len(self.classes_)
        rank = n_classes * SpaceClassifier()._n_latent(n_classes)
        self.scale_ = float(np.sqrt((X**2).mean()))
        X, targets = torch.from_numpy(X) / self.scale_, torch.from_numpy(targets)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            self.map_ = torch.nn.Sequential(
                torch.nn.Linear(X.shape[1], rank, bias=False), torch.nn.Linear(rank, n_classes)
            )
            self._train(X, targets)
        return self

    def _train(self, X, targets):
        n_batches = -(-len(X) // self.batch_size)
        n_steps = max(self.epochs, -(-self.min_steps // n_batches)) * n_batches
        optimizer = torch.optim.AdamW(self.map_.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=n_steps + 1)
        for _ in range(n_steps // n_batches):
            for batch in torch.randperm(len(X)).tensor_split(n_batches):
                torch.nn.functional.cross_entropy(self.map_(X[batch]), targets[batch]).backward()
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()

    def predict_proba(self, X):
        with torch.inference_mode():
            return self.map_(torch.from_numpy(X) / self.scale_).softmax(1).numpy()

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(1)]
