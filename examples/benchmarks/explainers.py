"""One score a word for the predicted class, by our contributions and by what else explains a classifier.

Every method takes a `Subject` and a `Post` and returns a dict of scores (n_words,) by variant, the plain one first. The
larger, the more the word speaks for the predicted class, as the method sees it. What belongs to no word (the special
tokens) gets no score. Variants of methods that tell classes apart:

- absolute: the sign forgotten;
- over all classes: root of the sum of squares over the classes, which asks whether a word matters to any of them;
- not normal: what speaks against the class "normal", whatever is predicted. Another question, and kept apart.
"""

import copy
import functools
from dataclasses import dataclass

import common
import numpy as np
import torch
from torch import nn

from skspace import SpaceClassifier, TokenEncoder
from skspace.inspection import left_out, removal_order, token_contributions

RANDOM_DRAWS = 5
INTEGRATION_STEPS = 50  # captum's own
TINY = 1e-9


@dataclass(frozen=True)
class Post:
    """A text whose words stand between single spaces, and what people marked in it."""

    id: str
    text: str
    rationale: np.ndarray  # by most of the annotators
    union: np.ndarray  # by any of them

    @property
    def words(self):
        return self.text.split(" ")

    @property
    def spans(self):
        """Where the words stand, in characters."""
        ends = np.cumsum([len(word) + 1 for word in self.words]) - 1
        return [(int(end) - len(word), int(end)) for word, end in zip(self.words, ends, strict=True)]

    def keeping(self, kept):
        """The text of the words at these places only."""
        return " ".join(word for word, keep in zip(self.words, kept, strict=True) if keep)


class Subject:
    """A fitted classifier under examination.

    `cached` reads vectors from the store, as its user would; `uncached` is the same classifier for texts that nobody
    will ever see again, which are not to litter the store.
    """

    def __init__(self, folder, layer):
        self.folder, self.layer = folder, layer
        self.cached = SpaceClassifier.from_pretrained(folder)
        self.uncached = SpaceClassifier.from_pretrained(folder, encoder=TokenEncoder(layer=layer, cache_dir=None))
        self.operators = self.cached.operators_
        self.lime_samples = 500

    def probabilities(self, texts):
        return self.uncached.predict_proba(list(texts))

    def centred_logits(self, texts):
        """Logits minus their mean: in the order of the classes what predicted against the mean of the rest is."""
        logits = self.uncached.decision_function(list(texts))
        return logits - logits.mean(1, keepdims=True)

    def predicted(self, post):
        return int(self.cached.decision_function([post.text])[0].argmax())

    @functools.cached_property
    def differentiable(self):
        return Differentiable(self.operators, self.uncached.encoder_)


