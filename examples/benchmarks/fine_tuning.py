"""The competitor that trains everything: an encoder and a head, end to end, as a careful user would.

AdamW with decay on matrices only, linear warm-up and decay, gradients clipped at norm 1, dropout as the model comes,
batches of texts of like length (shuffled anew in every epoch), which spares padding. Weights and their updates are in
float32; where the hardware multiplies bfloat16 faster, the encoder's products are taken in it (autocast), as
TokenEncoder does. A graphics card is used where there is one. The head is a linear layer on the mean of the last
layer's token vectors, or the operators of a Space Model on them.
"""

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from skspace._model.concept_operators import ConceptOperators
from skspace._runtime.devices import pick_device, pick_dtype

__all__ = ["FineTuned", "MeanHead", "SpaceHead", "fine_tune", "predict_logits"]

_MEGABATCH = 50  # batches sorted by length together


class MeanHead(torch.nn.Module):
    """Mean over tokens, dropout, linear layer."""

    def __init__(self, n_features, n_classes, dropout=0.1):
        super().__init__()
        self.dropout, self.linear = torch.nn.Dropout(dropout), torch.nn.Linear(n_features, n_classes)

    def forward(self, tokens, lengths):
        texts = torch.repeat_interleave(lengths, output_size=len(tokens))  # (n_tokens,)
        sums = tokens.new_zeros((len(lengths), tokens.shape[1])).index_add(0, texts, tokens)
        return self.linear(self.dropout(sums / lengths[:, None]))


class SpaceHead(torch.nn.Module):
    """`ConceptOperators`, mean pooling: the paper's fine-tuned rows."""

    def __init__(self, n_features, n_classes, n_latent):
        super().__init__()
        self.operators = ConceptOperators(n_features, n_classes, n_latent, pooling="mean")

    def forward(self, tokens, lengths):
        return self.operators(tokens, lengths).logits[:, 0]


class FineTuned(torch.nn.Module):
    """An encoder, and a head on the vectors of its last layer."""

    def __init__(self, folder, make_head, max_length=256):
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.encoder = AutoModel.from_pretrained(folder, dtype=torch.float32)
        self.head = make_head(self.encoder.config.hidden_size)
        self.max_length = max_length
        self.device = pick_device("auto", estimator="FineTuned")
        self.dtype = pick_dtype("auto", self.device)
        self.to(self.device)

    def tokenize(self, texts):
        return self.tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"]

    def forward(self, ids):
        """Logits of texts given as lists of token ids, (n_texts, n_classes)."""
        lengths = torch.tensor([len(text) for text in ids])
        mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]  # (n_texts, width)
        padded = torch.full(mask.shape, self.tokenizer.pad_token_id)
        padded[mask] = torch.cat([torch.tensor(text) for text in ids])
        padded, mask, lengths = padded.to(self.device), mask.to(self.device), lengths.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            hidden = self.encoder(input_ids=padded, attention_mask=mask.long()).last_hidden_state
        return self.head(hidden[mask].float(), lengths)


def batches_of_like_length(lengths, batch_size, generator):
    """Indices, in random batches whose texts are of like length."""
    order = torch.randperm(len(lengths), generator=generator)
    batches = []
    for part in order.split(_MEGABATCH * batch_size):
        by_length = part[torch.argsort(lengths[part], descending=True, stable=True)]
        batches += list(by_length.split(batch_size))
    return [batches[i] for i in torch.randperm(len(batches), generator=generator)]


def fine_tune(
    folder, texts, targets, make_head, *, epochs=4, batch_size=32, lr=5e-5, head_lr=None, warm_up=0.1, seed=0,
    after_epoch=None,
):  # fmt: skip
    """Train an encoder and its head on texts and targets (a tensor of class numbers); return the model in eval mode.

    `after_epoch(model)` is called in eval mode after every epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = FineTuned(folder, make_head)
        ids = model.tokenize(texts)
        lengths, targets = torch.tensor([len(text) for text in ids]), targets.to(model.device)
        optimizer = torch.optim.AdamW(_groups(model, lr, lr if head_lr is None else head_lr), fused=True)
        n_steps = epochs * -(-len(ids) // batch_size)
        n_warm_up = max(1, round(warm_up * n_steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / n_warm_up, (n_steps - step) / (n_steps - n_warm_up + 1))
        )
        for _ in range(epochs):
            model.train()
            for batch in batches_of_like_length(lengths, batch_size, generator):
                logits = model([ids[i] for i in batch.tolist()])
                torch.nn.functional.cross_entropy(logits, targets[batch.to(model.device)]).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            model.eval()
            if after_epoch is not None:
                after_epoch(model)
    return model


def _groups(model, lr, head_lr):
    """Decay for matrices, none for biases and layer norms; the head at a rate of its own."""
    return [
        {
            "params": [p for p in part.parameters() if (p.ndim > 1) == matrices],
            "lr": rate,
            "weight_decay": 0.01 if matrices else 0.0,
        }
        for part, rate in ((model.encoder, lr), (model.head, head_lr))
        for matrices in (True, False)
    ]


@torch.inference_mode()
def predict_logits(model, texts, batch_size=32):
    """Logits, (n_texts, n_classes), as an array."""
    model.eval()
    ids = model.tokenize(texts)
    order = np.argsort([len(text) for text in ids], kind="stable")
    parts = [model([ids[i] for i in order[b : b + batch_size]]) for b in range(0, len(ids), batch_size)]
    logits = torch.cat(parts).cpu().numpy()
    return logits[np.argsort(order)]
