"""SetFit, a package of its own (pip install setfit): a sentence encoder fine-tuned on pairs of texts, then a head.

Its authors' settings but for the number of pairs: one epoch, batches of 16, logistic regression as the head. Each text
makes `n_pairs` pairs with texts of its class and as many with others, so that an epoch is 4 * `n_pairs` passes over the
texts.
"""

import tempfile

import common

__all__ = ["set_fit"]


def set_fit(X, y, seed, *, n_pairs):
    """A fitted SetFitModel: `predict` and `predict_proba` take lists of texts."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    model = SetFitModel.from_pretrained(str(common.minilm_folder()))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_iterations=n_pairs,
            num_epochs=1,
            batch_size=16,
            seed=seed,
            report_to="none",
            show_progress_bar=False,
        )
        data = Dataset.from_dict({"text": list(X), "label": y.tolist()})
        Trainer(model=model, args=arguments, train_dataset=data).train()
    return model