class Differentiable(nn.Module):
    """Token ids to centred logits in float32, with gradients: transformers' model, cut at the classifier's layer."""

    def __init__(self, operators, encoder):
        from transformers import AutoModel, AutoTokenizer

        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(common.minilm_folder())
        self.max_length = encoder.max_length
        self.transformer = AutoModel.from_pretrained(common.minilm_folder(), dtype=torch.float32).eval()
        layers = self.transformer.encoder.layer
        depth = encoder.layer if isinstance(encoder.layer, int) else round(encoder.layer * len(layers))
        del layers[depth:]
        self.operators = copy.deepcopy(operators).eval()

    @property
    def input_layer(self):
        return self.transformer.embeddings.word_embeddings

    def tokenize(self, text):
        """Ids (1, n_tokens), and where the tokens stand in the text."""
        encoded = self.tokenizer(text, truncation=True, max_length=self.max_length, return_offsets_mapping=True)
        return torch.tensor([encoded["input_ids"]]), encoded["offset_mapping"]

    def nothing(self, ids):
        """The ids with every token but the first and the last replaced by padding."""
        baseline = torch.full_like(ids, self.tokenizer.pad_token_id)
        baseline[:, 0], baseline[:, -1] = ids[:, 0], ids[:, -1]
        return baseline

    def forward(self, ids):
        # All tokens are attended to, those of the baseline too: the length is part of neither.
        hidden = self.transformer(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        n, length = ids.shape
        logits = self.operators(hidden.flatten(0, 1), torch.full((n,), length)).logits.mean(1)
        return logits - logits.mean(1, keepdim=True)


# ---------------------------------------------------------------- from tokens to words


def word_of_token(token_spans, word_spans):
    """For each token the word that it stands in; -1 for special tokens."""
    begins = np.array([begin for begin, _ in word_spans])
    words = np.searchsorted(begins, [begin for begin, _ in token_spans], side="right") - 1
    return np.where([end > begin for begin, end in token_spans], words, -1)


def sum_by_word(values, owner, n_words):
    """Sum over the tokens of every word; (n_tokens, …) to (n_words, …)."""
    sums = np.zeros((n_words, *values.shape[1:]))
    np.add.at(sums, owner[owner >= 0], values[owner >= 0])
    return sums


def of_words(spans, rows, post):
    """The rows of the words, (n_words, …), told by their spans; 0 for a word without a row."""
    place = {span: i for i, span in enumerate(post.spans)}
    words = np.zeros((len(post.words), *rows.shape[1:]))
    for span, row in zip(spans, rows, strict=True):
        if span in place:
            words[place[span]] = row
    return words


def both_signs(scores):
    return {"signed": scores, "absolute": np.abs(scores)}


def of_classes(subject, scores, own):
    """Variants of scores (n_words, n_classes) that sum to 0 over the classes."""
    normal = subject.cached.classes_.tolist().index("normal")
    over_all = np.linalg.norm(scores, axis=1)
    return both_signs(scores[:, own]) | {"over all classes": over_all, "not normal": -scores[:, normal]}


# ---------------------------------------------------------------- methods


def contributions(subject, post):
    """Ours: the word's part of the predicted class's logit, which is centred over the classes already."""
    (reasons,) = token_contributions(subject.cached, [post.text])
    own, merged = int(reasons.logits.argmax()), reasons.merge(post.spans)
    words = of_words(merged.spans, merged.contributions, post)
    scores, runner_up = words[:, own], int(np.argsort(reasons.logits)[-2])
    return of_classes(subject, words, own) | {
        "less the mean, absolute": np.abs(scores - scores.mean()),
        "against the runner-up": scores - words[:, runner_up],
        "largest piece": largest_piece(reasons.contributions[:, own], word_of_token(reasons.spans, post.spans), scores),
        **from_the_spaces(subject, post),
    }


def largest_piece(pieces, owner, scores):
    """The largest of a word's tokens in place of their sum."""
    largest = scores.copy()
    for word in np.unique(owner[owner >= 0]):
        largest[word] = pieces[owner == word].max()
    return largest


def spaces_of(subject, post):
    """What the operators make of the cached tokens, the predicted class, and the word of every token."""
    rows = subject.cached.encoder_.transform([post.text])
    ((_, spans),) = subject.cached.encoder_.tokenize([post.text])
    tokens = torch.from_numpy(np.asarray(rows[0], np.float32))
    with torch.inference_mode():
        spaces = subject.operators(tokens, torch.tensor([len(tokens)]))
    return spaces, int(spaces.logits.mean(1)[0].argmax()), word_of_token(spans, post.spans)


def from_the_spaces(subject, post):
    """More from the same attention and context attributions as the contributions; nothing is encoded.

    - without cancelling: sizes of the word's terms of the predicted class's logit, one a member, space and axis, added;
    - largest piece, without cancelling: of the word's tokens the one of which that is most;
    - left out of the pooling: what the logit loses if the word's vectors are left out (`skspace.inspection.left_out`);
    - one after another out of the pooling: see `greedy`;
    - one after another, and half again: `skspace.inspection.removal_order`, the same, and with each word half of its
      contribution goes once more.
    """
    spaces, own, owner = spaces_of(subject, post)
    attention, centroids = spaces.attention.double().numpy(), spaces.centroids[0].double().numpy()
    terms = attention * spaces.concepts.double().numpy()  # (n_tokens, M, K, m)
    n, coef = len(post.words), subject.cached.coef_.astype(float)  # (M, K, K * m)
    (alone,) = left_out(subject.cached, [post.text], [post.spans])
    (order,) = removal_order(subject.cached, [post.text], [post.spans])
    share, part = sum_by_word(attention, owner, n), sum_by_word(terms, owner, n)
    return {
        "without cancelling": sizes(part, coef[:, own]),
        "largest piece, without cancelling": largest_piece(sizes(terms, coef[:, own]), owner, np.zeros(n)),
        "left out of the pooling": of_words(alone.spans, alone.losses, post)[:, own],
        "one after another out of the pooling": greedy(share, part, centroids, coef, subject.cached.intercept_, own),
        "one after another, and half again": of_words(order.spans, np.arange(len(order.words), 0, -1.0), post),
    }


def sizes(terms, coef):
    return np.abs(terms.reshape(len(terms), *coef.shape) * coef).sum((1, 2))


def greedy(share, part, centroids, coef, intercept, own):
    """Rank the words by when they go, if each time that one is left out which leaves the predicted class least likely.

    The probability is that of the pooling over what is left, in closed form.
    """
    n, left, total = len(part), np.ones_like(centroids), centroids.copy()
    remaining, scores = list(range(n)), np.zeros(n)
    while remaining:
        without = (total - part[remaining]) / np.maximum(left - share[remaining], TINY)
        logits = np.einsum("wmf,mkf->wk", without.reshape(len(remaining), len(coef), -1), coef) + intercept
        gone = remaining[int((logits[:, own] - np.logaddexp.reduce(logits, axis=1)).argmin())]
        scores[gone] = len(remaining)
        remaining.remove(gone)
        left, total = left - share[gone], total - part[gone]
    return scores


def read_again(subject, post):
    """`removal_order` that tries words at every step by encoding the text without them."""
    return {f"{n} candidates": by_reading(subject, post, n, None) for n in (2, 1, 3)}


def first_words_read_again(subject, post):
    """The same with two candidates for some words only; those after them follow by the estimate."""
    return {f"{n} steps": by_reading(subject, post, 2, n) for n in (3, 2, 5)}


def by_reading(subject, post, n_candidates, n_read):
    (order,) = removal_order(subject.cached, [post.text], [post.spans], n_candidates=n_candidates, n_read=n_read)
    return of_words(order.spans, np.arange(len(order.words), 0, -1.0), post)


def attention_weights(subject, post):
    spaces, own, owner = spaces_of(subject, post)
    weights = spaces.attention.numpy()  # (n_tokens, M, K, m)
    parts = {"all spaces": weights.mean((1, 2, 3)), "own space": weights[:, :, own].mean((1, 2))}
    return {name: sum_by_word(values, owner, len(post.words)) for name, values in parts.items()}


def gradient_at_layer(subject, post):
    """Gradient × input at the cached token vectors: backwards through the operators only."""
    rows = subject.cached.encoder_.transform([post.text])
    ((_, spans),) = subject.cached.encoder_.tokenize([post.text])
    tokens = torch.from_numpy(np.asarray(rows[0], np.float32)).requires_grad_()
    logits = subject.operators(tokens, torch.tensor([len(tokens)])).logits.mean(1)[0]
    gradients = [torch.autograd.grad(logit, tokens, retain_graph=True)[0] for logit in logits - logits.mean()]
    products = torch.stack([(gradient * tokens).sum(1) for gradient in gradients], 1).detach().numpy()
    words = sum_by_word(products, word_of_token(spans, post.spans), len(post.words))
    return of_classes(subject, words, int(logits.argmax()))


def gradient_times_input(subject, post):
    from captum.attr import LayerGradientXActivation

    model = subject.differentiable
    ids, spans = model.tokenize(post.text)
    explainer = LayerGradientXActivation(model, model.input_layer)
    products = explainer.attribute(ids, target=_winner(model, ids))[0].sum(1).detach().numpy()
    return both_signs(sum_by_word(products, word_of_token(spans, post.spans), len(post.words)))


def integrated_gradients(subject, post):
    from captum.attr import LayerIntegratedGradients

    model = subject.differentiable
    ids, spans = model.tokenize(post.text)
    explainer = LayerIntegratedGradients(model, model.input_layer)
    parts = explainer.attribute(
        ids, baselines=model.nothing(ids), target=_winner(model, ids), n_steps=INTEGRATION_STEPS
    )
    products = parts[0].sum(1).detach().numpy()
    return both_signs(sum_by_word(products, word_of_token(spans, post.spans), len(post.words)))


def _winner(model, ids):
    with torch.inference_mode():
        return int(model(ids)[0].argmax())


def leave_one_out(subject, post):
    """What the centred logit of the predicted class loses when the word is erased and the text encoded again."""
    n = len(post.words)
    texts = [post.text] + [post.keeping(np.arange(n) != i) for i in range(n)]
    logits = subject.centred_logits(texts)
    return of_classes(subject, logits[0] - logits[1:], int(logits[0].argmax()))


def lime(subject, post):
    """Every word by its place (`bow=False`), erased rather than masked, weights of all words."""
    from lime.lime_text import LimeTextExplainer

    explainer = LimeTextExplainer(
        split_expression=" ", bow=False, mask_string="", feature_selection="none", random_state=0
    )
    explanation = explainer.explain_instance(
        post.text,
        subject.probabilities,
        labels=range(n_classes := len(subject.cached.classes_)),
        num_features=len(post.words),
        num_samples=subject.lime_samples,
    )
    scores = np.zeros((len(post.words), n_classes))
    for label, weights in explanation.as_map().items():
        for place, weight in weights:
            scores[place, label] = weight
    return of_classes(subject, scores, subject.predicted(post))


def shap_partition(subject, post):
    """Owen values over a tree of neighbouring words, of the centred logits."""
    import shap

    masker = shap.maskers.Text(" ", mask_token=" ")  # what is masked is a space
    explainer = shap.PartitionExplainer(lambda texts: subject.centred_logits(map(str, texts)), masker)
    explanation = explainer([post.text], max_evals=500, batch_size=64, silent=True)
    return of_classes(subject, np.asarray(explanation.values[0], float), subject.predicted(post))


def random_order(subject, post):
    seed = [int(byte) for byte in post.id.encode()]
    return {f"draw {i}": np.random.default_rng([i, *seed]).random(len(post.words)) for i in range(RANDOM_DRAWS)}


METHODS = {
    "ours": contributions,
    "ours, read again": read_again,
    "ours, first words read again": first_words_read_again,
    "attention": attention_weights,
    "gradient × input, at the layer": gradient_at_layer,
    "gradient × input": gradient_times_input,
    "integrated gradients": integrated_gradients,
    "leave one out": leave_one_out,
    "LIME": lime,
    "SHAP": shap_partition,
    "random": random_order,
}
